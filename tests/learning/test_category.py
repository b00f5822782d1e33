from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from torch import Tensor  # noqa: E402

from drawn_start import write_start  # noqa: E402
from sameitem.catalog.taxonomy import OTHERS, load_taxonomy  # noqa: E402
from sameitem.core.errors import InputError, ShapeError  # noqa: E402
from sameitem.core.records import Pixels  # noqa: E402
from sameitem.features.detect import Detector  # noqa: E402
from sameitem.features.embed import open_session  # noqa: E402
from sameitem.features.model_folder import read_model, shipped_model  # noqa: E402
from sameitem.learning.category import (  # noqa: E402
    BORROWED,
    CategoryModel,
    Examples,
    Teacher,
    fit_category,
    held_out,
    imagenet_table,
)
from sameitem.learning.export import to_onnx  # noqa: E402
from sameitem.learning.train import train_category  # noqa: E402
from sameitem.learning.trunk import CHANNELS, Trunk  # noqa: E402

NAMES = ("shoes", "furniture", "watches")


def trunk() -> Trunk:
    """A trunk whose classifier reads class i off channel i."""
    made = Trunk().eval()
    with torch.no_grad():
        made._fc.weight.zero_()
        made._fc.bias.zero_()
        made._fc.weight[torch.arange(1000), torch.arange(1000)] = 1
    return made


def maps(names: Sequence[str], *, seed: int) -> NDArray[np.float32]:
    """Averaged maps in which the channels of a category's ImageNet classes stand out."""
    rng = np.random.default_rng(seed)
    pooled = rng.uniform(0, 1, (len(names), CHANNELS)).astype(np.float32)
    table = imagenet_table()
    for row, name in zip(pooled, names, strict=True):
        row[rng.choice(table[name], 2)] += 8
    return pooled


def examples(*, seed: int = 0, count: int = 300) -> Examples:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    return Examples(maps([NAMES[label] for label in labels], seed=seed), labels, rng.random(count) < 0.2)


@pytest.fixture(scope="module")
def model() -> CategoryModel:
    return fit_category(examples(), NAMES, trunk=trunk(), decay=1e-5)


def test_a_category_without_a_photo_is_told_by_its_imagenet_classes(model: CategoryModel) -> None:
    told = model.probabilities(maps(["watches"] * 50, seed=5)).argmax(axis=1)
    assert model.trained.tolist() == [True, True, False]
    assert (told == 2).mean() > 0.9


def test_it_takes_few_photos_of_the_trained_categories(model: CategoryModel) -> None:
    assert (model.probabilities(examples().pooled).argmax(axis=1) == 2).mean() <= 1.5 * BORROWED
    fresh = examples(seed=1, count=1000)
    told = model.probabilities(fresh.pooled).argmax(axis=1)
    assert (told == fresh.labels).mean() > 0.9


def test_held_out_probabilities_come_from_a_head_that_did_not_see_them() -> None:
    given = examples()
    noise = np.random.default_rng(3).uniform(0, 1, given.pooled.shape).astype(np.float32)
    model = fit_category(Examples(noise, given.labels, given.held_out), NAMES[:2])
    assert model.held_out.tolist() == np.flatnonzero(given.held_out).tolist()
    right = model.held_out_probabilities.argmax(axis=1) == given.labels[given.held_out]
    assert 0.3 < right.mean() < 0.7  # chance; a head that saw them would know them by heart
    assert (model.probabilities(noise[given.held_out]).argmax(axis=1) == given.labels[given.held_out]).mean() > 0.9


def test_the_order_of_the_names_does_not_matter(model: CategoryModel) -> None:
    given, turned = examples(), ("watches", "furniture", "shoes")
    moved = np.array([2, 1])[given.labels]
    other = fit_category(Examples(given.pooled, moved, given.held_out), turned, trunk=trunk(), decay=1e-5)
    pooled = maps(NAMES * 5, seed=9)
    assert other.probabilities(pooled)[:, ::-1] == pytest.approx(model.probabilities(pooled), abs=1e-3)


def test_the_teachers_evidence_is_the_log_sum_exp_of_the_scores() -> None:
    classes = [[3, 5], [7]]
    pooled = np.random.default_rng(0).uniform(0, 6, (4, CHANNELS)).astype(np.float32)
    evidence = Teacher(trunk(), classes)(torch.from_numpy(pooled)).detach().numpy()
    expected = np.stack([np.log(np.exp(pooled[:, group]).sum(axis=1)) for group in classes], axis=1)
    assert evidence[:, 0] - evidence[:, 1] == pytest.approx(expected[:, 0] - expected[:, 1], abs=1e-5)


