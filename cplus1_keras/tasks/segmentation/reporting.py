"""What a run of segmentation tells: tables of figures, the threshold, and what to type next."""

from cplus1_keras.metrics import pixels, segmentation

FIGURES = ("accuracy", "ccr_at_fpr_0.05", "ccr_at_fpr_0.1", "ccr_at_fpr_0.3", "auroc", "fpr95")


def epilogue(figures, calibration, directory, saved_model):
    """The last words of a run.

    Args:
        figures: What `experiment.evaluate` gives, with `seconds`.
        calibration: `calibration.Calibration`.
        directory: Directory of the run.
        saved_model: Folder of the SavedModel.

    Returns:
        Text.

    >>> print(epilogue(figures, found, directory, saved_model))  # doctest: +SKIP
    """
    at = figures["at_threshold"]
    groups = {group: at[f"fpr_{group}"] for group in ("negative", "unknown") if at[f"fpr_{group}"] is not None}
    achieved = [f"{100 * share:.1f} % of {group} pixels" for group, share in groups.items()]
    return "\n".join(
        [
            mean_table(figures),
            "",
            *([open_set_table(figures["open_set"]), ""] if figures["open_set"] else []),
            str(calibration),
            f"At this threshold: {100 * at['ccr']:.1f} % of the test's known pixels are answered right, "
            f"{100 * at['coverage']:.1f} % are accepted" + (f"; so are {' and '.join(achieved)}." if achieved else "."),
            f"Took {figures['seconds']:.0f} s, export not counted.",
            "",
            "Next:",
            f"  tensorboard --logdir {directory / 'logs'}",
            f"  saved_model_cli show --dir {saved_model} --tag_set serve --signature_def serving_default",
            f"Each class: {directory / 'classes.md'}. Pictures: {directory / 'pictures'}",
        ]
    )


def mean_table(figures):
    """mIoU, mAcc and aAcc, with the flip test where it was made: Table 9's shape.

    >>> print(mean_table(figures))  # doctest: +SKIP
    """
    rows = {"single scale": figures["segmentation"]}
    if "segmentation_with_flip" in figures:
        rows["with flip test"] = figures["segmentation_with_flip"]
    return segmentation.table(rows)


def open_set_table(groups):
    """The open-set figures of pixels, a row for each group.

    >>> print(open_set_table(figures["open_set"]))  # doctest: +SKIP
    """
    return pixels.table({group: {name: values[name] for name in FIGURES} for group, values in groups.items()})
