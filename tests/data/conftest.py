"""A few real files for the tests of masks and boxes."""

import zipfile

import pytest


@pytest.fixture(scope="session")
def camvid_files(shared, tmp_path_factory):
    """A folder with the first 6 training and 3 test images of CamVid."""
    return _unzipped(
        shared / "data/camvid_seg/camvid_256x192.zip",
        tmp_path_factory.mktemp("camvid"),
        {"train/": 6, "trainannot/": 6, "test/": 3, "testannot/": 3},
    )


@pytest.fixture(scope="session")
def coco_files(shared, tmp_path_factory):
    """A folder with COCO's small validation set: annotations, images, masks."""
    return _unzipped(
        shared / "data/coco_mini/coco_mini.zip",
        tmp_path_factory.mktemp("coco"),
        {"annotations/instances_val": 1, "val/": 1000, "val_masks/": 1000},
    )


@pytest.fixture(scope="session")
def bccd_files(shared, tmp_path_factory):
    """A folder with the 364 images of BCCD, their annotations and lists."""
    return _unzipped(shared / "data/bccd_det/bccd_voc.zip", tmp_path_factory.mktemp("bccd"), {"BCCD/": 2000})


def _unzipped(path, folder, wanted):
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        for prefix, count in wanted.items():
            archive.extractall(folder, [name for name in names if name.startswith(prefix)][:count])
    return folder
