"""An opened shop: one folder (or database and folder) with its catalogue, photos, features, index and models."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine

from sameitem.catalog.store import Catalogue
from sameitem.catalog.taxonomy import Taxonomy, load_taxonomy
from sameitem.clicks.log import ClickLog
from sameitem.core.database import open_database
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.core.image_intake import ImageIntake
from sameitem.core.jobs import JobTable
from sameitem.core.keys import KeyTable
from sameitem.core.photo_store import PhotoStore
from sameitem.core.secret import read_secret
from sameitem.core.settings import FILE_NAME, Settings
from sameitem.features.cache import FeatureCache
from sameitem.features.detect import Detector
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import read_model, shipped_model
from sameitem.pipeline.generations import read_generations
from sameitem.pipeline.rankers import active_ranker, open_ranker
from sameitem.rerank.ranker import Ranker

FEATURES = "features"  # in the shop's folder: of catalogue images, by model version
PHOTO_FEATURES = "photo-features"  # the same of searched photos
MOST_OPEN = 6  # versions of a kind: the live one, those that go back or are compared, the one that ships
Opened = TypeVar("Opened")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shop:
    """The parts of a shop, each opened when it is first asked for; `close` ends the decoding processes."""

    folder: Path
    settings: Settings
    _embedders: dict[str, Embedder] = field(default_factory=dict, init=False, repr=False, compare=False)
    _detectors: dict[str, Detector | None] = field(default_factory=dict, init=False, repr=False, compare=False)
    _caches: dict[str, FeatureCache] = field(default_factory=dict, init=False, repr=False, compare=False)
    _rankers: dict[str, Ranker | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    @cached_property
    def database(self) -> Engine:
        """The catalogue's database, with tables of this release."""
        return open_database(self.settings.catalogue.url or f"sqlite:///{self.folder / 'catalogue.db'}")

    @cached_property
    def secret(self) -> bytes:
        """What signs and hashes for this shop, the same in every process."""
        return read_secret(self.folder)

    @cached_property
    def catalogue(self) -> Catalogue:
        """Products and images."""
        return Catalogue(self.database)

    @cached_property
    def jobs(self) -> JobTable:
        """Long operations."""
        return JobTable(self.database)

    @cached_property
    def keys(self) -> KeyTable:
        """API keys."""
        return KeyTable(self.database)

    @cached_property
    def clicks(self) -> ClickLog:
        """What was shown and what was clicked."""
        return ClickLog(self.database, self.secret, settings=self.settings.clicks)

    @cached_property
    def taxonomy(self) -> Taxonomy:
        """Leaf categories under top categories."""
        part = self.settings.catalogue
        return load_taxonomy(self._near(part.taxonomy), self._near(part.category_map))

    @cached_property
    def photos(self) -> PhotoStore:
        """Stored copies of catalogue photos, by content hash."""
        return PhotoStore(self.folder / "images")

    @cached_property
    def query_photos(self) -> PhotoStore:
        """Stored copies of what users searched with, kept for `search.photo_days`."""
        return PhotoStore(self.folder / "query-photos")

    @cached_property
    def intake(self) -> ImageIntake:
        """The only door through which picture bytes come in."""
        return ImageIntake(self.settings.intake)

    @cached_property
    def base_embedder(self) -> Embedder:
        """The general feature of the model that ships: it carries the category vote whichever model is active."""
        return self.embedder(read_model(shipped_model()).version)

    def embedder(self, version: str) -> Embedder:
        """Return the model of a version; the versions in use are opened once.

        Raises:
            NotFoundError: there is no such version; names those that there are.
            InputError: its folder is damaged, or holds another version.
        """

        def opened() -> Embedder:
            part = self.settings.model
            embedder = Embedder(self.model_folder(version), threads=part.threads, batch=part.batch)
            _check_version(embedder.version, folder=version)
            return embedder

        return _kept_open(self._embedders, version, opened)

    @property
    def active_model(self) -> str:
        """Model version that builds use: the activated one, before the first activation the setting `model.active`."""
        return read_generations(self.models_root, start=self.settings.model.active).version

    def detector(self, version: str) -> Detector | None:
        """Return what finds subjects with the model of a version; None = the model cannot.

        Raises:
            NotFoundError: there is no such version; names those that there are.
            InputError: its folder is damaged, or holds another version.
        """

        def opened() -> Detector | None:
            part, folder = self.settings.model, self.model_folder(version)
            model = read_model(folder)
            _check_version(model.version, folder=version)
            return Detector(folder, threads=part.threads, batch=part.batch) if model.detect is not None else None

        return _kept_open(self._detectors, version, opened)

    @property
    def active_ranker(self) -> str:
        """Version of the ranker that orders the first hits; "looks" where nothing but looks does."""
        return active_ranker(self.rankers_root).version

    def ranker(self, version: str) -> Ranker | None:
        """Return a ranker version; None where looks alone order.

        Raises:
            NotFoundError: there is no such version; names those that there are.
            InputError, ConflictError: it cannot be used.
        """
        return _kept_open(self._rankers, version, lambda: open_ranker(self.rankers_root, version))

    def check_model(self, version: str) -> None:
        """Read a model version from the disk, before something goes live that only it can answer for.

        Raises:
            ConflictError: it is missing or damaged.
        """
        try:
            _check_version(read_model(self.model_folder(version)).version, folder=version)
        except (NotFoundError, InputError) as error:
            _log.warning("model %s cannot be used: %s", version, error)
            raise ConflictError(
                f"model {version} is missing or damaged, so that nothing could be searched with it; nothing was "
                f"switched. Put the folder models/{version} back; `sameitem models list` tells what is wrong with it"
            ) from error

    @property
    def index_root(self) -> Path:
        """Folder of the index versions."""
        return self.folder / "index"

    @property
    def models_root(self) -> Path:
        """Folder of the model versions the shop brought or trained."""
        return self.folder / "models"

    @property
    def rankers_root(self) -> Path:
        """Folder of the rankers."""
        return self.folder / "rankers"

    @property
    def experiments_root(self) -> Path:
        """Folder of the experiments between rankers."""
        return self.folder / "experiments"

    @property
    def features_root(self) -> Path:
        """Folder of the features of catalogue images."""
        return self.folder / FEATURES

    @property
    def photo_features_root(self) -> Path:
        """Folder of the features of searched photos."""
        return self.folder / PHOTO_FEATURES

    def cache(self, embedder: Embedder) -> FeatureCache:
        """Return the features computed so far with a model."""
        version = embedder.version
        return _kept_open(self._caches, version, lambda: FeatureCache(self.features_root, version, embedder.dim))

    def close(self) -> None:
        """End the decoding processes and the database's connections, as far as they were started."""
        if "intake" in self.__dict__:
            self.intake.close()
        if "database" in self.__dict__:
            self.database.dispose()

    def model_folder(self, version: str) -> Path:
        """Return the folder of a model version, the shop's own or the one that ships."""
        folders = {folder.name: folder for folder in (shipped_model(), *self.models_root.glob("[!.]*/"))}
        if version not in folders:
            known = ", ".join(sorted(folders))
            raise NotFoundError(f"no model version {version!r}; there are {known} (`sameitem models list`)")
        return folders[version]

    def _near(self, name: str) -> Path | None:
        return self.folder / name if name else None


def _kept_open(kept: dict[str, Opened], version: str, open_version: Callable[[], Opened]) -> Opened:
    """Return what a version was opened as; the last `MOST_OPEN` stay open, as a shop that learns daily makes hundreds.

    Whoever uses one that is let go of keeps it; two threads may open the same one, and either will do.
    """
    with suppress(KeyError):
        return kept[version]
    found = kept.setdefault(version, open_version())
    for oldest in list(kept)[:-MOST_OPEN]:
        kept.pop(oldest, None)
    return found


def _check_version(version: str, *, folder: str) -> None:
    """Refuse a copied folder: the features of two versions would lie in one place."""
    if version != folder:
        raise InputError(
            f'the folder models/{folder} holds model {version}; name the folder {version}, or write "version": '
            f'"{folder}" into its manifest.json if that is a model of its own'
        )


def is_shop(folder: Path) -> bool:
    """Return whether a folder was made by `sameitem init`."""
    return (folder / FILE_NAME).is_file()
