import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galleries import CERTIFICATE, CREATED, Drawn, draw, plain_search, write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, RefusedError
from sameitem.engine.build import seal
from sameitem.engine.index import Index, open_index
from sameitem.engine.versions import (
    current,
    list_versions,
    make_live,
    new_version,
    prune,
    publish,
    stage,
    start_build,
    switching,
)


def release(root: Path, drawn: Drawn, *, second: int) -> str:
    version = new_version(CREATED + timedelta(seconds=second))
    folder = start_build(root, version)
    write(folder, drawn, version=version)
    seal(folder, certificate=CERTIFICATE)
    return publish(root, folder)


@settings(deadline=None)
@given(
    st.datetimes(min_value=datetime(2000, 1, 1), max_value=datetime(2999, 1, 1)),
    st.timedeltas(min_value=timedelta(microseconds=31), max_value=timedelta(days=9999)),
)
def test_names_sort_by_time_and_differ_after_31_microseconds(first: datetime, later: timedelta) -> None:
    assert new_version(first.replace(tzinfo=UTC)) < new_version(first.replace(tzinfo=UTC) + later)


def test_a_name_is_its_time_in_utc() -> None:
    assert new_version(CREATED) == "20261123-143002-1a1c"


def test_published_versions_are_listed_and_the_last_one_is_live(tmp_path: Path) -> None:
    assert (current(tmp_path), list_versions(tmp_path)) == (None, [])
    names = [release(tmp_path, draw(second, entries=5 + second), second=second) for second in range(3)]
    assert list_versions(tmp_path) == names
    assert current(tmp_path) == names[2]
    index = open_index(tmp_path / names[2])
    assert (index.manifest.version, index.manifest.counts.entries) == (names[2], 7)


def test_rolling_back_makes_an_older_version_live(tmp_path: Path) -> None:
    names = [release(tmp_path, draw(second, entries=5), second=second) for second in range(2)]
    make_live(tmp_path, names[0])
    assert current(tmp_path) == names[0]
    assert list_versions(tmp_path) == names


@pytest.mark.parametrize("version", ["20260101-000000-0000", "..", "../index", "", "."])
def test_only_a_published_version_can_be_rolled_back_to(tmp_path: Path, version: str) -> None:
    name = release(tmp_path, draw(1, entries=5), second=0)
    with pytest.raises(NotFoundError, match=name):
        make_live(tmp_path, version)
    assert current(tmp_path) == name


def test_a_damaged_version_does_not_go_live(tmp_path: Path) -> None:
    names = [release(tmp_path, draw(second, entries=5), second=second) for second in range(2)]
    (tmp_path / names[0] / "rows.npy").unlink()
    with pytest.raises(ConflictError, match=r"rows\.npy is missing"):
        make_live(tmp_path, names[0])
    assert current(tmp_path) == names[1]


def test_a_version_without_a_certificate_is_not_published(tmp_path: Path) -> None:
    folder = start_build(tmp_path, "20261123-143002-1a2b")
    write(folder, draw(1, entries=5))
    with pytest.raises(RefusedError, match="no recall certificate"):
        publish(tmp_path, folder)
    assert current(tmp_path) is None


def test_a_version_is_never_replaced(tmp_path: Path) -> None:
    release(tmp_path, draw(1, entries=5), second=0)
    with pytest.raises(ConflictError, match="exists already"):
        release(tmp_path, draw(2, entries=5), second=0)


def test_a_version_cannot_be_built_outside_the_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="need a version such as"):
        start_build(tmp_path, "../elsewhere")


def test_pruning_keeps_the_newest_and_the_live_version(tmp_path: Path) -> None:
    names = [release(tmp_path, draw(second, entries=5), second=second) for second in range(5)]
    make_live(tmp_path, names[1])
    assert prune(tmp_path, keep=2) == [names[0], names[2]]
    assert list_versions(tmp_path) == [names[1], names[3], names[4]]
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[1], names[3], names[4], "CURRENT"]


def test_pruning_keeps_the_old_versions_that_are_named(tmp_path: Path) -> None:
    names = [release(tmp_path, draw(second, entries=5), second=second) for second in range(4)]
    assert prune(tmp_path, keep=1, besides={names[1]}) == [names[0], names[2]]
    assert list_versions(tmp_path) == [names[1], names[3]]


