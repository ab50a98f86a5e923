"""Which mask values are known, background, ignored or unknown. Pure Python, without numpy or TensorFlow."""

import dataclasses
import json
import pathlib

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

_LARGEST = 2**16 - 1
_CHOICES = {"ignore": IGNORE, "background": NEGATIVE}


@dataclasses.dataclass(frozen=True)
class SegmentationProtocol:
    """What each value in a mask means.

    The order of `classes`, without those in `unknown`, is the order of the labels: 0, 1, ... Several mask values can
    make one class. A value that is named nowhere is an error when it occurs in a mask.

    Args:
        classes: classes of interest: mapping of name -> mask value or sequence of them, or such pairs.
        background: mask values of the background, label -1; may be empty.
        ignored: mask values that count for nothing, label -100.
        unknown: names in `classes` that training never sees as a class: label -2 in evaluation.
        unknown_in_training: "ignore" or "background": what pixels of unknown classes are in training. "background"
            shows them to training as negatives, so that evaluation asks whether seen background is rejected.
        mirrored: pairs of class names that a mirrored image swaps, such as ("left arm", "right arm").
        name: a short name for reports.

    Raises:
        ValueError: no known class is left, a value has two roles, or a name that `classes` lacks.
        TypeError: a field is no sequence, or a value no integer.

    Example:

    >>> protocol = SegmentationProtocol({"person": 15, "vehicle": (6, 7), "cat": 8}, background=(0,), unknown=("cat",))
    >>> protocol.class_names
    ('person', 'vehicle')
    >>> protocol.training_labels()
    {15: 0, 6: 1, 7: 1, 8: -100, 0: -1}
    >>> protocol.evaluation_labels()[8]
    -2
    """

    classes: tuple
    background: tuple = ()
    ignored: tuple = ()
    unknown: tuple = ()
    unknown_in_training: str = "ignore"
    mirrored: tuple = ()
    name: str = ""

    def __post_init__(self):
        pairs = self.classes.items() if hasattr(self.classes, "items") else self.classes
        classes = tuple((str(name), _values(f"classes[{name!r}]", values)) for name, values in pairs)
        object.__setattr__(self, "classes", classes)
        for field in ("background", "ignored"):
            object.__setattr__(self, field, _values(field, getattr(self, field), empty=True))
        object.__setattr__(self, "unknown", _names("unknown", self.unknown))
        object.__setattr__(self, "mirrored", tuple(_names("mirrored", pair) for pair in self.mirrored))
        _check(self)

    @property
    def class_names(self):
        """Names of the known classes in label order."""
        return tuple(name for name, _ in self.classes if name not in self.unknown)

    @property
    def num_classes(self):
        """Number of known classes, C."""
        return len(self.class_names)

    @property
    def class_values(self):
        """Mask values of all classes, known and unknown, such as `sources.coco_objects` wants to crop around."""
        return tuple(value for _, values in self.classes for value in values)

    @property
    def has_background(self):
        """True where training sees negative pixels by this protocol."""
        return bool(self.background) or (bool(self.unknown) and self.unknown_in_training == "background")

    def training_labels(self):
        """Dict of mask value -> label for training: knowns, `NEGATIVE`, `IGNORE`; never `UNKNOWN`."""
        return self._labels(_CHOICES[self.unknown_in_training])

    def calibration_labels(self):
        """As `training_labels`, but pixels of unknown classes are `IGNORE` in any case: thresholds see none of them."""
        return self._labels(IGNORE)

    def evaluation_labels(self):
        """Dict of mask value -> label for tests: knowns, `NEGATIVE`, `IGNORE`, and `UNKNOWN` for unknown classes."""
        return self._labels(UNKNOWN)

    def mirror(self):
        """Tuple p of length C: a pixel of known class k shows class p[k] in the mirrored image.

        For logits z of a mirrored image, flipped back along the width, `z[..., p]` are those of the image itself.

        >>> SegmentationProtocol({"left": 1, "hat": 2, "right": 3}, mirrored=[("left", "right")]).mirror()
        (2, 1, 0)
        """
        other = {a: b for pair in self.mirrored for a, b in (pair, pair[::-1])}
        names = self.class_names
        return tuple(names.index(other.get(name, name)) for name in names)

    def with_unknown(self, *names, in_training=None):
        """This protocol with some of its known classes held out as unknown.

        `in_training`, "ignore" or "background", becomes `unknown_in_training`; None leaves that as it is.

        >>> SegmentationProtocol({"a": 0, "b": 1}).with_unknown("b").class_names
        ('a',)
        """
        return dataclasses.replace(
            self, unknown=self.unknown + names, unknown_in_training=in_training or self.unknown_in_training
        )

    def with_background(self, *names):
        """This protocol with some of its classes turned into background.

        Raises:
            ValueError: there is no such class.

        >>> SegmentationProtocol({"road": 0, "sky": 1}).with_background("sky").background
        (1,)
        """
        own = dict(self.classes)
        _check_names("with_background", names, own)
        return dataclasses.replace(
            self,
            classes={name: values for name, values in self.classes if name not in names},
            background=self.background + tuple(value for name in names for value in own[name]),
            mirrored=tuple(pair for pair in self.mirrored if not set(pair) <= set(names)),
        )

    def to_json(self):
        """The protocol as JSON text; `SegmentationProtocol.from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """The protocol that `to_json` wrote, or anybody's JSON object with `classes` and any of the other fields.

        Raises:
            ValueError: no JSON object, no `classes`, or a field that a protocol does not have.

        >>> SegmentationProtocol.from_json('{"classes": {"cat": [1, 2]}, "background": [0]}').classes
        (('cat', (1, 2)),)
        """
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"A protocol is a JSON object with the key `classes`. This is no JSON: {error}") from error
        allowed = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict) or "classes" not in fields or set(fields) - set(allowed):
            came = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(
                f"A segmentation protocol is a JSON object with `classes` and at most {allowed}. Received: {came}"
            )
        return cls(**fields)

    def save(self, path):
        """Write the protocol as a JSON file."""
        pathlib.Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path):
        """Read a protocol from a JSON file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no protocol; the message names the file.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(
                f"No protocol file at {path}. Write one with `SegmentationProtocol(...).save(path)`."
            )
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    def _labels(self, unknown):
        position = {name: index for index, name in enumerate(self.class_names)}
        labels = {value: position.get(name, unknown) for name, values in self.classes for value in values}
        return labels | dict.fromkeys(self.background, NEGATIVE) | dict.fromkeys(self.ignored, IGNORE)


