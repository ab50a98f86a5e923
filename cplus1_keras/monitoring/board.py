"""What TensorBoard reads beside scalars: pictures, curves, the embedding projector."""

import io

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.plugins import projector
from tensorboard.plugins.image import metadata
from tensorboard.plugins.pr_curve import summary as pr_curves

from cplus1_keras import plots

POINTS = 200
"""Thresholds of a curve at most."""


def image(name, figure, step):
    """Write a figure, as the file that it is; `tf.summary.image` would compress it again."""
    png = plots.to_png(figure)
    width, height = Image.open(io.BytesIO(png)).size
    about = metadata.create_summary_metadata(display_name=None, description="")
    tf.summary.write(name, tf.constant([str(width).encode(), str(height).encode(), png]), step, about)


def curve(name, oscr, knowns, members, step):
    """Write an OSCR curve as an entry of TensorBoard's page of precision-recall curves.

    There FPR is the recall and CCR the precision; the counts are those of rightly accepted knowns and of strangers.
    """
    places = np.unique(np.linspace(0, len(oscr.fpr) - 1, min(POINTS, len(oscr.fpr))).astype(int))
    fpr, ccr = oscr.fpr[places], oscr.ccr[places]
    summary = pr_curves.raw_data_pb(
        name,
        true_positive_counts=ccr * knowns,
        false_positive_counts=fpr * members,
        true_negative_counts=(1 - fpr) * members,
        false_negative_counts=(1 - ccr) * knowns,
        precision=ccr,
        recall=fpr,
        num_thresholds=len(places),
        description="OSCR: the correct classification rate (here precision) over the false positive rate (here recall)",
    )
    tf.summary.experimental.write_raw_pb(summary.SerializeToString(), step)


def embeddings(folder, features, table, thumbnails=None):
    """Write samples for TensorBoard's projector, in place of those before.

    Args:
        folder: One with an event file, which the projector asks for.
        features: (n, K).
        table: n + 1 rows of texts, the first the names of the columns.
        thumbnails: n pictures (side, side, 3) uint8, or None.

    >>> import pathlib
    >>> embeddings("board", np.eye(2), [("class",), ("cat",), ("dog",)])
    >>> pathlib.Path("board/metadata.tsv").read_text().split()
    ['class', 'cat', 'dog']
    """
    rows = ["\t".join(f"{value:.6g}" for value in row) for row in np.asarray(features, "float64")]
    cells = ["\t".join(str(cell).replace("\t", " ").replace("\n", " ") for cell in row) for row in table]
    tf.io.write_file(f"{folder}/features.tsv", "\n".join(rows) + "\n")
    tf.io.write_file(f"{folder}/metadata.tsv", "\n".join(cells) + "\n")
    config = projector.ProjectorConfig()
    shown = config.embeddings.add(tensor_name="features", tensor_path="features.tsv", metadata_path="metadata.tsv")
    if thumbnails is not None:
        side = len(thumbnails[0])
        tf.io.write_file(f"{folder}/sprite.png", sprite(thumbnails))
        shown.sprite.image_path = "sprite.png"
        shown.sprite.single_image_dim.extend([side, side])
    projector.visualize_embeddings(folder, config)


def sprite(thumbnails):
    """Pictures (n, side, side, 3) uint8 in a square of squares, row by row, as a PNG file."""
    number, side = np.shape(thumbnails)[:2]
    columns = int(np.ceil(np.sqrt(number)))
    sheet = np.full((columns**2, side, side, 3), 255, "uint8")
    sheet[:number] = thumbnails
    sheet = sheet.reshape(columns, columns, side, side, 3).swapaxes(1, 2).reshape(columns * side, columns * side, 3)
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, format="png")
    return file.getvalue()
