"""Who is known, who is negative, who is unknown among the classes of any labelled source."""

import dataclasses
import difflib
import json
import pathlib

from cplus1_keras.labels import IGNORE, NEGATIVE, UNKNOWN

_ROLES = ("known", "negative", "unknown")


@dataclasses.dataclass(frozen=True)
class Protocol:
    """Three disjoint sets of classes: of interest, background seen in training, and seen only at evaluation.

    Classes are given by name (`str`) or by index into the source's class names (`int`), never both in one protocol.
    The order of `known` is the order of the labels: the first class gets label 0. A class of the source that the
    protocol does not name is ignored: it reaches no split.

    Args:
        known: classes of interest, at least one; label 0, 1, ... in this order.
        negative: background classes seen in training; label -1.
        unknown: classes that only the test split sees; label -2.
        name: a short name for reports.

    Raises:
        ValueError: a class is named twice, sets overlap, or `known` is empty.
        TypeError: names and indices are mixed, or a set is a single string.

    Example:

    >>> protocol = Protocol(known=("cat", "dog"), negative=("car",), unknown=("owl",))
    >>> protocol.labels(["car", "cat", "dog", "owl", "tree"])
    (-1, 0, 1, -2, -100)

    Reference: Palechor et al., Large-Scale Open-Set Classification Protocols for ImageNet, WACV 2023, section 3
    """

    known: tuple
    negative: tuple = ()
    unknown: tuple = ()
    name: str = ""

    def __post_init__(self):
        for role in _ROLES:
            object.__setattr__(self, role, _classes(role, getattr(self, role)))
        if not self.known:
            raise ValueError("`known` must name at least one class. Received: known=()")
        kinds = {type(item) for role in _ROLES for item in getattr(self, role)}
        if len(kinds) > 1:
            raise TypeError(
                "A protocol gives its classes either all by name (str) or all by index (int). Received both: "
                f"known={self.known}, negative={self.negative}, unknown={self.unknown}"
            )
        role_of = {}
        for role in _ROLES:
            for item in getattr(self, role):
                if item in role_of:
                    raise ValueError(
                        f"Each class has one role. Received: {item!r} in `{role_of[item]}` and in `{role}`. "
                        "Remove one of the two."
                    )
                role_of[item] = role

    @property
    def num_classes(self):
        """Number of known classes, C."""
        return len(self.known)

    @property
    def classes(self):
        """All classes that the protocol names: known, then negative, then unknown."""
        return self.known + self.negative + self.unknown

    @property
    def by_index(self):
        """True where classes are given by index, False where by name."""
        return isinstance(self.known[0], int)

    def labels(self, class_names, partial=False):
        """One label for each class of a source.

        Args:
            class_names: the source's class names, in its order.
            partial: accept a source that lacks some classes of the protocol.

        Returns:
            Tuple of int, one for each class name: index in `known`, `NEGATIVE`, `UNKNOWN` or `IGNORE`.

        Raises:
            ValueError: the source lacks a class (unless `partial`), or repeats a name.

        Example:

        >>> Protocol(known=(2, 0), negative=(1,)).labels(["a", "b", "c", "d"])
        (1, -1, 0, -100)
        """
        class_names = tuple(class_names)
        repeated = sorted({item for item in class_names if class_names.count(item) > 1})
        if repeated:
            raise ValueError(f"The source's class names must differ. Received more than once: {', '.join(repeated)}")
        keys = range(len(class_names)) if self.by_index else class_names
        label_of = dict.fromkeys(self.unknown, UNKNOWN) | dict.fromkeys(self.negative, NEGATIVE)
        label_of |= {item: index for index, item in enumerate(self.known)}
        missing = [item for item in self.classes if item not in keys]
        if missing and not partial:
            raise ValueError(_missing(self, missing, class_names))
        return tuple(label_of.get(key, IGNORE) for key in keys)

    def known_names(self, class_names=()):
        """Names of the known classes in label order; `class_names` is needed where classes are given by index."""
        if not self.by_index:
            return self.known
        self.labels(class_names)
        return tuple(class_names[index] for index in self.known)

    def to_json(self):
        """The protocol as JSON text; `Protocol.from_json` reads it."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False)

    @classmethod
    def from_json(cls, text):
        """The protocol that `to_json` wrote, or anybody's JSON object with `known` and any of the other fields.

        Raises:
            ValueError: no JSON object, no `known`, or a field that a protocol does not have.

        Example:

        >>> Protocol.from_json('{"known": ["cat"], "unknown": ["owl"]}').unknown
        ('owl',)
        """
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
        """Read a protocol from a JSON file.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no protocol; the message names the file.
        """
        path = pathlib.Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"No protocol file at {path}. Write one with `Protocol(...).save(path)`.")
        try:
            return cls.from_json(path.read_text(encoding="utf-8"))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: {error}") from error


def _classes(role, items):
    if isinstance(items, (str, int)):
        raise TypeError(f"`{role}` is a sequence of classes. Received: {items!r}; did you mean ({items!r},)?")
    result = []
    for item in items:
        if isinstance(item, bool) or not (isinstance(item, str) or hasattr(item, "__index__")):
            raise TypeError(f"A class in `{role}` is a name (str) or an index (int). Received: {item!r}")
        item = str(item) if isinstance(item, str) else item.__index__()
        if not isinstance(item, str) and item < 0:
            raise ValueError(f"A class index in `{role}` must be >= 0. Received: {item}")
        result.append(item)
    return tuple(result)


def _missing(protocol, missing, class_names):
    title = f"protocol {protocol.name!r}" if protocol.name else "protocol"
    if protocol.by_index:
        return (
            f"The {title} needs class indices up to {max(protocol.classes)}, but the source has "
            f"{len(class_names)} classes (0 to {len(class_names) - 1})."
        )
    hints = []
    for item in missing[:5]:
        close = difflib.get_close_matches(item, class_names, n=3)
        hints.append(f"{item!r}" + (f" (did you mean {' or '.join(map(repr, close))}?)" if close else ""))
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    has = ", ".join(class_names[:12]) + (", ..." if len(class_names) > 12 else "")
    return f"The {title} names classes that the source lacks: {', '.join(hints)}{more}. The source has: {has}"