def _values(field, values, empty=False):
    values = (values,) if hasattr(values, "__index__") else values
    if isinstance(values, str) or not hasattr(values, "__iter__"):
        raise TypeError(f"`{field}` is a mask value or a sequence of them. Received: {values!r}")
    values = tuple(values)
    for value in values:
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"A mask value in `{field}` is an integer. Received: {value!r}")
        if not 0 <= value.__index__() <= _LARGEST:
            raise ValueError(f"A mask value in `{field}` must lie in 0 to {_LARGEST}. Received: {value}")
    if not values and not empty:
        raise ValueError(f"`{field}` needs at least one mask value. Received: none")
    return tuple(value.__index__() for value in values)


def _names(field, names):
    if isinstance(names, str):
        raise TypeError(f"`{field}` is a sequence of class names. Received: {names!r}; did you mean ({names!r},)?")
    return tuple(names)


def _check_names(field, names, own):
    lacks = [name for name in names if name not in own]
    if lacks:
        raise ValueError(
            f"`{field}` names classes that `classes` lacks: {', '.join(map(repr, lacks))}. It has: {', '.join(own)}"
        )


def _check(protocol):
    names = [name for name, _ in protocol.classes]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(f"Class names must differ. Received more than once: {', '.join(repeated)}")
    role_of = {}
    roles = [(f"class {name!r}", values) for name, values in protocol.classes]
    for role, values in [*roles, ("`background`", protocol.background), ("`ignored`", protocol.ignored)]:
        for value in values:
            if value in role_of:
                raise ValueError(f"Each mask value has one role. Received: {value} in {role_of[value]} and in {role}.")
            role_of[value] = role
    _check_names("unknown", protocol.unknown, names)
    if not protocol.class_names:
        raise ValueError(f"At least one class must be known. Received: classes {names}, unknown {protocol.unknown}")
    if protocol.unknown_in_training not in _CHOICES:
        raise ValueError(
            f'`unknown_in_training` must be "ignore" or "background". Received: {protocol.unknown_in_training!r}'
        )
    for pair in protocol.mirrored:
        _check_names("mirrored", pair, names)
        if len(set(pair)) != 2 or len({name in protocol.unknown for name in pair}) != 1:
            raise ValueError(
                f"`mirrored` pairs two classes of one role, for a mirrored image swaps them. Received: {pair}; "
                f"unknown are {protocol.unknown}. Hold out both, merge them into one class, or remove the pair."
            )
    flat = [name for pair in protocol.mirrored for name in pair]
    if len(set(flat)) != len(flat):
        raise ValueError(f"A class can be in one pair of `mirrored` only. Received: {protocol.mirrored}")
