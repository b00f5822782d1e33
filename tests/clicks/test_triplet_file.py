import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sameitem.clicks import triplet_file
from sameitem.clicks.triplet_file import (
    drop_triplets,
    is_triplet_file,
    read_report,
    read_triplets,
    write_triplets,
)
from sameitem.clicks.triplets import Picture, Tally, Triplet
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box, ContentHash, ImageId

hashes = st.text("0123456789abcdef", min_size=64, max_size=64).map(ContentHash)
numbers = st.floats(0, 5000)
triplet_records = st.builds(
    Triplet,
    photo=st.builds(Picture, hashes, st.none() | st.builds(Box, numbers, numbers, numbers, numbers)),
    positive_id=st.integers(1, 2**62).map(ImageId),
    positive=hashes,
    negative_id=st.integers(1, 2**62).map(ImageId),
    negative=hashes,
    search_id=st.text(min_size=1, max_size=20).filter(lambda text: text.isprintable()),
    user=st.sampled_from(["", "0011223344556677"]),
    weight=st.floats(0, 1),
)


def some(count: int) -> Iterator[Triplet]:
    for number in range(count):
        photo = Picture(ContentHash("0" * 64), Box(0, 0, number, 1))
        yield Triplet(photo, ImageId(1), ContentHash("1" * 64), ImageId(2), ContentHash("2" * 64), "s", "", 1.0)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.filter_too_much]
)  # each waits for the disk
@given(triplets=st.lists(triplet_records, max_size=5))
def test_triplets_come_back_as_they_were_written(
    triplets: list[Triplet], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("mined") / "triplets.parquet"
    write_triplets(path, triplets, Tally())
    assert list(read_triplets(path)) == triplets


def test_triplets_of_several_parts_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triplet_file, "_ROWS", 7)
    write_triplets(tmp_path / "triplets.parquet", some(20), Tally())
    assert list(read_triplets(tmp_path / "triplets.parquet")) == list(some(20))


def test_the_file_holds_the_report_as_it_is_when_the_last_triplet_has_come(tmp_path: Path) -> None:
    tally = Tally()

    def counting() -> Iterator[Triplet]:
        for triplet in some(3):
            tally.sessions.update({"": 1, "nothing clicked": 2})
            yield triplet

    report = write_triplets(tmp_path / "triplets.parquet", counting(), tally)
    assert (report.sessions, report.used_sessions, dict(report.dropped_sessions)) == (9, 3, {"nothing clicked": 6})
    assert read_report(tmp_path / "triplets.parquet") == report
    metadata = pq.read_metadata(tmp_path / "triplets.parquet").metadata
    assert json.loads(metadata[b"sameitem.report"])["dropped_sessions"] == {"nothing clicked": 6}


def test_an_interrupted_writer_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "triplets.parquet"
    write_triplets(path, some(2), Tally())

    def broken() -> Iterator[Triplet]:
        yield from some(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_triplets(path, broken(), Tally())
    assert list(read_triplets(path)) == list(some(2))
    assert [file.name for file in tmp_path.iterdir()] == ["triplets.parquet"]


def test_what_is_no_file_of_triplets_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"absent\.parquet"):
        next(read_triplets(tmp_path / "absent.parquet"))
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(InputError, match=r"text\.parquet"):
        next(read_triplets(tmp_path / "text.parquet"))
    pq.write_table(pa.table({"photo": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(InputError, match="need triplets of format 1"):
        read_report(tmp_path / "other.parquet")


def test_dropped_triplets_are_gone_and_the_others_stay_in_order(tmp_path: Path) -> None:
    path = tmp_path / "triplets.parquet"
    write_triplets(path, some(9), Tally(triplets=9))
    before = path.stat().st_ino
    assert drop_triplets(path, lambda triplet: False) == 0
    assert path.stat().st_ino == before  # nothing was written
    assert drop_triplets(path, lambda triplet: triplet.photo.box is not None and triplet.photo.box.right % 3 == 0) == 3
    assert list(read_triplets(path)) == [triplet for number, triplet in enumerate(some(9)) if number % 3]
    assert read_report(path).triplets == 6
    assert [is_triplet_file(one) for one in (path, tmp_path / "absent.parquet")] == [True, False]
