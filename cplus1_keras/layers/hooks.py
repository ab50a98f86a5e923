"""Named tensors, and the layers that take part between the forward pass and the loss.

All that losses and metrics read is one dict: the model's outputs, what the data set gives, what layers make of both.
"""

import keras
from keras import ops


class OpenSetLayer(keras.layers.Layer):
    """A layer that `OpenSetModel` calls again after the forward pass. Each of its three hooks does nothing by default.

    `targets` assigns the truth to predictions (anchors, points, regions), `update` follows the batch in training (class
    centres, scales, steps), `provide` gives the losses what is no output. They run in this order, in training and in
    evaluation, on the dict of all named tensors; those of layers inside a layer that has `targets` are its own
    business, for example by `complete`. `reads` names the output whose labels `update` wants, None for no labels.

    Args:
        prefix: What the names begin with that it gives, provides and reads, for one of several heads, like `roi1_`;
            `update` and `provide` meet these names without it. Losses follow by `loss.of("roi1_")`.
        **kwargs: Those of `keras.layers.Layer`.

    >>> class Overlap(layers.OpenSetLayer):
    ...     def provide(self, tensors):
    ...         return {"mean_logits": ops.mean(tensors["logits"], axis=0)}
    >>> list(layers.complete([Overlap()], {"logits": np.ones((2, 3))}, training=True))
    ['logits', 'mean_logits']
    """

    reads = "logits"

    def __init__(self, prefix="", **kwargs):
        super().__init__(**kwargs)
        self.prefix = check_prefix(prefix) if prefix else ""

    def targets(self, tensors, training):
        """Dict of named tensors that assign the truth to predictions, like `labels` (batch, positions)."""
        return {}

    def update(self, labels, tensors):
        """Change the layer's state by a batch of training."""

    def provide(self, tensors):
        """Dict of named tensors for the losses; those of an output's name replace it there."""
        return {}

    def get_config(self):
        return {**super().get_config(), **({"prefix": self.prefix} if self.prefix else {})}


def check_prefix(prefix):
    """The prefix, if it is a name and an underscore; else ValueError."""
    if not isinstance(prefix, str) or not prefix.endswith("_"):
        raise ValueError(f"`prefix` must be a name and an underscore, like 'roi1_'. Received: prefix={prefix!r}")
    return prefix


def named(y):
    """What a data set gives, as named tensors: a dict as it is, one tensor as `labels`; integer labels as int32.

    >>> list(named(np.array([0, -1])))
    ['labels']
    """
    tensors = {}
    for name, value in (y if isinstance(y, dict) else {"labels": y}).items():
        tensor = ops.convert_to_tensor(value)
        whole = name.endswith("labels") and "int" in dtype_of(tensor)
        tensors[name] = ops.cast(tensor, "int32") if whole else tensor
    return tensors


def dtype_of(tensor):
    """The name of a tensor's type, on every backend."""
    return keras.backend.standardize_dtype(tensor.dtype)


def no_half(dtype):
    """The dtype policy of a layer, the global one for None; float32 in place of half precision."""
    policy = keras.dtype_policies.get(dtype or keras.config.dtype_policy())
    return "float32" if policy.compute_dtype in ("float16", "bfloat16") else policy


def find_prefix(tensors, output):
    """The prefix of an output: the longest that some `logits` have too; "" where none has.

    >>> find_prefix({"roi1_logits": 0}, "roi1_box_offsets"), find_prefix({"logits": 0}, "box_offsets")
    ('roi1_', '')
    """
    starts = [output[: end + 1] for end, letter in enumerate(output) if letter == "_"]
    return next((start for start in reversed(starts) if start + "logits" in (*tensors, output)), "")


def name_for(tensors, prefix, kinds=("labels",)):
    """The key of the labels that belong to a prefix: of `roi1_` `roi1_labels` if that is there, else `labels`."""
    parts = prefix.split("_")[:-1]
    for end in range(len(parts), -1, -1):
        for kind in kinds:
            name = "_".join([*parts[:end], kind])
            if name in tensors:
                return name
    raise ValueError(
        f"There is no {' or '.join(f'`{prefix}{kind}`' for kind in kinds)} from the data set or a layer's `targets`: "
        f"there are {sorted(tensors)}. Give `fit` a tensor, which is `labels`, or a dict with that name."
    )


def labels_for(tensors, output, kinds=("labels",)):
    """The labels of an output: for `roi1_logits` they are `roi1_labels` if that is there, else `labels`.

    An output has the prefix of the `logits` beside it: for `roi1_features` it is the same where there is `roi1_logits`.
    `kinds` are `labels` or `multi_hot`, the best first; there is a ValueError if none is there.

    >>> labels_for({"labels": 0, "roi1_labels": 1}, "roi1_logits")
    1
    """
    return tensors[name_for(tensors, find_prefix(tensors, output), kinds)]


def find_hooks(layers):
    """The `OpenSetLayer`s among layers and inside them, each once; nothing inside one that has `targets` of its own."""
    found, seen = [], set()

    def visit(layers):
        for layer in layers:
            if id(layer) in seen:
                continue
            seen.add(id(layer))
            if isinstance(layer, OpenSetLayer):
                found.append(layer)
                if type(layer).targets is not OpenSetLayer.targets:
                    continue
            visit(layer._flatten_layers(include_self=False, recursive=False))

    visit(layers)
    return found


def complete(layers, tensors, training):
    """All named tensors of a batch, after the hooks of the layers: all `targets`, then each one's `update`, `provide`.

    Args:
        layers: Layers or models; those inside count too.
        tensors: Dict of the outputs and of what the data set gives, see `named`; it is not changed.
        training: Whether `update` is called.

    Raises:
        ValueError: If two layers provide one name, or labels that an `update` wants are missing.

    >>> steps = layers.MarginWarmup(steps=4)
    >>> float(layers.complete([steps], {}, training=True)["margin_fraction"])
    0.25
    """
    tensors, layers, givers = dict(tensors), find_hooks(layers), {}
    for layer in layers:
        tensors.update(layer.targets(tensors, training))
    for layer in layers:
        prefix = layer.prefix
        own = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        if training and type(layer).update is not OpenSetLayer.update:
            reads = layer.reads
            name = None if reads is None else name_for(tensors, prefix + find_prefix(own, reads))
            layer.update(tensors.get(name), own)
        provided = {prefix + name: value for name, value in layer.provide(own).items()}
        twice = sorted(set(provided) & set(givers))
        if twice:
            raise ValueError(
                f"`{givers[twice[0]]}` and `{layer.name}` both provide {twice}. Give one a prefix, like "
                "`CosineHead(C, 16.0, prefix='roi1_')`, and point its loss there by `loss.of('roi1_')`."
            )
        givers.update(dict.fromkeys(provided, layer.name))
        tensors.update(provided)
    return tensors
