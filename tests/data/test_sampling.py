"""Repeat-factor and class-aware sampling: factors by hand, counts of a pass, the order as a function of the step."""

import collections

import numpy as np
import pytest
import tensorflow as tf

from cplus1_keras.data import Protocol, Split, image_counts, repeat_factors, sources, steps_per_epoch, training
from cplus1_keras.data import sampling as module
from cplus1_keras.data.order import Order
from cplus1_keras.data.sampling import ClassPool, RepeatedPool, shown_classes
from tests.data.test_pipeline import numbered, numbers_of, steps

TAIL = [0] * 60 + [1] * 12 + [2] * 3  # shares 0.8, 0.16, 0.04
WAYS = [("array", 2**30), ("read", 0), ("stream", 2**30), ("stream", 0)]
PROTOCOL = Protocol(["cat", "dog", "owl"], ["tree"])
NAMES = ["cat", "dog", "owl", "tree"]


def sets():
    """Images that show several classes: cat and dog, cat, dog, owl and cat, none."""
    shown = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 0, 0, 1]], bool)
    images = np.zeros((5, 2, 2, 1), "uint8")
    return Split("train", sources.Source(NAMES, shown, kind="classes", name="sets", arrays={"image": images}), PROTOCOL)


def boxes(tmp_path):
    """The same with boxes, dogs twice in one image."""
    lines = ["path,x1,y1,x2,y2,class"]
    for number, names in enumerate(["cat dog dog", "cat", "dog tree", "owl cat", "tree"]):
        lines += [f"{number}.png,1,1,{2 + k},3,{name}" for k, name in enumerate(names.split())]
    (tmp_path / "boxes.csv").write_text("\n".join(lines) + "\n")
    import keras

    for number in range(5):
        keras.utils.save_img(tmp_path / f"{number}.png", np.zeros((8, 8, 3)))
    return Split("train", sources.csv_boxes(tmp_path / "boxes.csv"), PROTOCOL)


def masks():
    """The same with masks."""
    shown = [[0, 1, 1], [0, 0, 0], [1, 3, 3], [2, 0, 0], [3, 3, 3]]
    arrays = {"image": np.zeros((5, 1, 3, 1), "uint8"), "mask": np.array(shown, "uint8")[:, None]}
    return Split("train", sources.Source(NAMES, kind="mask", name="masks", arrays=arrays), PROTOCOL)


@pytest.mark.parametrize("kind", ["sets", "boxes", "masks"])
def test_factors_by_hand(kind, tmp_path):
    """f is 3/5, 2/5, 1/5; with t = 0.5 that is 1, sqrt(5/4), sqrt(5/2)."""
    split = {"sets": sets, "masks": masks, "boxes": lambda: boxes(tmp_path)}[kind]()
    assert sorted(zip(*map(list, shown_classes(split)), strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 1),
        (3, 0),
        (3, 2),
    ]
    np.testing.assert_array_equal(image_counts(split), [3, 2, 1])
    expected = [1.25**0.5, 1, 1.25**0.5, 2.5**0.5, 1]
    np.testing.assert_allclose(repeat_factors(split, 0.5), expected)
    np.testing.assert_array_equal(repeat_factors(split), 1)


def test_factors_of_the_paper():
    """t = 1e-3: a class in one of 10,000 images is repeated sqrt(10) times."""
    split = numbered([0] * 9999 + [1], "read")
    assert repeat_factors(split)[-1] == pytest.approx(10**0.5)
    assert repeat_factors(split)[:-1].max() == 1


def test_factors_of_one_are_the_plain_order_to_the_bit():
    part = numbered(TAIL)
    plain, same = Order(part, None, 3), Order(part, None, 3, "repeat_factor", 0.0)
    numbers = np.arange(300)
    np.testing.assert_array_equal(plain.indices(numbers), same.indices(numbers))


@pytest.mark.parametrize(("way", "memory"), WAYS)
def test_a_pass_rounds_each_factor_to_a_neighbour(way, memory):
    part, factors = numbered(TAIL, way), repeat_factors(numbered(TAIL), 0.5)
    per_pass = int(np.ceil(factors.sum()))
    dataset = training(part, 1, sampling="repeat_factor", repeat_threshold=0.5, memory=memory)
    order = numbers_of(dataset, 3 * per_pass)
    passes = [collections.Counter(order[start : start + per_pass]) for start in range(0, 3 * per_pass, per_pass)]
    for count in passes:
        times = np.array([count[n] for n in range(len(TAIL))])
        assert (times >= np.floor(factors)).all()
        assert (times <= np.ceil(factors * per_pass / factors.sum())).all()
    assert len({tuple(sorted(count.items())) for count in passes}) > 1  # each rounds anew


