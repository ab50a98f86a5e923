"""Data sets in the folder layouts in which they are published.

Each function takes the data set's folder and a published split. A folder or list that is missing is a
FileNotFoundError; an image without a mask or another split is a ValueError.
"""

import csv
import os
import pathlib

import numpy as np

from cplus1_keras.data.names import LIP_MIRRORED, mask_names
from cplus1_keras.data.reading import existing
from cplus1_keras.data.sources.files import check_files, folder, lines, listed, of_files

_DEPTH = 5
_LIP_FOLDERS = {f"{split}_{kind}" for split in ("train", "val") for kind in ("images", "segmentations")}


def voc(root, split="train"):
    """PASCAL VOC 2012, "train" (1,464 images), "val" (1,449), "trainval" or with SBD "trainaug" (10,582).

    Reads `JPEGImages`, `SegmentationClass` and `ImageSets/Segmentation/<split>.txt` of `VOC2012`, which may lie in
    `root`. The split "trainaug" is "train" with VOC's own masks, then what `aug.txt` (or `trainaug.txt`) lists beyond
    "train" and "val" with the masks of `SegmentationClassAug`. `convert_sbd` makes that folder and list.

    >>> train = voc("VOCdevkit", "train")  # doctest: +SKIP

    Reference: Everingham et al., IJCV 2015; Hariharan et al., Semantic Contours from Inverse Detectors, ICCV 2011
    """
    _check_split(split, ("train", "val", "trainval", "trainaug"), "VOC")
    root = voc_folder(root)
    lists = root / "ImageSets" / "Segmentation"
    images, own, augmented = root / "JPEGImages", root / "SegmentationClass", root / "SegmentationClassAug"
    if split != "trainaug":
        return listed(lines(lists / f"{split}.txt"), images, own, f"voc/{split}", mask_names("voc"))
    if not augmented.is_dir():
        raise FileNotFoundError(
            f'The split "trainaug" needs {augmented}. Download SBD, then make it with '
            f"`convert_sbd(sbd_folder, {str(root)!r})`."
        )
    train = lines(lists / "train.txt")
    seen = {*train, *lines(lists / "val.txt")}
    aug = lists / "aug.txt"
    rest = [item for item in lines(aug if aug.is_file() else lists / "trainaug.txt") if item not in seen]
    return listed(train + rest, images, [own] * len(train) + [augmented] * len(rest), "voc/trainaug", mask_names("voc"))


def context(root, split="train"):
    """PASCAL Context (Mottaghi et al., CVPR 2014), on the images of VOC 2010: 4,998 "train", 5,105 "val".

    Reads `JPEGImages`, `SegmentationClassContext` and `ImageSets/SegmentationContext/<split>.txt` of `VOC2010`, which
    may lie in `root`, as mmsegmentation's converter makes them from the published json.
    """
    _check_split(split, ("train", "val"), "PASCAL Context")
    root = holding(root, "SegmentationClassContext", "VOC2010")
    names = lines(root / "ImageSets" / "SegmentationContext" / f"{split}.txt")
    images, masks = root / "JPEGImages", root / "SegmentationClassContext"
    return listed(names, images, masks, f"context/{split}", mask_names("context"))


def lip(root, split="train"):
    """Look into Person (Gong et al., CVPR 2017): 30,462 images "train", 10,000 "val".

    The archives unpack to different depths: `<split>_images` and `<split>_segmentations` are taken from wherever they
    are below `root`. A list `<split>_id.txt` beside the images decides which are read; without one it is all.
    """
    _check_split(split, ("train", "val"), "LIP")
    images, masks = _find(root, f"{split}_images"), _find(root, f"{split}_segmentations")
    for where in (images.parent, images.parent.parent):
        if (where / f"{split}_id.txt").is_file():
            names = [item.removesuffix(".jpg") for item in lines(where / f"{split}_id.txt")]
            return listed(names, images, masks, f"lip/{split}", mask_names("lip"), LIP_MIRRORED)
    return folder(images, masks, name=f"lip/{split}", names=mask_names("lip"), mirrored=LIP_MIRRORED)


def camvid(root, split="train"):
    """CamVid as SegNet (TPAMI 2017) has it, in `<split>` and `<split>annot`: 367 "train", 101 "val", 233 "test"."""
    _check_split(split, ("train", "val", "test"), "CamVid")
    folders = os.path.join(root, split), os.path.join(root, f"{split}annot")
    return folder(*folders, names=mask_names("camvid"), name=f"camvid/{split}")


def cityscapes(root, split="train"):
    """Cityscapes (Cordts et al., CVPR 2016) by label id: 2,975 images "train", 500 "val"; test masks are not public.

    Reads `leftImg8bit/<split>` and `gtFine/<split>`.
    """
    _check_split(split, ("train", "val"), "Cityscapes")
    folders = os.path.join(root, "leftImg8bit", split), os.path.join(root, "gtFine", split)
    suffixes = {"image_suffix": "_leftImg8bit", "mask_suffix": "_gtFine_labelIds"}
    return folder(*folders, names=mask_names("cityscapes"), name=f"cityscapes/{split}", **suffixes)


