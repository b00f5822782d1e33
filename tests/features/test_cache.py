import hashlib
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, tuples
from numpy.typing import NDArray

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Box, ContentHash
from sameitem.features import cache as cache_module
from sameitem.features.cache import MERGE_AT, FeatureCache, FeatureKey, forget_photos

DIM = 8


def key(number: int) -> FeatureKey:
    """Three keys a photo: the whole and two boxes."""
    content_hash = ContentHash(hashlib.sha256(str(number // 3).encode()).hexdigest())
    return content_hash, (None, Box(0, 0, 5, 5), Box(0.5, 0, 5, 5))[number % 3]


def features_of(numbers: list[int], *, version: int = 0) -> NDArray[np.float32]:
    return np.array([[number, version, *range(DIM - 2)] for number in numbers], np.float32).reshape(-1, DIM)


def colours_of(numbers: list[int]) -> NDArray[np.float32]:
    return np.array([[number + place for place in range(24)] for number in numbers], np.float32).reshape(-1, 24)


def put(cache: FeatureCache, numbers: list[int], *, version: int = 0) -> None:
    cache.put([key(number) for number in numbers], features_of(numbers, version=version), colours_of(numbers))


def segments(folder: Path) -> list[Path]:
    return sorted(part for part in (folder / "m").iterdir() if part.name.isdecimal())


@settings(max_examples=40, deadline=None)
@given(puts=lists(lists(integers(0, 60), max_size=12), max_size=24), asked=lists(integers(0, 70), max_size=30))
def test_a_cache_answers_like_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, puts: list[list[int]], asked: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = FeatureCache(folder, "m", DIM)
    newest: dict[int, int] = {}
    for version, numbers in enumerate(puts):
        put(cache, numbers, version=version)
        newest |= dict.fromkeys(numbers, version)
    expected = [place for place, number in enumerate(asked) if number in newest]
    for reader in (cache, FeatureCache(folder, "m", DIM)):
        found = reader.get([key(number) for number in asked])
        assert found.positions.tolist() == expected
        assert found.features[:, 0].tolist() == [asked[place] for place in expected]
        assert found.features[:, 1].tolist() == [newest[asked[place]] for place in expected]
        assert np.array_equal(found.colours, colours_of([asked[place] for place in expected]))


def test_of_a_key_given_twice_in_one_put_the_last_row_counts(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "m", DIM)
    cache.put([key(1), key(2), key(1)], features_of([7, 8, 9]), colours_of([7, 8, 9]))
    assert cache.get([key(1), key(2)]).features[:, 0].tolist() == [9, 8]


def test_model_versions_do_not_see_each_other(tmp_path: Path) -> None:
    put(FeatureCache(tmp_path, "m", DIM), [1])
    assert len(FeatureCache(tmp_path, "n", DIM).get([key(1)]).positions) == 0


@settings(max_examples=5, deadline=None)
@given(sizes=lists(tuples(integers(1, 9), integers(1, 20)), min_size=1, max_size=6))
def test_many_small_puts_leave_few_segments(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache = FeatureCache(folder, "m", DIM)
    count = 0
    for size, repeats in sizes:
        for _ in range(repeats):
            put(cache, list(range(count, count + size)))
            count += size
    assert len(segments(folder)) <= MERGE_AT + np.log2(count)
    assert len(cache.get([key(number) for number in range(count)]).positions) == count


def test_a_merged_segment_stays_below_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MERGED_BYTES", 40 * 4 * (DIM + 24 + 1))
    cache = FeatureCache(tmp_path, "m", DIM)
    for number in range(100):
        put(cache, [2 * number, 2 * number + 1])
    assert max((part / "keys").stat().st_size for part in segments(tmp_path)) <= 40 * 64
    assert len(cache.get([key(number) for number in range(200)]).positions) == 200


def test_an_open_reader_sees_what_another_process_puts_and_merges(tmp_path: Path) -> None:
    reader, writer = FeatureCache(tmp_path, "m", DIM), FeatureCache(tmp_path, "m", DIM)
    for number in range(3 * MERGE_AT):
        put(writer, [number])
        assert len(reader.get([key(place) for place in range(number + 1)]).positions) == number + 1


@pytest.mark.parametrize("file", ["keys", "rows", "segment.json"])
@settings(max_examples=60, deadline=None)
@given(place=integers(0, 10**6), bit=integers(0, 7))
def test_a_flipped_bit_is_found_and_the_segment_named(
    tmp_path_factory: pytest.TempPathFactory, file: str, place: int, bit: int
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    put(FeatureCache(folder, "m", DIM), [1, 2, 3])
    (segment,) = segments(folder)
    content = bytearray((segment / file).read_bytes())
    content[place % len(content)] ^= 1 << bit
    (segment / file).write_bytes(content)
    damaged = pytest.raises(InputError, match="00000001 is damaged")
    with damaged:
        FeatureCache(folder, "m", DIM).get([key(1), key(2), key(3)])


@pytest.mark.parametrize("file", ["keys", "rows", "segment.json"])
def test_a_segment_that_lost_a_file_or_its_end_is_named(tmp_path: Path, file: str) -> None:
    put(FeatureCache(tmp_path, "m", DIM), [1, 2, 3])
    (segment,) = segments(tmp_path)
    content = (segment / file).read_bytes()
    (segment / file).write_bytes(content[:-5])
    with pytest.raises(InputError, match="00000001 is damaged"):
        FeatureCache(tmp_path, "m", DIM).get([key(1)])
    (segment / file).unlink()
    with pytest.raises(InputError, match="is missing"):
        FeatureCache(tmp_path, "m", DIM).get([key(1)])


def test_a_segment_of_another_dim_is_refused(tmp_path: Path) -> None:
    put(FeatureCache(tmp_path, "m", DIM), [1])
    with pytest.raises(InputError, match="is damaged"):
        FeatureCache(tmp_path, "m", DIM + 1).get([key(1)])


@pytest.mark.parametrize("bad", ["", "abc", "z" * 64, "0" * 63])
def test_what_is_no_content_hash_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(InputError, match="64 hex digits"):
        FeatureCache(tmp_path, "m", DIM).get([(ContentHash(bad), None)])


@pytest.mark.parametrize("box", [Box(0, 0, 0, 0), Box(5, 0, 1, 9), Box(0, 0, float("nan"), 1)])
def test_an_empty_box_is_refused_so_that_it_never_means_the_whole_photo(tmp_path: Path, box: Box) -> None:
    with pytest.raises(InputError, match="some area"):
        FeatureCache(tmp_path, "m", DIM).get([(key(0)[0], box)])


def test_rows_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path, "m", DIM)
    endless = features_of([1])
    endless[0, 3] = np.inf
    with pytest.raises(ShapeError, match="finite features"):
        cache.put([key(1)], endless, colours_of([1]))
    with pytest.raises(ShapeError, match="features"):
        cache.put([key(1)], features_of([1, 2]), colours_of([1]))
    with pytest.raises(ShapeError, match="colours"):
        cache.put([key(1)], features_of([1]), colours_of([1])[:, :23])
    assert segments(tmp_path) == []


def test_a_model_version_that_is_no_folder_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model version"):
        FeatureCache(tmp_path, "../m", DIM)


WRITER = """
import hashlib, itertools, sys
from pathlib import Path
import numpy as np
from sameitem.features.cache import FeatureCache

cache = FeatureCache(Path(sys.argv[1]), "m", 8)
for number in itertools.count():
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    cache.put([(digest, None)], np.full((1, 8), number, np.float32), np.full((1, 24), number, np.float32))
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_what_was_acknowledged_survives_kill_9_at_any_moment(tmp_path: Path, seed: int) -> None:
    generator = np.random.default_rng(seed)
    puts_before_kill, moment_s = int(generator.integers(1, 60)), float(generator.uniform(0, 0.01))
    reader = FeatureCache(tmp_path, "m", DIM)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(puts_before_kill):
            acknowledged = int(process.stdout.readline())
            assert len(reader.get(whole_photos(acknowledged + 1)).positions) == acknowledged + 1
        with suppress(subprocess.TimeoutExpired):
            process.wait(moment_s)
        process.kill()
        acknowledged = int((process.stdout.read().splitlines() or [str(acknowledged)])[-1])
    found = FeatureCache(tmp_path, "m", DIM).get(whole_photos(acknowledged + 1))
    assert found.features[:, 0].tolist() == list(range(acknowledged + 1))
    put(FeatureCache(tmp_path, "m", DIM), [10**6])
    assert not list((tmp_path / "m").glob(".*"))


def whole_photos(count: int) -> list[FeatureKey]:
    return [(ContentHash(hashlib.sha256(str(number).encode()).hexdigest()), None) for number in range(count)]


@settings(max_examples=6, deadline=None)
@given(puts=lists(lists(integers(0, 40), max_size=12), max_size=12), gone=lists(integers(0, 14), max_size=6))
def test_a_forgotten_photo_is_in_no_file_and_the_others_are_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, puts: list[list[int]], gone: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("cache")
    cache, reader = FeatureCache(folder, "m", DIM), FeatureCache(folder, "m", DIM)
    there = {number for numbers in puts for number in numbers}
    for numbers in puts:
        put(cache, numbers)
        reader.get([key(0)])
    forgotten = {key(3 * photo)[0] for photo in gone}
    forget_photos(folder, forgotten)
    left = [number for number in range(41) if number in there and key(number)[0] not in forgotten]
    for one in (cache, reader, FeatureCache(folder, "m", DIM)):
        found = one.get([key(number) for number in range(41)])
        assert found.positions.tolist() == left
        assert found.features[:, 0].tolist() == left
    content = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert not [name for name in forgotten if bytes.fromhex(name) in content]


def test_photos_are_forgotten_by_all_models_and_counted(tmp_path: Path) -> None:
    for version, dim in (("m", DIM), ("n", 4)):
        cache = FeatureCache(tmp_path, version, dim)
        cache.put([key(0), key(1), key(3)], np.ones((3, dim), np.float32), np.ones((3, 24), np.float32))
    (tmp_path / "empty").mkdir()
    assert forget_photos(tmp_path, {key(0)[0]}) == 4
    assert (
        forget_photos(tmp_path, {key(0)[0]})
        == forget_photos(tmp_path, ())
        == forget_photos(tmp_path / "no", {"a"})
        == 0
    )


def test_bytes_are_kept_as_bytes_and_forgotten(tmp_path: Path) -> None:
    keys, rows = [key(0), key(3)], np.arange(2 * DIM, dtype=np.uint8).reshape(2, DIM)
    FeatureCache(tmp_path, "m", DIM, numbers="|u1").put(keys, rows, colours_of([0, 3]))
    assert (segments(tmp_path)[0] / "rows").stat().st_size == 2 * (DIM + 4 * 24 + 4)
    found = FeatureCache(tmp_path, "m", DIM, numbers="|u1").get(keys)
    assert found.features.dtype == np.uint8
    assert np.array_equal(found.features, rows)
    with pytest.raises(InputError, match="does not fit"):
        FeatureCache(tmp_path, "m", DIM).get(keys)
    assert forget_photos(tmp_path, {keys[0][0]}) == 1
    assert FeatureCache(tmp_path, "m", DIM, numbers="|u1").get(keys).positions.tolist() == [1]
