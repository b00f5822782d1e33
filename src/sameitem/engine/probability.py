"""How probable it is that a hit shows the same item: a logistic curve of its lead.

The lead is how much nearer a hit is than the nearest other product. The further ahead, the more probable; a curve says
how much, and is fitted to pairs of which it is known whether they show the same item.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError

LEAST_SLOPE = 0.05  # of a fitted curve, as a share of its prior's: nearer never becomes less probable
_ROUNDS = 100
_HALVINGS = 40
_STILL = 1e-9  # length of the gradient at which the fit is done


@dataclass(frozen=True, slots=True)
class Curve:
    """The probability of the same item: `1 / (1 + exp(-(intercept + slope * lead)))`.

    Raises:
        InputError: a number that is not finite, or a slope that is not above 0.
    """

    intercept: float  # log odds without a lead
    slope: float  # what a lead of 1 (squared distance of unit vectors) adds to them

    def __post_init__(self) -> None:
        if not (math.isfinite(self.intercept) and 0 < self.slope < math.inf):
            raise InputError(f"need a finite intercept and a slope above 0, got {self.intercept} and {self.slope}")

    def probability(self, leads: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability 0..1 of each lead; larger leads are never less probable."""
        odds = np.exp(-np.abs(z := self.intercept + self.slope * leads))  # at most 1: cannot overflow
        probability: NDArray[np.float64] = np.where(z >= 0, 1.0, odds) / (1.0 + odds)
        return probability


def fit_curve(
    leads: NDArray[np.float64],
    same: NDArray[np.bool_],
    weights: NDArray[np.float64],
    *,
    prior: Curve,
    strength: float,
) -> Curve:
    """Return the curve that explains labelled pairs best, drawn towards another curve where they say little.

    It has the smallest `sum(weights * loss) + strength / 2 * ((intercept - prior's)^2 + (slope / prior's - 1)^2)`: a
    logistic regression with a normal prior, found by Newton's method. Without pairs it is the prior itself.

    Args:
        leads: (pairs,) finite.
        same: (pairs,) whether the two show the same item.
        weights: (pairs,) how much each counts, not negative.
        prior: what is believed without pairs.
        strength: how firmly, above 0; a pair at even odds says as much about the intercept as a strength of 1 / 4.

    Raises:
        ShapeError: arrays of different lengths.
        InputError: a lead or weight that is not finite, a weight below 0, a strength that is not above 0.
    """
    if not leads.ndim == 1 or not leads.shape == same.shape == weights.shape:
        raise ShapeError(f"need one label and weight per lead, got {leads.shape}, {same.shape} and {weights.shape}")
    if not (np.isfinite(leads).all() and np.isfinite(weights).all() and (weights >= 0).all() and 0 < strength < np.inf):
        raise InputError("need finite leads, finite weights of at least 0 and a strength above 0")
    terms = np.stack([np.ones_like(leads), prior.slope * leads], axis=1)  # (pairs, 2)
    centre = np.array([prior.intercept, 1.0])
    found = _minimise(terms, same, weights, centre, strength, free=2)
    if found[1] < LEAST_SLOPE:  # convex: where the slope must not fall that far, the best lies at the limit
        centre[1] = LEAST_SLOPE
        found = _minimise(terms, same, weights, centre, strength, free=1)
    return Curve(float(found[0]), float(found[1] * prior.slope))


def _minimise(
    terms: NDArray[np.float64],
    same: NDArray[np.bool_],
    weights: NDArray[np.float64],
    centre: NDArray[np.float64],
    strength: float,
    *,
    free: int,
) -> NDArray[np.float64]:
    """Return the best intercept and share of the slope; only the first `free` of them may leave the centre."""

    def loss(at: NDArray[np.float64]) -> float:
        z = terms @ at
        return float(weights @ (np.logaddexp(0.0, z) - same * z) + strength / 2 * ((at - centre) ** 2).sum())

    at = centre.copy()
    for _ in range(_ROUNDS):
        probability = Curve(0.0, 1.0).probability(terms @ at)
        gradient = (terms.T @ (weights * (probability - same)) + strength * (at - centre))[:free]
        if np.linalg.norm(gradient) <= _STILL * (1 + weights.sum()):
            break
        curvature = (terms.T * (weights * probability * (1 - probability))) @ terms + strength * np.eye(2)
        step = np.zeros(2)
        step[:free] = np.linalg.solve(curvature[:free, :free], gradient)
        now = loss(at)
        shorter = (at - step / 2**halving for halving in range(_HALVINGS))
        better = next((one for one in shorter if loss(one) < now), None)
        if better is None:  # the rounding of the loss is reached
            break
        at = better
    return at
