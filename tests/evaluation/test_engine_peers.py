from pathlib import Path

import numpy as np
import pytest

from sameitem.evaluation.engine_bench import draw_vectors, nearest, recall
from sameitem.evaluation.engine_peers import PEERS, Make, ours


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    return draw_vectors(2000, 64, queries=20)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of other people's packages
@pytest.mark.parametrize("make", [ours, *PEERS], ids=lambda make: make.__name__.strip("_"))
def test_an_engine_finds_the_neighbours_with_its_widest_setting_whether_asked_alone_or_together(
    make: Make, drawn: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    vectors, queries = drawn
    truth = nearest(vectors, queries, 60)
    try:
        built = list(make(vectors, tmp_path, lambda what: None))
    except ImportError as error:
        pytest.skip(f"not installed: {error}")
    for contender in built:
        setting, search = contender.settings[-1]
        assert len({label for label, _ in contender.settings}) == len(contender.settings)
        for k in (10, 60):
            together = search(queries, k)
            alone = np.concatenate([search(queries[row : row + 1], k) for row in range(len(queries))])
            assert together.shape == alone.shape == (20, k)
            assert recall(together, truth, 10) > 0.98, setting
            assert recall(alone, truth, 10) > 0.98, setting
