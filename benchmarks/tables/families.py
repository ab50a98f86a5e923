"""Every family of the five papers on three small problems, and the README's few on two; no paper prints these."""

from tables.rows import Claim, Row, Table

COLUMNS = {
    "accuracy": ("accuracy",),
    "CCR at FPR 1e-2": ("unknown", "ccr_at_fpr_0.01"),
    "CCR at FPR 1e-1": ("unknown", "ccr_at_fpr_0.1"),
    "AUROC": ("unknown", "auroc"),
    "OpenAUC": ("unknown", "open_auc"),
    "unknowns accepted at FPR 10 %": ("fpr_unknown",),
}
METHODS = {
    "softmax": None,
    "focal": "softmax",
    "sm_softmax": "softmax",
    "sphereface": "softmax",
    "cosface": "softmax",
    "arcface": "softmax",
    "adacos": "softmax",
    "sfn_norm": "softmax",
    "sfn_cosface": "cosface",
    "sfn_arcface": "arcface",
    "c2am": "softmax",
    "e_ncm": "softmax",
    "c_ncm": "softmax",
    "background": "softmax",
    "cplus1_moving_average": "background",
    "cplus1_learnable": "background",
    "cplus1_shared": "background",
    "entropic": "softmax",
    "objectosphere": "entropic",
    "norm_os": "objectosphere",
    "cos_os": "norm_os",
    "arc_os": "norm_os",
    "norm_eos": "entropic",
    "cos_eos": "norm_eos",
    "arc_eos": "norm_eos",
    "cam": None,
    "hnc_mse": "cam",
    "hnc_kd": "cam",
}
"""Families, and what each is to be compared with: what its paper claims to better."""

MORE = (("background", "entropic"), ("cos_os", "objectosphere"), ("cos_eos", "entropic"), ("arc_eos", "entropic"))


def _table(title, config, methods, more=(), small=()):
    rows = tuple(
        Row(name, (config, f"method={name}"), (config, *small, f"method={name}"), (), other)
        for name, other in methods.items()
    )
    claims = [Claim(name, other, "OpenAUC") for name, other in methods.items() if other]
    claims += [Claim(*pair, column) for pair in more for column in ("AUROC", "OpenAUC")]
    return Table(title, COLUMNS, rows, tuple(claims))


README = {"softmax": None, "entropic": "softmax", "objectosphere": "softmax"}
TABLES = {
    "families_toy": _table("All families: the toy protocol", "toy_small", METHODS, MORE),
    "families_mnist": _table("All families: MNIST", "mnist_small", METHODS, MORE),
    "families_cifar10": _table("All families: CIFAR-10", "cifar10_small", METHODS, MORE),
    "toy": _table("Toy protocol, LeNet++", "toy", README, small=("knowns=train[:5%]", "epochs=5")),
    "fashion": _table("Fashion-MNIST, LeNet++", "fashion", README, small=("knowns=train[:5%]", "epochs=8")),
}
