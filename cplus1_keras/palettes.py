"""Colours of classes in pictures of labels."""

import numpy as np


def palette(num_classes):
    """A colour for what is rejected or background, black, and one for each class: those of PASCAL VOC's masks.

    Args:
        num_classes: C, the number of known classes, 0 to 255.

    Returns:
        (C + 1, 3) uint8, red, green and blue; class k has row k + 1.

    Raises:
        ValueError: for more classes than there are colours.

    Example:

    >>> palette(3).tolist()
    [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]

    Reference: the colour map of the PASCAL VOC development kit: the bits of the index, three at a time, from the
    highest bit of each colour down.
    """
    if not 0 <= num_classes <= 255:
        raise ValueError(f"There are colours for 0 to 255 classes. Received: num_classes={num_classes}")
    index = np.arange(num_classes + 1)[:, None]
    colours = np.zeros((num_classes + 1, 3), "int64")
    for bit in range(8):
        colours |= ((index >> (3 * bit + np.arange(3))) & 1) << (7 - bit)
    return colours.astype("uint8")
