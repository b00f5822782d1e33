"""The main job in one command: a shop is made, filled, built and searched with every user photo."""

import io
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from sameitem.core.boxes import scale_box
from sameitem.core.database import write
from sameitem.core.errors import InputError
from sameitem.core.jobs import run_job
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import CatalogueImage, ProductId
from sameitem.core.settings import load_settings
from sameitem.engine.versions import current
from sameitem.evaluation.evaluate import Evaluation, LabelledQuery, Outcome, evaluate, read_queries
from sameitem.evaluation.report import contact_sheet
from sameitem.features.colour import describe_colour
from sameitem.features.preprocess import crop
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import draw_shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.measure import picture_of
from sameitem.upkeep.work import Tell, work_of

SHEET = "contact-sheet.png"
DRAWN = "drawn"  # folder of the drawn catalogue in the demo shop
HELD_OUT = "held-out"  # folder of the photos of one's own that are searched with
MAX_HELD_OUT = 400
SHEET_ROWS, SHEET_HITS = 8, 5


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo did and found."""

    folder: Path
    kind: str  # what the queries are
    products: int
    images: int
    queries: int
    recall: dict[str, float]  # at "1" and "10"
    histogram_recall: float  # at 1, of a colour histogram alone
    build_s: float
    query_ms: dict[str, float]  # p50, p99 of one page of results
    sheet: Path

    def as_json(self) -> dict[str, Any]:
        """Return the keys of the command line's contract."""
        return {
            "products": self.products,
            "images": self.images,
            "queries": self.queries,
            "recall": self.recall,
            "histogram_recall": self.histogram_recall,
            "build_s": self.build_s,
            "query_ms": self.query_ms,
            "sheet": str(self.sheet),
            "shop": str(self.folder),
        }


def run_demo(folder: Path, *, source: Path | None, tell: Tell) -> DemoReport:
    """Make a shop of drawn products, or of one's own photos, and do the main job on it.

    Args:
        folder: of the demo shop; an earlier demo there is replaced.
        source: one's own photos, a sub-folder (or a file-name prefix) per product; None draws a shop.
        tell: is told how far it is.

    Raises:
        InputError: the folder holds something else than a demo shop, or `source` has too few products.
    """
    _clear(folder)
    found_shop(folder)
    (folder / DRAWN).mkdir()  # marks the folder as a demo
    shop = Shop(folder, load_settings(folder)[0])
    try:
        if source is None:
            drawn = draw_shop(
                folder / DRAWN, progress=lambda done, all_: tell("draw", 100 * done / all_, {"products": done})
            )
            _import(shop, drawn.catalogue, tell)
            queries, kind = read_queries(drawn.queries), "user photos"
        else:
            _import(shop, source.absolute(), tell)
            queries, kind = _hold_out(shop, folder / HELD_OUT)
        begun = time.perf_counter()
        _run(shop, "build", {}, tell)
        build_s = time.perf_counter() - begun
        evaluation = evaluate(
            shop, queries, tell=lambda done, all_: tell("search", 100 * done / all_, {"photos": done})
        )
        sheet = folder / SHEET
        _sheet(shop, evaluation).save(sheet)
        counts = shop.catalogue.counts()
        return DemoReport(
            folder=folder,
            kind=kind,
            products=counts.products,
            images=counts.images,
            queries=evaluation.whole.queries,
            recall={depth: evaluation.whole.recall[int(depth)].mean for depth in ("1", "10")},
            histogram_recall=_histogram_recall(shop, queries),
            build_s=round(build_s, 1),
            query_ms=_page_ms(shop, queries),
            sheet=sheet,
        )
    finally:
        shop.close()


def _clear(folder: Path) -> None:
    if not folder.exists() or not any(folder.iterdir()):
        return
    if not (folder / DRAWN).is_dir():
        raise InputError(f"{folder} is not empty and no demo shop; choose another with --dir")
    shutil.rmtree(folder)


