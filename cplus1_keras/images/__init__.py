"""From encoded images, or arrays of any kind, to the numbers that a network sees: the same in training and serving."""

from cplus1_keras.images.decoding import MAX_PIXELS, decode, decode_batch, decode_ragged
from cplus1_keras.images.headers import read_size
from cplus1_keras.images.preprocessing import check_short_side, preprocess, shorten

__all__ = [
    "MAX_PIXELS",
    "check_short_side",
    "decode",
    "decode_batch",
    "decode_ragged",
    "preprocess",
    "read_size",
    "shorten",
]
