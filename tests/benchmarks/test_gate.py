"""The benchmark of the gate: what is planted is what it is called, and the report says what was found."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the package onnx (extra `train`) is what models are planted with")

from gate import GOOD, RULES, report, variants
from gate_labels import RULES as LABEL_RULES
from gate_labels import compared
from gate_rankers import between, noisy, scaled
from sameitem.rerank.ranker import Ranker, Trees

RANKER = Ranker(
    names=("sales", "price"),
    trees=Trees(
        roots=np.array([0]),
        feature=np.array([0, 0, 0]),
        threshold=np.array([1.0, 0.0, 0.0]),
        left=np.array([1, 1, 2]),
        right=np.array([2, 1, 2]),
        missing_left=np.zeros(3, np.bool_),
        weight=np.array([0.0, -1.0, 2.0]),
    ),
    middle=np.zeros(2),
    spread=np.ones(2),
    dense=np.array([0.5, -0.25]),
    bias=-1.0,
)
ROWS = np.array([[0.0, 1.0], [2.0, 0.0], [5.0, 3.0]])


def test_there_are_twenty_worse_and_twenty_better_models_of_different_names() -> None:
    made = variants()
    assert [sum(one.is_better is better for one in made) for better in (False, True)] == [20, 20]
    assert len({one.name for one in made}) == 40
    assert {one.live for one in made if not one.is_better} == {GOOD}


def test_a_ranker_between_two_scores_between_them_and_a_turned_one_the_other_way_round() -> None:
    turned = scaled(-1.0)(RANKER, np.random.default_rng(0))
    assert turned.log_odds(ROWS) - turned.bias == pytest.approx(-(RANKER.log_odds(ROWS) - RANKER.bias))
    for share in (0.0, 0.3, 1.0):
        mixed = between(turned, RANKER, share).log_odds(ROWS)
        assert mixed == pytest.approx((1 - share) * turned.log_odds(ROWS) + share * RANKER.log_odds(ROWS))
    assert noisy(0.0)(RANKER, np.random.default_rng(0)).log_odds(ROWS) == pytest.approx(RANKER.log_odds(ROWS))


def test_a_rule_takes_for_right_what_it_says() -> None:
    before, after = np.array(["a", "b"]), np.array(["b", "b"])
    clicks = {0: [[("a", 1), ("b", 3)]], 1: [[("b", 1)]]}
    found = {rule: compared(before, after, clicks, rule) for rule in LABEL_RULES}
    assert found["everything clicked"] == 0.0  # a and b are both right
    assert found["clicked last"] == 0.5
    assert found["clicked last, weighted by rank"] == pytest.approx(2 / 3)  # rank 3 is looked at half as often


def test_the_report_counts_what_was_kept_out_and_what_other_rules_would_do(tmp_path: Path) -> None:
    def model(name: str, change: float, low: float, *, better: bool, passed: bool) -> dict[str, Any]:
        gate = {"queries": 300, "before": 0.7, "mean": change, "low": low, "high": 2 * change - low}
        return {
            "name": name,
            "kind": "drawn",
            "live": GOOD,
            "is_better": better,
            "truth": gate,
            "gate": gate,
            "passed": passed,
            "canary_passed": True,
        }

    models = [
        model("bad", -0.1, -0.15, better=False, passed=False),
        model("good", 0.1, 0.05, better=True, passed=True),
        model("fine", 0.02, -0.005, better=True, passed=True),
    ]
    (tmp_path / f"results-{GOOD}.json").write_text(json.dumps({one["name"]: one for one in models}))
    ranked = {"name": "x", "kind": "drawn", "live": "looks", "is_better": True, "true_change": 0.1, "passed": True}
    ranked |= {"gate_change": 0.1, "gate_low": 0.05, "gate_high": 0.15}
    about = {"searches": 100, "products": 4, "length": 2, "users": 3}
    (tmp_path / "rankers.json").write_text(json.dumps({"about": about, "rankers": [ranked]}))
    report(tmp_path, tmp_path, tmp_path / "out.md")
    text = (tmp_path / "out.md").read_text()
    assert "| worse models | 1 of 1 | 0 of 1 | 0 of 1 |" in text
    assert "| better models | 0 of 2 | 2 of 2 | 0 of 2 |" in text
    passing = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if line.startswith("| ")}
    for rule, better in zip(RULES, ("2 of 2", "2 of 2", "1 of 2"), strict=True):
        assert better in passing[rule]
