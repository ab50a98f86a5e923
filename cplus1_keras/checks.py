"""What is foreseeable is told before the first epoch: models that cannot be kept, disks that are too small."""

import errno
import pathlib
import shutil
import tempfile

import keras

from cplus1_keras.directory import CHECKPOINTS

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
"""A disk that is full or read-only, which says nothing about the model."""

COPIES = 15
"""Sizes of the model that a run may hold at once: three checkpoints of weights, two moments and the best weights; then
the trained model with its moments, or a SavedModel, beside two of them."""


def check_model(model):
    """Raises ValueError for a model that Keras cannot save and load again.

    Args:
        model: A `keras.Model`, built.

    Returns:
        Size of its file in bytes.

    >>> check_model(keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])) > 0
    True
    """
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "model.keras"
        try:
            model.save(path)
            loaded = keras.saving.load_model(path, compile=False)
        except OSError as error:
            if error.errno not in DISK:
                raise
            raise OSError(f"The model cannot be saved in {folder} to try it: {error.strerror}. Make room.") from error
        except Exception as error:  # whatever Keras raises on a layer that it does not know
            raise ValueError(
                "The model cannot be saved and loaded again, so its training would be lost. Lambda layers and classes "
                "of your own need `@keras.saving.register_keras_serializable()`. "
                f"Keras said: {str(error).strip().splitlines()[0]}"
            ) from error
        shapes = [[tuple(weight.shape) for weight in net.weights] for net in (model, loaded)]
        if shapes[0] != shapes[1]:
            raise ValueError("The model loads with other weights than it was saved with: does `get_config` tell all?")
        return path.stat().st_size


def check_disk(folder, size):
    """Raises ValueError where a run's folder has too little space for its checkpoints and exports.

    Args:
        folder: Folder that exists.
        size: Size of the model's file in bytes.

    >>> check_disk(".", 1)
    """
    own = pathlib.Path(folder).glob(f"{CHECKPOINTS}/*/*")  # of a run that goes on
    needed, free = COPIES * size - sum(file.stat().st_size for file in own), shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"The run may need {needed / 2**20:,.0f} MiB for checkpoints and exports, and {folder} has "
            f"{free / 2**20:,.0f} MiB left. Make room or choose another --workdir."
        )
