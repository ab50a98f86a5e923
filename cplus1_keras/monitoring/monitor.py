"""The callback that shows the open-set behaviour of a model while it trains."""

import functools
import math
import time
import warnings

import keras
import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

from cplus1_keras import scores as scores_module
from cplus1_keras.callbacks import TermGradients
from cplus1_keras.heads import Head
from cplus1_keras.labels import NEGATIVE, UNKNOWN
from cplus1_keras.layers.hooks import find_hooks
from cplus1_keras.monitoring import board
from cplus1_keras.monitoring.batches import Batches
from cplus1_keras.monitoring.geometry import Projection, angles, directions
from cplus1_keras.monitoring.pictures import draw
from cplus1_keras.monitoring.timing import Budget, Pace
from cplus1_keras.monitoring.view import View
from cplus1_keras.monitoring.waiting import InputClock
from cplus1_keras.optimizers import averages

NAMES = {NEGATIVE: "negative", UNKNOWN: "unknown"}


class OpenSetMonitor(keras.callbacks.Callback):
    """Shows in TensorBoard, and logs, how well a model tells knowns from strangers while it trains.

    At the end of each epoch, by one pass over the validation data, which `fit` then needs no `validation_data` for:
    the loss with each of its terms, the metrics, and of negatives `val_auroc_negative`, `val_ccr_at_fpr_0.01_negative`
    and so on. As often as `share` allows, from the same pass: the OSCR curve as a picture and among the PR curves;
    histograms of scores, feature norms and angles; features in the plane with the weights, centres or anchors of the
    classes, in one projection for all epochs; activation maps of the true and the strongest wrong classes; the worst
    mistakes; the embedding projector; the threshold that a calibration would choose; how much each term of the loss
    pulls. What is told of unknown classes stands under "not for selection" and is in no log.

    Put it before TensorBoard's and other callbacks that read the logs. Where a picture fails it warns once, and the
    training goes on. It changes no weight and draws no random number.

    Args:
        validation: What `fit` takes as `validation_data`, a `tf.data.Dataset` of batches or arrays (images, y); or a
            function of no argument that gives `tasks.Record`s; or None.
        directory: Folder of the logs; writes to `monitor` in it.
        class_names: Names of the C known classes; "0", "1", ... where None.
        score: A score of `cplus1_keras.scores`.
        others: More data like `validation` by name, to look at when it draws, never to select by.
        figures: Function of no argument that gives an accumulator with `update(record)` and `result()`, of floats by
            name, for each pass over `validation`; or None.
        calibrate: Function from records to a `calibration.Calibration`, or None.
        sample: A batch (images, y) or (images, y, weights) on which gradients of terms are compared, or None.
        batch_size: Images in a step, for images per second, or None.
        hparams: Plain values by name that tell this training from others, or None.
        share: Largest share of the training's time that drawing may take; `math.inf` draws after each epoch.

    >>> images, labels = np.random.default_rng(0).normal(size=(8, 4)).astype("float32"), np.array([0, 1, 2, -1] * 2)
    >>> inputs = keras.Input((4,))
    >>> model = OpenSetModel(inputs, heads.LinearHead(3)(inputs))
    >>> model.compile("sgd", losses.EntropicOpenSetLoss())
    >>> import tempfile
    >>> watch = OpenSetMonitor((images, labels), tempfile.mkdtemp())
    >>> history = model.fit(images, labels, callbacks=[watch], verbose=0).history
    >>> {"val_loss", "val_auroc_negative"} <= set(history)
    True
    """

    def __init__(
        self,
        validation,
        directory,
        class_names=None,
        score=scores_module.log_odds,
        *,
        others=None,
        figures=None,
        calibrate=None,
        sample=None,
        batch_size=None,
        hparams=None,
        share=0.05,
    ):
        super().__init__()
        if not share > 0:
            raise ValueError(f"`share` of the training's time must be above 0. Received: share={share}")
        self.directory = tf.io.gfile.join(str(directory), "monitor")
        self.class_names, self.score, self.figures, self.calibrate = class_names, score, figures, calibrate
        self.sources = {"validation": validation, **(others or {})}
        self.sample, self.batch_size, self.hparams = sample, batch_size, hparams
        self.budget, self.pace, self.warned = Budget(share), Pace(InputClock()), False
        self.projection = None
        self._views, self._gradients, self._writer, self._plain = {}, None, None, None

    def watch_input(self, batches, model):
        """The same `tf.data.Dataset` for `model.fit`, that TensorBoard may show how long it waits; on one device."""
        return self.pace.clock.watch(batches) if model.distribute_strategy.num_replicas_in_sync == 1 else batches

    def on_train_begin(self, logs=None):
        self.budget.begin()
        self._writer = tf.summary.create_file_writer(self.directory)
        self.projection = Projection(tf.io.gfile.join(self.directory, "projection.json"))
        self._plain = None if self.sources["validation"] is not None else 0.0
        names = self._names()
        for name, source in self.sources.items():
            if source is not None:
                own = source if callable(source) else Batches(self.model, source, len(names), self.score)
                self._views[name] = View(own, names, self.figures if name == "validation" else None, self.calibrate)
        if self.hparams:
            with self._writer.as_default(step=0):
                self._or_warn("the settings", functools.partial(hparams_api.hparams, self.hparams))

    def on_epoch_begin(self, epoch, logs=None):
        self.pace.begin()

    def on_train_batch_end(self, batch, logs=None):
        self.pace.step()

    def on_epoch_end(self, epoch, logs=None):
        # The first pass compiles, and tells what a pass takes that is no drawing's.
        due = self.budget.due() and (self._plain is not None or self.budget.share == math.inf)
        with self._writer.as_default(step=epoch):
            rate = self.pace.rate()
            if rate is not None:
                name, factor = ("steps", 1) if self.batch_size is None else ("images", self.batch_size)
                tf.summary.scalar(f"speed/{name}_per_second", rate * factor)
            if self.pace.waiting() is not None:
                tf.summary.scalar("speed/waiting_for_input", self.pace.waiting())
            extra = 0.0
            for name, view in self._views.items():
                if name == "validation" or due:
                    extra += self._look(name, view, due)
                    self._tell(name, view, {} if logs is None or name != "validation" else logs)
            if due:
                self.budget.spend(extra)
                parts = functools.partial(self._parts, epoch, {} if logs is None else logs)
                self.budget.draw(self._or_warn("its pictures", parts) or {})
                self._writer.flush()

    def _look(self, name, view, due):
        """One pass over the data; returns the seconds that it takes longer because it is drawn from."""
        start = time.monotonic()
        with averages(self.model):
            view.look(whole=due)
        if view.lost is not None:
            self._warn("samples of images", view.lost)
        seconds = time.monotonic() - start
        if name != "validation":
            return seconds
        if due:
            return max(seconds - (self._plain or seconds), 0.0)
        self._plain = seconds if self._plain is None else min(seconds, self._plain)
        return 0.0

    def on_train_end(self, logs=None):
        self._writer.close()

    def _names(self):
        if self.class_names is not None:
            return [*self.class_names]
        heads = [layer for layer in find_hooks(self.model.layers) if isinstance(layer, Head)]
        if not heads:
            raise ValueError("`class_names` are needed: the model has no head of cplus1_keras that tells their number.")
        return [str(k) for k in range(heads[0].num_classes)]

    def _tell(self, name, view, logs):
        """Write a pass's figures, and log those to select by."""
        for figure, value in view.own.items():
            logs[f"val_{figure}"] = value
        for figure, value in view.common.items():
            unknown = figure.endswith("_unknown")
            tf.summary.scalar(f"not for selection ({name})/{figure}" if unknown else f"{name}/{figure}", value)
            if not unknown and figure != "accuracy":
                logs[f"val_{figure}"] = value
        for figure, value in view.own.items():
            tf.summary.scalar(f"{name}/{figure}", value)
        for figure, value in view.thresholds.items():
            tf.summary.scalar(f"{name}/{figure}", value)

    def _parts(self, epoch, logs):
        """Functions that write a part of what can be seen now, by name."""
        rays, parts = directions(self.model), {}
        for name, view in self._views.items():
            found = view.sample.arrays()
            given = view.curves, rays, self.projection, view.names, view.threshold, self.score.__name__
            for group, curve in view.curves.items():
                arguments = f"{name}/oscr_{group}", curve, *view.members(group), epoch
                parts[arguments[0]] = functools.partial(board.curve, *arguments)
            parts[f"{name}/histograms"] = functools.partial(self._histograms, name, found, rays)
            for figure, make in draw(view.sample, *given).items():
                parts[f"{name}/{figure}"] = functools.partial(self._image, f"{name}/{figure}", make, epoch)
            if name == "validation" and "features" in found:
                parts["projector"] = functools.partial(self._project, view, found)
        if self.sample is not None:
            parts["gradients"] = functools.partial(self._pull, epoch, logs)
        return {name: functools.partial(self._or_warn, name, part) for name, part in parts.items()}

    def _image(self, name, make, epoch):
        board.image(name, make(), epoch)

    def _histograms(self, name, found, rays):
        kinds = np.array([NAMES.get(int(label), "known") for label in found.get("label", ())])
        values = {"score": found["score"].astype("float64")} if found else {}
        if "features" in found:
            values["feature_norm"] = np.linalg.norm(found["features"], axis=-1)
            if rays is not None and rays[1].shape[-1] == found["features"].shape[-1]:
                own = np.where(found["label"] >= 0, found["label"], found["prediction"])
                values["angle"] = angles(found["features"], rays[1], own)
        for figure, value in values.items():
            for group in ("known", *NAMES.values()):
                chosen = value[(kinds == group) & np.isfinite(value)]
                if chosen.size:
                    tf.summary.histogram(f"{name}/{figure}/{group}", chosen)

    def _project(self, view, found):
        names = dict(enumerate(view.names)) | NAMES
        columns = [names[int(label)] for label in found["label"]], [names[int(k)] for k in found["prediction"]]
        scores = [f"{score:.3f}" for score in found["score"]]
        pictures = [thumbnail for _, thumbnail in view.sample.rows]
        table = [("true class", "prediction", "score"), *zip(*columns, scores, strict=True)]
        whole = all(picture is not None for picture in pictures)
        board.embeddings(self.directory, found["features"], table, pictures if whole else None)

    def _pull(self, epoch, logs):
        if self._gradients is None:
            self._gradients = TermGradients(*self.sample)
            self._gradients.set_model(self.model)
            self._gradients.on_train_begin()
        found = {}
        self._gradients.on_epoch_end(epoch, found)
        logs.update(found)
        for name, value in found.items():
            tf.summary.scalar(name, value)

    def _or_warn(self, name, draw):
        """What `draw` gives; goes on after an error, which is told the first time."""
        try:
            return draw()
        except Exception as error:
            self._warn(name, error)

    def _warn(self, name, error):
        if not self.warned:
            self.warned = True
            text = f"{type(error).__name__}: {error}"
            warnings.warn(f"TensorBoard lacks {name}, and training goes on. {text}", stacklevel=2)
