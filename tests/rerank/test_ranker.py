import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from drawn_rankers import draw_features, draw_ranker
from sameitem.core.errors import InputError, NotFoundError, ShapeError
from sameitem.rerank.ranker import FAR, Ranker, Trees, _checksum, read_ranker, write_ranker


def plain_score(ranker: Ranker, row: list[float]) -> float:
    trees, logit = ranker.trees, ranker.bias
    for node in trees.roots.tolist():
        while trees.left[node] != node:
            value = row[trees.feature[node]]
            goes_left = bool(trees.missing_left[node]) if math.isnan(value) else value <= trees.threshold[node]
            node = int(trees.left[node] if goes_left else trees.right[node])
        logit += trees.weight[node]
    for value, middle, spread, weight in zip(row, ranker.middle, ranker.spread, ranker.dense, strict=True):
        if not math.isnan(value):
            logit += weight * min(max((value - middle) / spread, -FAR), FAR)
    return 1 / (1 + math.exp(-logit))


@given(st.integers(0, 10**6), st.integers(0, 9), st.integers(0, 5), st.integers(0, 8))
def test_the_score_agrees_with_a_plain_walk(seed: int, trees: int, depth: int, rows: int) -> None:
    ranker, features = draw_ranker(seed, trees=trees, depth=depth), draw_features(seed, rows)
    assert ranker.score(features).tolist() == pytest.approx([plain_score(ranker, row) for row in features.tolist()])


@given(st.integers(0, 10**6))
def test_the_score_of_a_row_does_not_depend_on_the_others(seed: int) -> None:
    ranker, features = draw_ranker(seed), draw_features(seed, 20)
    alone = [ranker.score(features[row : row + 1])[0] for row in range(20)]
    assert ranker.score(features).tolist() == alone


def test_a_value_at_the_threshold_goes_left() -> None:
    trees = Trees(
        roots=np.array([0]),
        feature=np.array([0, 0, 0]),
        threshold=np.array([2.0, 0.0, 0.0]),
        left=np.array([1, 1, 2]),
        right=np.array([2, 1, 2]),
        missing_left=np.array([False, False, False]),
        weight=np.array([0.0, 1.0, -1.0]),
    )
    ranker = Ranker(("sales",), trees, np.zeros(1), np.ones(1), np.zeros(1), 0.0)
    low, high = 1 / (1 + math.exp(1)), 1 / (1 + math.exp(-1))
    assert ranker.score(np.array([[2.0], [2.1], [np.nan]])).tolist() == pytest.approx([high, low, low])


def test_extreme_rankers_stay_between_zero_and_one() -> None:
    ranker = draw_ranker(1, trees=0)
    for bias, end in ((1e6, 1.0), (-1e6, 0.0)):
        loud = Ranker(ranker.names, ranker.trees, ranker.middle, ranker.spread, ranker.dense, bias)
        assert loud.score(draw_features(1, 3)).tolist() == [end] * 3


def test_features_that_do_not_fit_are_refused() -> None:
    ranker = draw_ranker(1)
    with pytest.raises(ShapeError, match=re.escape("need (rows, 5) features, got (3, 4)")):
        ranker.score(np.zeros((3, 4)))
    with pytest.raises(InputError, match="finite or missing"):
        ranker.score(np.full((1, 5), np.inf))


@given(seed=st.integers(0, 10**6), trees=st.integers(0, 5))
def test_a_ranker_is_read_as_it_was_written_and_written_as_it_was_read(
    tmp_path_factory: pytest.TempPathFactory, seed: int, trees: int
) -> None:
    ranker, features = draw_ranker(seed, trees=trees), draw_features(seed, 10)
    first, second = (tmp_path_factory.mktemp("ranker") / "ranker.json" for _ in range(2))
    write_ranker(first, ranker)
    again = read_ranker(first)
    write_ranker(second, again)
    assert again.score(features).tolist() == ranker.score(features).tolist()
    assert again.names == ranker.names
    assert first.read_bytes() == second.read_bytes()


