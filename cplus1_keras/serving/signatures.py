"""The ways in which a SavedModel can be asked."""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable

import tensorflow as tf

from cplus1_keras.images import decode_batch, decode_ragged

EXAMPLE_KEY = "image/encoded"
"""Of the image in a tf.Example, as TensorFlow's data sets have it."""


@dataclasses.dataclass(frozen=True)
class Signature:
    """A function of tensors by name, and what of its answers is given.

    Args:
        function: Takes a tensor for each input and gives a dict of tensors.
        inputs: `tf.TensorSpec`s with the names of the function's arguments; each has the leading batch axis.
        outputs: Names of the answers.

    >>> twice = Signature(lambda x: {"twice": 2 * x, "x": x}, (tf.TensorSpec((None,), tf.int32, "x"),), ("twice",))
    >>> twice(tf.constant([1, 2]))["twice"].numpy().tolist()
    [2, 4]
    """

    function: Callable
    inputs: tuple
    outputs: tuple

    def __call__(self, *tensors):
        answers = self.function(*tensors)
        return {name: answers[name] for name in self.outputs}


def strings(name):
    """An input of that name, a string for each row."""
    return tf.TensorSpec((None,), tf.string, name)


def read_images(shape, max_pixels, short_side):
    """Function of encoded images (N,) giving float32 images of one shape (H, W, channels), NaN where one is bad."""
    *size, channels = shape
    read = lambda contents: decode_batch(contents, size, channels, max_pixels, short_side)  # noqa: E731
    return tf.function(read, input_signature=[strings("contents")], autograph=False)  # traced once


def read_examples(inputs):
    """Encoded images, under the key `image/encoded`, of serialised tf.Examples (N,); "" where one has none."""
    key = tf.io.FixedLenFeature((), tf.string, default_value="")
    return tf.io.parse_example(inputs, {EXAMPLE_KEY: key})[EXAMPLE_KEY]


def score_name(reject):
    """What the score of a layer that decides is called."""
    return getattr(getattr(reject, "score", None), "__name__", "logit")


def about(predictor):
    """What an operator asks of a SavedModel or a server: names, threshold, score, version. `request` is any text."""
    threshold, score, version = predictor.reject.weights[0], score_name(predictor.reject), package_version()

    def tell(request):
        told = {"class_names": predictor.class_names, "threshold": threshold, "score": score, "version": version}
        return {name: tf.repeat(tf.convert_to_tensor(x)[None], tf.size(request), axis=0) for name, x in told.items()}

    return Signature(tell, (strings("request"),), ("class_names", "score", "threshold", "version"))


def package_version():
    """The version of this package, as it is installed; of a checkout that is not, without a number."""
    try:
        return f"cplus1_keras {importlib.metadata.version('cplus1-keras')}"
    except importlib.metadata.PackageNotFoundError:
        return "cplus1_keras"


def answer_each(answer, contents, channels, max_size, pad):
    """Answers for encoded images of any size, each as if it were alone, and their `sizes` int32 (N, 2).

    `answer` is a function from float32 images (N, H, W, channels) to a dict of tensors (N, ...); `pad` one of such a
    dict for one image, and of the size (2,) that the pixels of all are to have. The rest is as for `decode_ragged`.
    """
    number = tf.size(contents)
    contents = tf.pad(contents, [[0, tf.cast(number == 0, tf.int32)]])  # "" stands in for none
    images, sizes = decode_ragged(contents, channels, max_size)
    largest = tf.shape(images)[1:3]

    def alone(row):
        image, (height, width) = row[0], tf.unstack(tf.maximum(row[1], 1))
        image = tf.cast(image[:height, :width], tf.float32)
        image = tf.where(row[1][0] > 0, image, float("nan"))
        return {name: value[0] for name, value in pad(answer(image[None]), largest).items()}

    def together():
        return answer(tf.cast(images, tf.float32))

    shapes = tf.function(together).get_concrete_function().structured_outputs
    kinds = {name: tf.TensorSpec(value.shape[1:], value.dtype) for name, value in shapes.items()}
    one_size = tf.reduce_all((sizes == sizes[0]) & (sizes > 0))
    one_by_one = functools.partial(tf.map_fn, alone, (images, sizes), fn_output_signature=kinds)
    answers = tf.cond(one_size, together, one_by_one)
    return {name: value[:number] for name, value in {**answers, "sizes": sizes}.items()}
