import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from sameitem.core.errors import InputError, ShapeError
from sameitem.metrics.ranking import auc, calibration_ratio, log_losses
from sameitem.rerank.ranker import Ranker, write_ranker
from sameitem.rerank.training import _boost, _growth, _parse, _rows, _split, train_linear, train_ranker, train_trees

lightgbm = pytest.importorskip("lightgbm", reason="the package lightgbm (extra `train`) is not installed")
pytest.importorskip("sklearn", reason="the package scikit-learn (extra `train`) is not installed")

NAMES = ("sales", "price", "rating", "stock")


def draw(seed: int, rows: int, logit: Callable[[np.ndarray], np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(rows, len(NAMES)))
    return features, generator.random(rows) < 1 / (1 + np.exp(-logit(features)))


def linear(features: np.ndarray) -> np.ndarray:
    return features[:, 0] - 2


def crossed(features: np.ndarray) -> np.ndarray:
    return 2 * np.sign(features[:, 0] * features[:, 1]) + 0.5 * features[:, 2] - 1


def test_trees_and_regression_find_what_each_of_them_misses() -> None:
    features, labels = draw(1, 2400, crossed)
    seen, other = slice(0, 1600), slice(1600, None)
    losses = {
        train: log_losses(train(features[seen], labels[seen], NAMES, seed=1).score(features[other]), labels[other])
        for train in (train_ranker, train_linear, train_trees)
    }
    assert losses[train_ranker].mean() < 0.95 * losses[train_linear].mean()
    assert losses[train_ranker].mean() < 1.02 * losses[train_trees].mean()


def test_with_few_clicks_it_is_hardly_worse_than_the_regression() -> None:
    features, labels = draw(2, 700, linear)
    unseen, truth = draw(3, 4000, linear)
    both, alone = (train(features, labels, NAMES, seed=1) for train in (train_ranker, train_linear))
    assert labels.sum() < 150
    ratio = log_losses(both.score(unseen), truth).mean() / log_losses(alone.score(unseen), truth).mean()
    assert ratio < 1.01
    assert calibration_ratio(both.score(unseen), truth) == pytest.approx(1, abs=0.2)


def test_where_nothing_can_be_learned_everyone_gets_the_share_of_clicks() -> None:
    features, labels = draw(4, 800, lambda features: np.zeros(len(features)))
    score = train_ranker(features, labels, NAMES, seed=1).score(features)
    assert np.abs(score - labels.mean()).max() < 0.1


def test_the_arrays_score_as_lightgbm_does_also_where_values_are_missing() -> None:
    for share_missing in (0.0, 0.2):
        features, labels = draw(5, 600, crossed)
        features[np.random.default_rng(5).random(features.shape) < share_missing] = np.nan
        rows = _rows(features, labels, NAMES, None, None)
        booster = _boost(rows, _growth(rows), 20, 1)
        trees = _parse(booster, 20)
        asked = features.copy()
        asked[::7] = np.nan
        ranker = Ranker(NAMES, trees, np.zeros(4), np.ones(4), np.zeros(4), 0.0)
        assert ranker.score(asked).tolist() == pytest.approx(booster.predict(asked).tolist(), rel=1e-9)


def test_missing_values_and_features_that_say_nothing_are_accepted() -> None:
    features, labels = draw(6, 600, crossed)
    features[:, 3] = 7.0
    features[::3, 2] = np.nan
    features = np.column_stack((features, np.full(len(features), np.nan)))
    ranker = train_ranker(features, labels, (*NAMES, "never known"), seed=1)
    assert auc(ranker.score(features), labels) > 0.7


def test_the_same_rows_and_seed_give_the_same_ranker(tmp_path_factory: pytest.TempPathFactory) -> None:
    features, labels = draw(7, 500, crossed)
    files = [tmp_path_factory.mktemp("ranker") / "ranker.json" for _ in range(2)]
    for file in files:
        write_ranker(file, train_ranker(features, labels, NAMES, seed=3))
    assert files[0].read_bytes() == files[1].read_bytes()


def test_rows_of_weight_zero_count_for_nothing() -> None:
    features, labels = draw(8, 600, linear)
    turned, weights = labels.copy(), np.ones(600)
    turned[:200], weights[:200] = ~labels[:200], 0.0
    for train in (train_linear, train_trees, train_ranker):
        without = train(features[200:], labels[200:], NAMES, seed=1)
        weighted = train(features, turned, NAMES, seed=1, weights=weights)
        assert weighted.score(features).tolist() == without.score(features).tolist()


def test_a_row_of_weight_two_counts_as_two() -> None:
    features, labels = draw(11, 900, linear)
    weights = np.where(labels, 2.0, 1.0)
    score = train_ranker(features, labels, NAMES, seed=1, weights=weights).score(features)
    assert (score * weights).sum() / weights[labels].sum() == pytest.approx(1, abs=0.05)


def test_groups_are_never_split() -> None:
    generator = np.random.default_rng(9)
    features, labels = draw(9, 400, linear)
    groups = generator.integers(0, 60, 400)
    parts = _split(_rows(features, labels, NAMES, groups, None), 5, 1)
    assert sorted(np.concatenate(parts).tolist()) == list(range(400))
    assert all(len({number for number, part in enumerate(parts) if group in groups[part]}) == 1 for group in groups)
    assert max(map(len, parts)) < 2 * min(map(len, parts))


def test_rows_that_do_not_fit_are_refused() -> None:
    features, labels = draw(10, 100, linear)
    labels[:] = np.arange(100) < 50
    for train in (train_ranker, train_linear, train_trees):
        with pytest.raises(ShapeError, match="need \\(rows, 3 names\\) features and a label each"):
            train(features, labels, NAMES[:3], seed=1)
        with pytest.raises(ShapeError, match="need a group and a weight per row"):
            train(features, labels, NAMES, seed=1, weights=np.ones(3))
        with pytest.raises(InputError, match="need at least 10 rows with and 10 without a click, got 9 of 100"):
            train(features, np.arange(100) < 9, NAMES, seed=1)
        with pytest.raises(InputError, match="weights that are finite, not negative and not all 0"):
            train(features, labels, NAMES, seed=1, weights=np.zeros(100))
        with pytest.raises(InputError, match="finite or missing"):
            train(np.full((100, 4), np.inf), labels, NAMES, seed=1)
        with pytest.raises(InputError, match="need groups that can be split into 5 parts, got 3 groups"):
            train(features, labels, NAMES, seed=1, groups=np.arange(100) % 3)


def test_importing_the_package_loads_no_training_library() -> None:
    code = (
        "import sys, sameitem.rerank.training, sameitem.rerank.order\n"
        "print(sorted({'scipy', 'sklearn', 'lightgbm', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
