"""Checkpoints that a run goes on from exactly: bit for bit on a CPU with deterministic operations."""

import hashlib
import json
import pathlib

import keras
import numpy as np

from cplus1_keras.directory import remove, unfinished

ARRAYS, STATE = "arrays.npz", "state.json"


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
                whole = state["digest"] == _digest(saved / ARRAYS)
            except (OSError, ValueError, KeyError):
                whole = False
            if not whole:  # a disk may tear what was renamed
                print(f"The checkpoint {saved} is damaged: takes the one before.", flush=True)
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
        # Not Keras's HDF5: on a full disk that prints a traceback for each weight.
        arrays, state = {str(n): keras.ops.convert_to_numpy(v) for n, v in enumerate(_variables(self.model))}, {}
        if self.stopping is not None:
            state["stopping"] = {name: getattr(self.stopping, name) for name in STOPPING}
            best = self.stopping.best_weights or []
            arrays |= {f"best_{number}": weight for number, weight in enumerate(best)}
        np.savez(folder / ARRAYS, **arrays)
        state["digest"] = _digest(folder / ARRAYS)
        (folder / STATE).write_text(json.dumps(state), encoding="utf-8")

    def _load(self, model, saved, state):
        with np.load(saved / ARRAYS) as opened:
            arrays = dict(opened)
        best = [arrays.pop(name) for name in [*arrays] if name.startswith("best_")]
        model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        if [value.shape for value in arrays.values()] != [tuple(variable.shape) for variable in variables]:
            raise ValueError(
                f"The checkpoint {saved} is not of this model: its {len(arrays)} arrays are not the model's "
                f"{len(variables)} variables. Was the config or the package changed since?"
            )
        for variable, value in zip(variables, arrays.values(), strict=True):
            variable.assign(value.view(variable.dtype) if value.dtype.kind == "V" else value)  # V: NumPy on bfloat16
        if self.stopping is not None:
            self._remembered = {**state.get("stopping", {}), "best_weights": best or None}
            vars(self.stopping).update(self._remembered)

    def _saved(self):
        return sorted(self.folder.glob("epoch-*"))


STOPPING = ("wait", "best", "best_epoch", "stopped_epoch")
"""What Keras's EarlyStopping remembers, beside the best weights."""


def _digest(file):
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _variables(model):
    """All that a training changes, in an order that is the same when the model is built again."""
    layers = [model, *model._flatten_layers(include_self=False)]
    seeds = [generator.state for layer in layers for generator in getattr(layer, "_seed_generators", None) or []]
    return [*model.weights, *seeds, *model.optimizer.variables]
