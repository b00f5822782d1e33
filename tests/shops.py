"""Small drawn shops for tests of the whole: made once per session, copied where a test changes one."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from sameitem.core.jobs import run_job
from sameitem.core.settings import load_settings
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop, draw_shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.work import work_of

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def draw(folder: Path) -> DemoShop:
    """Draw 42 products with their pictures, and 14 user photos."""
    return draw_shop(folder, seed=7, products=42, queries=14, workers=1)


def open_shop(folder: Path, **flags: object) -> Shop:
    """Open a shop, founding it where there is none; flags are parts of settings as dictionaries."""
    if not (folder / "sameitem.toml").exists():
        found_shop(folder)
    return Shop(folder, load_settings(folder, flags)[0])


def run(shop: Shop, kind: str, **arguments: object) -> dict[str, object]:
    """Run a job of a kind to its end and return its result."""
    return run_job(shop.jobs, shop.jobs.submit(kind, arguments).id, work_of(shop)).result


def import_source(shop: Shop, source: Path, *, full: bool = False) -> dict[str, object]:
    """Import a catalogue file or folder."""
    return run(shop, "import", source=str(source), columns={}, full=full, uploaded=False)


def copied(folder: Path, to: Path) -> Path:
    """Copy a shop that nobody has open."""
    shutil.copytree(folder, to)
    return to
