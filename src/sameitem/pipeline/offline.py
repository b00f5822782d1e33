"""The daily build (article figure 1, left half), read from top to bottom.

selection by attributes and quality -> subject and feature -> near-duplicates -> category -> index -> scores -> publish

Each step streams, counts what it dropped and why, and reads what the step before wrote; features that were computed on
an earlier day are taken from the cache, so that a daily run costs what the day changed.
"""

import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from itertools import compress, islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sameitem.catalog.duplicates import group_duplicates
from sameitem.catalog.selection import Decision, Reason, Status, select, select_extras
from sameitem.catalog.taxonomy import OTHERS
from sameitem.category.reference import ReferenceSet, choose_reference, write_reference
from sameitem.category.vote import ranking, vote
from sameitem.core.errors import ConflictError, InputError
from sameitem.core.records import CatalogueImage, ImageId, Product
from sameitem.engine.build import COLOUR_BINS, add_extra, seal, write_index
from sameitem.engine.certificate import certify
from sameitem.engine.index import open_index
from sameitem.engine.members import Members
from sameitem.engine.versions import new_version, publish, stage, start_build, switching
from sameitem.features.cache import FeatureCache
from sameitem.features.colour import describe_colour
from sameitem.features.embed import Embedder
from sameitem.features.subject import user_subjects
from sameitem.pipeline.extraction import NO_PICTURE, extract, picture
from sameitem.pipeline.gallery import REFERENCE
from sameitem.pipeline.listings import DECISIONS, MEMBERS, PRODUCTS, write_decisions, write_members, write_products
from sameitem.pipeline.retention import prune_shop
from sameitem.pipeline.same_item import EXTRA, as_extra, ask_gallery, fit_curves
from sameitem.pipeline.shop import Shop
from sameitem.pipeline.versions import clear_away

Tell = Callable[[str, float], None]  # name of the step, share of it that is done
BLOCK = 256  # images whose photos are decoded and embedded together
REAL_QUERIES = 1000  # most user photos that the recall is measured on; no more than half as many as pictures
SCRATCH = ".scratch"  # beside the version that is built; hidden, so that the next build clears it away


@dataclass(frozen=True, slots=True)
class BuildReport:
    """What a build published, and what it left out."""

    version: str
    images: int  # listed images in the gallery
    entries: int  # distinct pictures among them
    dropped: Mapping[str, int]  # by reason
    duplicates: int  # images folded behind another
    certificate: Mapping[str, Any]
    stages_s: Mapping[str, float]
    peak_mb: float


@dataclass(frozen=True, slots=True)
class _Listed:
    """Images that are still in, with their products, in the order of image ids."""

    images: list[CatalogueImage]
    products: list[Product]

    def keep(self, mask: NDArray[np.bool_]) -> "_Listed":
        return _Listed(list(compress(self.images, mask)), list(compress(self.products, mask)))


