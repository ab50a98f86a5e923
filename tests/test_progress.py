"""The line of progress tells the time left, and a file gets one plain line an epoch."""

import io

import pytest

from cplus1_keras import progress
from cplus1_keras.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run(stream, monkeypatch, first=0):
    clock = iter(range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    line = Progress(8, {"accuracy": "logits_known_accuracy", "AUROC": "val_auroc"}, stream)
    line.set_params({"epochs": 3, "steps": 2})
    line.on_train_begin()
    for epoch in range(first, 3):
        line.on_epoch_begin(epoch)
        for step in range(2):
            line.on_train_batch_end(step, {"loss": 1.0})
        line.on_epoch_end(epoch, {"loss": 0.5, "logits_known_accuracy": 0.75, "gradient_ratio/x": 1.0})
    return stream.getvalue()


def test_a_file_gets_one_plain_line_an_epoch(monkeypatch):
    lines = run(io.StringIO(), monkeypatch).splitlines()
    assert len(lines) == 3
    # The clock ticks once a step and once an epoch: 3 seconds for 2 steps of 8 images.
    assert lines[0] == "epoch 1/3  loss 0.5000  accuracy 0.750  5 images/s  6 s left"
    assert lines[2].endswith("0 s left")


def test_a_terminal_is_rewritten_within_its_width(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    text = run(Terminal(), monkeypatch)
    assert text.count("\n") == 3
    assert {len(part.rstrip("\n")) for part in text.split("\r")[1:]} == {40}
    assert "step 1/2" in text


def test_a_resumed_training_counts_its_own_steps_only(monkeypatch):
    assert (
        run(io.StringIO(), monkeypatch, first=2)
        .splitlines()[0]
        .startswith("epoch 3/3  loss 0.5000  accuracy 0.750  5 ")
    )


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3600, "1 h 0 min")])
def test_durations(seconds, text):
    assert duration(seconds) == text