def _run(shop: Shop, kind: str, arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    return run_job(shop.jobs, shop.jobs.submit(kind, arguments).id, work_of(shop, tell=tell)).result


def _import(shop: Shop, source: Path, tell: Tell) -> None:
    _run(shop, "import", {"source": str(source), "columns": {}, "full": False, "uploaded": False}, tell)


def _hold_out(shop: Shop, folder: Path) -> tuple[list[LabelledQuery], str]:
    """Take one image of each product that has several out of the catalogue, to search with it.

    Where no product has a second image, altered copies are searched with: cropped, darker, compressed.
    """
    images: dict[ProductId, list[CatalogueImage]] = defaultdict(list)
    for batch in shop.catalogue.scan():
        for image, _ in batch:
            images[image.product_id].append(image)
    if len(images) < 2:
        raise InputError(
            f"found {len(images)} product(s); need at least two: one sub-folder per product, or file names that "
            "begin with the product (lamp-12_1.jpg, lamp-12_2.jpg)"
        )
    folder.mkdir()
    several = [part for part in images.values() if len(part) > 1][:MAX_HELD_OUT]
    chosen = [part[-1] for part in several] or [part[0] for part in images.values()][:MAX_HELD_OUT]
    queries = []
    for number, image in enumerate(chosen):
        path = folder / f"{number:04}.jpg"
        encoded = shop.photos.read(image.content_hash)
        path.write_bytes(encoded if several else _altered(encoded))
        queries.append(LabelledQuery(image=path, product_id=image.product_id))
    if several:
        with write(shop.database) as connection:
            for image in chosen:
                shop.catalogue.delete_image(connection, image.product_id, image.name)
    return queries, "held-out photos" if several else "altered copies of your photos (no product has a second one)"


def _altered(encoded: bytes) -> bytes:
    with Image.open(io.BytesIO(encoded), formats=["JPEG"]) as picture:
        width, height = picture.size
        part = picture.crop((width // 8, height // 8, width - width // 10, height - height // 10)).rotate(
            6, expand=False
        )
        out = io.BytesIO()
        ImageEnhance.Brightness(part).enhance(0.75).save(out, "JPEG", quality=60)
    return out.getvalue()


def _histogram_recall(shop: Shop, queries: Sequence[LabelledQuery]) -> float:
    """Return the share of queries whose nearest picture by the colour histogram of the (true) box is right."""
    gallery = Gallery.open(shop.index_root / str(current(shop.index_root)), shop.taxonomy)
    colours = np.asarray(gallery.index.colours, np.float32)
    products = [gallery.product_id(int(row)) for row in gallery.index.members.representative]
    right = []
    for query in queries:
        photo = shop.intake.take(query.image.read_bytes())
        pixels = decode_stored(photo.encoded)
        if query.box is not None:
            across, down = photo.width / photo.original_width, photo.height / photo.original_height
            pixels = crop(pixels, scale_box(query.box, across, down))
        nearest = int(np.abs(colours - describe_colour(pixels)).sum(axis=1).argmin())
        right.append(products[nearest] == query.product_id)
    return float(np.mean(right))


def _page_ms(shop: Shop, queries: Sequence[LabelledQuery]) -> dict[str, float]:
    """Return p50 and p99 of the time to one page of results, on the second round over some queries."""
    searcher = Searcher(shop)
    photos = [query.image.read_bytes() for query in queries[:100]]
    times = []
    for photo in photos + photos:
        begun = time.perf_counter()
        searcher.search(SearchRequest(photo=photo), record=False)
        times.append(1e3 * (time.perf_counter() - begun))
    warm = times[len(photos) :]
    return {"p50": round(float(np.percentile(warm, 50)), 1), "p99": round(float(np.percentile(warm, 99)), 1)}


def _sheet(shop: Shop, evaluation: Evaluation) -> Image.Image:
    """Return the example result: mostly queries that found their product, and one that did not."""
    found = [outcome for outcome in evaluation.outcomes if outcome.rank == 1]
    missed = [outcome for outcome in evaluation.outcomes if outcome.rank != 1][:1]
    step = max(1, len(found) // SHEET_ROWS)
    chosen = found[::step][: SHEET_ROWS - len(missed)] + missed
    return contact_sheet([_sheet_row(shop, outcome) for outcome in chosen])


def _sheet_row(shop: Shop, outcome: Outcome) -> tuple[Any, list[tuple[Any, bool]]]:
    query = decode_stored(shop.intake.take(outcome.query.image.read_bytes()).encoded)
    hits = []
    for place, (image_id, _, _) in enumerate(outcome.shown[:SHEET_HITS]):
        pixels = picture_of(shop, image_id)
        if pixels is not None:
            hits.append((pixels, bool(outcome.relevant[place])))
    return query, hits
