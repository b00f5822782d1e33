"""An opened shop keeps few versions open, and gives the same one to all who ask."""

import gc
import weakref
from pathlib import Path

from drawn_graphs import embedding_graph, model_of
from sameitem.features.model_folder import EMBED, write_model
from sameitem.pipeline.shop import MOST_OPEN
from shops import open_shop


def test_the_last_versions_stay_open_and_older_ones_are_let_go(tmp_path: Path) -> None:
    shop = open_shop(tmp_path)
    versions = [f"m-{number}" for number in range(MOST_OPEN + 2)]
    for version in versions:
        graph = embedding_graph()
        write_model(
            shop.models_root / version, model_of(graph, version=version), graphs={EMBED: graph}, card="# drawn\n"
        )
    held = [weakref.ref(shop.embedder(version)) for version in versions]
    assert all(shop.detector(version) is None for version in versions)
    newest = shop.embedder(versions[-1])
    assert newest is shop.embedder(versions[-1])
    assert newest is held[-1]()
    gc.collect()
    assert [one() is None for one in held] == [True] * 2 + [False] * MOST_OPEN
    assert shop.embedder(versions[0]).version == versions[0]
    assert len(shop._embedders) == MOST_OPEN
    assert shop.cache(newest) is shop.cache(newest)
    shop.close()
