"""Answers for millions of images, by one machine or by many: parquet out, restartable, one row for each input.

The inputs are listed once and cut into parts. Whoever answers a part, a process here or a Ray actor anywhere, writes
its table whole or not at all, so that what was killed is done again and nothing else is.
"""

from cplus1_keras.bulk.scoring import score

__all__ = ["score"]