@dataclass(frozen=True, slots=True)
class _Found:
    """Features and colours of listed images: row `rows[i]` of the arrays, which lie on the disk, belongs to image i."""

    all_features: NDArray[np.float32]  # (images at the start, dim)
    all_colours: NDArray[np.float32]  # (images at the start, 24)
    rows: NDArray[np.int64]

    def keep(self, mask: NDArray[np.bool_]) -> "_Found":
        return _Found(self.all_features, self.all_colours, self.rows[mask])

    def features(self, wanted: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        return self.all_features[self.rows[wanted]]

    def colours(self, wanted: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32]:
        return self.all_colours[self.rows[wanted]]

    def blocks(self, wanted: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
        for start in range(0, len(wanted), 4096):
            part = wanted[start : start + 4096]
            yield self.features(part), self.colours(part)


class _Ledger:
    """What became of every image of the catalogue: row i of `decisions` is image i of the scan."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self._row: dict[ImageId, int] = {}

    def note(self, decision: Decision) -> None:
        self._row[decision.image_id] = len(self.decisions)
        self.decisions.append(decision)

    def drop(self, images: Sequence[CatalogueImage], mask: NDArray[np.bool_], reason: Reason, detail: str) -> None:
        for image in compress(images, mask):
            row = self._row[image.image_id]
            self.decisions[row] = replace(self.decisions[row], status=Status.SET_ASIDE, reason=reason, detail=detail)

    def fold(self, images: Sequence[CatalogueImage], leaders: NDArray[np.int64]) -> None:
        for image, leader in zip(images, leaders, strict=True):
            if images[leader].image_id != image.image_id:
                row, by = self._row[image.image_id], images[leader]
                detail = f"represented by {by.product_id} / {by.name}"
                decided = replace(self.decisions[row], status=Status.DUPLICATE, reason=Reason.NEAR_DUPLICATE)
                self.decisions[row] = replace(decided, detail=detail)

    def dropped(self) -> dict[str, int]:
        reasons = Counter(d.reason.value for d in self.decisions if d.status is Status.SET_ASIDE and d.reason)
        return dict(sorted(reasons.items()))

    def duplicates(self) -> int:
        return sum(decision.status is Status.DUPLICATE for decision in self.decisions)


class _Steps:
    """Times the steps and passes their progress on."""

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self.seconds: dict[str, float] = {}
        self._name = ""

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        self._name = name
        self._tell(name, 0.0)
        begun = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begun, 3)
        self._tell(name, 1.0)

    def share(self, done: int, total: int) -> None:
        self._tell(self._name, done / max(1, total))


def build(shop: Shop, *, tell: Tell, now: datetime, beside: str | None = None) -> BuildReport:
    """Select, extract, de-duplicate, index, certify and publish.

    Args:
        shop: whose catalogue.
        tell: is told how far each step is; may raise to stop the build, which then leaves nothing behind.
        now: products that expired before are left out.
        beside: a model version whose index is put beside the live one, which stays; None: the active model's goes live.

    Raises:
        InputError: nothing is left to publish, or too many photos could not be read.
        RefusedError: the index misses the recall asked for; the live version stays.
        ConflictError: another model was made the active one meanwhile; the live version stays.
    """
    settings, steps = shop.settings, _Steps(tell)
    embedder = shop.embedder(beside or shop.active_model)
    version = new_version(now)
    folder = start_build(shop.index_root, version)
    scratch = folder.with_name(SCRATCH)
    scratch.mkdir()
    try:
        with steps.step("selection"):
            seq, ledger, gallery = _select(shop, steps, now)
        with steps.step("features"):
            readable, found = _extract(shop, embedder, gallery.images, steps, scratch)
            ledger.drop(gallery.images, ~readable, Reason.UNREADABLE, "the file in images/ is missing or damaged")
            _check_failures(int((~readable).sum()), len(readable), settings.engine.max_failed_share)
            gallery, found = gallery.keep(readable), found.keep(readable)
        with steps.step("near-duplicates"):
            new = select_extras(gallery.images, found.features(), settings.selection)
            rules = settings.selection
            near = f"nearer than {rules.extra_distance:g} to another, or more than {rules.extra_images} others"
            ledger.drop(gallery.images, ~new, Reason.ADDS_NOTHING_NEW, near)
            gallery, found = gallery.keep(new), found.keep(new)
            leaders = group_duplicates(
                gallery.images,
                found.features(),
                found.colours(),
                settings.selection,
                pixels_of=lambda content_hash: picture(shop.photos, content_hash),
            )
            ledger.fold(gallery.images, leaders)
        with steps.step("category"):
            tops, reference = _categories(shop, gallery, found, embedder, steps, scratch)
        with steps.step("index"):
            entries, rows, members, products = _members(gallery, leaders)
            extra = {"seq": seq, "dropped": ledger.dropped(), "duplicates": ledger.duplicates()}
            write_index(
                folder,
                found.blocks(entries),
                members=members,
                version=version,
                model_version=embedder.version,
                created=now,
                dim=embedder.dim,
                code=settings.engine.code,
                extra=extra,
            )
            write_products(folder / PRODUCTS, products)
            listed = ((gallery.images[row].image_id, gallery.images[row].name, tops[row]) for row in rows)
            write_members(folder / MEMBERS, listed)
            write_decisions(folder / DECISIONS, ledger.decisions)
            tables = [PRODUCTS, MEMBERS, DECISIONS]
            if reference is not None:
                tables += write_reference(folder / REFERENCE, reference)
        with steps.step("certificate"):
            index = open_index(folder)
            index.warm()  # compiles, on a machine's first build, what a server then finds compiled
            certificate = certify(
                index,
                lambda wanted: found.features(entries[wanted]),
                asked=settings.engine.recall,
                k=min(settings.engine.k, len(entries)),
                queries=_real_queries(shop, embedder, most=min(REAL_QUERIES, -(-len(entries) // 2))),
            )
            seal(folder, certificate=certificate, files=tables)
        with steps.step("scores"):
            curves = fit_curves(ask_gallery(open_index(folder), [tops[row] for row in rows]))
            add_extra(folder, {EXTRA: as_extra(curves)})
        with steps.step("publish"):
            if beside is None:
                _publish(shop, folder, embedder.version)
                prune_shop(shop, now.timestamp())
            else:
                stage(shop.index_root, folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
    return BuildReport(
        version=version,
        images=len(gallery.images),
        entries=len(entries),
        dropped=ledger.dropped(),
        duplicates=ledger.duplicates(),
        certificate=asdict(certificate),
        stages_s=steps.seconds,
        peak_mb=_peak_mb(),
    )


def _publish(shop: Shop, folder: Path, model_version: str) -> None:
    with switching(shop.index_root):
        if (active := shop.active_model) != model_version:
            raise ConflictError(
                f"model {active} was made the active one while {model_version} built; run `sameitem build` again"
            )
        publish(shop.index_root, folder)
        clear_away(shop)


def _select(shop: Shop, steps: _Steps, now: datetime) -> tuple[int, _Ledger, _Listed]:
    """Return the change log's number that the catalogue was read at, every decision, and what stays in."""
    rules = shop.settings.selection
    ledger, listed = _Ledger(), _Listed([], [])
    products: dict[str, Product] = {}  # one object per product, however many images it has
    total = shop.catalogue.counts().images
    with shop.catalogue.snapshot() as snapshot:
        for batch in snapshot.batches():
            for (image, product), decision in zip(batch, select(batch, rules, now), strict=True):
                ledger.note(decision)
                if decision.status is Status.GALLERY:
                    listed.images.append(image)
                    listed.products.append(products.setdefault(product.product_id, product))
            steps.share(len(ledger.decisions), total)
        seq = snapshot.seq
    if not ledger.decisions:
        raise InputError("the catalogue has no images yet; run `sameitem import SOURCE` first")
    if not listed.images:
        raise InputError(
            f"selection dropped all {len(ledger.decisions)} images: {ledger.dropped()}; loosen [selection]"
        )
    return seq, ledger, listed


def _extract(
    shop: Shop, embedder: Embedder, images: Sequence[CatalogueImage], steps: _Steps, scratch: Path
) -> tuple[NDArray[np.bool_], _Found]:
    """Return which photos could be read, and the features of all."""
    folder = scratch / embedder.version
    folder.mkdir()
    shape = (len(images), embedder.dim)
    features = np.lib.format.open_memmap(folder / "features.npy", "w+", np.float32, shape)
    colours = np.lib.format.open_memmap(folder / "colours.npy", "w+", np.float32, (len(images), COLOUR_BINS))
    readable = np.ones(len(images), np.bool_)
    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(images), BLOCK):
            part = slice(start, start + BLOCK)
            found = extract(shop, embedder, images[part], pool)
            features[part], colours[part], readable[part] = found.features, found.colours, found.readable
            steps.share(start + len(found.known), len(images))
    return readable, _Found(features, colours, np.arange(len(images)))


def _check_failures(failed: int, total: int, limit: float) -> None:
    if failed > limit * total:
        raise InputError(
            f"{failed} of {total} photos could not be read, more than engine.max_failed_share = {limit:g}; is "
            "the folder images/ complete? Import again to restore them"
        )


def _categories(
    shop: Shop, gallery: _Listed, found: _Found, embedder: Embedder, steps: _Steps, scratch: Path
) -> tuple[list[str], ReferenceSet | None]:
    """Return the top category of every image, and the reference set: the shop's labelled images, by the general model.

    The product's own category tells, else the vote of the reference set, else "others".
    """
    settings, base = shop.settings.category, shop.base_embedder
    leaf_of = {text: shop.taxonomy.leaf_of(text) for text in {product.category for product in gallery.products}}
    top_of = {text: shop.taxonomy.top_of(text) for text in leaf_of}
    tops = [top_of[product.category] for product in gallery.products]
    leaf_names = sorted({leaf_of[text] for text, top in top_of.items() if top})
    if not leaf_names:
        return [OTHERS] * len(tops), None
    top_names = sorted({top for top in top_of.values() if top})
    number = {leaf: row for row, leaf in enumerate(leaf_names)}
    leaves = np.array([number[leaf_of[p.category]] if top_of[p.category] else -1 for p in gallery.products], np.int64)
    chosen = choose_reference(leaves, _image_ids(gallery.images), per_leaf=settings.reference_per_leaf)
    unknown = np.flatnonzero(np.array([not top for top in tops]))
    general = found
    if base.version != embedder.version:
        wanted = np.zeros(len(tops), np.bool_)
        wanted[chosen] = wanted[unknown] = True
        _, part = _extract(shop, base, gallery.keep(wanted).images, steps, scratch)
        rows = np.full(len(tops), -1)
        rows[wanted] = np.arange(wanted.sum())
        general = _Found(part.all_features, part.all_colours, rows)
    top_of_leaf = {leaf_of[text]: top for text, top in top_of.items() if top}
    reference = ReferenceSet(
        model_version=base.version,
        features=general.features(chosen),
        leaves=leaves[chosen].astype(np.int32),
        image_ids=_image_ids(gallery.images)[chosen],
        leaf_names=tuple(leaf_names),
        top_of_leaf=np.array([top_names.index(top_of_leaf[leaf]) for leaf in leaf_names], np.int64),
        top_names=tuple(top_names),
    )
    for start in range(0, len(unknown), BLOCK):
        part_rows = unknown[start : start + BLOCK]
        near = reference.neighbours(general.features(part_rows), settings.neighbours)
        for row, neighbours, distances in zip(part_rows, near.rows, near.distances, strict=True):
            leaves_near = reference.leaves[neighbours].astype(np.int64)
            shares = vote(distances, leaves_near, reference.top_of_leaf, sharpness=settings.sharpness).tops
            tops[row] = top_names[int(ranking(shares)[0])]
    return tops, reference


def _members(
    gallery: _Listed, leaders: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], Members, list[Product]]:
    """Return rows of the entries, rows of the members in the engine's order, the members, and the products in order."""
    image_ids = _image_ids(gallery.images)
    entries = np.flatnonzero(leaders == np.arange(len(leaders)))
    entry_of = np.searchsorted(entries, leaders)
    rows = np.lexsort((image_ids, entry_of))
    products = {product.product_id: product for product in gallery.products}
    number = {product_id: row for row, product_id in enumerate(products)}
    product_of = np.array([number[product.product_id] for product in gallery.products], np.int32)
    members = Members(image_ids[entries], image_ids[rows], entry_of[rows], product_of[rows])
    return entries, rows, members, list(products.values())


