import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sameitem.clicks import readers
from sameitem.clicks.readers import BadLine, ClickRow, Entry, EventRow, read_clicks
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box

PLAIN: dict[str, Any] = {"photo": "q/1.jpg", "time": 1_700_000_000, "user": "u", "shown": ["a", "b"], "clicked": ["b"]}


def put(folder: Path, *records: object, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_bytes(b"\n".join(r if isinstance(r, bytes) else json.dumps(r).encode() for r in records) + b"\n")
    return path


def rows(path: Path, columns: dict[str, str] | None = None, **options: int) -> list[ClickRow | BadLine]:
    return [row for row, _ in read_clicks(path, columns or {}, **options)]


def one(folder: Path, **values: object) -> ClickRow:
    (row,) = rows(put(folder, PLAIN | values))
    assert isinstance(row, ClickRow), row
    return row


def bad(folder: Path, record: object) -> BadLine:
    (row,) = rows(put(folder, record))
    assert isinstance(row, BadLine), row
    return row


def test_a_row_says_what_the_line_says(tmp_path: Path) -> None:
    row = one(
        tmp_path,
        id="x1",
        box=[1, 2, 3.5, 4],
        category="shoes",
        shown=["p/front.jpg", ["p/q", "side"], {"product_id": 7, "image_name": "x"}, {"product_id": "bare"}, 1007.0],
        events=[
            {"id": "bare", "type": "Purchase", "time": "2023-11-14T22:15:00Z"},
            {"id": ["p/q", "side"], "type": "cart"},
        ],
    )
    assert row == ClickRow(
        line=1,
        search_id=row.search_id,
        photo="q/1.jpg",
        at=1.7e9,
        user="u",
        shown=(Entry("p/front.jpg"), Entry("p/q", "side"), Entry("7", "x"), Entry("bare"), Entry("1007")),
        clicked=(Entry("b"),),
        events=(EventRow(Entry("bare"), "purchase", 1.7e9 + 100), EventRow(Entry("p/q", "side"), "cart", None)),
        box=Box(1, 2, 3.5, 4),
        category="shoes",
        dropped=(),
    )


def test_an_entry_may_say_its_rank_and_one_that_cannot_be_is_its_place(tmp_path: Path) -> None:
    ranks = [11, "12", 13.0, 0, -1, 1.5, True, None, 10**7]
    row = one(
        tmp_path, shown=[{"product_id": "p", "image_name": f"i{n}", "rank": rank} for n, rank in enumerate(ranks)]
    )
    assert [entry.rank for entry in row.shown] == [11, None, 13, *[None] * 6]


def test_columns_of_other_names_are_read_when_they_are_mapped(tmp_path: Path) -> None:
    record = {"bild": "1.jpg", "wann": 1e9, "liste": ["a"], "klick": "a", "time": "not this"}
    path = put(tmp_path, record)
    (row,) = rows(path, {"photo": "bild", "time": "wann", "shown": "liste", "clicked": "klick"})
    assert isinstance(row, ClickRow)
    assert (row.photo, row.at, row.shown, row.clicked) == ("1.jpg", 1e9, (Entry("a"),), (Entry("a"),))


@pytest.mark.parametrize(
    "time",
    [
        1_700_000_000,
        "1700000000",
        1_700_000_000_000,
        "1700000000000",
        1.7e15,
        1.7e18,
        "2023-11-14T22:13:20Z",
        "2023-11-14T23:13:20+01:00",
        "2023-11-14 22:13:20",
        "2023/11/14 22:13:20",
    ],
)
def test_times_are_read_in_many_forms_and_without_a_zone_as_utc(tmp_path: Path, time: object) -> None:
    assert one(tmp_path, time=time).at == 1_700_000_000


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"photo": None}, "no photo"),
        ({"photo": "x" * 5000}, "no photo"),
        ({"photo": ["x"]}, "no photo"),
        ({"time": "yesterday"}, "no time"),
        ({"time": True}, "no time"),
        ({"time": -1}, "no time"),
        ({"time": 10**30}, "no time"),
        ({"time": "2101-01-01"}, "no time"),
        ({"shown": []}, "nothing shown"),
        ({"shown": None}, "nothing shown"),
        ({"shown": ["a", None]}, "shown unreadable"),
        ({"shown": [["a", "b", "c"]]}, "shown unreadable"),
        ({"shown": ["a"] * 1001}, "shown unreadable"),
        ({"clicked": ["a"] * 1001}, "clicked unreadable"),
        ({"events": [{}] * 2001}, "events unreadable"),
    ],
)
def test_a_row_without_what_it_needs_is_bad(tmp_path: Path, values: dict[str, object], reason: str) -> None:
    assert bad(tmp_path, PLAIN | values).reason == reason


@pytest.mark.parametrize(
    "line",
    [b"{", b"[1]", b"12", b"\xff\xfe{}", b"[" * 100_000, b'{"time": ' + b"9" * 5000 + b"}", b"{}{}", b"\0"],
    ids=["cut", "list", "number", "encoding", "depth", "digits", "two", "zero"],
)
def test_a_line_that_is_no_json_object_is_bad_and_the_next_is_read(tmp_path: Path, line: bytes) -> None:
    first, second = rows(put(tmp_path, line, PLAIN))
    assert isinstance(first, BadLine)
    assert (first.line, first.reason) == (1, "line unreadable")
    assert isinstance(second, ClickRow)
    assert second.line == 2


