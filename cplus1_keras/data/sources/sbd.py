"""The Semantic Boundaries Dataset, whose masks are MATLAB files, in the layout of VOC."""

import pathlib

import numpy as np
from PIL import Image

from cplus1_keras.data.reading import existing
from cplus1_keras.data.sources.files import lines
from cplus1_keras.data.sources.layouts import voc_folder


def convert_sbd(sbd, voc):
    """Write SBD's masks into VOC 2012 as `SegmentationClassAug/*.png`, and the lists `aug.txt` and `trainaug.txt`.

    `aug.txt` lists what SBD (Hariharan et al., ICCV 2011) annotates and VOC's "train" and "val" do not contain (9,118
    images of the full sets), `trainaug.txt` VOC's "train" and then these (10,582), as mmsegmentation's voc_aug.py does.
    Masks that are there already are not written again. Returns both numbers.

    Args:
        sbd: SBD's folder `dataset` with `cls`, `train.txt` and `val.txt`, or one that holds `dataset`.
        voc: The folder `VOC2012`, or one that holds it.

    Raises:
        FileNotFoundError: If a folder or list is missing.
        ValueError: If a .mat file is damaged; the message names it.

    >>> numbers = convert_sbd("SBD/dataset", "VOCdevkit/VOC2012")  # doctest: +SKIP
    """
    sbd, voc = existing(sbd, "folder"), voc_folder(voc)
    sbd = sbd / "dataset" if (sbd / "dataset").is_dir() else sbd
    lists = voc / "ImageSets" / "Segmentation"
    train, held = lines(lists / "train.txt"), set(lines(lists / "val.txt"))
    annotated = lines(sbd / "train.txt") + lines(sbd / "val.txt")
    aug = sorted(set(annotated) - set(train) - held)
    masks = voc / "SegmentationClassAug"
    masks.mkdir(exist_ok=True)
    for name in aug:
        if not (masks / f"{name}.png").is_file():
            _write(masks / f"{name}.png", read_sbd(sbd / "cls" / f"{name}.mat"))
    (lists / "aug.txt").write_text("".join(f"{name}\n" for name in aug), encoding="utf-8")
    (lists / "trainaug.txt").write_text("".join(f"{name}\n" for name in train + aug), encoding="utf-8")
    return len(aug), len(train) + len(aug)


def read_sbd(path):
    """The class mask of one SBD file, (H, W) uint8 with VOC's values."""
    from scipy import io

    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"No SBD mask at {path}. Is the download complete?")
    try:
        mask = io.loadmat(path)["GTcls"]["Segmentation"][0, 0]
    # scipy raises whatever its parser meets first in a damaged file.
    except Exception as error:
        raise ValueError(f"{path} is damaged, or no SBD file with GTcls.Segmentation: {error}") from error
    return np.asarray(mask, "uint8")


def _write(path, mask):
    # Renamed when complete: an interrupted conversion leaves no half of a mask behind.
    part = path.with_suffix(".part")
    Image.fromarray(mask).save(part, "PNG")
    part.replace(path)
