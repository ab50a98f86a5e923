"""What the outputs of a model say about raw images: one definition for Python and for the SavedModel."""

import dataclasses
from typing import ClassVar

import tensorflow as tf

from cplus1_keras.heads import Head
from cplus1_keras.images import MAX_PIXELS, check_short_side
from cplus1_keras.labels import REJECTED, REJECTED_NAME
from cplus1_keras.layers import Presence, Reject
from cplus1_keras.serving import guards
from cplus1_keras.serving.signatures import (
    Signature,
    about,
    answer_each,
    package_version,
    read_examples,
    read_images,
    score_name,
    strings,
)


class Spec:
    """What the specs share. One of your own is a frozen dataclass that sets these and overrides `decide`:

    `output`, its name in files; `columns`, the names of what `tell` gives; `layer`, what decides; `answers`, the names
    of what a SavedModel gives; `reads`, the outputs that a model must have; `axes` of the logits before the last;
    `background`, whether there may be a logit for it; `dtype` of the images in a SavedModel; `batch_size`; `max_size`,
    (height, width), where a model takes any size; `max_pixels` of an encoded image; `short_side`, to which it is
    resized before its middle is cut, None where it is stretched; `classifies`, whether `classify` makes sense;
    `compared`, the answers in which a SavedModel must agree with `predict` beside its decisions.
    """

    output: ClassVar[str]
    layer: ClassVar[type] = Reject
    answers: ClassVar[tuple]
    reads: ClassVar[tuple] = ("features", "logits")
    axes: ClassVar[str] = "N"
    background: ClassVar[bool] = True
    batch_size: ClassVar[int] = 256
    columns: ClassVar[tuple] = ()
    dtype = "float32"
    max_size = None
    max_pixels = MAX_PIXELS
    short_side = None
    classifies = False
    compared: ClassVar[tuple] = ("score", "probabilities")

    def check(self, model, num_classes):
        """Raises ValueError unless the model's input and outputs fit."""
        shape = getattr(model, "input_shape", None)  # a model that was never built has none
        start = 3 if self.max_size else 1
        if not isinstance(shape, tuple) or len(shape) != 4 or None in shape[start:]:
            sizes = "None, None, channels)" if self.max_size else "height, width, channels), sizes known"
            needs = f"Serving needs a functional Keras model with one input of shape (None, {sizes}"
            raise ValueError(f"{needs}. Received: {model!r} with input shape {shape}")
        if self.short_side is not None:
            check_short_side(self.short_side, shape[1:3])
        outputs = model.output if isinstance(model.output, dict) else {}
        if not set(self.reads) <= set(outputs):
            raise ValueError(
                f"Serving needs a model that gives a dict with {' and '.join(self.reads)}, as the heads of "
                f"cplus1_keras.heads do. Received: {sorted(outputs) or type(model.output).__name__}"
            )
        shape = tuple(outputs["logits"].shape)
        also = f", or {num_classes + 1} with a background logit" if self.background else ""
        needs = f"{num_classes} known classes need logits of shape ({self.axes}, {num_classes}){also}"
        if len(shape) != len(self.axes.split()) + 1 or not 0 <= shape[-1] - num_classes <= self.background:
            raise ValueError(f"{needs}. Received: {shape}. Logits of other axes want another `spec`.")
        known = {layer.num_classes for layer in model._flatten_layers() if isinstance(layer, Head)}
        if known and num_classes not in known:
            raise ValueError(f"{needs}. Received: a head with {max(known)} known classes and logits of shape {shape}")

    def narrow(self, model):
        """The part of a model that answers need."""
        return model

    def outputs(self, run, images, num_classes):
        """The outputs that decide, by a function from images to a model's outputs."""
        return run(images)

    def decide(self, predictor, outputs, valid, threshold=None):
        """Answers, a dict of tensors, from a model's outputs and which images are valid, bool (N,).

        A `threshold` that is given, float32 (N,) or (N, C) as the layer that decides has one, takes the place of the
        layer's own.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement `decide(predictor, outputs, valid, ...)`.")

    def align(self, served, expected):
        """What is to be equal: a SavedModel's answers, and outputs with what the layer that decides makes of them."""
        return served, expected

    def predict(self, predictor, images):
        """The answers for a float32 tensor of images, in Python."""
        return predictor.answer_graph(images)

    def signatures(self, predictor):
        """The `Signature`s of a SavedModel by name."""
        shape = predictor.image_shape
        images = tf.TensorSpec((None, *shape), self.dtype, "images")
        threshold = tf.TensorSpec((None, *predictor.reject.weights[0].shape), tf.float32, "threshold")
        to_float = lambda images: tf.cast(self.limit(images), tf.float32)  # noqa: E731
        answer = lambda images: predictor.answer_graph(to_float(images))  # noqa: E731
        answer_at = lambda images, threshold: predictor.answer(to_float(images), threshold)  # noqa: E731
        features = lambda images: predictor.features_graph(to_float(images))  # noqa: E731
        found = {
            "about": about(predictor),
            "serving_default": Signature(answer, (images,), self.answers),
            "predict_at": Signature(answer_at, (images, threshold), self.answers),
        }
        if "features" in predictor.network.output:
            found["features"] = Signature(features, (images,), ("features", "valid"))
        if "cams" in predictor.network.output:
            explain = lambda images: self.explain(predictor, to_float(images))  # noqa: E731
            found["explain"] = Signature(explain, (images,), ("map", "map_class", "valid"))
        return found | (self.byte_signatures(predictor) if shape[2] in (1, 3) else {})

    def explain(self, predictor, images):
        """Where in float32 images the class is seen that is nearest to being the answer, by class activation maps."""
        outputs, valid = predictor.read_graph(images)
        valid &= tf.reduce_all(tf.math.is_finite(outputs["cams"]), axis=(1, 2, 3))
        thresholds = tf.convert_to_tensor(predictor.reject.weights[0])
        margins = outputs["logits"][..., : predictor.num_classes] - (thresholds if thresholds.shape.rank else 0.0)
        k = tf.argmax(tf.where(tf.math.is_nan(margins), -float("inf"), margins), axis=-1)
        shown = tf.gather(outputs["cams"], k, axis=-1, batch_dims=1)
        names = tf.where(valid, tf.gather(tf.constant(predictor.class_names), k), REJECTED_NAME)
        return {"map": tf.where(valid[:, None, None], shown, 0.0), "map_class": names, "valid": valid}

    def byte_signatures(self, predictor):
        """Those that take encoded images, which become what training made of them."""
        image_bytes, shape = strings("image_bytes"), predictor.image_shape
        if None not in shape:
            read = read_images(shape, self.max_pixels, self.short_side)
            answer = lambda image_bytes: predictor.answer_graph(read(image_bytes))  # noqa: E731
            found = {"predict_bytes": Signature(answer, (image_bytes,), self.answers)}
            classify = lambda inputs: self.classify(predictor, answer(read_examples(inputs)))  # noqa: E731
            if self.classifies:
                found["classify"] = Signature(classify, (strings("inputs"),), ("classes", "scores"))
            return found
        if shape[:2] != (None, None):
            return {}
        one = Signature(predictor.answer_graph, (), self.answers)
        answer = lambda image_bytes: answer_each(one, image_bytes, shape[2], self.max_size, self.pad)  # noqa: E731
        return {"predict_bytes": Signature(answer, (image_bytes,), (*self.answers, "sizes"))}

    def classify(self, predictor, answer):
        """Of answers, what TF Serving's Classify API gives: `classes`, strings (N, K), and `scores` (N, K)."""
        return {"classes": answer["class_name"][:, None], "scores": answer["score"][:, None]}

    def pad(self, answer, size):
        """An answer for one image, whose pixels are padded to a size, int32 (2,), where there is one for each pixel."""
        return answer

    def limit(self, images):
        """The images of a request, unless they are too large."""
        if self.max_size is None:
            return images
        shape, (height, width) = tf.shape(images), self.max_size
        text = f"This model takes images of 1 to {height} x {width} pixels (height x width). Resize or cut larger ones."
        fits = tf.reduce_all((shape[1:3] >= 1) & (shape[1:3] <= self.max_size))
        with tf.control_dependencies([tf.debugging.Assert(fits, [f"{text} Received images of shape:", shape])]):
            return tf.identity(images)

    def describe(self, predictor):
        """What a SavedModel says of its answers: plain values, ready for JSON."""
        size = {"max_size": list(self.max_size)} if self.max_size else {"max_pixels": self.max_pixels}
        return {
            "output": self.output,
            "class_names": predictor.class_names,
            "score": score_name(predictor.reject),
            "image_shape": list(predictor.image_shape),
            "orientation": "encoded images are turned as their EXIF says",
            "version": package_version(),
            "spec": self.to_dict(),
            **size,
        }

    def tell(self, predictor, answer):
        """An answer for one image as rows of a table: dicts with the keys `columns`."""
        raise NotImplementedError(f"{type(self).__name__} must implement `tell(predictor, answer)` to write tables.")

    def picture(self, predictor, answer):
        """An answer for one image as a picture (H, W, 3), uint8; None where a table says all."""

    def to_dict(self):
        """Plain values, ready for JSON: the output's name and the settings."""
        return {"output": self.output, **dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class ImageSpec(Spec):
    """One class of each image, or of each position of it, or none. Answers:

    `class_id` int32 (N,), -1 where rejected; `class_name` string (N,), "unknown" there; `score` float32 (N,), higher =
    more known; `known` bool (N,); `probabilities` float32 (N, C); `valid` bool (N,), False where the image has a NaN or
    a pixel far outside 0..255 or the model overflows: then the image is rejected, with probabilities 0. With positions
    their axes follow N.

    Args:
        positions: Number of axes of logits (N, ..., C) between those of images and of classes.
        max_pixels: Of an encoded image; one with more is not `valid`, and is not decoded.
        short_side: None stretches encoded images to the model's size. A number of pixels resizes them to this shorter
            side and cuts the model's size from the middle, as `tasks.Classification(crop=...)` trains.

    >>> ImageSpec().answers
    ('class_id', 'class_name', 'known', 'probabilities', 'score', 'valid')
    """

    positions: int = 0
    max_pixels: int = MAX_PIXELS
    short_side: int | None = None

    output: ClassVar[str] = "image"
    columns: ClassVar[tuple] = ("class_name", "score", "valid")
    answers: ClassVar[tuple] = ("class_id", "class_name", "known", "probabilities", "score", "valid")

    @property
    def classifies(self):
        return self.positions == 0

    @property
    def axes(self):
        return ", ".join("NPQRST"[: self.positions + 1])

    def tell(self, predictor, answer):
        told = zip(*(answer[name].ravel().tolist() for name in self.columns), strict=True)
        return [dict(zip(self.columns, row, strict=True)) for row in told]

    def decide(self, predictor, outputs, valid, threshold=None):
        answer = predictor.reject(outputs, threshold=guards.spread(threshold, outputs["logits"]))
        probabilities, score = answer["probabilities"], answer["score"]
        valid = tf.reshape(valid, [-1] + [1] * self.positions)
        valid &= tf.reduce_all(tf.math.is_finite(probabilities), axis=-1) & ~tf.math.is_nan(score)
        class_id = tf.where(valid, answer["class_id"], REJECTED)
        # A gather from a constant instead of a hash table: it needs no asset and no initialisation, and TFLite runs it.
        names = tf.constant([REJECTED_NAME, *predictor.class_names])
        return {
            "class_id": class_id,
            "class_name": tf.gather(names, class_id - REJECTED),
            "score": guards.finite(score, valid),
            "known": answer["known"] & valid,
            "probabilities": tf.where(valid[..., None], probabilities, 0.0),
            "valid": valid,
        }


@dataclasses.dataclass(frozen=True)
class LabelSetSpec(Spec):
    """Any number of classes of each image, or none; decided by `layers.Presence`. Answers:

    `present` bool (N, C); `score` float32 (N, C), higher = more surely present; `probabilities` float32 (N, C), which
    need not sum to 1; `none` bool (N,), where no class is present; `valid` bool (N,), False where the image has a NaN
    or a pixel far outside 0..255 or the model overflows: then no class is present.

    Args:
        max_pixels: Of an encoded image; one with more is not `valid`, and is not decoded.

    >>> LabelSetSpec().answers
    ('none', 'present', 'probabilities', 'score', 'valid')
    """

    max_pixels: int = MAX_PIXELS

    output: ClassVar[str] = "label_set"
    columns: ClassVar[tuple] = ("classes", "none", "valid")
    layer: ClassVar[type] = Presence
    classifies: ClassVar[bool] = True
    background: ClassVar[bool] = False
    answers: ClassVar[tuple] = ("none", "present", "probabilities", "score", "valid")

    def decide(self, predictor, outputs, valid, threshold=None):
        answer = predictor.reject(outputs, threshold=threshold)
        valid &= ~tf.reduce_any(tf.math.is_nan(answer["score"]), axis=-1)
        row = valid[:, None]
        present = answer["present"] & row
        return {
            "present": present,
            "score": guards.finite(answer["score"], row),
            "probabilities": tf.where(row, answer["probabilities"], 0.0),
            "none": ~tf.reduce_any(present, axis=-1),
            "valid": valid,
        }

    def classify(self, predictor, answer):
        return {"classes": tf.where(answer["present"], predictor.class_names, ""), "scores": answer["score"]}

    def tell(self, predictor, answer):
        names = [name for name, there in zip(predictor.class_names, answer["present"], strict=True) if there]
        return [{"classes": "; ".join(names), "none": bool(answer["none"]), "valid": bool(answer["valid"])}]