def test_the_table_names_every_top_category_and_no_class_twice() -> None:
    table = imagenet_table()
    assert set(table) == {top.id for top in load_taxonomy().top if top.id != OTHERS}
    used = [index for classes in table.values() for index in classes]
    assert len(used) == len(set(used))
    assert all(0 <= index < 1000 for index in used)


def test_a_tenth_of_the_groups_is_held_out_and_always_the_same() -> None:
    chosen = [held_out(f"product {number}") for number in range(3000)]
    assert 0.08 < np.mean(chosen) < 0.12
    assert chosen == [held_out(f"product {number}") for number in range(3000)]


def drawn(top: str, number: int) -> tuple[Pixels, str, str]:
    """A photo whose colour tells its category; two photos of each product follow each other."""
    pixels = np.random.default_rng(number).integers(0, 60, (48, 40, 3), dtype=np.uint8)
    pixels[..., 0 if top == "shoes" else 2] += 150
    return pixels, top, f"product {number // 2}"


def silent(_phase: str, _percent: float, _numbers: Mapping[str, float]) -> None:
    pass


@pytest.mark.slow
def test_a_shop_trains_on_its_own_labelled_photos(tmp_path: Path) -> None:
    photos = [drawn(("shoes", "furniture")[number // 2 % 2], number) for number in range(200)]
    photos.append(drawn("gears", 1000))  # one photo of a category of the shop's own, which no teacher knows
    metrics = train_category(images=photos, start=shipped_model(), out=tmp_path / "ours", seed=0, tell=silent)
    held = [product for _, _, product in photos[4:] if held_out(product)]
    assert (metrics["photos"], metrics["held_out"]) == (201, len(held))
    assert len(held) == 2 * len(set(held))  # both photos of a product, or none
    assert metrics["accuracy"] > 0.85
    model = read_model(tmp_path / "ours")
    assert model.detect is not None
    assert {"shoes", "furniture", "gears"} < set(model.detect.categories)
    told = Detector(tmp_path / "ours").detect([drawn(top, 5000)[0] for top in ("shoes", "furniture")])
    assert [model.detect.categories[int(found.category_probabilities.argmax())] for found in told] == [
        "shoes",
        "furniture",
    ]


@pytest.mark.slow
def test_training_of_categories_says_what_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no catalogue image has a top category"):
        train_category(images=[], start=shipped_model(), out=tmp_path / "ours", seed=0, tell=silent)
    write_start(tmp_path / "start")
    with pytest.raises(InputError, match="model start has no category head to go on from"):
        train_category(images=[drawn("shoes", 0)], start=tmp_path / "start", out=tmp_path / "ours", seed=0, tell=silent)


class Whole(torch.nn.Module):
    """A photo to logits, as the detect graph has it."""

    def __init__(self, model: CategoryModel) -> None:
        super().__init__()
        self.trunk, self.head = Trunk().eval(), model.head

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.head(self.trunk(image).mean((2, 3)))
        return logits


@pytest.mark.slow
def test_the_exported_head_says_what_the_module_says(model: CategoryModel) -> None:
    torch.manual_seed(0)
    whole = Whole(model)
    session = open_session(to_onnx(whole, input_name="image", output_names=["category"], side_px=64), threads=1)
    image = np.random.default_rng(0).uniform(-1, 1, (3, 3, 64, 64)).astype(np.float32)
    with torch.inference_mode():
        expected = whole(torch.from_numpy(image)).numpy()
    assert session.run(["category"], {"image": image})[0] == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_taught_is_refused() -> None:
    given = examples()
    with pytest.raises(InputError, match="no teacher knows it"):
        fit_category(given, (*NAMES[:2], "spaceships"), trunk=trunk())
    with pytest.raises(InputError, match="no teacher knows it"):
        fit_category(given, NAMES)
    with pytest.raises(InputError, match="at least 2 categories"):
        fit_category(Examples(given.pooled, np.zeros_like(given.labels), given.held_out), NAMES, trunk=trunk())
    with pytest.raises(InputError, match="got 0 examples"):
        fit_category(Examples(given.pooled[:0], given.labels[:0], given.held_out[:0]), NAMES, trunk=trunk())
    with pytest.raises(ShapeError, match="one label and flag per photo"):
        Examples(given.pooled, given.labels[:3], given.held_out)
