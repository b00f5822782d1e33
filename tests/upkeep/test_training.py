"""The job around a training: what the trainer is given, what becomes of a kill, what is said when something lacks."""

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from drawn_graphs import embedding_graph, write_drawn
from sameitem.catalog.store import Listing, NewImage
from sameitem.core.database import write
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.core.jobs import run_job
from sameitem.core.records import ContentHash, ImageKind, Photo, Product, ProductId, Quality
from sameitem.features.model_folder import shipped_model
from sameitem.pipeline.shop import Shop
from sameitem.upkeep import training
from sameitem.upkeep.training import LabelledImages, Trainers, learned
from sameitem.upkeep.work import work_of
from shops import open_shop

METRICS = {"loss": 0.25}


@dataclass
class FakeTrainer:
    """Notes what it is given and writes a model folder, as a trainer does; can be killed before or after it."""

    calls: list[dict[str, Any]] = field(default_factory=list)
    killed: str = ""  # "before" or "after" the model folder is written

    def __call__(self, **given: Any) -> Mapping[str, float]:
        self.calls.append(given)
        given["tell"]("train", 50.0, {"loss": 0.5})
        if "checkpoint" in given:
            (given["checkpoint"] / "pixels").mkdir(exist_ok=True)
        if self.killed == "before":
            raise KeyboardInterrupt
        write_drawn(given["out"], embedding_graph(), version=given["out"].name)
        if self.killed == "after":
            raise KeyboardInterrupt
        return METRICS


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = open_shop(tmp_path / "shop")
    yield shop
    shop.close()


@pytest.fixture
def triplets(tmp_path: Path) -> Path:
    file = tmp_path / "triplets.parquet"
    file.touch()
    return file


def train(shop: Shop, trainer: FakeTrainer, model: str = "embedding", **asked: Any) -> dict[str, Any]:
    """Run a training job, taking up one of the same arguments that was left behind."""
    arguments = {"model": model, "triplets": "", "minutes": None, "seed": 0, "name": "", **asked}
    job = shop.jobs.unfinished("train", arguments) or shop.jobs.submit("train", arguments)
    work = work_of(shop, trainers=lambda: Trainers(trainer, trainer))
    return run_job(shop.jobs, job.id, work).result


def test_the_trainer_gets_what_the_shop_has_and_its_metrics_are_the_result(shop: Shop, triplets: Path) -> None:
    trainer = FakeTrainer()
    result = train(shop, trainer, triplets=str(triplets), minutes=1.5, seed=7, name="mine")
    assert (result["version"], result["metrics"]) == ("mine", METRICS)
    assert result["seconds"] >= 0
    assert result["curves"] == ""  # this trainer draws none
    (given,) = trainer.calls
    assert (given["triplets"], given["minutes"], given["seed"]) == (triplets, 1.5, 7)
    assert given["start"] == shipped_model()
    assert given["out"] == shop.models_root / "mine"
    assert given["checkpoint"].is_dir()


def test_without_a_name_the_version_says_what_and_when(shop: Shop, triplets: Path) -> None:
    assert train(shop, FakeTrainer(), triplets=str(triplets))["version"].startswith("embedding-20")


def test_photos_come_from_the_catalogue_or_from_what_users_searched_with(shop: Shop, triplets: Path) -> None:
    trainer = FakeTrainer()
    train(shop, trainer, triplets=str(triplets))
    photo = trainer.calls[0]["photo"]
    shop.photos.put(drawn_photo(1))
    shop.query_photos.put(drawn_photo(2))
    assert [photo(drawn_photo(number).content_hash).shape for number in (1, 2)] == [(40, 40, 3)] * 2
    with pytest.raises(NotFoundError):
        photo(drawn_photo(3).content_hash)


@pytest.mark.parametrize("killed", ["", "after"])
def test_the_copies_of_photos_go_when_the_training_ends_and_the_checkpoint_stays(
    shop: Shop, triplets: Path, killed: str
) -> None:
    trainer = FakeTrainer(killed=killed)
    if killed:
        with pytest.raises(KeyboardInterrupt):
            train(shop, trainer, triplets=str(triplets))
    train(shop, trainer, triplets=str(triplets))
    checkpoint = trainer.calls[0]["checkpoint"]
    assert (checkpoint.is_dir(), list(checkpoint.iterdir())) == (True, [])


