"""A log that another system kept becomes a model that is live, by the command line alone."""

import csv
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.shoppers import edited_errands
from shops import copied, open_shop

pytest.importorskip("torch", reason="the extra `train` is not installed")
pytestmark = pytest.mark.slow

PHOTOS = 60
NAMES = "photo=picture,time=seen_at,shown=listed,clicked=opened,user=visitor"


def answer(folder: Path, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "sameitem", "--shop", str(folder), *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    answered: dict[str, Any] = json.loads(done.stdout)
    return answered


def write_log(built_folder: Path, folder: Path) -> Path:
    """Write photos, and what another system showed for them: twelve products in no order, the right one clicked."""
    shop = open_shop(copied(built_folder, folder / "seen"))
    products = sorted(product.product_id for product in shop.catalogue.products())
    generator, lines = np.random.default_rng(0), []
    for number, errand in enumerate(islice(edited_errands(shop, generator, most=PHOTOS), PHOTOS)):
        (folder / f"{number}.jpg").write_bytes(errand.photo)
        right = min(errand.wanted)
        others = [product for product in products if product not in errand.wanted]
        listed = [right, *generator.choice(others, 11, replace=False).tolist()]
        generator.shuffle(listed)
        lines.append(
            {
                "picture": f"{number}.jpg",
                "seen_at": 1_790_000_000 + number,
                "listed": listed,
                "opened": [right],
                "visitor": f"v{number}",
            }
        )
    shop.close()
    log = folder / "log.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return log


def test_a_log_made_elsewhere_becomes_a_model_that_is_live(built_folder: Path, drawn: DemoShop, tmp_path: Path) -> None:
    log, folder = write_log(built_folder, tmp_path), copied(built_folder, tmp_path / "shop")
    taken = answer(folder, "import-clicks", log, "--columns", NAMES)
    assert (taken["sessions"], taken["set_aside"]) == (PHOTOS, 0)
    mined = answer(folder, "mine")
    assert mined["triplets"] > PHOTOS
    trained = answer(folder, "train", "embedding", "--name", "ours", "--minutes", "0.2", "--seed", 1)
    assert trained["version"] == "ours"
    compared = answer(folder, "models", "compare", "base-2", "ours", "--queries", drawn.queries)
    assert compared["after"]["model_version"] == "ours"
    with drawn.queries.open(newline="", encoding="utf-8") as stream:
        assert compared["queries"] == sum(1 for _ in csv.DictReader(stream))
    activated = answer(folder, "models", "activate", "ours", "--force")
    assert (activated["version"], activated["previous"]) == ("ours", ["base-2"])
    shop = open_shop(folder)
    assert shop.active_model == "ours"
    shop.close()
