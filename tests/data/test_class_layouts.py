"""CUB-200-2011 and ILSVRC in their published layouts, and images that keep their shape until they are cut."""

import dataclasses
import functools
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from scipy.io import savemat

from cplus1_keras import configs, data, heads, losses, models, serving
from cplus1_keras.data import sources
from cplus1_keras.images import shorten
from cplus1_keras.predict import answer_files
from cplus1_keras.tasks import Classification


def write(path, value, size=(6, 5)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, "uint8")).save(path, "JPEG", quality=100)


@pytest.fixture
def birds(tmp_path):
    """Three birds in the numbers of the data set, which need not begin at 1, of two kinds."""
    root = tmp_path / "CUB_200_2011"
    rows = {"7": ("001.Black_footed_Albatross/a.jpg", "1", "1"), "8": ("002.Laysan_Albatross/b.jpg", "2", "0")}
    rows["9"] = ("002.Laysan_Albatross/c.jpg", "2", "1")
    for number, (path, _, _) in rows.items():
        write(root / "images" / path, 10 * int(number))
    for place, name in enumerate(("images", "image_class_labels", "train_test_split")):
        text = "".join(f"{number} {row[place]}\n" for number, row in rows.items())
        (root / f"{name}.txt").write_text(text, encoding="utf-8")
    (root / "classes.txt").write_text("1 001.Black_footed_Albatross\n2 002.Laysan_Albatross\n", encoding="utf-8")
    return tmp_path


def brightness(source):
    return [round(float(tf.reduce_mean(tf.cast(example["image"], tf.float32)))) for example in source.examples()]


@pytest.mark.parametrize("below", ["", "CUB_200_2011"])
def test_cub_is_read_by_its_lists(birds, below):
    train, test = sources.cub(birds / below, "train"), sources.cub(birds / below, "test")
    names = ("001.Black_footed_Albatross", "002.Laysan_Albatross")
    assert (train.class_names, test.class_names) == (names, names)
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1], [1])
    assert (brightness(train), brightness(test)) == ([70, 90], [80])
    assert (train.name, test.name) == ("cub/train", "cub/test")


def test_what_cub_lacks_is_told(birds):
    root = birds / "CUB_200_2011"
    with pytest.raises(ValueError, match="`split` of CUB-200-2011 is one of train, test"):
        sources.cub(root, "val")
    (root / "images" / "002.Laysan_Albatross" / "c.jpg").unlink()
    with pytest.raises(ValueError, match="1 of 2 listed names have no image"):
        sources.cub(root, "train")
    (root / "train_test_split.txt").write_text("7 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match="Received: 3, 3, 1 images"):
        sources.cub(root, "train")
    with pytest.raises(FileNotFoundError, match="Needs CUB_200_2011"):
        sources.cub(root / "images")


VALIDATION = {"ILSVRC2012_val_00000001": ("n02", 30), "ILSVRC2012_val_00000002": ("n01", 60)}


def nets(root, train="train", val="val"):
    for number, name in enumerate(("n02", "n01")):
        write(root / train / name / f"{name}_5.JPEG", 100 + number)
    for name, (_, value) in VALIDATION.items():
        write(root / val / f"{name}.JPEG", value)


def solution(root):
    text = "".join(f"{name},{wnid} 1 2 3 4 {wnid} 5 6 7 8 \n" for name, (wnid, _) in VALIDATION.items())
    (root / "LOC_val_solution.csv").write_text(f"ImageId,PredictionString\n{text}", encoding="utf-8")


def kit(root):
    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "f8"), ("WNID", "O"), ("words", "O")]
    synsets = np.array([(1, "n01", "tench"), (2, "n02", "goldfish"), (3, "n03", "fish")], kinds)
    savemat(folder / "meta.mat", {"synsets": synsets.reshape(-1, 1)})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("folders", "truth"),
    [
        (("ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val"), solution),
        (("train", "val"), kit),
        (("ILSVRC2012_img_train", "ILSVRC2012_img_val"), kit),
    ],
)
def test_ilsvrc_in_its_layouts(tmp_path, folders, truth):
    nets(tmp_path, *folders)
    with pytest.raises(FileNotFoundError, match=r"LOC_val_solution\.csv or ILSVRC2012_devkit_t12 must tell"):
        sources.ilsvrc(tmp_path, "val")
    truth(tmp_path)
    train, val = sources.ilsvrc(tmp_path, "train"), sources.ilsvrc(tmp_path, "val")
    assert (train.class_names, train.labels.tolist(), brightness(train)) == (("n01", "n02"), [0, 1], [101, 100])
    assert (val.class_names, val.labels.tolist(), brightness(val)) == (("n01", "n02"), [1, 0], [30, 60])
    assert (train.name, val.name) == ("ilsvrc/train", "ilsvrc/val")


def test_ilsvrc_sorted_into_folders_and_what_it_lacks(tmp_path):
    for name in ("n03", "n04"):
        write(tmp_path / "val" / name / "a.JPEG", 9)
    assert sources.ilsvrc(tmp_path, "val").class_names == ("n03", "n04")
    with pytest.raises(FileNotFoundError, match="Needs ILSVRC's images 'train': none of"):
        sources.ilsvrc(tmp_path, "train")
    nets(tmp_path / "other")
    solution(tmp_path / "other")
    write(tmp_path / "other" / "val" / "ILSVRC2012_val_00000003.JPEG", 9)
    with pytest.raises(ValueError, match=r"1 of 3 images have no class, as .*00000003"):
        sources.ilsvrc(tmp_path / "other", "val")


