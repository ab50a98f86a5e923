"""What a run leaves for its report, gathered while it is judged: every threshold, and the examples that tell most."""

import base64
import json

from cplus1_keras.directory import unfinished
from cplus1_keras.tasks.examples import Examples, draw
from cplus1_keras.tasks.sweep import Sweep

FILE = "evidence.json"


class Evidence:
    """Watches the records of a split.

    Args:
        found: The calibration that they are judged by.
        class_names: Names of the known classes.
        names: Dict from the values of the split's source to class names.
        unit: What a decision is of, in words.

    >>> evidence = Evidence(calibration.threshold_at_fpr(np.arange(60.0), 0.1), ("cat",), {7: "dog"})
    >>> evidence.examples.chosen()
    []
    """

    def __init__(self, found, class_names, names, unit="image"):
        self.unit = unit
        self.sweep = Sweep(found, class_names, names)
        self.examples = Examples(self.sweep)

    def update(self, record, values=None):
        """Look at one image; `values` as for `split_by_class`."""
        self.sweep.update(record, values)
        self.examples.update(record, values)

    def write(self, directory, split):
        """Write `evidence.json`, with thumbnails of images of the split that was judged; returns its name."""
        examples, told = self.examples.chosen(), {"unit": self.unit, **self.sweep.result()}
        if examples:
            picture, columns, side = draw(examples, split)
            kind = "png" if picture[:1] == b"\x89" else "jpeg"
            url = f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
            told["thumbnails"] = {"url": url, "columns": columns, "side": side}
        names = {told["index"]: split.describe(told["index"]) for told in examples}
        told["examples"] = [{**own, "name": names[own["index"]]} for own in examples]
        text = json.dumps(told, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        with unfinished(directory / FILE) as hidden:
            hidden.write_text(text, encoding="utf-8")
            hidden.replace(directory / FILE)
        return FILE
