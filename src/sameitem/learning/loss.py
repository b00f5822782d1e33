"""The triplet loss of the article: per query, with negatives that a whole batch shares."""

import torch
from torch import Tensor


def squared_distances(features: Tensor, others: Tensor) -> Tensor:
    """Return (n, m) squared L2 distances, 0..4, of unit rows (n, dim) and (m, dim)."""
    return 2.0 - 2.0 * features @ others.T


def query_triplet_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    trusted: Tensor,
    query_of_row: Tensor,
    *,
    margin: float,
    by_query: bool = True,
) -> tuple[Tensor, Tensor]:
    """Average the hinge over each query's triplets, then over the queries.

    `l(q, q+, q-) = max(0, d(q, q+) - d(q, q-) + margin)`, d the squared L2 distance of unit vectors. All of a query's
    trusted triplets count, not only the active ones.

    Args:
        queries: (n, dim) unit features; row i is the photo of pair i.
        positives: (n, dim) unit features of an image of the same item.
        negatives: (m, dim) unit features that all rows share.
        trusted: (n, m) whether the negative may be used against the row's photo: it shows another item.
        query_of_row: (n,) photo of each row, from 0; a photo with several positives has several rows.
        margin: of squared distances.
        by_query: False: the plain mean over all triplets, for comparison.

    Returns:
        The loss, and the share of the trusted triplets that are active (hinge above 0).

    Source: article §02.1; FORMULAS.md §1.
    """
    to_positive = 2.0 - 2.0 * (queries * positives).sum(dim=1, keepdim=True)  # (n, 1)
    hinge = torch.relu(margin + to_positive - squared_distances(queries, negatives)) * trusted  # (n, m)
    active = ((hinge > 0).sum() / trusted.sum().clamp(min=1)).detach()
    if not by_query:
        return hinge.sum() / trusted.sum().clamp(min=1), active
    photos = int(query_of_row.max()) + 1
    total = hinge.new_zeros(photos).index_add(0, query_of_row, hinge.sum(dim=1))
    triplets = hinge.new_zeros(photos).index_add(0, query_of_row, trusted.sum(dim=1).to(hinge.dtype))
    return (total / triplets.clamp(min=1)).mean(), active