def test_the_file_format_stays_what_it_is(tmp_path: Path) -> None:
    trees = Trees(
        *(np.array(column) for column in ([0], [0, 0, 0], [0.5, 0.0, 0.0], [1, 1, 2], [2, 1, 2])),
        missing_left=np.array([True, False, False]),
        weight=np.array([0.0, 0.25, -0.25]),
    )
    ranker = Ranker(("sales",), trees, np.array([1.0]), np.array([2.0]), np.array([0.125]), -1.5)
    write_ranker(tmp_path / "ranker.json", ranker)
    assert (tmp_path / "ranker.json").read_text() == (
        '{"format":1,"ranker":{"bias":-1.5,"dense":[0.125],"feature":[0,0,0],"left":[1,1,2],"middle":[1.0],'
        '"missing_left":[true,false,false],"names":["sales"],"right":[2,1,2],"roots":[0],"spread":[2.0],'
        '"threshold":[0.5,0.0,0.0],"weight":[0.0,0.25,-0.25]},'
        f'"sha256":"{_checksum(json.loads((tmp_path / "ranker.json").read_text())["ranker"])}"}}\n'
    )


class TestAFileThatIsNoRanker:
    """Is refused with its name and what to do."""

    def test_is_missing(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"no ranker at .*ranker\.json; train one first"):
            read_ranker(tmp_path / "ranker.json")

    @pytest.mark.parametrize("content", [b"", b"\x80\x04pickle", b"{", b"[" * 100_000])
    def test_is_not_json(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "ranker.json").write_bytes(content)
        with pytest.raises(InputError, match=r"ranker\.json is not JSON"):
            read_ranker(tmp_path / "ranker.json")

    @pytest.mark.parametrize("content", [b"[]", b"{}", b'{"format":2,"ranker":{}}', b'{"format":1,"ranker":[]}'])
    def test_is_of_another_format(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "ranker.json").write_bytes(content)
        with pytest.raises(InputError, match='is no ranker with "format": 1'):
            read_ranker(tmp_path / "ranker.json")

    def test_has_a_number_changed(self, tmp_path: Path) -> None:
        file = tmp_path / "ranker.json"
        write_ranker(file, draw_ranker(1))
        said = json.loads(file.read_bytes())
        said["ranker"]["bias"] += 1
        file.write_text(json.dumps(said))
        with pytest.raises(InputError, match="has the checksum"):
            read_ranker(file)

    @pytest.mark.parametrize(
        ("key", "change", "complaint"),
        [
            ("bias", lambda _: float("nan"), "bias: Input should be a finite number"),
            ("bias", lambda _: "1", "bias: Input should be a valid number"),
            ("names", lambda names: names[:-1], "need 4 numbers, one per feature"),
            ("names", lambda names: ["sales"] * len(names), "need different names"),
            ("spread", lambda spread: [0.0, *spread[1:]], "spreads above 0"),
            ("weight", lambda weight: weight[:-1], "one entry per node"),
            ("roots", lambda roots: [10**6, *roots[1:]], "roots that are nodes"),
            ("roots", lambda roots: [-1, *roots[1:]], "roots.0: Input should be greater than or equal to 0"),
            ("left", lambda left: [*left[:-1], 0], "children stand behind their parents"),
            ("feature", lambda feature: [99] * len(feature), "trees over 5 features"),
            ("extra", lambda _: 1, "extra: Extra inputs are not permitted"),
        ],
    )
    def test_does_not_fit_together(
        self, tmp_path: Path, key: str, change: Callable[[Any], Any], complaint: str
    ) -> None:
        file = tmp_path / "ranker.json"
        write_ranker(file, draw_ranker(1))
        said = json.loads(file.read_bytes())
        said["ranker"][key] = change(said["ranker"].get(key))
        said["sha256"] = _checksum(said["ranker"])
        file.write_text(json.dumps(said))
        with pytest.raises(InputError, match=f"does not fit: .*{complaint}"):
            read_ranker(file)
