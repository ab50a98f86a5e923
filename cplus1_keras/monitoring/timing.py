"""How much time a training has, and how fast it goes."""

import time


class Budget:
    """Lets parts of a drawing take turns, so that all together keep a share of the training's time.

    Args:
        share: Largest share, 0.1 for a tenth; `math.inf` always draws.

    >>> budget = Budget(0.1)
    >>> budget.begin()
    >>> budget.due()
    False
    """

    GUESS = 0.2  # seconds that a part is expected to take, before it has told

    def __init__(self, share):
        self.share, self.costs, self.turn, self.next = share, {}, 0, None
        self.start, self.spent, self.looking = 0.0, 0.0, 0.0

    def begin(self):
        """The training begins now."""
        self.start = time.monotonic()

    def due(self):
        """Whether a look at what can be drawn can be afforded now, with the next part and no less drawing than look."""
        return self._can_spend(self.looking + max(self.looking, self._cost(self.next)))

    def spend(self, seconds):
        """Count the seconds of a look, before parts are drawn; the next one is expected to take as many."""
        self.spent += seconds
        self.looking = seconds

    def draw(self, parts):
        """Call those of the functions `{name: draw}` that can be afforded, from where the last call of this ended."""
        names = [*parts]
        for _ in names:
            self.next = names[self.turn % len(names)]
            if not self._can_spend(self._cost(self.next)):
                return
            start = time.monotonic()
            parts[self.next]()
            self.costs[self.next] = time.monotonic() - start
            self.spent += self.costs[self.next]
            self.turn = (self.turn + 1) % len(names)
            self.next = names[self.turn]

    def _cost(self, part):
        return self.costs.get(part, self.GUESS)

    def _can_spend(self, seconds):
        trained = time.monotonic() - self.start - self.spent
        return self.share == float("inf") or self.spent + seconds <= self.share * trained


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
