"""The second stage of a detector: what is in each region, and where exactly its box is."""

import keras
from keras import ops

from cplus1_keras.labels import IGNORE, check_count, is_known
from cplus1_keras.layers.anchors import check_sampling, permutation
from cplus1_keras.layers.hooks import OpenSetLayer, complete, no_half
from cplus1_keras.layers.matching import match_boxes, sample_labels, truth
from cplus1_keras.numerics.boxes import clip, from_deltas, sample_masks, to_deltas

INNER = ("heads", "align", "mask_heads", "mask_align")


@keras.saving.register_keras_serializable("cplus1_keras")
class RoIHeads(OpenSetLayer):
    """Classes and boxes of regions, by one box head or a cascade of them; in training, of regions that it samples.

    Called on `[images, regions, *maps]`, regions (B, R, 4) in pixels of the images, it gives what the last head gives
    for each of them, `logits` (B, R, C or C + 1) being the mean over the heads, and `roi_boxes`, (B, R, 4) or
    (B, R, C, 4) where each class has boxes of its own, within the image and without an area where the region has none.
    In training these are empty, and `targets` runs the heads on regions that it samples: those given and the objects
    themselves, or for a further head of a cascade the boxes of the head before. The data set gives `boxes` and
    `box_labels`, as for `FCOSPoints`. Of head k, losses read what it gives with the prefix `roi<k>_`, and there:
    - `labels` (B, samples): the class of the object that the region overlaps with at least the IoU, `NEGATIVE` for
      background, `IGNORE` for regions that are missing or half inside an unknown or ignored object.
    - `box_deltas`, `box_delta_targets` (B, samples, 4): see `numerics.boxes.to_deltas`; those of the region's class.

    With mask heads the data set gives `masks` (B, M, S, S) of 0 and 1 in `mask_boxes` (B, M, 4), too, and of head k,
    for regions of objects, losses read with the prefix `mask<k>_` `labels` (B, share · samples), `logits` and
    `mask_targets` (B, share · samples, side²), those of the region's class. It also gives `image_size` (B, 2), and
    `masks` tells of any boxes.

    Args:
        heads: List of models from features (B, R, K) of regions to a dict with `logits` and `box_deltas`, (B, R, 4) or
            (B, R, 4 C).
        align: A `RoIAlign`.
        ious: One for each head.
        stds: Of each head what its deltas are divided by.
        samples, share: Of an image so many regions train, of objects this share at most.
        mask_heads: None, or a model for each head, from cells (n, h, h, channels) to logits (n, side, side, C or 1).
        mask_align: The `RoIAlign` of these.

    Reference: Ren et al., "Faster R-CNN", NIPS 2015; He et al., "Mask R-CNN", ICCV 2017, section 3; Cai and
    Vasconcelos, "Cascade R-CNN", CVPR 2018, section 4.

    >>> cells = keras.Input((None, 2 * 2 * 8))
    >>> outputs = heads.LinearHead(3, background=True)(cells) | {"box_deltas": keras.layers.Dense(4)(cells)}
    >>> layer = layers.RoIHeads([keras.Model(cells, outputs)], layers.RoIAlign(2, strides=(8,)))
    >>> given = [np.ones(shape, "float32") for shape in ((1, 32, 32, 3), (1, 5, 4), (1, 4, 4, 8))]
    >>> tuple(layer(given)["logits"].shape)
    (1, 5, 4)
    """

    def __init__(
        self,
        heads,
        align,
        ious=(0.5,),
        stds=((0.1, 0.1, 0.2, 0.2),),
        samples=512,
        share=0.25,
        mask_heads=(),
        mask_align=None,
        **kwargs,
    ):
        super().__init__(dtype=no_half(kwargs.pop("dtype", None)), autocast=False, **kwargs)
        self.heads, self.align = list(heads), align
        self.mask_heads, self.mask_align = list(mask_heads), mask_align
        self.ious, self.stds = tuple(map(float, ious)), tuple(tuple(map(float, own)) for own in stds)
        if not len(self.heads) == len(self.ious) == len(self.stds) > 0:
            raise ValueError(
                f"A cascade has a head, an IoU and four `stds` for each stage. Received: {len(self.heads)} heads, "
                f"ious={ious}, stds={stds}"
            )
        if len(self.mask_heads) not in (0, len(self.heads)) or bool(self.mask_heads) != (mask_align is not None):
            raise ValueError(
                "Masks need a `mask_align` and a mask head for each box head. Received: "
                f"{len(self.mask_heads)} mask heads, {len(self.heads)} box heads, mask_align={mask_align}"
            )
        for iou in self.ious:
            self.share, *_ = check_sampling(share, iou, iou)
        self.samples, self.noise = check_count(samples, "samples"), keras.random.SeedGenerator()

    def build(self, input_shape):
        for align in filter(None, (self.align, self.mask_align)):
            align.build(input_shape[1:])

    def call(self, inputs, training=False):
        images, regions, *maps = inputs
        size = ops.shape(images)[1:3]
        if training:
            spec = self.compute_output_spec(inputs, training)
            return {name: ops.zeros((ops.shape(images)[0], *x.shape[1:]), x.dtype) for name, x in spec.items()}
        found, logits = {}, 0.0
        for k in range(len(self.heads)):
            found = self._run(k, regions, maps, False)
            logits = logits + found["logits"] / len(self.heads)
            deltas = found.pop("box_deltas")
            deltas = ops.reshape(deltas, (*ops.shape(deltas)[:2], deltas.shape[-1] // 4, 4))
            boxes = clip(from_deltas(ops.expand_dims(regions, 2), deltas, self.stds[k]), ops.stack(size))
            if boxes.shape[2] == 1:
                boxes = regions = ops.squeeze(boxes, 2)
        found |= {"logits": logits, "roi_boxes": boxes}
        if self.mask_heads:
            found["image_size"] = ops.broadcast_to(ops.stack(size), (ops.shape(images)[0], 2))
        return found

    def masks(self, maps, regions, classes):
        """How likely each cell of regions (B, R, 4) belongs to the object, (B, R, side, side), by classes (B, R)."""
        found = [self._masks(k, maps, regions, classes) for k in range(len(self.mask_heads))]
        return ops.mean(ops.sigmoid(ops.stack(found)), axis=0)

    def _masks(self, k, maps, regions, classes, training=False):
        """The logits of mask head k for regions of these classes."""
        x = self.mask_align([regions, *maps])
        shape = ops.shape(x)
        x = self.mask_heads[k](ops.reshape(x, (shape[0] * shape[1], *x.shape[2:])), training=training)
        x = ops.reshape(x, (shape[0], shape[1], *x.shape[1:]))
        if x.shape[-1] > 1:
            own = ops.reshape(ops.maximum(classes, 0), (shape[0], shape[1], 1, 1, 1))
            x = ops.take_along_axis(x, own, axis=-1)
        return ops.cast(x[..., 0], "float32")

    def _run(self, k, regions, maps, training):
        """What head k gives for regions (B, R, 4)."""
        x = self.align([regions, *maps])
        shape = ops.shape(x)
        return self.heads[k](ops.reshape(x, (*shape[:2], x.shape[2] ** 2 * x.shape[4])), training=training)

    def compute_output_spec(self, inputs, training=False):
        batch, count = inputs[1].shape[0], 0 if training else inputs[1].shape[1]
        found = {name: (x.shape[2:], x.dtype) for name, x in self.heads[-1].output.items()}
        shape, _ = found.pop("box_deltas")
        found["roi_boxes"] = ((4,) if shape[-1] == 4 else (shape[-1] // 4, 4), "float32")
        size = {"image_size": keras.KerasTensor((batch, 2), dtype="int32")} if self.mask_heads else {}
        found = {name: keras.KerasTensor((batch, count, *own), dtype=dtype) for name, (own, dtype) in found.items()}
        return found | size

    def targets(self, tensors, training):
        objects, object_labels = truth(self, tensors)
        maps = [tensors[name] for name in sorted(tensors) if name.startswith("map")]
        regions, made = tensors["regions"], {}
        for k in range(len(self.heads)):
            regions = ops.concatenate([regions, objects], axis=1)
            labels, rows = match_boxes(regions, objects, object_labels, self.ious[k], self.ious[k])
            order = permutation(labels, self.noise if training else k)
            labels = sample_labels(labels, self.samples, self.share, order)
            regions, labels, rows, given = self._choose(regions, labels, rows, ops.shape(objects)[1])
            prefix = f"roi{k + 1}_"
            outputs = self._run(k, regions, maps, training)
            deltas, goal = self._deltas(k, outputs, regions, labels, objects, rows)
            own = {**outputs, "labels": labels, "box_deltas": deltas, "box_delta_targets": goal}
            own = complete([self.heads[k]], own, training)
            made |= {prefix + name: tensor for name, tensor in own.items()}
            if self.mask_heads:
                made |= self._mask_targets(k, maps, regions, labels, rows, tensors, training)
            if k + 1 < len(self.heads):
                moved = from_deltas(regions, deltas, self.stds[k])
                size = ops.stack(ops.shape(maps[0])[1:3]) * self.align.strides[0]
                regions = ops.stop_gradient(ops.where(given, clip(moved, size), 0.0))
        return made

    def _choose(self, regions, labels, rows, number):
        """The sampled regions, their labels, the rows of their objects, and whether they are no objects themselves."""
        count = ops.shape(labels)[1]
        most = min(self.samples, count) if isinstance(count, int) else ops.minimum(self.samples, count)
        places = ops.top_k(ops.cast(labels != IGNORE, "float32"), most)[1]
        pick = ops.expand_dims(places, -1)
        regions = ops.take_along_axis(regions, pick, axis=1)
        labels, rows = (ops.take_along_axis(each, places, axis=1) for each in (labels, rows))
        return *(ops.stop_gradient(each) for each in (regions, labels, rows)), pick < count - number

    def _mask_targets(self, k, maps, regions, labels, rows, tensors, training):
        """Logits of the masks of regions of objects, and what they are to be."""
        missing = [name for name in ("masks", "mask_boxes") if name not in tensors]
        if missing:
            raise ValueError(f"`{self.name}` has mask heads, so it needs {missing} from the data set, as of instances.")
        most = min(max(1, int(self.samples * self.share)), labels.shape[1] or self.samples)
        places = ops.top_k(ops.cast(is_known(labels), "float32"), most)[1]
        labels, rows = (ops.take_along_axis(each, places, axis=1) for each in (labels, rows))
        regions = ops.take_along_axis(regions, ops.expand_dims(places, -1), axis=1)
        logits = self._masks(k, maps, regions, labels, training)
        # The rows of objects have one of padding more.
        rows = ops.minimum(rows, ops.shape(tensors["masks"])[1] - 1)
        masks, frames = (ops.cast(tensors[name], "float32") for name in ("masks", "mask_boxes"))
        masks = ops.take_along_axis(masks, ops.expand_dims(rows, (2, 3)), axis=1)
        frames = ops.take_along_axis(frames, ops.expand_dims(rows, -1), axis=1)
        goal = sample_masks(masks, frames, regions, logits.shape[2:]) >= 0.5
        flat = (*ops.shape(labels), logits.shape[2] * logits.shape[3])
        own = {"labels": ops.where(is_known(labels), labels, IGNORE), "logits": ops.reshape(logits, flat)}
        own["mask_targets"] = ops.reshape(ops.cast(ops.stop_gradient(goal), "float32"), flat)
        return {f"mask{k + 1}_{name}": tensor for name, tensor in own.items()}

    def _deltas(self, k, outputs, regions, labels, objects, rows):
        """The deltas of each region's class, and what they are to be."""
        deltas = outputs.pop("box_deltas")
        if deltas.shape[-1] > 4:
            own = ops.reshape(deltas, (*ops.shape(deltas)[:2], deltas.shape[-1] // 4, 4))
            own_class = ops.reshape(ops.maximum(labels, 0), (*ops.shape(labels), 1, 1))
            deltas = ops.squeeze(ops.take_along_axis(own, own_class, axis=2), 2)
        assigned = ops.take_along_axis(objects, ops.expand_dims(rows, -1), axis=1)
        goal = ops.where(ops.expand_dims(is_known(labels), -1), to_deltas(regions, assigned, self.stds[k]), 0.0)
        return deltas, ops.stop_gradient(goal)

    def get_config(self):
        inner = {name: getattr(self, name) for name in INNER}
        inner = {name: keras.saving.serialize_keras_object(value) for name, value in inner.items()}
        names = ("ious", "stds", "samples", "share")
        return {**super().get_config(), **inner, **{name: getattr(self, name) for name in names}}

    @classmethod
    def from_config(cls, config):
        inner = {name: keras.saving.deserialize_keras_object(config[name]) for name in INNER}
        return cls(**{**config, **inner})