@pytest.mark.parametrize("extra", [0, 1, 60, 61, 62, 200])
def test_a_line_of_any_length_above_the_limit_is_one_bad_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int
) -> None:
    limit = len(json.dumps(PLAIN)) + 1  # the end of the line counts
    monkeypatch.setattr(readers, "MAX_LINE", limit)
    first, second = rows(put(tmp_path, b"x" * (limit + extra), PLAIN))
    assert isinstance(first, BadLine)
    assert "longer than" in first.detail
    assert isinstance(second, ClickRow)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"box": "1,2,3"}, "box unreadable"),
        ({"box": [3, 0, 1, 1]}, "box unreadable"),
        ({"box": ["a"] * 4}, "box unreadable"),
        ({"box": 7}, "box unreadable"),
        ({"events": [{"id": "a", "type": "stare"}]}, "event unreadable"),
        ({"events": ["a"]}, "event unreadable"),
        ({"events": [{"type": "click"}]}, "event unreadable"),
        ({"clicked": ["b", {}]}, "clicked unreadable"),
    ],
)
def test_an_optional_value_that_cannot_be_read_is_dropped_and_told(
    tmp_path: Path, values: dict[str, object], reason: str
) -> None:
    row = one(tmp_path, **values)
    assert [name for name, _ in row.dropped] == [reason]
    assert row.shown == (Entry("a"), Entry("b"))


@pytest.mark.parametrize(
    "box", ["1,2,3,4", [1, 2, 3, 4], {"left": 1, "top": 2, "right": 3, "bottom": 4}, "[1, 2, 3, 4]"]
)
def test_boxes_are_read_in_many_forms(tmp_path: Path, box: object) -> None:
    assert one(tmp_path, box=box).box == Box(1, 2, 3, 4)


def test_a_search_id_is_the_sources_own_or_that_of_the_content(tmp_path: Path) -> None:
    swapped = dict(reversed(PLAIN.items()))
    assert one(tmp_path).search_id == one(tmp_path, **swapped).search_id
    assert one(tmp_path).search_id != one(tmp_path, user="v").search_id
    assert one(tmp_path, id="1").search_id == one(tmp_path, id="1", user="v").search_id != one(tmp_path).search_id


def test_reading_goes_on_behind_a_line_and_tells_how_far_it_is(tmp_path: Path) -> None:
    path = put(tmp_path, PLAIN, b"", PLAIN | {"user": "b"}, PLAIN | {"user": "c"})
    assert [row.line for row in rows(path)] == [1, 3, 4]
    assert rows(path, after=3) == rows(path)[2:]
    shares = [share for _, share in read_clicks(path, {})]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_parquet_gives_the_rows_of_json_lines(tmp_path: Path) -> None:
    records = [PLAIN | {"id": str(number), "user": f"u{number}"} for number in range(5)]
    pq.write_table(pa.Table.from_pylist(records), tmp_path / "log.parquet")
    assert rows(tmp_path / "log.parquet") == rows(put(tmp_path, *records))
    assert rows(tmp_path / "log.parquet", after=3) == rows(tmp_path / "log.parquet")[3:]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_times_of_parquet_are_read_in_every_unit(tmp_path: Path, unit: str, zone: str | None) -> None:
    ticks = 1_700_000_000 * {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit] + (123 if unit == "ns" else 0)
    table = pa.table(
        {"photo": ["1.jpg"], "time": pa.array([ticks], pa.timestamp(unit, tz=zone)), "shown": [["a"]], "user": [None]}
    )
    pq.write_table(table, tmp_path / "log.parquet")
    (row,) = rows(tmp_path / "log.parquet")
    assert isinstance(row, ClickRow), row
    assert (row.at, row.user) == (datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC).timestamp(), "")


@pytest.mark.parametrize(
    ("name", "cells", "detail"),
    [
        ("time", pa.array([1_700_000_000_000, 253_402_300_800_000], pa.timestamp("ms")), "out of range"),
        ("user", pa.array([b"u", b"\xff"], pa.binary()).view(pa.string()), "utf-8"),
    ],
    ids=["the year 10000", "no UTF-8"],
)
def test_a_cell_of_parquet_that_cannot_be_read_is_a_bad_line_and_the_others_are_read(
    tmp_path: Path, name: str, cells: pa.Array, detail: str
) -> None:
    plain = {"photo": ["1.jpg", "2.jpg"], "time": [1e9, 1e9], "shown": [["a"], ["a"]]}
    order = pa.array([0, 1, 0])
    pq.write_table(pa.table(plain | {name: cells}).take(order), tmp_path / "log.parquet")
    first, bad_one, last = rows(tmp_path / "log.parquet")
    assert isinstance(bad_one, BadLine)
    assert (bad_one.line, bad_one.reason) == (2, "line unreadable")
    assert detail in bad_one.detail
    assert isinstance(first, ClickRow)
    assert isinstance(last, ClickRow)
    assert (first.line, last.line) == (1, 3)


def test_files_and_columns_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="absent"):
        rows(tmp_path / "absent")
    with pytest.raises(InputError, match="fields are photo, time"):
        rows(put(tmp_path, PLAIN), {"picture": "photo"})
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(InputError, match=r"cut\.parquet"):
        rows(tmp_path / "cut.parquet")
    pq.write_table(pa.table({"photo": ["x"]}), tmp_path / "log.parquet")
    with pytest.raises(InputError, match="no column 'zeit'"):
        rows(tmp_path / "log.parquet", {"time": "zeit"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.sampled_from([*PLAIN, "id", "box", "category", "events"]), json_values))
def test_whatever_json_says_becomes_a_row_or_a_reason(values: dict[str, object], tmp_path: Path) -> None:
    (row,) = rows(put(tmp_path, PLAIN | values))
    assert row.line == 1
    if isinstance(row, ClickRow):
        assert row.photo
        assert 0 <= row.at < 4_102_444_800
        assert row.shown
    else:
        assert row.reason
        assert len(row.detail) < 300
