"""How a loop trains, judges and switches rankers: `upkeep.ranking`, so that a killed loop can ask again."""

from collections.abc import Callable, Mapping
from typing import Any

from sameitem.core.errors import UnavailableError
from sameitem.evaluation.gate import Judgement
from sameitem.pipeline.rankers import activate_ranker, keep_newest, read_ranker_manifest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.ranking import gate_ranker, train_ranker_version


class LogRanking:
    """Rankers that learn from the shop's own click log."""

    def active(self, shop: Shop) -> str:
        """Return the version that orders the hits now; "looks" where nothing but looks does."""
        return shop.active_ranker

    def train(self, shop: Shop, *, name: str, seed: int, hear: Callable[[float], None]) -> Mapping[str, Any]:
        """Write a ranker version and return its metrics; one that a killed loop had finished is taken as it is.

        Raises:
            InputError: too few searches with a click.
            UnavailableError: no training stack.
        """
        if (shop.rankers_root / name).is_dir():
            return read_ranker_manifest(shop.rankers_root, name).metrics
        try:
            return train_ranker_version(shop, name=name, seed=seed, hear=lambda _step, percent: hear(percent)).metrics
        except ModuleNotFoundError as error:
            raise UnavailableError(
                f"training needs {error.name}, which is not installed; run pip install 'sameitem[train]'"
            ) from error

    def gate(self, shop: Shop, version: str) -> Judgement:
        """Judge a version beside the active one on the newest searches, which taught neither."""
        return gate_ranker(shop, version)

    def activate(self, shop: Shop, version: str) -> None:
        """Let it order the hits from the next search on."""
        activate_ranker(shop.rankers_root, version)

    def clear(self, shop: Shop, *, keep: int) -> None:
        """Remove all but the newest versions, never the active one nor the one before it."""
        keep_newest(shop.rankers_root, keep)
