"""The real photographs that a general feature is measured on: domains it was trained on and domains it was not."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sameitem.core.records import Box, Pixels
from sameitem.features.preprocess import crop
from sameitem.learning.edits import compose, edit
from sameitem.learning.real_sets import RealSets, Row
from sameitem.metrics.intervals import Interval, bootstrap_interval

Rows = NDArray[np.float32]  # features, one a row
Embed = Callable[[Sequence[Pixels]], Rows]  # crops to (crops, dim) unit rows

VIEWS = (1.0, 0.8, 0.65)  # shares of the sides that the three views of a query keep, around its centre
CLOTHING_REFERENCES = 2600
NEIGHBOURS = 30
SHARPNESS = 4.0  # lambda of the vote's weights exp(-lambda * squared distance)
_CHUNK = 64


@dataclass(frozen=True, slots=True)
class Domain:
    """Queries and a gallery of one kind, already embedded; row i of a feature array shows item i."""

    name: str
    by_vote: bool  # items are labels, told by a vote of the neighbours; else products, of which the first hit counts
    views: tuple[Rows, ...]  # of the queries: features of each view of them
    query_items: Sequence[str]
    gallery: Rows
    gallery_items: Sequence[str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured share with its 95 % interval."""

    name: str
    measure: str
    queries: int
    gallery: int
    share: Interval


def measure(embed: Embed, sets: RealSets, *, views: bool) -> list[Figure]:
    """Measure a feature on every domain.

    Args:
        embed: the feature.
        sets: the real photographs.
        views: also measure query features averaged over three views.
    """
    return [evaluate(domain) for domain in collect(embed, sets, views=views)]


def collect(embed: Embed, sets: RealSets, *, views: bool) -> list[Domain]:
    """Embed every picture that `measure` needs, once."""

    def features(rows: Iterable[Row], change: Callable[[Pixels], Pixels] = lambda pixels: pixels) -> Rows:
        return embed_all(embed, (change(sets.pixels(row)) for row in rows))

    def products(rows: Iterable[Row]) -> list[str]:
        return [row.product for row in rows]

    furniture = sets.select("abo", lambda row: row.split == "val")
    plain = features(furniture)
    domains = []
    for name, rows in (
        ("grocery", sets.select("grocery", lambda row: "Packages" in row.category)),
        ("eafit", sets.select("eafit_dev")),
    ):
        queries = [row for row in rows if row.role == "query"]
        gallery = [row for row in rows if row.role == "catalogue"]
        found, whole = features(gallery), features(queries)
        domain = Domain(name, False, (whole,), products(queries), found, products(gallery))
        domains.append(domain)
        if name == "grocery":
            everything, items = np.concatenate([found, plain]), products([*gallery, *furniture])
            domains.append(replace(domain, name="grocery among ABO", gallery=everything, gallery_items=items))
        if views:
            others = [features(queries, partial(middle, share=share)) for share in VIEWS[1:]]
            domains.append(replace(domain, name=f"{name}, 3 views", views=(whole, *others)))
    for name, rows, references in (("clothing", *_clothing(sets)), ("fashion", *_fashion(sets))):
        labels, known = [row.category for row in rows], [row.category for row in references]
        domains.append(Domain(name, True, (features(rows),), labels, features(references), known))
    generator = np.random.default_rng(2)
    photos = [*sets.select("clothing", lambda row: row.trainable), *sets.select("grocery", lambda row: row.trainable)]

    def on_a_photo(pixels: Pixels) -> Pixels:
        return compose(pixels, sets.pixels(photos[generator.integers(len(photos))]), generator)

    for name, change in (("ABO edits", partial(edit, generator=generator)), ("ABO compositions", on_a_photo)):
        made = features(furniture, change)
        domains.append(Domain(name, False, (made,), products(furniture), plain, products(furniture)))
    return domains


def evaluate(domain: Domain, change: Callable[[Rows], Rows] = lambda rows: rows) -> Figure:
    """Measure one domain.

    Args:
        domain: what `collect` returned.
        change: applied to every feature array first; the result is scaled to unit length.
    """
    queries = unit(np.sum([unit(change(view)) for view in domain.views], axis=0, dtype=np.float32))
    similarity = queries @ unit(change(domain.gallery)).T
    items = np.array(domain.gallery_items)
    told = [_vote(row, items) for row in similarity] if domain.by_vote else items[similarity.argmax(axis=1)]
    hits = np.array([one == other for one, other in zip(told, domain.query_items, strict=True)], np.float64)
    name = f"{NEIGHBOURS}-NN accuracy" if domain.by_vote else "Recall@1"
    share = bootstrap_interval(hits, np.random.default_rng(0))
    return Figure(domain.name, name, len(hits), len(items), share)


def embed_all(embed: Embed, crops: Iterable[Pixels]) -> Rows:
    """Embed a stream of crops without holding all of its pixels."""
    rows: list[Rows] = []
    chunk: list[Pixels] = []
    for pixels in crops:
        chunk.append(pixels)
        if len(chunk) == _CHUNK:
            rows.append(embed(chunk))
            chunk = []
    return np.concatenate([*rows, embed(chunk)] if chunk else rows)


def middle(pixels: Pixels, share: float) -> Pixels:
    """Cut out the middle that keeps `share` of each side."""
    height, width = pixels.shape[:2]
    edge = (1 - share) / 2
    return crop(pixels, Box(width * edge, height * edge, width * (1 - edge), height * (1 - edge)))


def unit(features: Rows) -> Rows:
    """Scale rows to unit length."""
    lengths: Rows = np.linalg.norm(features, axis=1, keepdims=True)
    return features / lengths


def _clothing(sets: RealSets) -> tuple[list[Row], list[Row]]:
    labelled = sets.select("clothing", lambda row: bool(row.top14))
    train = [row for row in labelled if row.split == "train"]
    chosen = np.random.default_rng(0).permutation(len(train))[:CLOTHING_REFERENCES]
    return [row for row in labelled if row.split == "val"], [train[place] for place in sorted(chosen)]


def _fashion(sets: RealSets) -> tuple[list[Row], list[Row]]:
    rows = sets.select("fashion_hi")
    return [row for row in rows if row.split == "val"], [row for row in rows if row.split == "train"]


def _vote(similar: Rows, labels: NDArray[np.str_]) -> str:
    nearest = np.argsort(-similar, kind="stable")[:NEIGHBOURS]
    names, place = np.unique(labels[nearest], return_inverse=True)
    return str(names[np.bincount(place, np.exp(-SHARPNESS * (2 - 2 * similar[nearest]))).argmax()])
