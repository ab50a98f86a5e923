"""Tables 1, 2, 3, 5, 6, 7 and Figure 4 of homogeneous negative CAM (2020), top-1; the paper's top-5 is left out.

Table 2 prints errors, these are accuracies. The paper says neither the weights on CIFAR and CUB, which are those of the
authors' code on ImageNet here, nor A-Softmax's margin, nor the weights of Figure 4.
"""

from tables.rows import Claim, Row, Table

COLUMNS = {"top-1": ("accuracy",)}
CE = "CE"
# The 20 superclasses of CIFAR-100, for the few images of a small version; a net of three convolutions.
SMALL = ("cifar100", "net=small", "coarse=True", "epochs=8", "batch_size=64", "learning_rate=0.05")
TINY, DOGS = ("tiny_imagenet", "protocol=3"), ("tiny_imagenet", "protocol=1")
"""Small versions of ImageNet, 15 classes of all kinds, and of CUB, 6 breeds."""

LOSSES = {
    CE: ("cam", 72.40, 73.79),
    "Center": ("center", 72.72, 74.27),
    "LGM": ("lgm", 73.08, 74.34),
    "Focal": ("focal", 73.09, 74.34),  # class-balanced focal, too: all classes have as many images
    "A-Softmax": ("sphereface", 72.20, 72.72),
    "LMC": ("cosface", 71.52, 73.15),
    "AAM": ("arcface", 71.41, 73.72),
    "Anchor": ("anchor_loss", None, 74.38),
    "HNC mse": ("hnc_mse", 73.35, 75.00),
    "HNC kd": ("hnc_kd", 73.47, 74.76),
}
"""Family, and top-1 of ResNet-56 and ResNet-110."""

TABLE2 = {CE: ("cam", 76.8, 77.1), "LGM": ("lgm", 77.3, None), "HNC mse": ("hnc_mse", 77.7, 78.1)}
TABLE2["HNC kd"] = ("hnc_kd", 77.9, 78.2)
TABLE3 = {CE: ("cam", 86.0), "Center": ("center", 86.5), "Focal": ("focal", 85.8), "HNC mse": ("hnc_mse", 87.1)}
TABLE3["HNC kd"] = ("hnc_kd", 86.9)

EPSILON = (0.05, 0.1, 0.2, 0.3)
TABLE5 = {
    CE: ("cam", (73.79, 14.55, 9.89, 6.15, 3.79)),
    "Center": ("center", (74.27, 14.76, 10.42, 7.17, 5.54)),
    "HNC mse": ("hnc_mse", (75.00, 23.92, 17.20, 11.01, 6.90)),
    "HNC kd": ("hnc_kd", (74.76, 29.80, 21.80, 12.96, 7.06)),
}

NOISE = {
    "symmetric": (
        (0.2, 0.4, 0.6, 0.8),
        {
            CE: (51.98, 38.76, 22.48, 9.16),
            "HNC mse": (58.98, 48.03, 32.86, 14.73),
            "HNC kd": (56.59, 44.86, 29.15, 12.20),
        },
    ),
    "circular": (
        (0.1, 0.2, 0.3, 0.4),
        {
            CE: (63.10, 56.60, 49.33, 40.89),
            "HNC mse": (67.18, 62.91, 56.12, 46.51),
            "HNC kd": (65.33, 59.72, 51.98, 43.04),
        },
    ),
}
"""Table 6; the paper calls the second kind asymmetric."""

NETS = {
    "ResNet-110": ("resnet110", 73.79, 75.00),
    "DenseNet-BC": ("densenet", 77.32, 78.78),
    "ResNeXt-29 8x64": ("resnext8", 81.77, 82.32),
    "ResNeXt-29 16x64": ("resnext16", 81.98, 82.81),
}
WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0)
"""Of Figure 4, times the weights of the authors' code; the figure's own are not printed."""
METHODS = {CE: "cam", "HNC mse": "hnc_mse", "HNC kd": "hnc_kd"}


def _row(name, config, settings, method, printed, group="", small=SMALL, more=()):
    given = (*more, f"method={method}")
    reference = None if name == CE else f"{group}{CE}"
    return Row(f"{group}{name}", (config, *settings, *given), (*small, *given) if small else (), printed, reference)