def test_images_have_their_factors_on_average():
    factors = np.array([1.0, 1.3, 2.5, 1.0, 3.7, 1.2])
    pool = RepeatedPool(np.arange(6), factors)
    assert pool.per_pass == 11
    times = np.mean([pool.times(np.int64(n), 0) for n in range(300)], axis=0)
    np.testing.assert_allclose(times, factors * 11 / factors.sum(), atol=0.02)
    drawn = np.bincount(pool.draw(np.arange(11 * 50), 0), minlength=6)
    np.testing.assert_array_equal(drawn, np.sum([pool.times(np.int64(n), 0) for n in range(50)], axis=0))
    assert not np.array_equal(pool.draw(np.arange(44), 0), pool.draw(np.arange(44), 1))


@pytest.mark.parametrize(("way", "memory"), WAYS)
@pytest.mark.parametrize("sampling", ["repeat_factor", "class_aware"])
@pytest.mark.parametrize("fraction", [None, 0.3])
def test_step_k_is_the_same_wherever_one_starts_and_looking_consumes_nothing(way, memory, sampling, fraction):
    part = numbered(TAIL + [-1] * 8, way)
    more = {"sampling": sampling, "repeat_threshold": 0.5, "negative_fraction": fraction, "seed": 3, "memory": memory}
    if (way, memory, sampling) == ("stream", 0, "class_aware"):
        with pytest.raises(ValueError, match="read in any order"):
            steps(training(part, 7, **more), 1)
        return
    dataset = training(part, 7, **more)
    next(iter(dataset))
    whole = steps(dataset, 30)
    assert steps(dataset, 30) == whole
    for first in (1, 13, 27):
        assert steps(training(part, 7, **more, first_step=first), 30 - first) == whole[first:]
    negative = np.array([label for _, own in whole for label in own]) == -1
    if fraction:
        assert abs(negative.mean() - fraction) < 0.01


def test_classes_have_equal_shares():
    part = numbered(TAIL + [-1] * 8)
    labels = np.array(TAIL + [-1] * 8)
    order = np.array(numbers_of(training(part, 4, sampling="class_aware"), 240))
    rounds = labels[order].reshape(-1, 4)  # negatives are one more class
    assert (np.sort(rounds, axis=1) == [-1, 0, 1, 2]).all()
    assert len({tuple(own) for own in rounds.tolist()}) > 10
    for own, count in ((1, 12), (2, 3), (-1, 8)):
        uses = order[labels[order] == own]
        for start in range(0, len(uses) - count + 1, count):  # each image of a class once before any comes again
            assert len(set(uses[start : start + count])) == count
    without = numbers_of(training(part, 4, sampling="class_aware", negative_fraction=0), 30)
    assert (labels[without] >= 0).all()


def test_images_of_several_classes_are_drawn_for_each():
    pool = ClassPool(np.arange(5), *shown_classes(sets()))
    drawn = np.bincount(pool.draw(np.arange(4 * 600), 0), minlength=5) / 600
    np.testing.assert_allclose(drawn, [1 / 3 + 1 / 2, 1 / 3, 1 / 2, 1 / 3 + 1, 1], atol=1e-9)


def test_length_of_a_pass():
    part, total = numbered(TAIL), repeat_factors(numbered(TAIL), 0.5).sum()
    assert steps_per_epoch(part, 5, sampling="repeat_factor", repeat_threshold=0.5) == int(np.ceil(total)) // 5 == 18
    assert steps_per_epoch(part, 5, sampling="class_aware") == steps_per_epoch(part, 5) == 15
    some = numbered(TAIL + [-1] * 8)
    assert (
        steps_per_epoch(some, 5, 0.5, "repeat_factor", 0.5)
        == 2 * int(np.ceil(repeat_factors(some, 0.5)[:75].sum())) // 5
    )


def test_what_is_refused():
    for settings in ({"sampling": "balanced"}, {"sampling": "repeat_factor", "repeat_threshold": 1.5}):
        with pytest.raises(ValueError, match="Received"):
            training(numbered(TAIL), 5, **settings)


@pytest.mark.parametrize("number", [997, 50_000, 1_000_000])
def test_passes_and_neighbours_have_nothing_in_common(number):
    ranks = tf.range(number, dtype=tf.int64)
    first, second = (
        module._shuffled(ranks, number, 3, tf.fill([number], tf.constant(index, tf.int64))).numpy() for index in (0, 1)
    )
    np.testing.assert_array_equal(np.sort(first), ranks)
    limit = 4 / np.sqrt(number)
    for one, other in ((first, second), (first[1:], first[:-1]), (first, np.arange(number))):
        assert abs(np.corrcoef(one, other)[0, 1]) < limit