class TestAKilledTraining:
    def test_goes_on_with_the_same_name_and_checkpoint(self, shop: Shop, triplets: Path) -> None:
        trainer = FakeTrainer(killed="before")
        with pytest.raises(KeyboardInterrupt):
            train(shop, trainer, triplets=str(triplets))
        trainer.killed = ""
        train(shop, trainer, triplets=str(triplets))
        one, other = trainer.calls
        assert (one["out"], one["checkpoint"]) == (other["out"], other["checkpoint"])

    def test_after_the_model_was_written_is_not_trained_again(self, shop: Shop, triplets: Path) -> None:
        trainer = FakeTrainer(killed="after")
        with pytest.raises(KeyboardInterrupt):
            train(shop, trainer, triplets=str(triplets), name="mine")
        result = train(shop, trainer, triplets=str(triplets), name="mine")
        assert (len(trainer.calls), result["version"]) == (1, "mine")
        assert result["metrics"] == {"ms_per_photo": 0.1}  # what the model folder says

    def test_keeps_its_checkpoint_while_others_train_and_what_ended_is_cleared_away(
        self, shop: Shop, triplets: Path
    ) -> None:
        killed = FakeTrainer(killed="before")
        with pytest.raises(KeyboardInterrupt):
            train(shop, killed, triplets=str(triplets), name="first")
        others = FakeTrainer()
        for name in ("second", "third"):
            train(shop, others, triplets=str(triplets), name=name)
        assert killed.calls[0]["checkpoint"].is_dir()
        assert [call["checkpoint"].is_dir() for call in others.calls] == [False, True]


class TestWhatIsRefused:
    def test_is_a_training_without_triplets(self, shop: Shop) -> None:
        with pytest.raises(NotFoundError, match="run `sameitem mine` first"):
            train(shop, FakeTrainer())

    def test_is_a_name_that_is_taken_before_hours_are_spent(self, shop: Shop, triplets: Path) -> None:
        write_drawn(shop.models_root / "mine", embedding_graph(), version="mine")
        trainer = FakeTrainer()
        with pytest.raises(ConflictError, match="choose another --name"):
            train(shop, trainer, triplets=str(triplets), name="mine")
        assert trainer.calls == []

    @pytest.mark.parametrize("name", ["base-2", "ACTIVE", "Active"])
    def test_is_a_name_that_means_something_else(self, shop: Shop, triplets: Path, name: str) -> None:
        trainer = FakeTrainer()
        with pytest.raises(ConflictError, match=f"the name '{name}' is taken; choose another --name"):
            train(shop, trainer, triplets=str(triplets), name=name)
        assert trainer.calls == []

    @pytest.mark.parametrize("name", ["../up", "a/b", ".hidden", "x" * 65])
    def test_is_a_name_that_is_no_folder_name(self, shop: Shop, triplets: Path, name: str) -> None:
        with pytest.raises(InputError, match="need a name"):
            train(shop, FakeTrainer(), triplets=str(triplets), name=name)

    def test_is_a_kind_of_model_that_there_is_not(self, shop: Shop) -> None:
        with pytest.raises(InputError, match="embedding, category, got 'taste'"):
            train(shop, FakeTrainer(), "taste")

    def test_is_training_without_its_packages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(_name: str) -> None:
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

        monkeypatch.setattr(training, "import_module", missing)
        with pytest.raises(InputError, match=r"training needs torch.*pip install 'sameitem\[train\]'"):
            learned()


def test_a_category_is_trained_from_the_labelled_images_which_can_be_read_more_than_once(shop: Shop) -> None:
    for number, category in enumerate(("Shoes > Boots", "", "Furniture > Sofas")):
        photo = drawn_photo(number)
        if number != 2:
            shop.photos.put(photo)
        image = NewImage(
            name="main",
            kind=ImageKind.MAIN,
            content_hash=photo.content_hash,
            width=40,
            height=40,
            quality=Quality(*(0.0,) * 6),
            perceptual_hash=0,
            box=None,
            custom_content="",
            source="",
        )
        with write(shop.database) as connection:
            shop.catalogue.upsert(connection, [Listing(Product(ProductId(f"P{number}"), category), (image,))])
    trainer = FakeTrainer()
    train(shop, trainer, "category", seed=3)
    images = trainer.calls[0]["images"]
    assert isinstance(images, LabelledImages)
    for _ in range(2):
        assert [(pixels.shape, *names) for pixels, *names in images] == [((40, 40, 3), "shoes", "P0")]
    assert trainer.calls[0]["seed"] == 3


def drawn_photo(number: int) -> Photo:
    out = io.BytesIO()
    Image.fromarray(np.full((40, 40, 3), 10 * number, np.uint8)).save(out, "JPEG")
    encoded = out.getvalue()
    digest = ContentHash(hashlib.sha256(encoded).hexdigest())
    return Photo(digest, encoded, 40, 40, np.zeros((40, 40, 3), np.uint8), 40, 40)
