"""How much one caller may ask: a bucket of tokens each, filled at an even rate. They live as long as the process."""

from collections.abc import Callable, Hashable

MOST = 10_000  # callers that are remembered; beyond it the ones that asked longest ago start anew


class Buckets:
    """One bucket a caller; a full one holds the tokens of one minute."""

    def __init__(self, *, per_minute: float, clock: Callable[[], float], most: int = MOST) -> None:
        self._full = float(per_minute)
        self._per_s = per_minute / 60
        self._clock = clock
        self._most = most
        self._left: dict[Hashable, tuple[float, float]] = {}  # caller -> tokens, when; the latest to ask stands last

    def wait_s(self, caller: Hashable) -> float:
        """Return the seconds until the caller has a token; 0 = it has one now."""
        return max(0.0, (1.0 - self._tokens(caller)) / self._per_s)

    def take(self, caller: Hashable) -> float:
        """Take a token where there is one; return the seconds to wait for it where there is none."""
        wait_s = self.wait_s(caller)
        left = self._tokens(caller) - (0.0 if wait_s else 1.0)
        self._left.pop(caller, None)
        self._left[caller] = (left, self._clock())
        if len(self._left) > self._most:
            del self._left[next(iter(self._left))]
        return wait_s

    def _tokens(self, caller: Hashable) -> float:
        left, at = self._left.get(caller, (self._full, self._clock()))
        return min(self._full, left + (self._clock() - at) * self._per_s)
