"""The label convention, label sets, and labels on grids of another size."""

import keras
import numpy as np
import pytest
from keras import ops

from cplus1_keras import losses
from cplus1_keras.labels import (
    IGNORE,
    NEGATIVE,
    UNKNOWN,
    check_count,
    is_absent,
    is_annotated,
    is_present,
    nearest,
    to_multi_hot,
)


@pytest.mark.parametrize(("fine", "coarse"), [((8, 8), (2, 4)), ((9, 13), (3, 4)), ((7, 5), (7, 2)), ((5, 6), (5, 6))])
def test_nearest_takes_the_pixel_at_the_centre_of_each_cell(fine, coarse):
    rows, columns = np.meshgrid(np.arange(fine[0]), np.arange(fine[1]), indexing="ij")
    at = [np.array(nearest(ops.array(axis[None]), ops.zeros((1, *coarse, 3))))[0] for axis in (rows, columns)]
    assert at[0].shape == coarse
    for axis in (0, 1):
        centre = (np.arange(coarse[axis]) + 0.5) * fine[axis] / coarse[axis] - 0.5  # in pixels, the first at 0
        assert np.abs(np.moveaxis(at[axis], axis, 0)[:, 0] - centre).max() <= 0.5
        assert (np.ptp(at[axis], axis=1 - axis) == 0).all()


def test_labels_of_images_and_boxes_stay_as_they_are():
    labels = ops.array(np.arange(6).reshape(2, 3))
    assert nearest(labels, ops.zeros((2, 2, 5))) is labels
    assert nearest(labels[:, 0], ops.zeros((2, 4, 4, 5))).shape == (2,)


def test_a_coarser_grid_is_refused():
    with pytest.raises(ValueError, match=r"\(8, 8\).*Received: \(4, 8\).*own size"):
        nearest(ops.zeros((1, 4, 8), "int32"), ops.zeros((1, 8, 8, 3)))


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="other backends know each shape")
def test_sizes_that_only_the_graph_knows():
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec((None, None, None), tf.int32), tf.TensorSpec((None, None, None, 3))])
    def graph(labels, output):
        return nearest(labels, output)

    labels, output = np.random.default_rng(0).integers(0, 9, (2, 11, 8)).astype("int32"), np.zeros((2, 4, 3, 3), "f4")
    np.testing.assert_array_equal(graph(labels, output), nearest(labels, output))


def test_a_loss_reads_fine_labels_and_weights_at_its_coarse_output():
    rng = np.random.default_rng(1)
    labels, weights = rng.integers(-1, 4, (2, 12, 8)), rng.uniform(0, 2, (2, 12, 8)).astype("float32")
    labels[0, :6] = IGNORE
    outputs = {"logits": rng.normal(size=(2, 4, 2, 5)).astype("float32")}
    loss = losses.BackgroundCrossEntropyLoss()
    by_hand = labels[:, 1::3, 2::4], weights[:, 1::3, 2::4]  # the middle of 3 and, of 4, the pixel behind the middle
    assert float(loss(labels, outputs, weights)) == pytest.approx(float(loss(by_hand[0], outputs, by_hand[1])))
    assert float(loss(labels[..., None], outputs)) == pytest.approx(float(loss(by_hand[0], outputs)))
    per_image = np.array([0.5, 2.0], "float32")
    assert float(loss(labels, outputs, per_image)) == pytest.approx(float(loss(by_hand[0], outputs, per_image)))


def test_class_labels_as_label_sets():
    sets = np.array(to_multi_hot(np.array([[2, NEGATIVE], [UNKNOWN, IGNORE]]), 3))
    assert sets.tolist() == [[[0, 0, 1], [0, 0, 0]], [[IGNORE] * 3] * 2]
    assert is_present(sets).sum() == 1
    assert is_absent(sets).sum() == 5  # a negative lacks every class
    assert is_annotated(sets).tolist() == [[[True] * 3] * 2, [[False] * 3] * 2]


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True])
def test_numbers_of_classes(wrong):
    with pytest.raises(ValueError, match="`num_classes` must be an integer >= 1"):
        check_count(wrong)
