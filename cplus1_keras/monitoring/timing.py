"""How much time a training has, and how fast it goes."""

import time


class Budget:
    """Says when drawing keeps a share of the training's time.

    Args:
        share: Largest share, 0.1 for a tenth; `math.inf` always draws.
        guess: Seconds that the first drawing is expected to take; each later one is expected to take what the last did.

    >>> budget = Budget(0.1)
    >>> budget.begin()
    >>> budget.due()
    False
    """

    def __init__(self, share, guess=0.5):
        self.share, self.expected = share, guess
        self.start, self.spent = 0.0, 0.0

    def begin(self):
        """The training begins now."""
        self.start = time.monotonic()

    def due(self):
        """Whether a drawing now would keep the share."""
        trained = time.monotonic() - self.start - self.spent
        return self.spent + self.expected <= self.share * trained or self.share == float("inf")

    def spend(self, seconds):
        """Count a drawing."""
        self.spent, self.expected = self.spent + seconds, seconds


class Pace:
    """Steps per second of the running epoch, between its first and its last step.

    >>> pace = Pace()
    >>> pace.begin()
    >>> pace.rate() is None
    True
    """

    def __init__(self):
        self.first = self.last = None
        self.steps = -1

    def begin(self):
        """An epoch begins."""
        self.__init__()

    def step(self):
        """A step ended. The first one, which may compile, only starts the clock."""
        self.last = time.monotonic()
        self.first = self.last if self.first is None else self.first
        self.steps += 1

    def rate(self):
        """Steps per second, or None."""
        return self.steps / (self.last - self.first) if self.steps > 0 and self.last > self.first else None
