"""Rankers of a shop: versions, the active one, the way back."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from drawn_rankers import draw_ranker
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.pipeline.rankers import (
    LOOKS,
    MANIFEST,
    RANKER,
    RankerManifest,
    activate_ranker,
    active_ranker,
    add_ranker,
    keep_newest,
    list_rankers,
    new_ranker_version,
    open_ranker,
    read_ranker_manifest,
    roll_back_ranker,
)
from sameitem.rerank.features import FEATURES
from sameitem.rerank.ranker import Ranker


def manifest(version: str) -> RankerManifest:
    return RankerManifest(version, "2026-11-26T00:00:00+00:00", "base-2", 10, 5, "a", "b", {"auc": 0.7})


def ranker(seed: int = 0) -> Ranker:
    drawn = draw_ranker(seed, features=len(FEATURES))
    return Ranker(FEATURES, drawn.trees, drawn.middle, drawn.spread, drawn.dense, drawn.bias)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for version in ("r1", "r2", "r3"):
        add_ranker(tmp_path / "rankers", ranker(), manifest(version))
    return tmp_path / "rankers"


def test_looks_order_until_a_ranker_is_activated(tmp_path: Path) -> None:
    assert active_ranker(tmp_path / "none").version == LOOKS
    assert open_ranker(tmp_path / "none", LOOKS) is None
    assert list_rankers(tmp_path / "none") == [{"version": LOOKS, "error": "", "active": True}]


def test_going_forward_and_back(root: Path) -> None:
    assert activate_ranker(root, "r1").previous == (LOOKS,)
    assert activate_ranker(root, "r2").previous == ("r1", LOOKS)
    assert activate_ranker(root, "r2").previous == ("r1", LOOKS)
    assert roll_back_ranker(root).version == "r1"
    assert roll_back_ranker(root).version == LOOKS
    with pytest.raises(NotFoundError, match="no ranker was active before looks"):
        roll_back_ranker(root)


def test_looks_can_be_activated_again(root: Path) -> None:
    activate_ranker(root, "r1")
    assert activate_ranker(root, LOOKS).previous == ("r1",)
    assert active_ranker(root).version == LOOKS


def test_every_version_is_listed_with_its_figures(root: Path) -> None:
    activate_ranker(root, "r2")
    (root / "r3" / MANIFEST).write_text("{}")
    listed = list_rankers(root)
    assert [(one["version"], one["active"]) for one in listed] == [
        ("r3", False),
        ("r2", True),
        ("r1", False),
        (LOOKS, False),
    ]
    assert "damaged" in listed[0]["error"]
    assert listed[1]["metrics"] == {"auc": 0.7}


def test_a_version_never_changes(root: Path) -> None:
    with pytest.raises(ConflictError, match="ranker r1 exists"):
        add_ranker(root, ranker(1), manifest("r1"))


@pytest.mark.parametrize("name", ["", LOOKS, "ACTIVE", "../r", "a b", "x" * 65])
def test_what_cannot_be_a_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError):
        add_ranker(tmp_path, ranker(), manifest(name))


@pytest.mark.parametrize("version", ["r9", "../rankers/r1", ""])
def test_an_unknown_version_is_refused_by_name(root: Path, version: str) -> None:
    for act in (open_ranker, activate_ranker, read_ranker_manifest):
        with pytest.raises(NotFoundError, match="there are r1, r2, r3, looks"):
            act(root, version)


def test_a_damaged_ranker_is_not_activated(root: Path) -> None:
    file = root / "r1" / RANKER
    file.write_bytes(file.read_bytes().replace(b"0.", b"1.", 1))
    with pytest.raises(InputError, match="checksum"):
        activate_ranker(root, "r1")
    assert active_ranker(root).version == LOOKS


def test_a_ranker_of_other_features_is_not_activated(root: Path) -> None:
    add_ranker(root, draw_ranker(0), manifest("other"))
    with pytest.raises(ConflictError, match="other features than this release computes"):
        activate_ranker(root, "other")


def test_the_newest_stay_and_the_active_one_with_the_one_before_it(root: Path) -> None:
    activate_ranker(root, "r1")
    activate_ranker(root, "r2")
    add_ranker(root, ranker(), manifest("r4"))
    assert keep_newest(root, 1) == ["r3"]
    assert [one["version"] for one in list_rankers(root)] == ["r4", "r2", "r1", LOOKS]


def test_a_version_is_named_by_its_time() -> None:
    assert new_ranker_version(datetime(2026, 11, 26, 1, 2, 3, tzinfo=UTC)) == "ranker-20261126-010203"
