import os
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from sameitem.clicks.counts import product_counts, take_in
from sameitem.clicks.log import DAY_S, Event, Search, Shown
from sameitem.core.records import ContentHash, ImageId, ProductId
from sameitem.features.cache import FeatureCache
from sameitem.pipeline.retention import Pruned, prune_shop
from shops import open_shop

NOW = 20_000 * DAY_S + 3_600.0  # one o'clock
SHOWN = (Shown(1, ProductId("lamp"), "front", ImageId(1), 0.5),)


def test_what_is_past_its_days_goes_and_the_rest_stays(tmp_path: Path) -> None:
    shop = open_shop(tmp_path / "shop", clicks={"keep_days": 10}, search={"photo_days": 5})
    for days in (9, 10, 10.1, 30):
        search = Search(f"s{days}", NOW - days * DAY_S, "", None, "", "", "", "u", "", SHOWN)
        shop.clicks.record_search(search)
        shop.clicks.record_events([Event(f"e{days}", search.search_id, "click", ProductId("lamp"))])
    take_in(shop.database)
    cache = FeatureCache(shop.photo_features_root, "m", 4)
    for days, name in ((4, "a"), (6, "b")):
        file = shop.query_photos.path(ContentHash(name * 64))
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (NOW - days * DAY_S,) * 2)
        cache.put([(ContentHash(name * 64), None)], np.ones((1, 4), np.float32), np.ones((1, 24), np.float32))
    assert prune_shop(shop, NOW) == Pruned(searches=2, events=2, photos=1, catalogue_photos=0)
    assert [session.search.search_id for session in shop.clicks.sessions()] == ["s10", "s9"]  # of one o'clock: kept
    assert list(shop.query_photos.hashes()) == ["a" * 64]
    assert cache.get([(ContentHash(name * 64), None) for name in "ab"]).positions.tolist() == [0]
    with shop.database.connect() as connection:
        assert connection.scalar(select(func.sum(product_counts.c.clicks))) == 2
    assert prune_shop(shop, NOW) == Pruned(0, 0, 0, 0)
    shop.close()
