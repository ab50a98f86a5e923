"""Colours of classes in pictures of labels."""

import numpy as np


def palette(num_classes):
    """Colours (C + 1, 3) uint8 of PASCAL VOC's masks: black for background and rejected, then one for each class."""
    if not 0 <= num_classes <= 255:
        raise ValueError(f"There are colours for 0 to 255 classes. Received: num_classes={num_classes}")
    index = np.arange(num_classes + 1)[:, None]
    colours = np.zeros((num_classes + 1, 3), "int64")
    for bit in range(8):  # three bits of the index at a time, from the highest bit of each colour down
        colours |= ((index >> (3 * bit + np.arange(3))) & 1) << (7 - bit)
    return colours.astype("uint8")
