"""Checkpoints that a run goes on from exactly: bit for bit on a CPU with deterministic operations."""

import hashlib
import json
import pathlib
import warnings

import keras
import numpy as np

from cplus1_keras.directory import remove, unfinished

WEIGHTS, ARRAYS, STATE = "model.weights.h5", "arrays.npz", "state.json"


class Checkpoint(keras.callbacks.Callback):
    """Saves at the end of each epoch all that the next epoch depends on; `restore` brings it back to the bit.

    That is the weights, the state of the optimizer and of layers, the states of the seed generators of dropout, which
    Keras's own files leave out, and what early stopping remembers. A checkpoint is a folder that is written beside and
    renamed, so that it is whole or absent; the one before is kept.

    Put it after the callbacks that an epoch needs to be complete, early stopping among them.

    Args:
        folder: Holds `epoch-000001` and so on; made if it is absent.
        stopping: The `keras.callbacks.EarlyStopping` of the same training, or None.

    >>> import tempfile
    >>> Checkpoint(tempfile.mkdtemp()).restore(keras.Sequential())
    0
    """

    KEPT = 2

    def __init__(self, folder, stopping=None):
        super().__init__()
        self.folder = pathlib.Path(folder)
        self.stopping = stopping
        self._remembered = {}

    @property
    def epoch(self):
        """Number of epochs that the newest checkpoint has seen; 0 without one."""
        saved = self._saved()
        return int(saved[-1].name.split("-")[1]) if saved else 0

    def restore(self, model):
        """Give a compiled model the state of the newest checkpoint that is not damaged.

        Args:
            model: Compiled `keras.Model`, as it was at the start of its training.

        Returns:
            Number of epochs that it has seen; 0 without a checkpoint.

        Raises:
            ValueError: The checkpoint is of another model.
        """
        for saved in reversed(self._saved()):
            try:
                state = json.loads((saved / STATE).read_text(encoding="utf-8"))
                damaged = [name for name, digest in state["digests"].items() if _digest(saved / name) != digest]
            except (OSError, ValueError, KeyError):
                damaged = [STATE]
            if damaged:  # a disk may tear what was renamed
                print(f"The checkpoint {saved} is damaged ({', '.join(damaged)}): takes the one before.", flush=True)
                continue
            self._load(model, saved, state)
            return int(saved.name.split("-")[1])
        return 0

    def remove(self):
        """Delete all checkpoints, once the training is kept in another way."""
        remove(self.folder)

    def on_train_begin(self, logs=None):
        if self.stopping is not None:  # it has just forgotten all
            vars(self.stopping).update(self._remembered)

    def on_epoch_end(self, epoch, logs=None):
        whole = self.folder / f"epoch-{epoch + 1:06d}"
        with unfinished(whole) as partial:
            partial.mkdir()
            self._write(partial)
            remove(whole)
            partial.rename(whole)
        for old in self._saved()[: -self.KEPT]:
            remove(old)

    def _write(self, folder):
        arrays = {name: keras.ops.convert_to_numpy(g.state) for name, g in _seed_generators(self.model).items()}
        state = {}
        if self.stopping is not None:
            state["stopping"] = {name: getattr(self.stopping, name) for name in STOPPING}
            best = self.stopping.best_weights or []
            arrays |= {f"best_{number}": weight for number, weight in enumerate(best)}
        self.model.save_weights(folder / WEIGHTS)
        np.savez(folder / ARRAYS, **arrays)
        state["digests"] = {name: _digest(folder / name) for name in (WEIGHTS, ARRAYS)}
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")

    def _load(self, model, saved, state):
        with np.load(saved / ARRAYS) as opened:
            arrays = dict(opened)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", UserWarning)  # Keras only warns of an optimizer that does not fit
                model.optimizer.build(model.trainable_variables)
                model.load_weights(saved / WEIGHTS)
            for name, generator in _seed_generators(model).items():
                generator.state.assign(arrays[name])
        except Exception as error:  # whatever Keras raises on other layers
            raise ValueError(
                f"The checkpoint {saved} is not of this model. Was the config or the package changed since? "
                f"Keras said: {str(error).strip().splitlines()[0]}"
            ) from error
        if self.stopping is not None:
            best = [arrays[f"best_{number}"] for number in range(sum(name.startswith("best_") for name in arrays))]
            self._remembered = {**state.get("stopping", {}), "best_weights": best or None}
            vars(self.stopping).update(self._remembered)

    def _saved(self):
        return sorted(self.folder.glob("epoch-*"))


STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")
"""What Keras's EarlyStopping remembers, beside the best weights."""


def _digest(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _seed_generators(model):
    """By the place of their layer in the model, which is the same when the model is built again."""
    layers = [model, *model._flatten_layers(include_self=False)]
    found = (getattr(layer, "_seed_generators", None) or [] for layer in layers)
    return {f"{i}_{j}": generator for i, own in enumerate(found) for j, generator in enumerate(own)}
