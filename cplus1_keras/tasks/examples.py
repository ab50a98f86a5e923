"""The examples that tell most of a judged split: strangers that look known, knowns that look strange, wrong answers."""

import collections
import io

import numpy as np
from PIL import Image

from cplus1_keras.tasks.records import split_by_class

LIMIT = 240
"""How many are kept, a third of each kind."""

SIDE = 96
"""Largest side of a thumbnail in pixels."""

STRANGER, REFUSED, WRONG = "stranger", "refused", "wrong"


class Examples:
    """Keeps of each class the strangers with the highest scores, and the knowns that are lowest, or answered wrongly.

    Of pixels an example is the part of an image that is of one class: it has the median of the scores there and the
    answer that is most frequent, so that it is accepted where most of it is.

    Args:
        sweep: The `Sweep` of the same records, which tells classes and scores.

    >>> from cplus1_keras.tasks import Record
    >>> from cplus1_keras.tasks.sweep import Sweep
    >>> examples = Examples(Sweep(calibration.threshold_at_fpr(np.arange(60.0), 0.1), ("cat",), {7: "dog"}))
    >>> examples.update(Record(np.array(-2), np.array(0), np.float32(3), "a"), 7)
    >>> examples.chosen()
    [{'kind': 'stranger', 'index': 0, 'true': 'dog', 'role': 'unknown', 'answer': 'cat', 'score': 3.0}]
    """

    def __init__(self, sweep):
        self.sweep, self.index = sweep, 0
        self.kept = collections.defaultdict(list)

    def update(self, record, values=None):
        """Look at one image; `values` as for `split_by_class`."""
        scores = np.asarray(record.scores, "float32") - self.sweep.base
        predictions, boxes = np.asarray(record.predictions), record.more.get("boxes")
        for role, name, inside in split_by_class(record, values, self.sweep.names, self.sweep.class_names):
            if np.ndim(inside) == 2:
                columns, rows = (np.flatnonzero(inside.any(axis=axis)) for axis in (0, 1))
                box = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                found = [(np.median(scores[inside]), np.bincount(predictions[inside]).argmax(), box)]
            else:
                places = [tuple(place) for place in np.argwhere(inside)]
                found = [(scores[i], predictions[i], boxes[i] if boxes is not None and i else None) for i in places]
            for score, prediction, box in found:
                answer = self.sweep.class_names[int(prediction)]
                kind = STRANGER if role != "known" else REFUSED if answer == name else WRONG
                told = {"kind": kind, "index": self.index, "true": role if name is None else name, "role": role}
                told |= {"answer": answer, "score": float(score)}
                if box is not None:
                    told["box"] = [round(float(value), 1) for value in box]
                self._keep(told)
        self.index += 1

    def _keep(self, told):
        rows = self.kept[told["kind"], told["true"]]
        rows.append(told)
        if len(rows) > 4 * LIMIT:
            self._sort(rows)

    def _sort(self, rows):
        rows.sort(key=lambda told: (told["score"] if told["kind"] == REFUSED else -told["score"], told["index"]))
        del rows[LIMIT:]

    def chosen(self):
        """The examples of all kinds, as many of each class as there is room for, the worst first; ready for JSON."""
        chosen = []
        for kind in (STRANGER, WRONG, REFUSED):
            rows = []
            for (own, _), members in self.kept.items():
                if own == kind:
                    self._sort(members)
                    rows += enumerate(members)
            rows.sort(key=lambda row: (row[0], row[1]["score"] if kind == REFUSED else -row[1]["score"]))
            chosen += [told for _, told in rows[: LIMIT // 3] if np.isfinite(told["score"])]
        return chosen


def draw(examples, split):
    """Thumbnails of examples in one picture: what a browser loads at once.

    Args:
        examples: What `Examples.chosen` gives of the split.
        split: A `data.Split`.

    Returns:
        Triple of the bytes of a JPEG or, of small images, a PNG file; how many thumbnails are in a row; and the side of
        each in pixels. Images keep their shape; what is smaller than its place is in the middle of it.

    >>> draw([{"index": 0}, {"index": 3}, {"index": 0}], configs.resolve("digits").data(0).test)[1:]
    (2, 8)
    """
    indices = sorted({told["index"] for told in examples})
    found = split.subset(np.array(indices)).dataset().as_numpy_iterator()
    images = {index: example["image"] for index, example in zip(indices, found, strict=True)}
    small = [_shrink(images[told["index"]], told.get("box")) for told in examples]
    side = max(max(image.size) for image in small)
    columns = int(np.ceil(np.sqrt(len(small))))
    sheet = Image.new("RGB", (columns * side, -(-len(small) // columns) * side), (127, 127, 127))
    for number, image in enumerate(small):
        row, column = divmod(number, columns)
        sheet.paste(image, (column * side + (side - image.width) // 2, row * side + (side - image.height) // 2))
    file = io.BytesIO()
    sheet.save(file, "PNG" if side <= 32 else "JPEG", **({} if side <= 32 else {"quality": 82}))
    return file.getvalue(), columns, side


def _shrink(image, box=None):
    """An image, or the square around a box in it, as a thumbnail."""
    image = np.clip(np.round(image), 0, 255).astype("uint8")
    picture = Image.fromarray(image[..., :3] if image.shape[-1] > 2 else image[..., 0]).convert("RGB")
    if box is not None:
        # A box alone shows what it cuts off, but not where it is.
        half = min(max(0.65 * max(box[2] - box[0], box[3] - box[1]), SIDE / 4), min(picture.size) / 2)
        x, y = ((box[i] + box[i + 2]) / 2 for i in range(2))
        x, y = (min(max(at, half), size - half) for at, size in zip((x, y), picture.size, strict=True))
        return picture.resize((SIDE, SIDE), box=(x - half, y - half, x + half, y + half))
    picture.thumbnail((SIDE, SIDE))
    return picture
