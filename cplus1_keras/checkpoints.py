"""Checkpoints that a run goes on from exactly: bit for bit on a CPU with deterministic operations."""

import json
import pathlib
import shutil

import keras
import numpy as np

WEIGHTS, SEEDS, LOGS = "model.weights.h5", "seeds.npz", "logs.json"


class Checkpoint(keras.callbacks.Callback):
    """Saves at the end of each epoch all that the next epoch depends on; `restore` brings it back to the bit.

    That is the weights, the state of the optimizer and of layers, and the states of the seed generators of dropout,
    which Keras's own files leave out. A checkpoint is a folder that is written beside and renamed, so that it is whole
    or absent; the one before is kept.

    Args:
        folder: Holds `epoch-000001` and so on; made if it is absent.

    >>> import tempfile
    >>> Checkpoint(tempfile.mkdtemp()).restore(keras.Sequential())
    0
    """

    KEPT = 2

    def __init__(self, folder):
        super().__init__()
        self.folder = pathlib.Path(folder)

    @property
    def epoch(self):
        """Number of epochs that the newest checkpoint has seen; 0 without one."""
        saved = self._saved()
        return int(saved[-1].name.split("-")[1]) if saved else 0

    def restore(self, model):
        """Give a compiled model the state of the newest checkpoint that can be read.

        Args:
            model: Compiled `keras.Model`, as it was at the start of its training.

        Returns:
            Number of epochs that it has seen; 0 without a checkpoint.
        """
        for saved in reversed(self._saved()):
            try:
                seeds = dict(np.load(saved / SEEDS))
                json.loads((saved / LOGS).read_text(encoding="utf-8"))
                model.optimizer.build(model.trainable_variables)
                model.load_weights(saved / WEIGHTS)
            except (OSError, ValueError, KeyError) as error:  # a disk may tear what was renamed
                print(f"The checkpoint {saved} cannot be read ({error}); takes the one before.", flush=True)
                continue
            for name, generator in _seed_generators(model).items():
                generator.state.assign(seeds[name])
            return int(saved.name.split("-")[1])
        return 0

    def remove(self):
        """Delete all checkpoints, once the training is kept in another way."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def on_epoch_end(self, epoch, logs=None):
        self.folder.mkdir(parents=True, exist_ok=True)
        partial, whole = (self.folder / f"{dot}epoch-{epoch + 1:06d}" for dot in (".", ""))
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            self.model.save_weights(partial / WEIGHTS)
            states = {name: keras.ops.convert_to_numpy(g.state) for name, g in _seed_generators(self.model).items()}
            np.savez(partial / SEEDS, **states)
            plain = {name: float(value) for name, value in (logs or {}).items()}
            (partial / LOGS).write_text(json.dumps(plain), encoding="utf-8")
            shutil.rmtree(whole, ignore_errors=True)
            partial.rename(whole)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        for old in self._saved()[: -self.KEPT]:
            shutil.rmtree(old)

    def _saved(self):
        return sorted(self.folder.glob("epoch-*"))


def _seed_generators(model):
    """By the place of their layer in the model, which is the same when the model is built again."""
    layers = [model, *model._flatten_layers(include_self=False)]
    found = (getattr(layer, "_seed_generators", None) or [] for layer in layers)
    return {f"{i}_{j}": generator for i, own in enumerate(found) for j, generator in enumerate(own)}
