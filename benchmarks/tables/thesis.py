"""Tables 6.1 and 6.2 of the open-set losses thesis (2023), on the unknowns of the test set."""

from tables.rows import Claim, Row, Table

COLUMNS = {
    "CCR at FPR 1e-3": ("unknown", "ccr_at_fpr_0.001"),
    "CCR at FPR 1e-2": ("unknown", "ccr_at_fpr_0.01"),
    "CCR at FPR 1e-1": ("unknown", "ccr_at_fpr_0.1"),
    "accuracy": ("accuracy",),
}
C3, C2, C1, ACCURACY = COLUMNS

TOY = {
    "SM-Softmax": ("sm_softmax", (None, 0.2789, 0.8310, 0.9921), None),
    "SphereFace": ("sphereface", (0.0302, 0.1644, 0.8607, 0.9927), "SM-Softmax"),
    "CosFace": ("cosface", (0.0361, 0.2789, 0.8900, 0.9934), "SM-Softmax"),
    "ArcFace": ("arcface", (0.0107, 0.1745, 0.8801, 0.9942), "SM-Softmax"),
    "SFN-CosFace": ("sfn_cosface", (0.0322, 0.4377, 0.9030, 0.9947), "CosFace"),
    "SFN-ArcFace": ("sfn_arcface", (0.0617, 0.5522, 0.9140, 0.9939), "ArcFace"),
    "Cos-EOS": ("cos_eos", (0.9849, 0.9919, 0.9923, 0.9923), None),
    "Cos-EOS (SFN)": ("cos_eos_ring", (0.9579, 0.9848, 0.9928, 0.9930), "Cos-EOS"),
    "Arc-EOS": ("arc_eos", (0.9853, 0.9933, 0.9933, 0.9933), "Cos-EOS"),
    "Arc-EOS (SFN)": ("arc_eos_ring", (0.9677, 0.9857, 0.9931, 0.9933), "Arc-EOS"),
    "Cos-OS": ("cos_os", (0.8841, 0.9503, 0.9845, 0.9939), "Cos-EOS"),
    "Cos-OS (non-sym.)": ("cos_os_one_sided", (0.8548, 0.9498, 0.9842, 0.9933), "Cos-OS"),
    "Arc-OS": ("arc_os", (0.8779, 0.9483, 0.9851, 0.9936), "Arc-EOS"),
    "Arc-OS (non-sym.)": ("arc_os_one_sided", (0.8769, 0.9499, 0.9857, 0.9933), "Arc-OS"),
}
"""Of each row the family, the figures, and the row that it is compared with."""

TOY_CLAIMS = (
    Claim("CosFace", "SM-Softmax", C1),
    Claim("CosFace", "SphereFace", C1),
    Claim("ArcFace", "SphereFace", C1),
    Claim("CosFace", "ArcFace", C1),
    Claim("ArcFace", "CosFace", ACCURACY),
    *(Claim(f"SFN-{name}", name, column) for name in ("CosFace", "ArcFace") for column in (C2, C1)),
    *(Claim(name, f"{name} (SFN)", column) for name in ("Cos-EOS", "Arc-EOS") for column in (C3, C2)),
)

