"""Who is known, negative, unknown, ignored, by the names of classes: for images, pixels, label sets."""

import dataclasses
import difflib
import json
import pathlib

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN, check_names

ROLES = {"negative": NEGATIVE, "unknown": UNKNOWN, "ignored": IGNORE}
_OTHERS = ("error", "ignored", "negative")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Roles of the class names of a source.

    Args:
        known: Classes of interest in label order: names, or a mapping (or pairs) of a name -> the source's names that
            it merges.
        negative: Names of classes that training sees as background, label -1.
        unknown: Names of classes that only tests see, label -2. Whole images and images with a set of labels that show
            one are tests; pixels of one are what `unknown_in_training` says.
        ignored: Names of classes that count for nothing, label -100.
        unknown_in_training: "ignored" or "negative": what pixels of unknown classes are in the training split. In
            validation and calibration they are always ignored, so that thresholds see none of them.
        others: "error" where one occurs, "ignored" or "negative": role of names that the protocol does not have.
        name: A short name for reports.
        far: Those of the unknown names that are far from the known classes, such as another script or photographs:
            they and the others, which are near, are also judged apart. Empty divides nothing.

    Raises:
        ValueError: If a name has two roles, none is known, or one of `far` is not unknown.
        TypeError: If a field is no sequence of names.

    >>> protocol = Protocol({"cat": ["cat"], "vehicle": ["car", "bus"]}, negative=["tree"], unknown=["owl"])
    >>> protocol.class_names, protocol.labels(["bus", "cat", "car", "owl", "tree"])
    (('cat', 'vehicle'), (1, 0, 1, -2, -1))

    Reference: Palechor et al., Large-Scale Open-Set Classification Protocols for ImageNet, WACV 2023, section 3.
    """

    known: tuple
    negative: tuple = ()
    unknown: tuple = ()
    ignored: tuple = ()
    unknown_in_training: str = "ignored"
    others: str = "error"
    name: str = ""
    far: tuple = ()

    def __post_init__(self):
        items = self.known.items() if hasattr(self.known, "items") else _sequence("known", self.known)
        object.__setattr__(self, "known", tuple(_pair(item) for item in items))
        for role in (*ROLES, "far"):
            object.__setattr__(self, role, _names(role, getattr(self, role)))
        for field, choices in (("unknown_in_training", ("ignored", "negative")), ("others", _OTHERS)):
            if getattr(self, field) not in choices:
                raise ValueError(f"`{field}` is one of {', '.join(choices)}. Received: {getattr(self, field)!r}")
        self._check()

    @property
    def class_names(self):
        """Names of the known classes in label order."""
        return tuple(name for name, _ in self.known)

    @property
    def num_classes(self):
        """Number of known classes, C."""
        return len(self.known)

    @property
    def has_negatives(self):
        """True where training can see negatives by this protocol."""
        unknown = self.unknown and self.unknown_in_training == "negative"
        return bool(self.negative or unknown or self.others == "negative")

    def labels(self, names, part="test", partial=False):
        """The label of each name of a source in one part of the data, None for a name whose occurrence is an error.

        Args:
            names: The source's class names; a name may occur more than once.
            part: "train", "validation", "calibration" or "test": they differ in what an unknown class is.
            partial: Accept a source that lacks some classes of the protocol, which is a ValueError otherwise.

        >>> Protocol(["a"], unknown=["b"], unknown_in_training="negative").labels(["a", "b", "c"], "train")
        (0, -1, None)
        """
        names, roles = tuple(names), self._roles(part)
        missing = [name for name in roles if name not in names]
        if missing and not partial:
            raise ValueError(_missing(self, missing, tuple(dict.fromkeys(names))))
        return tuple(roles.get(name, ROLES.get(self.others)) for name in names)

    def table(self, names, part="test"):
        """Dict of mask value -> label, from a source's dict of value -> name; values without a role are absent."""
        pairs = zip(names, self.labels(names.values(), part), strict=True)
        return {value: label for value, label in pairs if label is not None}

    def multi_hot(self, present, names, annotated=None):
        """Which known classes each image shows, and whether it shows any known or unknown class.

        Args:
            present: (N, n) bool, whether image i shows class `names[k]`; one without a role is a ValueError.
            names: The source's class names.
            annotated: (N, n) bool, whether it was looked for; None: all were.

        Returns:
            (N, C) int32 of 1 present, 0 absent, -100 not annotated; (N,) bool shows a known class; (N,) bool an unknown
            one.

        >>> Protocol({"cat": ["cat"], "vehicle": ["car", "bus"]}, unknown=["owl"]).multi_hot(
        ...     [[False, False, True, True]], ["cat", "car", "bus", "owl"])
        (array([[0, 1]], dtype=int32), array([ True]), array([ True]))
        """
        import numpy as np

        present = np.asarray(present, bool)
        annotated = np.ones_like(present) if annotated is None else np.asarray(annotated, bool)
        labels = self.labels(names, partial=True)
        strange = [name for k, name in enumerate(names) if labels[k] is None and present[:, k].any()]
        if strange:
            raise ValueError(no_role(self, strange))
        own = [[k for k, label in enumerate(labels) if label == c] for c in range(self.num_classes)]
        shown = np.stack([present[:, k].any(1) for k in own], 1)
        seen = np.stack([annotated[:, k].all(1) for k in own], 1)
        hot = np.where(shown, 1, np.where(seen, 0, IGNORE)).astype("int32")
        unknown = [k for k, label in enumerate(labels) if label == UNKNOWN]
        return hot, shown.any(1), present[:, unknown].any(1)

    def mirror(self, pairs=()):
        """The known class that each known class becomes in a mirrored image.

        For logits z of a mirrored image, flipped back, `z[..., p]` are those of the image itself, p being the result.

        Args:
            pairs: Pairs of the source's names that a mirrored image swaps, such as ("left arm", "right arm"). One of a
                pair that is held out or merged without the other is a ValueError.

        >>> Protocol(["left", "hat", "right"]).mirror([("left", "right")])
        (2, 1, 0)
        """
        other = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
        members = [frozenset(names) for _, names in self.known]
        swapped = [frozenset(other.get(name, name) for name in names) for names in members]
        strange = [self.class_names[k] for k, names in enumerate(swapped) if names not in members]
        if strange:
            raise ValueError(
                f"A mirrored image would show {', '.join(strange)} as a class that the {self.title} does not know. Of "
                "two classes that mirror each other hold out both, or merge both into one."
            )
        return tuple(members.index(names) for names in swapped)

    def hold_out(self, *names, unknown_in_training=None):
        """This protocol with some known classes unknown; `unknown_in_training` stays where it is None."""
        return self._move("unknown", names, unknown_in_training or self.unknown_in_training)

    def as_negative(self, *names):
        """This protocol with some known classes negative."""
        return self._move("negative", names, self.unknown_in_training)

    def to_json(self):
        """The protocol as JSON text; `Protocol.from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """The protocol that `to_json` wrote, or anybody's JSON object with `known` and any of the other fields."""
        try:
            fields = json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"A protocol is a JSON object with the key `known`. This is no JSON: {error}") from error
        allowed = [field.name for field in dataclasses.fields(cls)]
        if not isinstance(fields, dict) or "known" not in fields or set(fields) - set(allowed):
            came = sorted(fields) if isinstance(fields, dict) else type(fields).__name__
            raise ValueError(f"A protocol is a JSON object with `known` and at most {allowed}. Received: {came}")
        return cls(**fields)

    def save(self, path):
        """Write the protocol as a JSON file."""
        pathlib.Path(path).write_text(self.to_json() + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path):
        """Read a protocol from a JSON file; a ValueError names the file where it holds none."""
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No protocol file at {path}. Write one with `Protocol(...).save(path)`.")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text in UTF-8: {error}. Save it as one.") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def title(self):
        """What messages call this protocol."""
        return f"protocol {self.name}" if self.name else "protocol"

    def _roles(self, part):
        learnt = ROLES[self.unknown_in_training]
        unknown = {"train": learnt, "validation": IGNORE, "calibration": IGNORE, "test": UNKNOWN}
        if part not in unknown:
            raise ValueError(f"`part` is one of {', '.join(unknown)}. Received: {part!r}")
        roles = {name: label for role, label in ROLES.items() for name in getattr(self, role)}
        roles |= dict.fromkeys(self.unknown, unknown[part])
        return roles | {name: label for label, (_, members) in enumerate(self.known) for name in members}

    def _move(self, role, names, unknown_in_training):
        lacks = ", ".join(repr(name) for name in names if name not in self.class_names)
        if lacks:
            raise ValueError(f"Known classes of the {self.title} are {', '.join(self.class_names)}; it lacks: {lacks}")
        moved = tuple(member for name, members in self.known if name in names for member in members)
        kept = tuple(pair for pair in self.known if pair[0] not in names)
        changes = {"known": kept, role: getattr(self, role) + moved, "unknown_in_training": unknown_in_training}
        return dataclasses.replace(self, **changes)

    def _check(self):
        if not self.known:
            raise ValueError("`known` must name at least one class. Received: known=()")
        check_names(self.class_names)
        found = {}
        pairs = [("known", name) for _, members in self.known for name in members]
        pairs += [(role, name) for role in ROLES for name in getattr(self, role)]
        for role, name in pairs:
            if name in found:
                raise ValueError(f"Each class has one role. Received: {name!r} in `{found[name]}` and in `{role}`.")
            found[name] = role
        strange = [name for name in self.far if name not in self.unknown]
        if strange:
            raise ValueError(f"`far` names unknown classes. Received in `far` and not in `unknown`: {strange}")


