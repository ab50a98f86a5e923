"""Makes the stored cases, with other people's code: pytorch-ood's and OpenOOD's. Needs neither Keras nor this package.

    pip install torch==2.13.0 scipy scikit-learn tqdm && pip install --no-deps pytorch-ood==0.4.0
    git clone https://github.com/Jingkang50/OpenOOD
    python make.py OpenOOD

OpenOOD's files are executed as they are, on a processor. `faiss` and `libmr`, which they import, are not needed for
what is asked of them: faiss's exact search is written out below, and OpenMax is asked of pytorch-ood.
"""

import importlib.util
import pathlib
import sys
import types

import numpy as np
import torch

# The package itself imports data sets, and these torchvision; its detectors need neither.
package = types.ModuleType("pytorch_ood")
package.__path__ = list(importlib.util.find_spec("pytorch_ood").submodule_search_locations)
sys.modules["pytorch_ood"] = package
from pytorch_ood import detector as ood  # noqa: E402

HERE = pathlib.Path(__file__).parent
CLASSES, SIZE = 4, 12


def draw(seed):
    """Features after a ReLU, of knowns of four classes in order, and of strangers; a classifier that is not perfect."""
    generator = np.random.default_rng(seed)
    centers = generator.normal(size=(CLASSES, SIZE)) * 1.5
    mixing = generator.normal(size=(SIZE, SIZE)) * 0.4
    labels = np.repeat(np.arange(CLASSES), 75)
    train = np.maximum(centers[labels] + generator.normal(size=(300, SIZE)) @ mixing + 1, 0)
    known = np.maximum(centers[generator.integers(0, CLASSES, 30)] + generator.normal(size=(30, SIZE)) @ mixing + 1, 0)
    strange = np.maximum(generator.normal(size=(30, SIZE)) * 2 + 1, 0)
    kernel = centers.T + 0.3 * generator.normal(size=(SIZE, CLASSES))
    bias = -0.5 * (centers**2).sum(1) - centers.sum(1)
    arrays = {"train": train, "labels": labels, "test": np.concatenate([known, strange]), "kernel": kernel / 3}
    arrays["bias"] = bias / 3
    return {name: x.astype("int64" if name == "labels" else "float32") for name, x in arrays.items()}


class Index:
    """faiss.IndexFlatL2: exact squared distances."""

    def __init__(self, size):
        self.rows = None

    def add(self, rows):
        self.rows = rows

    def search(self, rows, k):
        squares = ((rows[:, None].astype("float64") - self.rows[None]) ** 2).sum(-1)
        return np.sort(squares, axis=1)[:, :k], None


class Net(torch.nn.Module):
    """A network that is its own features, as OpenOOD wants it."""

    def __init__(self, kernel, bias):
        super().__init__()
        self.fc = torch.nn.Linear(SIZE, CLASSES)
        self.fc.weight.data, self.fc.bias.data = torch.tensor(kernel.T), torch.tensor(bias)

    def forward(self, x, return_feature=False):
        return (self.fc(x), x) if return_feature else self.fc(x)

    def get_fc_layer(self):
        return self.fc

    def get_fc(self):
        return self.fc.weight.detach().numpy(), self.fc.bias.detach().numpy()


