"""Simulated users who look down lists and click, many lists at once, and rankers of a known quality.

What a list is worth is known exactly: the clicks it can expect (`expected`), not only those that were drawn (`click`).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Reals = NDArray[np.float64]


class Users(Protocol):
    """How lists are looked at and clicked; `attraction`: (lists, places) chance of a click on what is looked at."""

    def expected(self, attraction: Reals) -> Reals:
        """Return the clicks that each list can expect."""

    def click(self, attraction: Reals, generator: Generator) -> NDArray[np.bool_]:
        """Draw the clicks."""


@dataclass(frozen=True, slots=True)
class ByPosition:
    """The position-based model: a place is looked at with the chance `rank ** -falls`, whatever stands above it."""

    falls: float = 0.7

    def examined(self, places: int) -> Reals:
        """Return how likely each place is looked at."""
        return np.asarray(np.arange(1, places + 1) ** -self.falls)

    def expected(self, attraction: Reals) -> Reals:
        """Return the clicks that each list can expect."""
        return np.asarray((attraction * self.examined(attraction.shape[1])).sum(axis=1))

    def click(self, attraction: Reals, generator: Generator) -> NDArray[np.bool_]:
        """Draw the clicks."""
        return np.asarray(generator.random(attraction.shape) < attraction * self.examined(attraction.shape[1]))


@dataclass(frozen=True, slots=True)
class FromTheTop:
    """A cascade: places are looked at one after the other, until the user leaves or a click satisfied.

    With `satisfied` 1 there is at most one click (the cascade model of Craswell et al., WSDM 2008); below it is the
    dynamic Bayesian network of Chapelle and Zhang (WWW 2009) with one satisfaction for all.
    """

    goes_on: float = 0.85
    satisfied: float = 0.5

    def expected(self, attraction: Reals) -> Reals:
        """Return the clicks that each list can expect."""
        looks, clicks = np.ones(len(attraction)), np.zeros(len(attraction))
        for place in attraction.T:
            clicks += looks * place
            looks = looks * self.goes_on * (1 - place * self.satisfied)
        return clicks

    def click(self, attraction: Reals, generator: Generator) -> NDArray[np.bool_]:
        """Draw the clicks."""
        would = generator.random(attraction.shape) < attraction
        ends = generator.random(attraction.shape) >= self.goes_on
        ends |= would & (generator.random(attraction.shape) < self.satisfied)
        return np.asarray(would & (np.cumsum(ends, axis=1) - ends == 0))


@dataclass(frozen=True, slots=True)
class Rankers:
    """Queries with candidates of known attraction, and two rankers that see their utilities through noise."""

    attraction: Reals  # (queries, candidates) chance of a click on what is looked at
    utility: Reals
    noise_a: Reals
    noise_b: Reals

    @classmethod
    def draw(cls, generator: Generator, *, queries: int, candidates: int, alike: float) -> "Rankers":
        """Return drawn queries; `alike` is the correlation of the two rankers' noises."""
        shape = (queries, candidates)
        utility, shared, own_a, own_b = (generator.normal(size=shape) for _ in range(4))
        attraction = 1 / (1 + np.exp(3 - 1.5 * utility))
        a, b = (np.sqrt(alike) * shared + np.sqrt(1 - alike) * own for own in (own_a, own_b))
        return cls(attraction, utility, a, b)

    def orders(self, noise_a: float, noise_b: float) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return what the two rankers make of the candidates at these levels of noise, best first."""
        scores = (self.utility + noise_a * self.noise_a, self.utility + noise_b * self.noise_b)
        a, b = (np.argsort(-score, axis=1, kind="stable") for score in scores)
        return a, b

    def worth(self, order: NDArray[np.intp], users: Users, places: int) -> float:
        """Return the clicks a search can expect where each query is as likely, to the last digit."""
        return float(users.expected(np.take_along_axis(self.attraction, order[:, :places], axis=1)).mean())

    def better_b(self, users: Users, places: int, *, gain: float, noise_a: float = 1.0) -> tuple[float, float]:
        """Return the noise of B with which it gets `1 + gain` times A's clicks, and the ratio that it really gets.

        Orders change in steps, so that the ratio is met to about 1 / (queries x candidates).
        """
        of_a = self.worth(self.orders(noise_a, noise_a)[0], users, places)
        low, high = 0.0, 2 * noise_a
        for _ in range(50):
            middle = (low + high) / 2
            ratio = self.worth(self.orders(noise_a, middle)[1], users, places) / of_a
            low, high = (middle, high) if ratio > 1 + gain else (low, middle)
        return low, self.worth(self.orders(noise_a, low)[1], users, places) / of_a