def no_role(protocol, names):
    """What to say of classes that occur and that a protocol does not name."""
    return (
        f"The {protocol.title} gives no role to classes that occur: {', '.join(names[:10])}. Name them in `known`, "
        '`negative`, `unknown` or `ignored`, or set `others` to "ignored" or "negative".'
    )


def _sequence(role, items):
    if isinstance(items, (str, int)) or not hasattr(items, "__iter__"):
        raise TypeError(f"`{role}` is a sequence of class names. Received: {items!r}; did you mean ({items!r},)?")
    return tuple(items)


def _names(role, items):
    items = _sequence(role, items)
    if not all(isinstance(item, str) for item in items):
        raise TypeError(f"A class in `{role}` is a name (str). Received: {items!r}")
    return tuple(map(str, items))


def _pair(item):
    if isinstance(item, str):
        return str(item), (str(item),)
    if not isinstance(item, (tuple, list)) or len(item) != 2 or not isinstance(item[0], str) or not item[1]:
        raise TypeError(f"A class in `known` is a name or (name, names that it merges). Received: {item!r}")
    return str(item[0]), _names("known", item[1])


def _missing(protocol, missing, names):
    hints = []
    for item in missing[:5]:
        close = difflib.get_close_matches(item, names, n=3)
        hints.append(f"{item!r}" + (f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""))
    hints += [f"and {len(missing) - 5} more"] * (len(missing) > 5)
    has = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    return f"The {protocol.title} names classes that the source lacks: {', '.join(hints)}. The source has: {has}"