def _noise(kind, rates, methods):
    for index, rate in enumerate(rates):
        for name, figures in methods.items():
            printed, more = (figures[index],), (f"{kind}_noise={rate}",)
            yield _row(name, "cifar100", ("net=resnet110",), METHODS[name], printed, f"{kind} {rate:g} ", more=more)


def _better(*groups, other=CE, names=("HNC mse", "HNC kd"), column="top-1"):
    return tuple(Claim(f"{group}{name}", f"{group}{other}", column) for group in groups for name in names)


ATTACKS = {f"FGSM {epsilon:g}": ("fgsm", f"{epsilon:g}") for epsilon in EPSILON}
TABLES = {
    "hnc1": Table(
        "HNC, Table 1: CIFAR-100",
        COLUMNS,
        tuple(
            _row(name, "cifar100", (f"net={net}",), method, (printed[index],), f"{title} ", SMALL if index else ())
            for index, (title, net) in enumerate({"ResNet-56": "resnet56", "ResNet-110": "resnet110"}.items())
            for name, (method, *printed) in LOSSES.items()
        ),
        _better("ResNet-56 ", "ResNet-110 "),
        percent=True,
    ),
    "hnc2": Table(
        "HNC, Table 2: ImageNet",
        COLUMNS,
        tuple(
            _row(
                name,
                "ilsvrc",
                (f"depth={depth}",),
                method,
                (printed[index],),
                f"ResNet-{depth} ",
                TINY if index == 0 else (),
            )
            for index, depth in enumerate((101, 152))
            for name, (method, *printed) in TABLE2.items()
            if printed[index] is not None
        ),
        _better("ResNet-101 ", "ResNet-152 "),
        percent=True,
    ),
    "hnc3": Table(
        "HNC, Table 3: CUB-200-2011, ResNet-50",
        COLUMNS,
        tuple(_row(name, "cub", (), method, (figure,), small=DOGS) for name, (method, figure) in TABLE3.items()),
        _better(""),
        percent=True,
    ),
    "hnc5": Table(
        "HNC, Table 5: FGSM on CIFAR-100, ResNet-110",
        {**COLUMNS, **ATTACKS, "FGSM 0.01": ("fgsm", "0.01"), "PGD 0.01": ("pgd", "0.01"), "PGD 0.05": ("pgd", "0.05")},
        tuple(
            _row(name, "cifar100", ("net=resnet110",), method, printed) for name, (method, printed) in TABLE5.items()
        ),
        sum((_better("", column=f"{name}") for name in (*ATTACKS, "FGSM 0.01", "PGD 0.01", "PGD 0.05")), ()),
        percent=True,
        epsilon=(0.01, *EPSILON),
        pgd=(0.01, 0.05),
    ),
    "hnc6": Table(
        "HNC, Table 6: label noise on CIFAR-100, ResNet-110",
        COLUMNS,
        tuple(row for kind, (rates, methods) in NOISE.items() for row in _noise(kind, rates, methods)),
        sum((_better(*(f"{kind} {rate:g} " for rate in rates)) for kind, (rates, _) in NOISE.items()), ()),
        percent=True,
    ),
    "hnc7": Table(
        "HNC, Table 7: nets on CIFAR-100",
        COLUMNS,
        tuple(
            _row(name, "cifar100", (f"net={net}",), method, (figure,), f"{title} ", SMALL if net == "resnet110" else ())
            for title, (net, *figures) in NETS.items()
            for (name, method), figure in zip((("CE", "cam"), ("HNC mse", "hnc_mse")), figures, strict=True)
        ),
        _better(*(f"{title} " for title in NETS), names=("HNC mse",)),
        percent=True,
    ),
    "hnc4": Table(
        "HNC, Figure 4: the weight",
        COLUMNS,
        (
            _row(CE, "cifar100", ("net=resnet110",), "cam", ()),
            *(
                _row(f"{name} x {weight:g}", "cifar100", ("net=resnet110",), method, (), more=(f"hnc={weight}",))
                for name, method in METHODS.items()
                if name != CE
                for weight in WEIGHTS
            ),
        ),
        tuple(Claim(f"{name} x {weight:g}", CE, "top-1") for name in ("HNC mse", "HNC kd") for weight in WEIGHTS),
        percent=True,
    ),
}
