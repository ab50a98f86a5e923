"""One line of progress: what a person wants to know while a run trains."""

import shutil
import sys
import time

import keras


class Progress(keras.callbacks.Callback):
    """Writes the loss, a few figures, images per second and the time left for the whole training.

    On a terminal the line of the running epoch is rewritten; a file gets one plain line an epoch.

    Args:
        batch_size: Images in a step.
        figures: Dict from the name to show to the name in the logs; what the logs lack is left out.
        stream: Where to write; standard output by default.

    >>> progress = Progress(32, {"accuracy": "logits_known_accuracy"})
    >>> progress.set_params({"epochs": 2, "steps": 20})
    >>> progress.on_train_begin()
    >>> progress.text(0, 20, {"loss": 0.5, "logits_known_accuracy": 0.875}, elapsed=2.0)
    'epoch 1/2  loss 0.5000  accuracy 0.875  320 images/s  2 s left'
    """

    EVERY = 0.2  # seconds between two writings of one line

    def __init__(self, batch_size, figures, stream=None):
        super().__init__()
        self.batch_size = batch_size
        self.figures = dict(figures)
        self.stream = sys.stdout if stream is None else stream
        self.terminal = self.stream.isatty()

    def on_train_begin(self, logs=None):
        self.start, self.written, self.first = time.monotonic(), 0.0, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.first = epoch if self.first is None else self.first

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        if self.terminal and now - self.written >= self.EVERY:
            self.written = now
            self._write(self.text(self.epoch, batch + 1, logs, now - self.start), end="")

    def on_epoch_end(self, epoch, logs=None):
        self._write(self.text(epoch, self.params["steps"], logs, time.monotonic() - self.start), end="\n")

    def text(self, epoch, step, logs, elapsed):
        """The line after a step of an epoch, `elapsed` seconds after the training began."""
        epochs, steps, logs = self.params["epochs"], self.params["steps"], logs or {}
        done = (epoch - (self.first or 0)) * steps + step
        parts = [f"epoch {epoch + 1}/{epochs}"] + ([f"step {step}/{steps}"] if step < steps else [])
        if "loss" in logs:
            parts.append(f"loss {logs['loss']:.4f}")
        parts += [f"{name} {logs[key]:.3f}" for name, key in self.figures.items() if key in logs]
        seconds = max(elapsed, 1e-9)
        left = ((epochs - epoch) * steps - step) * seconds / max(done, 1)
        return "  ".join([*parts, f"{done * self.batch_size / seconds:,.0f} images/s", f"{duration(left)} left"])

    def _write(self, text, end):
        if self.terminal:
            width = shutil.get_terminal_size().columns
            text = "\r" + text[:width].ljust(width)
        self.stream.write(text + end)
        self.stream.flush()


def duration(seconds):
    """Seconds as a person says them.

    >>> duration(42), duration(200), duration(7300)
    ('42 s', '3 min 20 s', '2 h 1 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, part = divmod(minutes, 60)
    if hours:
        return f"{hours} h {part} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
