"""Makes the stored figures of boxes and masks, with other people's code: lvis's and pycocotools'. Needs nothing else.

    pip install "numpy<2" lvis==0.5.3 pycocotools==2.0.11
    python make.py

`scenes.json` holds random images: rectangles with a bite taken out, as objects and as
detections, for as many classes as LVIS has in version 0.5, or 1.0. Few of the classes occur.
"""

import contextlib
import io
import json
import pathlib

import numpy as np

np.float = float  # noqa: NPY001 (lvis asks for this name, which numpy 1.24 dropped)
from lvis import LVIS, LVISEval, LVISResults  # noqa: E402
from pycocotools import coco, cocoeval, mask  # noqa: E402

HERE = pathlib.Path(__file__).parent
SIDE = 96
VERSIONS = {"v0.5": 1230, "v1.0": 1203}
SCENES = {"v0.5": slice(0, 40), "v1.0": slice(20, 60)}
USED = 9  # classes that occur


def draw(box, bite):
    """A rectangle x, y, w, h without its lower right corner, the share `bite` of each side."""
    x, y, w, h = box
    pixels = np.zeros((SIDE, SIDE), "uint8")
    pixels[y : y + h, x : x + w] = 1
    pixels[y + h - int(bite * h) : y + h, x + w - int(bite * w) : x + w] = 0
    return pixels


def code(pixels):
    """Run-length code with its counts as text."""
    rle = mask.encode(np.asfortranarray(pixels))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def make_scenes(number, rng):
    """Images, objects and detections: [x, y, w, h], class, code of the mask, area of the mask; scores."""
    images = []
    for _ in range(number):
        objects, found = [], []
        for _ in range(rng.integers(0, 7)):
            w, h = rng.choice([9, 30, 50], 2) + rng.integers(0, 9, 2)
            box = [int(rng.integers(0, SIDE - w)), int(rng.integers(0, SIDE - h)), int(w), int(h)]
            kind, pixels = int(rng.integers(USED)), draw(box, rng.uniform(0, 0.6))
            objects.append({"box": box, "class": kind, "mask": code(pixels), "area": int(pixels.sum())})
            for _ in range(rng.integers(0, 4)):
                moved = np.array(box) + rng.integers(-4, 5, 4)
                x, y = np.clip(moved[:2], 0, SIDE - 6)
                w, h = (int(np.clip(side, 4, SIDE - low)) for side, low in zip(moved[2:], (x, y), strict=True))
                pixels = draw([int(x), int(y), w, h], rng.uniform(0, 0.6))
                guess = kind if rng.random() < 0.8 else int(rng.integers(USED))
                found.append({"box": [int(x), int(y), w, h], "class": guess, "mask": code(pixels)})
        for _ in range(6):
            box = [int(v) for v in rng.integers(0, 50, 2)] + [int(v) for v in rng.integers(6, 40, 2)]
            found.append({"box": box, "class": int(rng.integers(USED)), "mask": code(draw(box, 0.3))})
        scores = np.round(rng.uniform(0.05, 1, len(found)), 6).tolist()
        there = {own["class"] for own in objects}
        images.append(
            {
                "objects": objects,
                "detections": [own | {"score": score} for own, score in zip(found, scores, strict=True)],
                "negative": [k for k in range(USED) if k not in there and rng.random() < 0.4],
                "not_exhaustive": [k for k in sorted(there) if rng.random() < 0.2],
            }
        )
    return images


def annotations(images, places, crowds=()):
    """Annotations and results in the json formats; class k goes by `places[k]`. Objects number `crowds` are crowds."""
    truth, results = [], []
    for number, image in enumerate(images):
        for own in image["objects"]:
            row = {"id": len(truth) + 1, "image_id": number + 1, "category_id": places[own["class"]]}
            row |= {"bbox": own["box"], "area": own["area"], "segmentation": own["mask"]}
            truth.append({**row, "iscrowd": int(len(truth) in crowds)})
        for own in image["detections"]:
            row = {"image_id": number + 1, "category_id": places[own["class"]], "score": own["score"]}
            results.append({**row, "bbox": own["box"], "segmentation": own["mask"]})
    return truth, results


def by_lvis(images, classes, places, counts, kind, most):
    """What `LVISEval` tells."""
    truth, results = annotations(images, places)
    records = [
        {
            "id": number + 1,
            "height": SIDE,
            "width": SIDE,
            "neg_category_ids": [places[k] for k in image["negative"]],
            "not_exhaustive_category_ids": [places[k] for k in image["not_exhaustive"]],
        }
        for number, image in enumerate(images)
    ]
    groups = ["r" if count <= 10 else "c" if count <= 100 else "f" for count in counts]
    categories = [
        {"id": k + 1, "name": str(k), "frequency": groups[k], "image_count": counts[k]} for k in range(classes)
    ]
    path = HERE / "tmp.json"
    path.write_text(json.dumps({"images": records, "annotations": truth, "categories": categories}))
    judged = LVIS(str(path))
    path.unlink()
    keep = {"bbox": "segmentation", "segm": "bbox"}[kind]  # which the other kind would read first
    own = [{name: value for name, value in row.items() if name != keep} for row in results]
    evaluation = LVISEval(judged, LVISResults(judged, own, max_dets=most), kind)
    evaluation.params.max_dets = most
    evaluation.run()
    return {name: float(value) for name, value in evaluation.get_results().items()}


def by_coco(images, crowds, kind):
    """The twelve figures of `COCOeval`."""
    truth, results = annotations(images, range(USED), crowds)
    judged = coco.COCO()
    judged.dataset = {"images": [{"id": n + 1, "height": SIDE, "width": SIDE} for n in range(len(images))]}
    judged.dataset |= {"annotations": truth, "categories": [{"id": k} for k in range(USED)]}
    judged.createIndex()
    if kind == "segm":
        for row in results:
            del row["bbox"]
    evaluation = cocoeval.COCOeval(judged, judged.loadRes(results), kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats.tolist()


def main():
    rng = np.random.default_rng(0)
    images, stored = make_scenes(60, rng), {}
    with contextlib.redirect_stdout(io.StringIO()):
        for version, classes in VERSIONS.items():
            places = sorted(int(k) for k in rng.choice(classes, USED, replace=False) + 1)
            counts = [int(n) for n in rng.choice([3, 10, 11, 40, 100, 101, 2000], classes)]
            for k, place in enumerate(places):
                counts[place - 1] = (1, 10, 11, 60, 100, 101, 500, 7, 900)[k]
            own = {"classes": classes, "places": [place - 1 for place in places], "image_counts": counts}
            for kind in ("bbox", "segm"):
                parts = images[SCENES[version]]
                own[kind] = {str(most): by_lvis(parts, classes, places, counts, kind, most) for most in (300, 4)}
            stored[version] = own
        crowds = {int(n) for n in rng.choice(sum(len(image["objects"]) for image in images), 25, replace=False)}
        stored["coco"] = {"crowds": sorted(crowds)} | {kind: by_coco(images, crowds, kind) for kind in ("bbox", "segm")}
    (HERE / "scenes.json").write_text(json.dumps(images, separators=(",", ":")) + "\n")
    (HERE / "figures.json").write_text(json.dumps(stored, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
