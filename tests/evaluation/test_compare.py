"""Two evaluations side by side, worked out by hand."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sameitem.core.errors import InputError
from sameitem.core.records import ProductId
from sameitem.evaluation.compare import Comparison, compare, product_groups
from sameitem.evaluation.evaluate import Evaluation, Figures, LabelledQuery, Outcome
from sameitem.pipeline.online import MAX_PAGE

Row = tuple[str, str, int | None]  # product, slice, rank of the first right hit


def outcome(number: int, row: Row, *, wanted: int = 1) -> Outcome:
    product, slice_, rank = row
    relevant = np.zeros(MAX_PAGE, np.bool_)
    if rank is not None:
        relevant[rank - 1] = True
    query = LabelledQuery(Path(f"{number}.jpg"), ProductId(product), slice=slice_)
    return Outcome(query, relevant, wanted, (), "", 0.0, 1.0)


def evaluation(model: str, outcomes: Sequence[Outcome]) -> Evaluation:
    whole = Figures(len(outcomes), {}, 0.0, 0.0)  # a comparison makes its own
    rest = {"slices": {}, "category": None, "boxes": None, "failed": {}, "unknown": 0, "dropped": 0, "ms": {}}
    return Evaluation(f"index of {model}", model, 1, whole, outcomes=tuple(outcomes), **rest)  # type: ignore[arg-type]


def drawn(before: Sequence[Row], after: Sequence[Row]) -> Comparison:
    sides = [[outcome(number, row) for number, row in enumerate(rows)] for rows in (before, after)]
    return compare(evaluation("old", sides[0]), evaluation("new", sides[1]))


def ranks(values: Sequence[int | None], *, slice_: str = "", products: int | None = None) -> list[Row]:
    return [(f"P{number % (products or len(values))}", slice_, rank) for number, rank in enumerate(values)]


def test_the_figures_are_those_worked_out_by_hand() -> None:
    whole = drawn(ranks([1, 2, None, 1]), ranks([1, 1, 20, 4])).whole
    assert (whole.queries, whole.products, whole.wins, whole.losses) == (4, 4, 1, 1)
    measures = {name: (m.before, m.after, m.delta.mean) for name, m in whole.measures.items()}
    assert measures["recall@1"] == pytest.approx((2 / 4, 2 / 4, 0))
    assert measures["recall@10"] == pytest.approx((3 / 4, 3 / 4, 0))
    assert measures["mrr"] == pytest.approx((2.5 / 4, (1 + 1 + 1 / 20 + 1 / 4) / 4, -0.2 / 4))


def test_what_got_better_everywhere_is_better_and_the_other_way_round_worse() -> None:
    bad, good = ranks([None] * 20), ranks([1] * 20)
    assert drawn(bad, good).whole.verdict == "better"
    assert drawn(good, bad).whole.verdict == "worse"


def test_as_many_won_as_lost_is_no_clear_difference() -> None:
    assert drawn(ranks([1, 2] * 10), ranks([2, 1] * 10)).whole.verdict == "no clear difference"


def test_a_few_products_tell_nothing_however_often_they_are_asked() -> None:
    part = drawn(ranks([None] * 90, products=9), ranks([1] * 90, products=9)).whole
    assert (part.products, part.verdict) == (9, "too few products")


def test_products_that_one_query_joins_are_drawn_together_also_through_others() -> None:
    asked = [("P1",), ("P2", "P3"), ("P4",), ("P3", "P5"), ("P5", "P4"), ("P6",), ("P1", "P7")]
    queries = [
        LabelledQuery(Path("x"), ProductId(first), others=tuple(map(ProductId, others))) for first, *others in asked
    ]
    assert product_groups(queries).tolist() == [0, 1, 1, 1, 1, 2, 0]
    outcomes = [replace(outcome(n, ("", "", 1)), query=query) for n, query in enumerate(queries)]
    whole = compare(evaluation("old", outcomes), evaluation("new", outcomes)).whole
    assert (whole.queries, whole.products) == (7, 3)


def test_slices_are_compared_each_for_itself() -> None:
    one, other = ranks([1] * 12, slice_="clear"), ranks([1] * 12, slice_="dim")
    worse = [(product, slice_, 3) for product, slice_, _ in other]
    slices = drawn([*one, *other], [*one, *worse]).slices
    assert {name: part.verdict for name, part in slices.items()} == {"clear": "no clear difference", "dim": "worse"}
    assert slices["dim"].losses == 12


def test_queries_are_matched_by_what_they_are_not_by_their_place() -> None:
    rows = ranks([1, 2, 3, 4])
    outcomes = [outcome(number, row) for number, row in enumerate(rows)]
    turned = compare(evaluation("old", outcomes), evaluation("new", outcomes[:0:-1]))
    assert (turned.whole.queries, turned.whole.measures["mrr"].delta.mean) == (3, 0)


def test_a_product_that_one_gallery_lacks_is_left_out_and_one_that_both_lack_counts() -> None:
    rows = ranks([1, None, None])
    old = [
        outcome(number, row, wanted=wanted) for number, (row, wanted) in enumerate(zip(rows, (1, 0, 0), strict=True))
    ]
    new = [
        outcome(number, row, wanted=wanted) for number, (row, wanted) in enumerate(zip(rows, (1, 1, 0), strict=True))
    ]
    comparison = compare(evaluation("old", old), evaluation("new", new))
    assert (comparison.left_out, comparison.whole.queries) == (1, 2)
    assert comparison.whole.measures["recall@1"].before == 0.5


def test_a_query_that_one_side_could_not_measure_is_counted_as_failed() -> None:
    outcomes = [outcome(number, row) for number, row in enumerate(ranks([1, 2, 3, 4]))]
    new = replace(evaluation("new", outcomes[:3]), failed={"unreadable": 2})
    comparison = compare(evaluation("old", outcomes[1:]), new)
    assert (comparison.whole.queries, comparison.failed) == (2, 3)  # of the five that were asked of the new one


def test_without_a_common_query_there_is_nothing_to_compare() -> None:
    one, other = [outcome(1, ("P1", "", 1))], [outcome(2, ("P1", "", 1))]
    with pytest.raises(InputError, match="no query can be compared: 1 and 1 were measured, 0 are the same"):
        compare(evaluation("old", one), evaluation("new", other))


def test_it_is_written_under_the_keys_of_the_contract() -> None:
    rows = ranks([1] * 12, slice_="dim")
    written = json.loads(json.dumps(drawn(rows, rows).as_json(), allow_nan=False))
    assert written["before"] == {"index_version": "index of old", "model_version": "old"}
    for part in (written, written["slices"]["dim"]):
        assert part["delta"]["recall@1"] == {"mean": 0.0, "low": 0.0, "high": 0.0}
        assert part["measures"]["recall@1"] == {"before": 1.0, "after": 1.0}
        assert {"queries", "products", "wins", "losses", "verdict"} <= set(part)
        assert set(part["delta"]) == {"recall@1", "recall@10", "mrr"}
