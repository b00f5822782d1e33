from itertools import product

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from hypothesis import given, settings  # noqa: E402
from hypothesis.strategies import booleans, integers  # noqa: E402

from sameitem.learning.loss import query_softmax_loss, query_triplet_loss  # noqa: E402


def unit_rows(generator: np.random.Generator, rows: int) -> np.ndarray:
    values = generator.standard_normal((rows, 6))
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def loss_by_loops(queries, positives, negatives, trusted, query_of_row, margin, by_query):
    hinges: dict[int, list[float]] = {}
    for row, column in product(range(len(queries)), range(len(negatives))):
        if trusted[row, column]:
            near = ((queries[row] - positives[row]) ** 2).sum()
            far = ((queries[row] - negatives[column]) ** 2).sum()
            hinges.setdefault(int(query_of_row[row]), []).append(max(0.0, margin + near - far))
    every = [hinge for of_query in hinges.values() for hinge in of_query]
    active = float(np.mean([hinge > 0 for hinge in every])) if every else 0.0
    if not by_query:
        return (float(np.mean(every)) if every else 0.0), active
    queries_in_all = int(query_of_row.max()) + 1
    return sum(float(np.mean(of_query)) for of_query in hinges.values()) / queries_in_all, active


@settings(deadline=None, max_examples=50)
@given(seed=integers(0, 9999), rows=integers(1, 8), negatives=integers(1, 6), by_query=booleans())
def test_the_loss_is_that_of_plain_loops(seed: int, rows: int, negatives: int, by_query: bool) -> None:
    generator = np.random.default_rng(seed)
    queries, positives, others = (unit_rows(generator, count) for count in (rows, rows, negatives))
    trusted = generator.random((rows, negatives)) < 0.7
    query_of_row = np.sort(generator.integers(3, size=rows))
    query_of_row = np.unique(query_of_row, return_inverse=True)[1]
    loss, active = query_triplet_loss(
        *(torch.from_numpy(array) for array in (queries, positives, others, trusted, query_of_row)),
        margin=0.3,
        by_query=by_query,
    )
    expected, share = loss_by_loops(queries, positives, others, trusted, query_of_row, 0.3, by_query)
    assert float(loss) == pytest.approx(expected, abs=1e-9)
    assert float(active) == pytest.approx(share)


def test_a_query_with_many_triplets_counts_like_one_with_few() -> None:
    query = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    positive = torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])  # the first query's is far off
    negative = torch.tensor([[-1.0, 0.0]])
    trusted, of_row = torch.ones(4, 1, dtype=torch.bool), torch.tensor([0, 1, 1, 1])
    by_query, _ = query_triplet_loss(query, positive, negative, trusted, of_row, margin=3.0)
    by_triplet, _ = query_triplet_loss(query, positive, negative, trusted, of_row, margin=3.0, by_query=False)
    assert float(by_query) == pytest.approx((1.0 + 1.0) / 2)
    assert float(by_triplet) == pytest.approx(1.0)


@settings(deadline=None, max_examples=50)
@given(seed=integers(0, 9999), rows=integers(1, 8), negatives=integers(1, 6))
def test_the_softmax_form_is_that_of_plain_loops(seed: int, rows: int, negatives: int) -> None:
    generator = np.random.default_rng(seed)
    queries, positives, others = (unit_rows(generator, count) for count in (rows, rows, negatives))
    trusted = generator.random((rows, negatives)) < 0.7
    query_of_row = np.unique(np.sort(generator.integers(3, size=rows)), return_inverse=True)[1]
    loss, active = query_softmax_loss(
        *(torch.from_numpy(array) for array in (queries, positives, others, trusted, query_of_row)), temperature=0.2
    )
    of_query: dict[int, list[float]] = {}
    beaten = []
    for row in range(rows):
        own = np.exp(queries[row] @ positives[row] / 0.2)
        rest = [np.exp(queries[row] @ others[column] / 0.2) for column in range(negatives) if trusted[row, column]]
        of_query.setdefault(int(query_of_row[row]), []).append(float(-np.log(own / (own + sum(rest)))))
        beaten.append(max(rest, default=0.0) > own)
    assert float(loss) == pytest.approx(np.mean([np.mean(losses) for losses in of_query.values()]))
    assert float(active) == pytest.approx(np.mean(beaten))
