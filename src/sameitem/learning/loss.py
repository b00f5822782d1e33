"""The triplet loss of the article, per query, with negatives that a whole batch shares; and its softmax form."""

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


def query_softmax_loss(
    queries: Tensor,
    positives: Tensor,
    negatives: Tensor,
    trusted: Tensor,
    query_of_row: Tensor,
    *,
    temperature: float,
) -> tuple[Tensor, Tensor]:
    """Average over the queries how unlikely their clicked image is among it and their trusted negatives.

    `l(q, q+) = -log(e^(q.q+ / T) / (e^(q.q+ / T) + sum of e^(q.q- / T)))`: the triplets of a query together instead of
    one by one, so that the nearest negatives weigh most and none is ever far enough.

    Args:
        queries: (n, dim) unit features; row i is the photo of pair i.
        positives: (n, dim) unit features of an image of the same item.
        negatives: (m, dim) unit features that all rows share.
        trusted: (n, m) whether the negative may be used against the row's photo.
        query_of_row: (n,) photo of each row, from 0; a photo's rows are averaged first.
        temperature: T, of cosines.

    Returns:
        The loss, and the share of the rows to which a trusted negative is nearer than the positive.
    """
    own = (queries * positives).sum(dim=1, keepdim=True) / temperature  # (n, 1)
    others = (queries @ negatives.T / temperature).masked_fill(~trusted, float("-inf"))  # (n, m)
    each = torch.cat([own, others], dim=1).logsumexp(dim=1) - own[:, 0]  # (n,)
    active = (others > own).any(dim=1).to(own.dtype).mean().detach()
    photos = int(query_of_row.max()) + 1
    total = each.new_zeros(photos).index_add(0, query_of_row, each)
    rows = each.new_zeros(photos).index_add(0, query_of_row, torch.ones_like(each))
    return (total / rows).mean(), active