LOSSES = {
    "Softmax": "softmax",
    "EOS": "entropic",
    "Objectosphere": "objectosphere",
    "SFN-Norm": "sfn_norm",
    "SFN-CosFace": "sfn_cosface",
    "SFN-ArcFace": "sfn_arcface",
    "Norm-OS": "norm_os",
    "Cos-OS": "cos_os",
    "Arc-OS": "arc_os",
    "Norm-EOS": "norm_eos",
    "Cos-EOS": "cos_eos",
    "Arc-EOS": "arc_eos",
}
PRINTED = {
    1: (
        (0.1772, 0.4048, 0.5855, 0.6726),
        (0.2648, 0.4816, 0.6643, 0.6903),
        (0.3095, 0.5214, 0.6666, 0.6843),
        (0.1674, 0.3814, 0.5562, 0.6719),
        (0.1802, 0.4729, 0.6583, 0.7095),
        (0.0503, 0.5005, 0.6809, 0.6945),
        (0.2897, 0.4986, 0.6612, 0.7029),
        (0.1803, 0.5440, 0.6952, 0.7067),
        (0.0000, 0.0000, 0.0009, 0.0126),
        (0.2172, 0.4336, 0.6436, 0.6950),
        (0.2531, 0.5278, 0.6653, 0.7060),
        (0.1386, 0.5472, 0.6733, 0.7083),
    ),
    2: (
        (0.0280, 0.1160, 0.3673, 0.6260),
        (None, 0.1073, 0.4013, 0.6253),
        (0.0347, 0.1607, 0.4093, 0.6320),
        (0.0527, 0.1220, 0.3267, 0.6213),
        (None, 0.1100, 0.4020, 0.6653),
        (0.0407, 0.1493, 0.4220, 0.6733),
        (0.0660, 0.1853, 0.4420, 0.6800),
        (None, 0.2080, 0.4473, 0.6647),
        (None, 0.1173, 0.4133, 0.6273),
        (0.0353, 0.1647, 0.4073, 0.6573),
        (0.0127, 0.1553, 0.4793, 0.6740),
        (0.0027, 0.1080, 0.4627, 0.6733),
    ),
    3: (
        (None, 0.2238, 0.5163, 0.7574),
        (None, 0.2517, 0.5428, 0.7630),
        (None, 0.2562, 0.5294, 0.7482),
        (0.0809, 0.2351, 0.5275, 0.7597),
        (None, 0.0805, 0.5501, 0.7894),
        (None, 0.0623, 0.5536, 0.7901),
        (0.0411, 0.2185, 0.5832, 0.7768),
        (None, 0.0877, 0.6044, 0.7952),
        (None, 0.1159, 0.5874, 0.7858),
        (0.0531, 0.2596, 0.5576, 0.7674),
        (0.0097, 0.1417, 0.5909, 0.7713),
        (0.0033, 0.0838, 0.5932, 0.7764),
    ),
}
"""Table 6.2, protocol by protocol, in the order of `LOSSES`."""

BENCHMARKS = {"SFN": "Softmax", "OS": "Objectosphere", "EOS": "EOS"}


def _reference(loss):
    """Within a group the margin-free loss, of which the benchmark that it extends."""
    if loss == "Softmax":
        return None
    start, _, end = loss.partition("-")
    if not end:
        return "Softmax"
    group = "SFN" if start == "SFN" else end
    if start == "Norm" or loss == "SFN-Norm":
        return BENCHMARKS[group]
    return "SFN-Norm" if group == "SFN" else f"Norm-{group}"


def _protocols():
    for number, printed in PRINTED.items():
        # Tiny ImageNet has a single known class of P2, where it is P3 again.
        small = f"protocol={number}" if number != 2 else None
        for (loss, method), figures in zip(LOSSES.items(), printed, strict=True):
            given, other = f"method={method}", _reference(loss)
            yield Row(
                f"P{number} {loss}",
                ("imagenet", f"protocol={number}", given),
                ("tiny_imagenet", small, given) if small else (),
                figures,
                other and f"P{number} {other}",
            )


def _claims():
    for number in PRINTED:
        for base in ("SFN-{}Face", "{}-OS", "{}-EOS"):
            for margin in ("Cos", "Arc"):
                loss = base.format(margin)
                yield from (
                    Claim(f"P{number} {loss}", f"P{number} {_reference(loss)}", name) for name in (C1, ACCURACY)
                )


TABLES = {
    "thesis6.1": Table(
        "Thesis, Table 6.1: the toy protocol",
        COLUMNS,
        tuple(
            Row(name, ("toy", f"method={method}"), ("toy_small", f"method={method}"), printed, reference)
            for name, (method, printed, reference) in TOY.items()
        ),
        TOY_CLAIMS,
        curves=True,
    ),
    "thesis6.2": Table(
        "Thesis, Table 6.2: ImageNet's open-set protocols",
        COLUMNS,
        tuple(_protocols()),
        tuple(_claims()),
        curves=True,
    ),
}
