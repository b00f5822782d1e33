"""Measuring a shop: evaluate labelled photos and write the report with its pictures."""

from pathlib import Path

from sameitem.core.errors import SameItemError
from sameitem.core.records import ImageId, Pixels
from sameitem.evaluation.evaluate import Evaluation, evaluate, read_queries
from sameitem.evaluation.report import write_html
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.work import Tell


def evaluate_shop(shop: Shop, queries: Path, *, html: Path | None, tell: Tell) -> Evaluation:
    """Search with every labelled photo, and write the report where a path is given.

    Args:
        shop: with a published index.
        queries: CSV of `evaluation.evaluate.read_queries`.
        html: file to write.
        tell: is told how far it is.

    Raises:
        NotFoundError: there is no such file.
        InputError: the file cannot be read.
        UnavailableError: nothing was published yet.
    """
    labelled = read_queries(queries)
    evaluation = evaluate(shop, labelled, tell=lambda done, total: tell("evaluate", 100 * done / total, {"done": done}))
    if html is not None:
        write_html(evaluation, html, lambda image_id: picture_of(shop, image_id))
    return evaluation


def picture_of(shop: Shop, image_id: ImageId) -> Pixels | None:
    """Return the stored photo of a catalogue image; None where it is gone."""
    listing = shop.catalogue.listings([image_id])
    try:
        return shop.photos.pixels(listing[image_id][0].content_hash) if listing else None
    except SameItemError:
        return None
