import json
from pathlib import Path

import numpy as np
import pytest

from sameitem.core.errors import InputError, NotFoundError
from sameitem.evaluation import engine_bench
from sameitem.evaluation.engine_bench import Contender, bench, draw_vectors, nearest, read_vectors, recall


def silent(_what: str) -> None:
    """Tell nobody."""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> None:
    """One peer that scans everything, one that finds nothing, and one that is not installed."""

    def scan(vectors: np.ndarray, _scratch: Path, _tell: object) -> Contender:
        return Contender("scan", 4.0 * vectors.shape[1], 0.0, [("all", lambda q, k: nearest(vectors, q, k))])

    def blind(_vectors: np.ndarray, _scratch: Path, _tell: object) -> Contender:
        return Contender("blind", 1.0, 0.0, [("none", lambda q, k: np.full((len(q), k), -1))])

    def absent(_vectors: np.ndarray, _scratch: Path, _tell: object) -> Contender:
        raise ImportError("No module named absent")

    monkeypatch.setattr(engine_bench, "PEERS", (scan, blind, absent))


@pytest.mark.usefixtures("peers")
def test_each_engine_is_timed_at_the_asked_recall_and_who_misses_it_is_named() -> None:
    said: list[str] = []
    (result,) = bench(*draw_vectors(1500, 64, queries=100), asked=[0.95], tell=said.append)
    ours, scan = result.engines
    assert (ours.name, scan.name) == ("sameitem", "scan")
    assert 0.95 <= ours.recall10 <= 1
    assert (scan.recall10, scan.recall60, scan.bytes_per_vector) == (1, 1, 256)
    assert result.short == {"blind": 0}
    assert set(result.ratios) == {"scan_batch", "scan_single"}
    assert result.ratios["scan_single"] == pytest.approx(ours.qps_cpu_single / scan.qps_cpu_single, abs=0.01)
    assert any("No module named absent" in word for word in said)
    assert json.loads(json.dumps(result.as_json()))["asked"] == 0.95


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