def _image_ids(images: Sequence[CatalogueImage]) -> NDArray[np.int64]:
    return np.array([image.image_id for image in images], np.int64)


def _real_queries(shop: Shop, embedder: Embedder, *, most: int) -> NDArray[np.float32] | None:
    """Return features of photos that users searched with, where some are kept; damaged ones are passed over.

    They are kept where mining keeps those of searched photos, so that a daily build computes those of the day.
    """
    hashes = list(islice(shop.query_photos.hashes(), most))
    cache = FeatureCache(shop.photo_features_root, embedder.version, embedder.dim)
    features, detector = [], shop.detector(embedder.version)
    for start in range(0, len(hashes), BLOCK):
        part = hashes[start : start + BLOCK]
        known = cache.get([(name, None) for name in part])
        features.append(known.features)
        missing = [name for row, name in enumerate(part) if row not in set(known.positions.tolist())]
        read = {name: one for name in missing if (one := picture(shop.query_photos, name)) is not NO_PICTURE}
        if read:
            subjects = user_subjects(list(read.values()), detector)
            features.append(embedder.embed_views([subject.views for subject in subjects]))
            colours = np.stack([describe_colour(subject.pixels) for subject in subjects])
            cache.put([(name, None) for name in read], features[-1], colours)
    found = np.concatenate(features) if features else np.empty((0, embedder.dim), np.float32)
    return found if len(found) else None


def _peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)