def test_a_staged_version_lies_beside_the_live_one_and_can_be_made_live(tmp_path: Path) -> None:
    live = release(tmp_path, draw(1, entries=5), second=0)
    version = new_version(CREATED + timedelta(seconds=1))
    folder = start_build(tmp_path, version)
    write(folder, draw(2, entries=6), version=version)
    seal(folder, certificate=CERTIFICATE)
    assert stage(tmp_path, folder) == version
    assert (current(tmp_path), list_versions(tmp_path)) == (live, [live, version])
    make_live(tmp_path, version)
    assert current(tmp_path) == version


def test_who_has_an_old_version_open_keeps_it_after_pruning(tmp_path: Path) -> None:
    old = draw(1, entries=30)
    index = open_index(tmp_path / release(tmp_path, old, second=0))
    release(tmp_path, draw(2, entries=5), second=1)
    prune(tmp_path, keep=1)
    hits, expected = index.search(old.features[3], k=9, exact=True), plain_search(index, old.features[3], k=9)
    assert [hit.image_id for hit in hits] == [hit.image_id for hit in expected]


def test_what_a_killed_build_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    write(start_build(tmp_path, "20261123-143002-0001"), draw(1, entries=5))
    half = tmp_path / "..20261123-143002-0002.part"
    half.mkdir()
    (half / "rows.npy").write_bytes(b"half")
    name = release(tmp_path, draw(1, entries=5), second=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [name, "CURRENT"]


def test_a_current_file_that_names_no_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "CURRENT").write_text("../../etc\n")
    with pytest.raises(ConflictError, match="no version"):
        current(tmp_path)


def test_one_at_a_time_changes_what_is_live(tmp_path: Path) -> None:
    held, entered = threading.Event(), []

    def enter() -> None:
        with switching(tmp_path):
            entered.append(held.is_set())

    other = threading.Thread(target=enter)
    with switching(tmp_path):
        held.set()
        other.start()
        other.join(0.2)
        held.clear()
    other.join()
    assert entered == [False]


def open_live(root: Path) -> Index:
    """Open the live version, also while another one is published and this one cleared away."""
    while True:
        name = current(root)
        try:
            return open_index(root / str(name))
        except (NotFoundError, ConflictError):
            if current(root) == name:
                raise


PUBLISHER = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from galleries import CERTIFICATE, draw, write
from sameitem.engine.build import seal
from sameitem.engine.versions import new_version, prune, publish, start_build
root, drawn = Path(sys.argv[1]), draw(1, entries=40)
print("ready", flush=True)
while True:
    version = new_version(datetime.now(UTC))
    folder = start_build(root, version)
    write(folder, drawn, version=version)
    seal(folder, certificate=CERTIFICATE)
    print(publish(root, folder), flush=True)
    prune(root, keep=2)
"""


@pytest.mark.slow
def test_a_publisher_killed_at_any_moment_leaves_a_whole_index(tmp_path: Path) -> None:
    """SAMEITEM_TEST_KILLS sets how often; the reader opens, verifies and searches all the while."""
    kills, moments = int(os.environ.get("SAMEITEM_TEST_KILLS", "10")), random.Random(1)
    drawn = draw(1, entries=40)
    release(tmp_path, drawn, second=0)
    paths = os.pathsep.join([str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")])
    opened, live = 0, ""
    for _ in range(kills):
        publisher = subprocess.Popen(
            [sys.executable, "-c", PUBLISHER, str(tmp_path)],
            env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        with publisher:
            assert publisher.stdout is not None
            assert publisher.stdout.readline() == "ready\n"
            end = time.monotonic() + moments.uniform(0.0, 0.3)
            while time.monotonic() < end:
                index = open_live(tmp_path)
                assert len(index.search(drawn.features[0], k=40, exact=True)) == 40
                opened += 1
            publisher.send_signal(signal.SIGKILL)
            acknowledged = publisher.stdout.read().split()
        name = current(tmp_path)
        assert name is not None
        assert name >= max(acknowledged, default=live)  # nothing that was acknowledged is lost
        live = name
        index = open_index(tmp_path / name, verify=True)
        assert np.array_equal(index.rows, drawn.features.astype(np.float16))
    assert opened >= kills
