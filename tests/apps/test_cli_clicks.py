"""`sameitem simulate` and `sameitem mine`, as programs and over HTTP."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from live import live_server
from sameitem.apps.simulation import http_sender, simulate_over_http
from sameitem.clicks.log import Event, Search, Shown
from sameitem.clicks.triplet_file import read_report
from sameitem.core.errors import InputError, NotFoundError, UnavailableError
from sameitem.core.records import ImageId, ProductId
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from sameitem.upkeep.shoppers import EVENTS, MARK, Request
from shops import copied, open_shop


def silent(_step: str, _percent: float, _counts: Mapping[str, float]) -> None:
    pass


def sameitem(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the program and return what it printed."""
    command = [sys.executable, "-m", "sameitem", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, timeout=300)


def test_a_sender_says_what_is_wrong_with_an_address() -> None:
    with pytest.raises(InputError, match="--url http://"), http_sender("localhost:8600"):
        pass
    with http_sender("http://127.0.0.1:1") as send, pytest.raises(UnavailableError, match="is the server running"):
        send(Request(EVENTS, {"events": []}))


@pytest.mark.slow
def test_a_shop_without_traffic_goes_from_simulated_shoppers_to_triplets(built_folder: Path, tmp_path: Path) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    done = sameitem("simulate", "--sessions", 40, "--seed", 5, "--shop", folder, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {"sessions", "clicks", "abandoned", "wrong_clicks", "users"} <= set(report)
    assert (report["sessions"], report["simulated"]) == (40, True)
    mined = sameitem("mine", "--shop", folder, "--json")
    assert mined.returncode == 0, mined.stderr
    counts = json.loads(mined.stdout)
    assert {"sessions", "triplets", "dropped"} <= set(counts)
    assert (counts["sessions"], counts["file"]) == (40, str(folder / "triplets.parquet"))
    assert counts["triplets"] == read_report(folder / "triplets.parquet").triplets > 0
    shown = sameitem("mine", "--shop", folder, "--out", tmp_path / "other.parquet")
    assert "say what the same item is" in shown.stdout
    assert (tmp_path / "other.parquet").is_file()


@pytest.mark.slow
def test_everything_that_simulate_prints_says_so(built_folder: Path, tmp_path: Path, drawn: DemoShop) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    photo = next((drawn.folder / "queries").iterdir())
    photos = tmp_path / "photos.csv"
    with photos.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([["image", "product_id"], [photo, "p00001"], [photos, "p00001"]])
    done = sameitem("simulate", "--sessions", 2, "--photos", photos, "--shop", folder)
    assert done.returncode == 3, done.stderr  # one of the photos is none
    lines = [line for line in done.stdout.splitlines() if "set aside" not in line]
    assert lines
    assert all("imulated" in line for line in lines)


@pytest.mark.slow
def test_simulated_shoppers_use_a_server_that_runs(shop: Shop) -> None:
    with live_server(shop) as client:
        report = simulate_over_http(shop, 5, photos=None, url=client.address, seed=1, tell=silent)
    sessions = list(shop.clicks.sessions())
    assert (report.sessions, len(sessions)) == (5, 5)
    assert all(session.search.user_id.startswith(MARK) for session in sessions)
    clicks = [event for session in sessions for event in session.events if event.type == "click"]
    assert len(clicks) == report.clicks


@pytest.mark.slow
def test_a_shop_that_is_not_built_or_is_empty_says_what_to_do(built_folder: Path, tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop")
    with pytest.raises(UnavailableError, match="sameitem build"):
        simulate_over_http(shop, 1, photos=None, url="", seed=0, tell=silent)
    with pytest.raises(NotFoundError, match=r"photos\.csv"):
        simulate_over_http(shop, 1, photos=tmp_path / "photos.csv", url="", seed=0, tell=silent)
    shop.close()
    mined = sameitem("mine", "--shop", copied(built_folder, tmp_path / "built"))
    assert (mined.returncode, mined.stdout) == (1, "")
    assert "import-clicks" in mined.stderr


@pytest.mark.slow
def test_the_log_is_exported_pruned_and_a_user_erased(built_folder: Path, tmp_path: Path) -> None:
    folder = copied(built_folder, tmp_path / "shop")
    shop = open_shop(folder)
    shown = (Shown(1, ProductId("p00001"), "main", ImageId(1), 0.5),)
    for user, at in (("ann@example.org", 1e9), ("ann@example.org", 2e9), ("bob", 2e9)):
        search_id = shop.clicks.new_search_id()
        shop.clicks.record_search(Search(search_id, at, "", None, "", "", "", user, "", shown))
        shop.clicks.record_events([Event(search_id, search_id, "click", ProductId("p00001"))])
    file = tmp_path / "log.parquet"
    done = sameitem("clicks", "export", file, "--since", "2033-05-01", "--shop", folder, "--json")
    assert json.loads(done.stdout) == {"file": str(file), "sessions": 2, "events": 2}, done.stderr
    assert "3 searches" in sameitem("clicks", "export", tmp_path / "log.jsonl", "--shop", folder).stdout
    pruned = sameitem("clicks", "prune", "--shop", folder, "--json")
    assert (json.loads(pruned.stdout)["searches"], pruned.returncode) == (1, 0), pruned.stderr
    erased = sameitem("clicks", "erase", "ann@example.org", "--shop", folder)
    assert "Erased: 1 searches, 1 events, 0 photos" in erased.stdout, erased.stderr
    assert [session.search.user_id for session in shop.clicks.sessions()] == [shop.clicks.pseudonym("bob")]
    shop.close()
    wrong = sameitem("clicks", "export", tmp_path / "log.csv", "--shop", folder)
    assert (wrong.returncode, ".parquet" in wrong.stderr) == (1, True)
