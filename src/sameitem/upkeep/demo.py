"""The main job in one command: a shop is made, filled, built and searched with every user photo."""

import io
import shutil
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from sameitem.core.boxes import scale_box
from sameitem.core.database import write
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.jobs import run_job
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import CatalogueImage, ContentHash, Pixels, ProductId
from sameitem.core.settings import load_settings
from sameitem.engine.versions import current
from sameitem.evaluation.evaluate import Evaluation, LabelledQuery, Outcome, evaluate, read_queries
from sameitem.evaluation.report import SheetRow, contact_sheet
from sameitem.features.colour import describe_colour
from sameitem.features.preprocess import crop
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import draw_shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.measure import photo_of, picture_of
from sameitem.upkeep.work import Tell, work_of

MARK = "DEMO.txt"  # its text says that the folder is a demo shop, which the next demo may replace
MARK_TEXT = "A demo shop made by `sameitem demo`. The next `sameitem demo` here deletes everything in this folder.\n"
SHEET = "contact-sheet.png"
DRAWN = "drawn"  # folder of the drawn catalogue in the demo shop
HELD_OUT = "held-out"  # folder of the photos of one's own that are searched with
MAX_HELD_OUT = 400
SHEET_ROWS = 8


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
        NotFoundError: `source` is no folder.
        InputError: the folder holds something else than a demo shop, or `source` has too few products.
    """
    if source is not None:
        _check_source(source.resolve(), folder.resolve())
    _clear(folder)
    found_shop(folder)
    (folder / MARK).write_text(MARK_TEXT, encoding="utf-8")
    own_database = {"catalogue": {"url": ""}}  # never the one that the environment may name
    shop = Shop(folder, load_settings(folder, own_database)[0])
    try:
        if source is None:
            drawn = draw_shop(
                folder / DRAWN, progress=lambda done, all_: tell("draw", 100 * done / all_, {"products": done})
            )
            _import(shop, drawn.catalogue.absolute(), tell)
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


def _check_source(source: Path, folder: Path) -> None:
    if not source.is_dir():
        raise NotFoundError(f"no folder {source}; give --from a folder with your photos, a sub-folder per product")
    if source == folder or source in folder.parents or folder in source.parents:
        raise InputError(
            f"the photos in {source} and the demo shop in {folder} must not lie in one another; choose another place "
            "for the shop with --dir"
        )


def _clear(folder: Path) -> None:
    """Empty the folder of an earlier demo; leave any other that is not empty alone."""
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    mark = folder / MARK
    if not mark.is_file() or mark.read_bytes() != MARK_TEXT.encode():
        raise InputError(f"{folder} is not empty and not a demo shop; choose another folder with --dir")
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != mark:
            entry.unlink()
    mark.unlink()  # last: an interrupted clearing can be taken up again


def _run(shop: Shop, kind: str, arguments: dict[str, Any], tell: Tell) -> dict[str, Any]:
    return run_job(shop.jobs, shop.jobs.submit(kind, arguments).id, work_of(shop, tell=tell)).result


def _import(shop: Shop, source: Path, tell: Tell) -> None:
    _run(shop, "import", {"source": str(source), "columns": {}, "full": False, "uploaded": False}, tell)


def _hold_out(shop: Shop, folder: Path) -> tuple[list[LabelledQuery], str]:
    """Take one image of each product that has several out of the catalogue, to search with it.

    The image held out is the product's last that no other listing repeats. Where no product has a second image, altered
    copies are searched with: cropped, turned, darker, compressed.
    """
    images: dict[ProductId, list[CatalogueImage]] = defaultdict(list)
    listings: Counter[ContentHash] = Counter()
    for batch in shop.catalogue.scan():
        for image, _ in batch:
            images[image.product_id].append(image)
            listings[image.content_hash] += 1
    if len(images) < 2:
        raise InputError(
            f"found {len(images)} product(s); need at least two: one sub-folder per product, or file names that "
            "begin with the product (lamp-12_1.jpg, lamp-12_2.jpg)"
        )
    spare = [
        next((image for image in reversed(part) if listings[image.content_hash] == 1), None)
        for part in images.values()
        if len(part) > 1
    ]
    held_out = [image for image in spare if image is not None][:MAX_HELD_OUT]
    folder.mkdir()
    if held_out:
        queries = [_query(shop, folder, image, altered=False) for image in held_out]
        with write(shop.database) as connection:
            for image in held_out:
                shop.catalogue.delete_image(connection, image.product_id, image.name)
        return queries, "held-out photos"
    firsts = [part[0] for part in images.values()][:MAX_HELD_OUT]
    kind = "altered copies of your photos (no product has a second one)"
    return [_query(shop, folder, image, altered=True) for image in firsts], kind


def _query(shop: Shop, folder: Path, image: CatalogueImage, *, altered: bool) -> LabelledQuery:
    path = folder / f"{image.image_id}.jpg"
    encoded = shop.photos.read(image.content_hash)
    path.write_bytes(_altered(decode_stored(encoded)) if altered else encoded)
    return LabelledQuery(image=path, product_id=image.product_id)


def _altered(pixels: Pixels) -> bytes:
    height, width = pixels.shape[:2]
    part = Image.fromarray(pixels[height // 8 : height - height // 10, width // 8 : width - width // 10])
    darker = ImageEnhance.Brightness(part.rotate(6, Image.Resampling.BILINEAR)).enhance(0.75)
    out = io.BytesIO()
    darker.save(out, "JPEG", quality=60)
    return out.getvalue()


def _histogram_recall(shop: Shop, queries: Sequence[LabelledQuery]) -> float:
    """Return the share of queries whose nearest picture by the colour histogram of the (true) box is right."""
    gallery = Gallery.open(shop.index_root / str(current(shop.index_root)), shop.taxonomy)
    colours, start = np.asarray(gallery.index.colours, np.float32), gallery.index.members.start
    right = []
    for query in queries:
        photo = shop.intake.take(query.image.read_bytes())
        pixels = decode_stored(photo.encoded)
        if query.box is not None:
            across, down = photo.width / photo.original_width, photo.height / photo.original_height
            pixels = crop(pixels, scale_box(query.box, across, down))
        nearest = int(np.abs(colours - describe_colour(pixels)).sum(axis=1).argmin())
        listed = {gallery.product_id(row) for row in range(start[nearest], start[nearest + 1])}
        right.append(query.product_id in listed)
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
    """Return the example result: queries that found their product, spread over all, and one or more that did not."""
    found = [outcome for outcome in evaluation.outcomes if outcome.rank == 1]
    missed = [outcome for outcome in evaluation.outcomes if outcome.rank != 1]
    places = np.linspace(0, len(found) - 1, min(len(found), SHEET_ROWS - min(1, len(missed)))).astype(int)
    chosen = [found[place] for place in places] + missed[: SHEET_ROWS - len(places)]
    return contact_sheet([row for outcome in chosen if (row := _sheet_row(shop, outcome)) is not None])


def _sheet_row(shop: Shop, outcome: Outcome) -> SheetRow | None:
    photo = photo_of(shop, outcome.query.image)
    pictures = [picture_of(shop, hit.image_id) for hit in outcome.shown]
    hits = [(p, bool(right)) for p, right in zip(pictures, outcome.relevant, strict=False) if p is not None]
    return None if photo is None else SheetRow(photo, outcome.query.slice, hits)
