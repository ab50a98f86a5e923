"""The line of progress tells the time left, and a file gets one plain line an epoch."""

import io

import pytest

from cplus1_keras import progress
from cplus1_keras.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, monkeypatch, first=0, steps=3):
    """Two epochs on a clock: a first step of 100 s, then 1 s a step, and 10 s of validation after each epoch."""
    clock = {"now": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock["now"])
    line = Progress(8, {"accuracy": "logits_known_accuracy", "AUROC": "val_auroc"}, stream)
    line.set_params({"epochs": 2, "steps": steps})
    line.on_train_begin()
    for epoch in range(first, 2):
        line.on_epoch_begin(epoch)
        for step in range(steps):
            clock["now"] += 100 if (epoch, step) == (first, 0) else 1
            line.on_train_batch_end(step, {"loss": 1.0})
        clock["now"] += 10
        line.on_epoch_end(epoch, {"loss": 0.5, "logits_known_accuracy": 0.75, "gradient_ratio/x": 1.0})
    return stream.getvalue()


def test_a_file_gets_one_plain_line_an_epoch(monkeypatch):
    # 8 images in 1 s, the first step and the validation not counted; 2 steps took 12 s with it, so 3 more take 18.
    first, second = run(io.StringIO(), monkeypatch).splitlines()
    assert first == "epoch 1/2  loss 0.5000  accuracy 0.750  8 images/s  18 s left"
    assert second == "epoch 2/2  loss 0.5000  accuracy 0.750  8 images/s  0 s left"


def test_a_terminal_is_rewritten_within_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = run(Terminal(), monkeypatch)
    assert text.count("\n") == 2
    assert {len(part.rstrip("\n")) for part in text.split("\r")[1:]} == {40}
    assert "step 2/3" in text


def test_a_resumed_training_counts_its_own_steps_only(monkeypatch):
    (line,) = run(io.StringIO(), monkeypatch, first=1).splitlines()
    assert line == "epoch 2/2  loss 0.5000  accuracy 0.750  8 images/s  0 s left"


def test_epochs_of_one_step_have_only_that_to_go_by(monkeypatch):
    first, second = run(io.StringIO(), monkeypatch, steps=1).splitlines()
    assert first.endswith("0 images/s  1 min 50 s left")
    assert second.endswith("8 images/s  0 s left")


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
