"""One source from several: of different classes, or more of the same."""

import functools

import numpy as np
import tensorflow as tf

from cplus1_keras.data.boxes import concatenate as concatenate_boxes
from cplus1_keras.data.reading import common_shape
from cplus1_keras.data.source import Source


def combine(*sources, name=None):
    """One source from sources of different classes, such as digits and letters, one after another.

    Args:
        sources: Sources whose class names have nothing in common, of one number of channels.
        name: A short name; the sources' names joined by + where None.

    Raises:
        ValueError: If a class name occurs in two sources, sources are masks, or grey meets colour.

    >>> digit = Source(["7"], [0], name="digits", arrays={"image": np.zeros([1, 4, 4, 1], "uint8")})
    >>> letter = Source(["k"], [0], name="letters", arrays={"image": np.zeros([1, 4, 4, 1], "uint8")})
    >>> combine(digit, letter).class_names
    ('7', 'k')
    """
    names = [item for source in sources for item in source.class_names]
    shared = sorted({item for item in names if names.count(item) > 1})
    if shared:
        raise ValueError(
            f"Combined sources must not share class names. Received in more than one: {', '.join(shared[:10])}. "
            "`concatenate` joins more examples of the same classes."
        )
    return join(sources, names, name)


def concatenate(*sources, name=None):
    """One source from sources of the same classes, such as the two halves of a data set; otherwise as `combine`.

    >>> half = Source(["cat", "dog"], [0, 1], name="half", arrays={"image": np.zeros([2, 4, 4, 1], "uint8")})
    >>> len(concatenate(half, half))
    4
    """
    if any(source.names != sources[0].names for source in sources):
        came = "; ".join(f"{source.name}: {', '.join(source.class_names[:10])}" for source in sources)
        raise ValueError(f"Concatenated sources must have equal class names. Received: {came}")
    return join(sources, sources[0].class_names if sources else (), name)


def join(sources, class_names, name=None):
    """One source that holds the examples of `sources` one after another, relabelled by name into `class_names`."""
    _check_joint(sources)
    first = sources[0]
    if len(sources) == 1 and first.class_names == tuple(class_names):
        return first
    if len({source.dtype for source in sources}) > 1:
        sources = [source if source.dtype == tf.float32 else source.converted() for source in sources]

    def joint(field):
        return [item for source in sources for item in getattr(source, field)]

    ids = joint("ids")
    if len(set(ids)) < len(ids):
        ids = [f"{number}/{item}" for number, source in enumerate(sources) for item in source.ids]
    return Source(
        first.names if first.kind == "mask" else class_names,
        kind=first.kind,
        name=name or "+".join(dict.fromkeys(source.name for source in sources)),
        shape=common_shape(sources),
        dtype=sources[0].dtype,
        files=joint("files") if all(source.files for source in sources) else (),
        mask_files=joint("mask_files") if all(source.mask_files for source in sources) else (),
        ids=ids,
        groups=joint("groups") if any(source.grouped for source in sources) else None,
        mirrored=dict.fromkeys(pair for source in sources for pair in source.mirrored),
        count=len(ids),
        **_joint_labels(sources, class_names),
        **_joint_way(sources),
    )


def _check_joint(sources):
    if not sources:
        raise ValueError("Needs at least one source. Received: none")
    if len({(source.kind, source.shape[2]) for source in sources}) > 1:
        came = ", ".join(f"{source.name}: {source.kind}, {source.shape[2]}" for source in sources)
        raise ValueError(
            "Sources to be joined must be of one kind and have the same number of channels. "
            f"Received: {came}. Use `source.converted(channels=3)` on the grey ones."
        )
    if sources[0].kind == "mask" and any(source.names != sources[0].names for source in sources):
        raise ValueError("Masks to be joined must have the same values and names.")


def _joint_labels(sources, class_names):
    if sources[0].kind == "mask":
        return {}
    position = {item: index for index, item in enumerate(class_names)}
    places = [np.array([position[item] for item in source.class_names]) for source in sources]
    if sources[0].kind == "boxes":
        return {"boxes": concatenate_boxes([s.boxes.relabel(place) for place, s in zip(places, sources, strict=True)])}
    if sources[0].kind == "class":
        return {"labels": np.concatenate([place[s.labels] for place, s in zip(places, sources, strict=True)])}

    def joint(parts):
        wide = [np.zeros([len(rows), len(class_names)], bool) for rows in parts]
        for columns, place, rows in zip(wide, places, parts, strict=True):
            columns[:, place] = rows
        return np.concatenate(wide)

    annotated = [np.ones_like(s.labels) if s.annotated is None else s.annotated for s in sources]
    return {"labels": joint([s.labels for s in sources]), "annotated": joint(annotated)}


def _joint_way(sources):
    if all(source._arrays is not None for source in sources) and len({source.shape for source in sources}) == 1:
        keys = sources[0]._arrays
        return {"arrays": {key: np.concatenate([s._arrays[key][s._indices] for s in sources]) for key in keys}}
    starts = np.cumsum([0] + [len(source) for source in sources])

    def read(index):
        which = tf.searchsorted(tf.constant(starts[:-1], tf.int64), [index], side="right")[0] - 1
        local = index - tf.gather(tf.constant(starts, tf.int64), which)
        return tf.switch_case(which, [functools.partial(source.read, local) for source in sources])

    def stream(indices):
        parts = []
        for source, start, stop in zip(sources, starts[:-1], starts[1:], strict=True):
            own = indices[(indices >= start) & (indices < stop)] - start
            if len(own) or stop == starts[-1]:
                parts.append(source.subset(own).examples())
        return functools.reduce(lambda first, second: first.concatenate(second), parts)

    return {"read": read} if all(source.random_access for source in sources) else {"stream": stream}