def load(root, path):
    """A file of OpenOOD as a module of a package that has nothing else."""
    package = types.ModuleType("openood_files")
    package.__path__ = []
    base, info = types.ModuleType("openood_files.base_postprocessor"), types.ModuleType("openood_files.info")
    base.BasePostprocessor = type("Base", (), {"__init__": lambda self, config: setattr(self, "config", config)})
    info.num_classes_dict = {"four": CLASSES}
    faiss = types.ModuleType("faiss")
    faiss.IndexFlatL2 = Index
    for module in (package, base, info, faiss):
        sys.modules[module.__name__] = module
    spec = importlib.util.spec_from_file_location(f"openood_files.{pathlib.Path(path).stem}", root / "openood" / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def settings(**values):
    part = types.SimpleNamespace(postprocessor_args=types.SimpleNamespace(**values), postprocessor_sweep=None)
    return types.SimpleNamespace(postprocessor=part, dataset=types.SimpleNamespace(name="four"))


def openood(root, case):
    """OpenOOD's confidences, higher = more known."""
    net = Net(case["kernel"], case["bias"])
    train, test = torch.tensor(case["train"]), torch.tensor(case["test"])
    batches = [{"data": train, "label": torch.tensor(case["labels"])}]
    torch.Tensor.cuda = lambda self, *_, **__: self
    found = {}
    for name, file, kind, values in (
        ("mahalanobis", "mds", "MDSPostprocessor", {}),
        ("relative_mahalanobis", "rmds", "RMDSPostprocessor", {}),
        ("nearest_neighbors", "knn", "KNNPostprocessor", {"K": 7}),
        ("vim", "vim", "VIMPostprocessor", {"dim": 5}),
        ("gen", "gen", "GENPostprocessor", {"gamma": 0.3, "M": 3}),
        ("energy", "ebo", "EBOPostprocessor", {"temperature": 1}),
    ):
        processor = getattr(load(root, f"postprocessors/{file}_postprocessor.py"), kind)(settings(**values))
        if hasattr(processor, "setup"):
            processor.setup(net, {"train": batches, "val": batches}, {})
        found[name] = processor.postprocess(net, test)[1]
    react = load(root, "postprocessors/react_postprocessor.py").ReactPostprocessor(settings(percentile=80))
    clipping = load(root, "networks/react_net.py").ReactNet(net)
    react.setup(clipping, {"val": batches}, {})
    found["react"] = react.postprocess(clipping, test)[1]
    shapes = load(root, "networks/ash_net.py")
    for name in ("ash_p", "ash_b", "ash_s"):
        shaped = getattr(shapes, name)(test.clone()[:, :, None, None], 70)[:, :, 0, 0]
        found[name] = torch.logsumexp(net(shaped), dim=1)
    return {name: np.asarray(value.detach(), "float64") for name, value in found.items()}


def pytorch_ood(case):
    """pytorch-ood's outlier scores, negated."""
    kernel, bias = torch.tensor(case["kernel"]), torch.tensor(case["bias"])
    logits, train = torch.tensor(case["test"]) @ kernel + bias, torch.tensor(case["train"]) @ kernel + bias
    labels, features = torch.tensor(case["labels"]), torch.tensor(case["test"])
    found = {"max_probability": ood.MaxSoftmax.score(logits), "max_logit": ood.MaxLogit.score(logits)}
    found["energy_of_pytorch_ood"] = ood.EnergyBased.score(logits)
    found["gen_of_pytorch_ood"] = ood.GEN.score(logits, gamma=0.3, M=3)
    temperature = ood.TemperatureScaling(None)
    for _ in range(100):  # 50 short steps do not reach the minimum
        temperature.fit_logits(train, labels)
    found["temperature"] = temperature.predict_logits(logits)
    rows = torch.tensor(case["train"])
    near = ood.Mahalanobis(None).fit_features(rows, labels)
    found["mahalanobis_of_pytorch_ood"] = near.predict_features(features)
    relative = ood.RMD(None).fit_features(rows, labels)
    found["relative_mahalanobis_of_pytorch_ood"] = relative.predict_features(features)
    neighbors = ood.KNN(None, k=7).fit_features(rows, labels)
    found["nearest_neighbors_of_pytorch_ood"] = neighbors.predict_features(features)
    right = train.argmax(1) == labels
    openmax = ood.OpenMax(None, tailsize=10, alpha=3).fit_logits(train[right].double(), labels[right])
    found["openmax"] = openmax.predict_logits(logits.double())
    values = {name: -np.asarray(value.detach(), "float64") for name, value in found.items()}
    weibulls = [openmax._openmax.distributions[c] for c in range(CLASSES)]
    values["openmax_weibulls"] = np.array([[w.min_val, w.scale, w.c] for w in weibulls], "float64")
    return {**values, "temperature_itself": np.float64(temperature.t.item())}


def main(root):
    for seed in (1, 2):
        case = draw(seed)
        expected = {**openood(pathlib.Path(root), case), **pytorch_ood(case)}
        np.savez_compressed(HERE / f"case{seed}.npz", **case, **{f"expected_{n}": x for n, x in expected.items()})
        for name, value in expected.items():
            print(name, np.ravel(value)[:3])


if __name__ == "__main__":
    main(sys.argv[1])
