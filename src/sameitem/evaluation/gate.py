"""Whether a new model may go live: decided from a comparison on queries that it was not trained on."""

from dataclasses import dataclass

from sameitem.core.settings import GateSettings
from sameitem.evaluation.compare import LEAST_PRODUCTS, MAIN, Comparison, Part


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the gate said."""

    passed: bool
    reasons: tuple[str, ...]  # why not; empty where it passed
    not_judged: tuple[str, ...]  # slices of too few products


def judge(comparison: Comparison, settings: GateSettings, *, needs_gain: bool) -> Judgement:
    """Return whether the later side of a comparison may replace the earlier one.

    Args:
        comparison: on held-out queries.
        settings: what is tolerated, and how many queries it takes.
        needs_gain: the main measure must have risen; False where somebody asked for this model.
    """
    whole = comparison.whole
    if reason := too_few(
        whole.queries, whole.products, settings, left_out=comparison.left_out, failed=comparison.failed
    ):
        return Judgement(False, (reason,), ())
    reasons = []
    delta = whole.measures[MAIN].delta
    if delta.low < -settings.tolerance:
        allowed = f"may not end below {-100 * settings.tolerance:+.1f} (gate.tolerance)"
        reasons.append(f"{MAIN} changes by {described(whole)}; the interval {allowed}")
    if needs_gain and delta.mean <= 0:
        reasons.append(f"{MAIN} changes by {described(whole)}; it has to rise")
    small = tuple(name for name, part in comparison.slices.items() if part.products < LEAST_PRODUCTS)
    for name, part in comparison.slices.items():
        if name not in small and part.measures[MAIN].delta.high < 0:
            reasons.append(f"in slice {name!r}, {MAIN} changes by {described(part)}, which is no chance")
    return Judgement(not reasons, tuple(reasons), small)


def too_few(queries: int, products: int, settings: GateSettings, *, left_out: int = 0, failed: int = 0) -> str:
    """Return what to do about so few queries or products; "" where they are enough.

    Args:
        queries: that were, or can be, asked.
        products: groups of products that they ask for.
        settings: how many queries it takes.
        left_out: queries whose product only one gallery has.
        failed: queries that could not be measured.
    """
    if queries >= settings.least_queries and products >= LEAST_PRODUCTS:
        return ""
    besides = [f"{left_out:,} were left out, whose product only one gallery has"] * (left_out > 0)
    besides += [f"{failed:,} could not be measured"] * (failed > 0)
    missing = f" ({'; '.join(besides)})" if besides else ""
    return (
        f"{queries:,} held-out queries of {products:,} products are too few to tell{missing}, it takes "
        f"{settings.least_queries:,} queries (gate.least_queries) of {LEAST_PRODUCTS} products; give labelled photos "
        "with --queries FILE, or wait for more clicks"
    )


def described(part: Part) -> str:
    """Return the change of the main measure in words."""
    delta = part.measures[MAIN].delta
    return (
        f"{100 * delta.mean:+.1f} points [{100 * delta.low:+.1f}, {100 * delta.high:+.1f}] over {part.queries:,} "
        f"queries of {part.products:,} products"
    )
