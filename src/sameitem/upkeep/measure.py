"""Measuring a shop: evaluate labelled photos and write the report with its pictures."""

from pathlib import Path

from sameitem.core.errors import ImageError, InputError, NotFoundError
from sameitem.core.photo_store import decode_stored
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
        NotFoundError: there is no file of queries.
        InputError: it cannot be read, no query could be measured, or the report cannot be written.
        UnavailableError: nothing was published yet.
        ConflictError: another index version went live meanwhile.
    """
    if html is not None and not html.parent.is_dir():
        raise InputError(f"cannot write the report {html}: there is no folder {html.parent}", field="html")
    labelled = read_queries(queries)
    evaluation = evaluate(shop, labelled, tell=lambda done, total: tell("evaluate", 100 * done / total, {"done": done}))
    if html is not None:
        write_html(
            evaluation,
            html,
            picture_of=lambda image_id: picture_of(shop, image_id),
            photo_of=lambda path: photo_of(shop, path),
        )
    return evaluation


def evaluate_version(shop: Shop, version: str, queries: Path, *, tell: Tell) -> Evaluation:
    """Search with every labelled photo in one index version, with the model that made it, live or not.

    Raises:
        NotFoundError: there is no such index version, or no file of queries.
        InputError: the file cannot be read, or no query could be measured.
    """

    def hear(done: int, total: int) -> None:
        tell(f"evaluate {version}", 100 * done / total, {"done": done})

    return evaluate(shop, read_queries(queries), version=version, tell=hear)


def picture_of(shop: Shop, image_id: ImageId) -> Pixels | None:
    """Return the stored photo of a catalogue image; None where it is gone."""
    listing = shop.catalogue.listings([image_id])
    try:
        return shop.photos.pixels(listing[image_id][0].content_hash) if listing else None
    except (NotFoundError, ImageError):
        return None


def photo_of(shop: Shop, path: Path) -> Pixels | None:
    """Return a query's photo as intake takes it; None where it cannot be read."""
    try:
        return decode_stored(shop.intake.take(path.read_bytes()).encoded)
    except (InputError, OSError):
        return None
