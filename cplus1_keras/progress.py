"""One line of progress: what a person wants to know while a run trains."""

import shutil
import sys
import time

import keras


class Progress(keras.callbacks.Callback):
    """Writes the loss, a few figures, images per second of the running epoch and the time left for the whole training.

    On a terminal the line of the running epoch is rewritten; a file gets one plain line an epoch.

    Args:
        batch_size: Images in a step.
        figures: Dict from the name to show to the name in the logs; what the logs lack is left out.
        stream: Where to write; standard output by default.

    >>> progress = Progress(32, {"accuracy": "logits_known_accuracy"})
    >>> progress.set_params({"epochs": 2, "steps": 20})
    >>> progress.text(0, 20, {"loss": 0.5, "logits_known_accuracy": 0.875}, pace=0.1, left=2.0)
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
        self.written, self.start, self.done = 0.0, time.monotonic(), 0
        self.compiling = True

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.since, self.steps, self.last = epoch, time.monotonic(), 0, None

    def on_train_batch_end(self, batch, logs=None):
        now = time.monotonic()
        self.done, self.steps, self.last = self.done + 1, self.steps + 1, now
        if self.compiling and self.params["steps"] > 1:  # the first step takes seconds that no other does
            self.compiling, self.start, self.since, self.done, self.steps = False, now, now, 0, 0
        if self.terminal and now - self.written >= self.EVERY and self.steps:
            self.written = now
            self._write(self._line(batch + 1, logs, now), end="")

    def on_epoch_end(self, epoch, logs=None):
        self._write(self._line(self.params["steps"], logs, time.monotonic()), end="\n")

    def _line(self, step, logs, now):
        epochs, steps = self.params["epochs"], self.params["steps"]
        left = ((epochs - self.epoch) * steps - step) * (now - self.start) / max(self.done, 1)
        return self.text(self.epoch, step, logs, (self.last - self.since) / max(self.steps, 1), left)

    def text(self, epoch, step, logs, pace, left):
        """The line after a step of an epoch; `pace` is seconds a step, `left` those to the end of the training."""
        steps, logs = self.params["steps"], logs or {}
        parts = [f"epoch {epoch + 1}/{self.params['epochs']}"] + ([f"step {step}/{steps}"] if step < steps else [])
        if "loss" in logs:
            parts.append(f"loss {logs['loss']:.4f}")
        parts += [f"{name} {logs[key]:.3f}" for name, key in self.figures.items() if key in logs]
        return "  ".join([*parts, f"{self.batch_size / max(pace, 1e-9):,.0f} images/s", f"{duration(left)} left"])

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


def follow(items, total, unit="images", stream=None):
    """Yields items, and writes on a line of standard error how many came and how long the rest will take.

    A terminal's line is rewritten; a file gets one at the end.

    >>> import io
    >>> log = io.StringIO()
    >>> list(follow("ab", 2, stream=log)), log.getvalue()[:11]
    (['a', 'b'], '2/2 images ')
    """
    stream = sys.stderr if stream is None else stream
    start = written = time.monotonic()
    for number, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if number == total or (stream.isatty() and now - written >= Progress.EVERY):
            written, pace = now, number / max(now - start, 1e-9)
            text = f"{number:,}/{total:,} {unit}  {pace:,.0f} {unit}/s  {duration((total - number) / pace)} left"
            stream.write(("\r" * stream.isatty() + text).ljust(60) + ("\n" if number == total else ""))
            stream.flush()
