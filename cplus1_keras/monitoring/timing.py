"""How much time a training has, and how fast it goes."""

import time


class Budget:
    """Lets parts of a drawing take turns, so that all together keep a share of the training's time.

    Args:
        share: Largest share, 0.1 for a tenth; `math.inf` always draws.

    >>> budget = Budget(0.1)
    >>> budget.begin()
    >>> budget.due("curve")
    False
    """

    GUESS = 0.2  # seconds that a part is expected to take, before it has told

    def __init__(self, share):
        self.share, self.costs, self.turn = share, {}, 0
        self.start, self.spent = 0.0, 0.0

    def begin(self):
        """The training begins now."""
        self.start = time.monotonic()

    def due(self, part=None):
        """Whether a part, or where None any that is known, can be drawn now."""
        cost = min(self.costs.values(), default=self.GUESS) if part is None else self.costs.get(part, self.GUESS)
        trained = time.monotonic() - self.start - self.spent
        return self.share == float("inf") or self.spent + cost <= self.share * trained

    def spend(self, seconds, part=None):
        """Count seconds, those of a part as what it is expected to take the next time."""
        self.spent += seconds
        if part is not None:
            self.costs[part] = seconds

    def draw(self, parts):
        """Call those of the functions `{name: draw}` that are due, beginning where the last call of this ended."""
        names = [*parts]
        for _ in names:
            name = names[self.turn % len(names)]
            if not self.due(name):
                return
            start = time.monotonic()
            parts[name]()
            self.spend(time.monotonic() - start, name)
            self.turn = (self.turn + 1) % len(names)


class Pace:
    """Steps per second of the running epoch, and the share of that time spent waiting, from its first to its last step.

    Args:
        clock: An `InputClock`.

    >>> pace = Pace(None)
    >>> pace.begin()
    >>> pace.rate() is None
    True
    """

    def __init__(self, clock):
        self.clock = clock
        self.begin()

    def begin(self):
        """An epoch begins."""
        self.first = self.last = None
        self.steps, self.waited = -1, None

    def step(self):
        """A step ended. The first one, which may compile, only starts the clock."""
        self.last = time.monotonic()
        if self.first is None:
            self.first, self.waited = self.last, self.clock.seconds()
        self.steps += 1

    def rate(self):
        """Steps per second, or None."""
        return self.steps / (self.last - self.first) if self.steps > 0 and self.last > self.first else None

    def waiting(self):
        """Share of the time spent waiting for input, or None."""
        if self.waited is None or self.rate() is None:
            return None
        return (self.clock.seconds() - self.waited) / (self.last - self.first)
