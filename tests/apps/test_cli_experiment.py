"""Experiments on the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drawn_rankers import add_drawn
from shops import open_shop

pytestmark = pytest.mark.slow


def sameitem(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sameitem", "--shop", str(folder), *arguments],
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_an_experiment_is_started_shown_and_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    open_shop(folder).close()
    add_drawn(folder / "rankers", "r1")
    started = json.loads(sameitem(folder, "experiment", "start", "looks", "r1", "--share", "0.2", "--json").stdout)
    assert (started["a"], started["b"], started["share"], started["rule"]["alpha"]) == ("looks", "r1", 0.2, 0.05)
    shown = json.loads(sameitem(folder, "experiment", "show", "--json").stdout)
    assert (shown["id"], shown["verdict"], shown["searches"]) == (started["id"], "go on", 0)
    assert shown["most"] == started["most"]
    again = sameitem(folder, "experiment", "start", "looks", "r1")
    assert (again.returncode, again.stdout) == (5, "")
    stopped = sameitem(folder, "experiment", "stop")
    assert "A is looks, B is r1." in stopped.stdout
    assert "not decided yet" in stopped.stdout
    assert sameitem(folder, "experiment", "show").returncode == 4


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["looks", "looks"], 1, "two different rankers"),
        (["looks", "nobody"], 4, "no ranker 'nobody'"),
        (["looks", "r1", "--share", "0"], 1, "share of users"),
        (["looks", "r1", "--worth", "0"], 1, "need alpha"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path: Path, arguments: list[str], status: int, words: str) -> None:
    folder = tmp_path / "shop"
    open_shop(folder).close()
    add_drawn(folder / "rankers", "r1")
    refused = sameitem(folder, "experiment", "start", *arguments)
    assert (refused.returncode, refused.stdout) == (status, "")
    assert words in refused.stderr