def wide(count=40):
    """Images of 6 x 12 whose columns are 0, 20, 40 ..., with a row more for every other one."""
    images = np.tile(np.arange(0, 240, 20, dtype="uint8")[None, None, :, None], (count, 6, 1, 3))
    return sources.arrays(images, np.arange(count) % 2, ["a", "b"])


def test_the_middle_is_cut_after_resizing():
    source = wide().centered(12, 4)
    assert (source.shape, len(source), source.labels.tolist()) == ((4, 4, 3), 40, wide().labels.tolist())
    (image, *_) = (example["image"].numpy() for example in source.examples())
    expected = tf.image.resize(wide().array[0], (12, 24), antialias=True)[4:8, 10:14]
    np.testing.assert_allclose(image, expected, atol=1e-4)


def photos(root, sizes):
    """Files of noise, of these sizes (height, width), in two folders."""
    rng = np.random.default_rng(0)
    for number, size in enumerate(sizes):
        file = root / "ab"[number % 2] / f"{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3)).astype("uint8")).save(file)
    return sources.folder(root)


def test_files_are_prepared_for_a_run_as_for_those_who_ask_it(tmp_path):
    """One file as it is validated, as a run answers for it and as a server does, and as training shrinks it."""
    source = photos(tmp_path / "photos", [(30 + 7 * n, 60 - 5 * n) for n in range(8)] * 3)
    task = Classification(crop=(16, 12))
    splits = functools.partial(
        data.split, data.Protocol(("a", "b")), source, validation_fraction=0.0, calibration_fraction=0.3
    )
    settings = {"task": task, "data": lambda seed: splits(seed=seed), "loss": losses.CrossEntropyLoss()}
    experiment = dataclasses.replace(configs.resolve("digits"), batch_size=4, **settings)
    parts = experiment.splits()
    images = keras.Input((12, 12, 3))
    rows = keras.layers.Flatten()(images / 255)
    model = models.OpenSetModel(images, heads.LinearHead(2)(rows))
    predictor = task.predictor(model, experiment.score, parts)
    assert predictor.spec == serving.ImageSpec(short_side=16)
    serving.save(tmp_path / "run", predictor)
    predictor.export(tmp_path / "1", task.samples(predictor, parts.test, experiment))
    served, loaded = serving.SavedModel(tmp_path / "1"), serving.load(tmp_path / "run")
    assert loaded.spec == served.spec == predictor.spec
    judged = [answer for _, answer in task.answers(predictor, parts.test, experiment)]
    files = [pathlib.Path(file) for file in parts.test.source.files]
    asked = served.predict_bytes([file.read_bytes() for file in files])
    for who in (loaded, served):
        for expected, (_, answer, problem) in zip(judged, answer_files(who, files), strict=True):
            assert problem == ""
            np.testing.assert_allclose(answer["probabilities"], expected["probabilities"], rtol=1e-5)
    np.testing.assert_allclose(asked["probabilities"], [row["probabilities"] for row in judged], rtol=1e-5)
    # What watches a run without a validation split are training images, cut as those that judge it.
    few = parts.train.subset([0, 3])
    ((watched, _),) = task.validation(model, few, experiment)
    for image, example in zip(watched, few.dataset(), strict=True):
        np.testing.assert_allclose(image, data.preprocess(example["image"], 12, short_side=16))
    # Training cuts its windows from the image that the middle is cut from.
    whole = shorten(next(iter(few.dataset()))["image"], 16).numpy()
    top, left = ((have - 12) // 2 for have in whole.shape[:2])
    np.testing.assert_allclose(watched[0], whole[top : top + 12, left : left + 12], atol=1e-3)


def test_a_task_that_crops_trains_on_windows_and_judges_the_middle():
    splits = functools.partial(data.split, data.Protocol(("a", "b")), wide(60), calibration_fraction=0.3)
    task = Classification(crop=(12, 4), augment=lambda example, seed: {**example, "image": example["image"] + 1000})
    settings = {"task": task, "data": lambda seed: splits(seed=seed), "loss": losses.CrossEntropyLoss()}
    experiment = dataclasses.replace(configs.resolve("digits"), batch_size=8, **settings)
    parts = experiment.splits()
    assert parts.train.source.shape == (6, 12, 3)
    for part in (parts.validation, parts.calibration, parts.test):
        assert part.source.shape == (4, 4, 3)
    model = type("Model", (), {"input_shape": (None, 4, 4, 3)})
    images, _ = next(iter(task.training(model, parts.train, experiment, 3)))
    assert images.shape == (8, 4, 4, 3)
    whole = tf.image.resize(wide().array[0], (12, 24)).numpy() + 1000
    places = []
    for image in images.numpy():
        found = [left for left in range(21) if np.allclose(image, whole[:4, left : left + 4], atol=1e-3)]
        assert len(found) == 1
        places += found
    assert len(set(places)) > 3
    for crop in ((4, 12), (12,), (12, 0)):
        with pytest.raises(ValueError, match=r"`crop` is \(shorter side, side\)"):
            Classification(crop=crop)