def cub(root, split="train"):
    """CUB-200-2011 (Wah et al., 2011): 200 kinds of birds, 5,994 images "train", 5,794 "test".

    Reads `images.txt`, `image_class_labels.txt`, `train_test_split.txt`, `classes.txt` and `images` of `CUB_200_2011`,
    which may lie in `root`. Classes are named like "001.Black_footed_Albatross".
    """
    _check_split(split, ("train", "test"), "CUB-200-2011")
    root = holding(root, "images", "CUB_200_2011")
    names, tables = _table(root / "classes.txt"), ("images", "image_class_labels", "train_test_split")
    paths, labels, trains = (_table(root / f"{table}.txt") for table in tables)
    if not paths.keys() == labels.keys() == trains.keys():
        counts = ", ".join(f"{len(table):,}" for table in (paths, labels, trains))
        raise ValueError(f"{root}: its three lists must name the same images. Received: {counts} images")
    chosen = [number for number in paths if trains[number] == ("1" if split == "train" else "0")]
    places = {number: place for place, number in enumerate(names)}
    files = [str(root / "images" / paths[number]) for number in chosen]
    check_files(files, f"cub/{split}")
    return of_files(files, [*names.values()], [places[labels[number]] for number in chosen], name=f"cub/{split}")


def ilsvrc(root, split="train"):
    """ILSVRC 2012 (Russakovsky et al., IJCV 2015) by WordNet id: 1,281,167 images "train", 50,000 "val".

    Reads `train`, a folder for each class, and `val` of `root`, of `Data/CLS-LOC` or `ILSVRC/Data/CLS-LOC` in it, or
    the archives' `ILSVRC2012_img_train` and `ILSVRC2012_img_val`. `val` has a folder for each class; or lies flat as it
    is published, with `LOC_val_solution.csv` or `ILSVRC2012_devkit_t12/data` in `root`.
    """
    _check_split(split, ("train", "val"), "ILSVRC")
    root = existing(root, "folder")
    bases = [root / part for part in (".", "Data/CLS-LOC", "ILSVRC/Data/CLS-LOC")]
    candidates = [base / split for base in bases] + [root / f"ILSVRC2012_img_{split}"]
    images = next((path for path in candidates if path.is_dir()), None)
    if images is None:
        raise FileNotFoundError(f"Needs ILSVRC's images {split!r}: none of {', '.join(map(str, candidates))} is there.")
    flat = next((entry.is_file() for entry in images.iterdir() if not entry.name.startswith(".")), False)
    if not flat:
        return folder(images, name=f"ilsvrc/{split}")
    classes = _ilsvrc_classes(root)
    files = sorted(str(path) for path in images.iterdir() if path.suffix.lower() == ".jpeg")
    strange = [file for file in files if pathlib.Path(file).stem not in classes]
    if strange:
        raise ValueError(f"ilsvrc/{split}: {len(strange):,} of {len(files):,} images have no class, as {strange[0]}")
    names = sorted(set(classes.values()))
    labels = np.searchsorted(names, [classes[pathlib.Path(file).stem] for file in files])
    return of_files(files, names, labels, name=f"ilsvrc/{split}")


def _ilsvrc_classes(root):
    """The WordNet id of each validation image by its name."""
    table, kit = root / "LOC_val_solution.csv", root / "ILSVRC2012_devkit_t12" / "data"
    if table.is_file():
        with table.open(newline="", encoding="utf-8") as text:
            return {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(text)}
    truth = kit / "ILSVRC2012_validation_ground_truth.txt"
    if not truth.is_file():
        raise FileNotFoundError(
            f"The validation images of {root} lie in one folder, so {table.name} or {kit.parent.name} must tell their "
            f"classes: neither {table} nor {truth} is there."
        )
    from scipy.io import loadmat

    synsets = loadmat(kit / "meta.mat", squeeze_me=True)["synsets"]
    names = dict(zip(synsets["ILSVRC2012_ID"].tolist(), synsets["WNID"].tolist(), strict=True))
    numbers = map(int, truth.read_text(encoding="utf-8").split())
    return {f"ILSVRC2012_val_{place:08d}": names[number] for place, number in enumerate(numbers, start=1)}


def _table(path):
    """The lines `key value` of a file, as a dict."""
    return dict(line.split(maxsplit=1) for line in lines(path))


def voc_folder(root):
    """The folder of VOC 2012, given it or one that holds it."""
    return holding(root, "JPEGImages", "VOC2012")


def _check_split(split, splits, what):
    if split not in splits:
        raise ValueError(f"`split` of {what} is one of {', '.join(splits)}. Received: {split!r}")


def holding(root, needed, name):
    """`root`, or the folder `name` or `VOCdevkit/name` in it: the first that has a folder `needed`."""
    root = existing(root, "folder")
    for candidate in (root, root / name, root / "VOCdevkit" / name):
        if (candidate / needed).is_dir():
            return candidate
    raise FileNotFoundError(f"Needs {name} with a folder {needed}: neither {root} nor {root / name} has it.")


def _find(root, name):
    found = []
    for parent, folders, _ in os.walk(existing(root, "folder")):
        if name in folders:
            found.append(pathlib.Path(parent) / name)
        # Folders of images hold tens of thousands of files and nothing to look for.
        deep = len(pathlib.Path(parent).relative_to(root).parts) >= _DEPTH
        folders[:] = [] if deep else [item for item in folders if item not in _LIP_FOLDERS]
    if not found:
        raise FileNotFoundError(f"No folder {name} below {root}. Unpack the archives of the data set there.")
    if len(found) > 1:
        raise ValueError(f"{name} is below {root} more than once: {', '.join(map(str, found))}. Name one as `root`.")
    return found[0]
