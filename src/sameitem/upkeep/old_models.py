"""Which models of earlier loops are kept: those to go back to, and the newest that were refused, to be looked at."""

import logging
import shutil

from sameitem.pipeline.generations import newest_indexes, read_generations
from sameitem.pipeline.shop import Shop

LOOP = "loop-"  # begins the name of every model version that a loop makes; no other one is ever removed here
_log = logging.getLogger(__name__)


def clear_models(shop: Shop, *, keep: int) -> list[str]:
    """Remove the models that loops made and nobody needs, with their features; return their names.

    A loop a day makes hundreds a year, each with a feature of every picture.

    Args:
        shop: its active model, and what an index version was built with, stay.
        keep: how many stay of those that were live before, and how many of those that never were.
    """
    generations = read_generations(shop.models_root, start=shop.settings.model.active)
    made = {folder.name for folder in shop.models_root.glob(f"{LOOP}*/")}
    earlier = [version for version in generations.previous if version in made]
    refused = sorted(made - {generations.version, *earlier}, reverse=True)  # names sort by time
    stays = {generations.version, *earlier[:keep], *refused[:keep], *newest_indexes(shop.index_root)}
    removed = sorted(made - stays)
    for version in removed:
        hidden = shop.models_root / f".{version}.removed"  # first out of sight: a kill leaves no half model
        (shop.models_root / version).rename(hidden)
    for hidden in shop.models_root.glob(f".{LOOP}*.removed"):
        version = hidden.name.removeprefix(".").removesuffix(".removed")
        for folder in (shop.features_root / version, shop.photo_features_root / version, hidden):
            shutil.rmtree(folder, ignore_errors=True)
    if removed:
        _log.info("removed %d models of earlier loops: %s", len(removed), ", ".join(removed))
    return removed
