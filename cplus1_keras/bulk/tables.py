"""Answers as columns of a table, one row for each image."""

import numpy as np
import pyarrow as pa

from cplus1_keras.serving import BoxSpec, ImageSpec, LabelSetSpec, PixelSpec

OBJECT = pa.struct([(name, pa.string() if name == "class_name" else pa.float32()) for name in BoxSpec.columns])
SHARE = pa.struct([("class_name", pa.string()), ("share", pa.float32())])
COLUMNS = {
    ImageSpec.output: {"class_name": pa.string(), "score": pa.float32()},
    LabelSetSpec.output: {"classes": pa.list_(pa.string()), "none": pa.bool_()},
    PixelSpec.output: {"rejected": pa.float32(), "shares": pa.list_(SHARE)},
    BoxSpec.output: {"objects": pa.list_(OBJECT)},
}
"""What is told of an image by the kind of answer: of pixels the share that is rejected and those of the classes."""


def schema(spec):
    """The schema of the answers of a spec: `path`, `COLUMNS`, `valid`, and `problem`, null where there is none."""
    if getattr(spec, "positions", 0):
        raise ValueError("Answers for positions of an image are no table of images. Score classes, objects or pixels.")
    first, last = [("path", pa.string())], [("valid", pa.bool_()), ("problem", pa.string())]
    return pa.schema([*first, *COLUMNS[spec.output].items(), *last])


def tell(model, answers):
    """Answers (n, ...) of a `serving.SavedModel` as a dict of columns, each of n values, `valid` among them.

    >>> from types import SimpleNamespace
    >>> model = SimpleNamespace(spec=LabelSetSpec(), class_names=["cat", "dog"])
    >>> present = np.array([[True, True], [False, False]])
    >>> tell(model, {"present": present, "none": ~present.any(1), "valid": np.array([True, True])})["classes"]
    [['cat', 'dog'], []]
    """
    valid = answers["valid"]
    if model.spec.output == ImageSpec.output:
        scores = pa.array(answers["score"], mask=~valid)  # else one lowest number spoils every mean
        return {"class_name": answers["class_name"], "score": scores, "valid": valid}
    if model.spec.output == LabelSetSpec.output:
        names = np.array(model.class_names)
        return {"classes": [names[row].tolist() for row in answers["present"]], "none": answers["none"], "valid": valid}
    rows = [{name: value[i] for name, value in answers.items()} for i in range(len(valid))]
    if model.spec.output == BoxSpec.output:
        return {"objects": [model.spec.tell(model, row) for row in rows], "valid": valid}
    told = [_count_pixels(model, row) for row in rows]
    return {name: [row[name] for row in told] for name in ("rejected", "shares", "valid")}


def _count_pixels(model, row):
    """Shares of an image; an answer in a batch of several sizes is cut to its own."""
    height, width = row.get("sizes", row["class_id"].shape)
    pixels = row["class_id"][:height, :width]
    if not pixels.size:
        return {"rejected": None, "shares": [], "valid": False}
    found, counts = np.unique(pixels, return_counts=True)
    shares = dict(zip(found.tolist(), (counts / pixels.size).tolist(), strict=True))
    rejected = shares.pop(-1, 0.0)
    told = [{"class_name": model.class_names[k], "share": share} for k, share in shares.items()]
    return {"rejected": rejected, "shares": told, "valid": bool(row["valid"][:height, :width].all())}
