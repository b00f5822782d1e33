import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.core.errors import InputError, NotFoundError
from sameitem.evaluation import engine_bench
from sameitem.evaluation.engine_bench import bench, draw_vectors, nearest, pareto, read_vectors, recall
from sameitem.evaluation.engine_peers import Contender, Search


def silent(_what: str) -> None:
    """Tell nobody."""


class Clock:
    """Time that passes only where a search says so, and a little whenever somebody looks."""

    def __init__(self) -> None:
        self.now = 0.0

    def process_time(self) -> float:
        self.now += 1e-8
        return self.now

    perf_counter = process_time


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer of two builds, one slower by half; one that finds nothing; one that is not installed."""
    clock = Clock()

    def scan(vectors: np.ndarray, _scratch: Path, _tell: object) -> Iterator[Contender]:
        def search(each_s: float) -> Search:
            def one(queries: np.ndarray, k: int) -> np.ndarray:
                clock.now += each_s * len(queries)
                return nearest(vectors, queries, k)

            return one

        yield Contender("scan", 100.0, [("slow", search(0.003))])
        yield Contender("scan", 4.0 * vectors.shape[1], [("fast", search(0.002))])

    def blind(_vectors: np.ndarray, _scratch: Path, _tell: object) -> Iterator[Contender]:
        yield Contender("blind", 1.0, [("none", lambda q, k: np.full((len(q), k), -1))])

    def absent(_vectors: np.ndarray, _scratch: Path, _tell: object) -> Iterator[Contender]:
        raise ImportError("No module named absent")
        yield

    monkeypatch.setattr(engine_bench, "PEERS", (scan, blind, absent))
    monkeypatch.setattr(engine_bench, "time", clock)


@pytest.mark.usefixtures("peers")
def test_each_engine_is_timed_at_the_asked_recall_and_who_misses_it_is_named() -> None:
    said: list[str] = []
    (result,) = bench(*draw_vectors(1500, 64, queries=100), asked=[0.95], tell=said.append)
    ours, scan = result.engines
    assert (ours.name, scan.name) == ("sameitem", "scan")
    assert 0.95 <= ours.recall10 <= 1
    assert (scan.recall10, scan.recall60, scan.setting, scan.bytes_per_vector) == (1, 1, "fast", 256)
    assert result.short == {"blind": 0}
    assert set(result.ratios) == {"scan_batch", "scan_single"}
    assert (scan.qps_cpu_batch, scan.qps_cpu_single) == (500, 500)
    assert scan.p50_ms == pytest.approx(2, abs=0.01)
    assert result.ratios["scan_single"] == pytest.approx(ours.qps_cpu_single / 500, abs=0.01)
    assert any("No module named absent" in word for word in said)
    assert result.points == []


@pytest.mark.usefixtures("peers")
def test_the_printed_object_has_the_keys_of_the_contract() -> None:
    (result,) = bench(*draw_vectors(1500, 64, queries=100), asked=[0.95], tell=silent)
    printed = json.loads(json.dumps(result.as_json()))
    assert {"rows", "dim", "engines", "ratios"} <= printed.keys()
    assert (printed["rows"], printed["dim"], printed["asked"]) == (1500, 64, 0.95)
    for engine in printed["engines"]:
        assert engine.keys() >= {
            "name", "recall10", "recall60", "qps_cpu_batch", "qps_cpu_single", "bytes_per_vector", "build_cpu_s",
            "p50_ms", "p99_ms",
        }  # fmt: skip


@pytest.mark.usefixtures("peers")
def test_every_setting_becomes_a_point_and_the_best_ones_the_front() -> None:
    (result,) = bench(*draw_vectors(1500, 64, queries=100), asked=[0.95], tell=silent, fronts=True)
    scans = {point.setting: point for point in result.points if point.name == "scan"}
    assert {setting: point.on_front for setting, point in scans.items()} == {"slow": False, "fast": True}
    ours = [point for point in result.points if point.name == "sameitem" and point.on_front]
    in_order = sorted(ours, key=lambda point: point.recall10)
    assert [point.qps_cpu_single for point in in_order] == sorted((p.qps_cpu_single for p in ours), reverse=True)


def test_the_front_keeps_what_no_other_beats() -> None:
    recalls, costs = [0.9, 0.99, 0.95, 0.99, 0.8], [1.0, 3.0, 4.0, 2.0, 1.0]
    assert pareto(recalls, costs) == [0, 3]
    assert pareto([], []) == []


@given(st.lists(st.tuples(st.sampled_from([0.5, 0.9, 0.99, 1.0]), st.integers(1, 5)), max_size=12))
def test_the_front_is_what_a_comparison_of_all_pairs_leaves(settings: list[tuple[float, int]]) -> None:
    best = {one for one in settings if not any(r >= one[0] and c <= one[1] and (r, c) != one for r, c in settings)}
    front = [settings[place] for place in pareto([r for r, _ in settings], [c for _, c in settings])]
    assert len(front) == len(set(front))
    assert set(front) == best


def test_true_neighbours_are_those_of_all_distances() -> None:
    vectors, queries = draw_vectors(1000, 64, queries=7)
    distances = ((queries[:, None] - vectors[None]) ** 2).sum(axis=2)
    assert np.array_equal(nearest(vectors, queries, 5), np.argsort(distances, axis=1)[:, :5])
    assert recall(np.array([[1, 2, 3], [4, -1, -1]]), np.array([[3, 2, 9], [5, 6, 7]]), 3) == pytest.approx(1 / 3)


def test_vectors_of_a_file_are_shared_out_between_gallery_and_queries(tmp_path: Path) -> None:
    drawn, _ = draw_vectors(1200, 64, queries=1)
    np.save(tmp_path / "features.npy", drawn.astype(np.float16))
    gallery, queries = read_vectors(tmp_path / "features.npy", queries=100)
    assert (gallery.shape, queries.shape) == ((1100, 64), (100, 64))
    together = np.concatenate([gallery, queries])
    assert np.array_equal(np.sort(together[:, 0]), np.sort(drawn.astype(np.float16)[:, 0].astype(np.float32)))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((500, 64), np.float32), "at least 1,100 rows"),
        (np.zeros((2000, 64), np.int32), "int32"),
        (np.zeros((2000,), np.float32), "need"),
        (np.full((2000, 64), 3, np.float32), "length 1"),
    ],
)
def test_a_file_that_holds_no_features_is_refused(tmp_path: Path, array: np.ndarray, reason: str) -> None:
    np.save(tmp_path / "features.npy", array)
    with pytest.raises(InputError, match=reason):
        read_vectors(tmp_path / "features.npy", queries=100)


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        read_vectors(tmp_path / "nothing.npy", queries=100)
    (tmp_path / "text.npy").write_text("1,2,3")
    with pytest.raises(InputError, match=r"text\.npy is no \.npy file"):
        read_vectors(tmp_path / "text.npy", queries=100)


def test_too_few_vectors_are_refused() -> None:
    with pytest.raises(InputError, match="at least 1000"):
        bench(*draw_vectors(400, 64, queries=10), asked=[0.9], tell=silent)
