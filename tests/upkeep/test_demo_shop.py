import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.errors import InputError
from sameitem.upkeep.demo_shop import LEAVES, TOP_CATEGORIES, DemoShop, draw_shop
from sameitem.upkeep.drawing.canvas import Canvas, Sprite
from sameitem.upkeep.drawing.photos import SLICES, near_copy, snapshot, studio_photo

TOP14 = {
    *("tops", "bottoms", "dresses_ethnic", "outerwear", "shoes", "bags_wallets", "watches", "jewellery_accessories"),
    *("beauty", "furniture", "home_decor_lighting", "household_office", "packaged_food_drink", "fresh_food"),
}


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def every_byte(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def drawn(leaf: int, seed: int) -> Sprite:
    rng = np.random.default_rng(seed)
    palettes = LEAVES[leaf].palettes
    canvas = Canvas()
    LEAVES[leaf].draw(canvas, rng, palettes[rng.integers(0, len(palettes))], "Corumi")
    return canvas.cut_out()


def thumbnail(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((16, 16)), dtype=np.float64)


def top_of(category: str) -> str:
    return category.split(" > ")[0]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DemoShop:
    return draw_shop(tmp_path_factory.mktemp("shop"), seed=3, products=20, queries=4, workers=1)


def test_the_shop_says_what_lies_in_its_folder(shop: DemoShop) -> None:
    assert len(list((shop.folder / "images").iterdir())) == shop.images == len(read(shop.catalogue))
    assert len(list((shop.folder / "queries").iterdir())) == shop.query_photos == len(read(shop.queries)) == 4
    assert len({row["product_id"] for row in read(shop.catalogue)}) == shop.products == 20


def test_every_product_has_two_to_four_pictures_and_one_main_picture(shop: DemoShop) -> None:
    pictures = Counter(row["product_id"] for row in read(shop.catalogue))
    assert set(pictures.values()) <= {2, 3, 4}
    assert Counter(row["product_id"] for row in read(shop.catalogue) if row["kind"] == "main") == Counter(
        pictures.keys()
    )


def test_every_file_that_a_row_names_is_an_image_of_the_promised_size(shop: DemoShop) -> None:
    for row in [*read(shop.catalogue), *read(shop.queries)]:
        with Image.open(shop.folder / row["image"]) as image:
            assert image.format == "JPEG"
            assert 330 <= max(image.size) <= 512


def test_each_of_the_14_top_categories_has_products_and_at_least_two_leaves(shop: DemoShop) -> None:
    assert {top_of(row["category"]) for row in read(shop.catalogue)} == TOP14 == set(TOP_CATEGORIES)
    assert min(Counter(top_of(leaf.category) for leaf in LEAVES).values()) >= 2


def test_the_facts_of_a_product_are_of_their_column(shop: DemoShop) -> None:
    for row in read(shop.catalogue):
        assert re.fullmatch(r"\d+\.\d\d", row["price"])
        assert 1 <= float(row["rating"]) <= 5
        assert 0 <= float(row["ctr"]) <= 1
        assert 0 <= float(row["conversion_rate"]) <= 1
        assert 0 <= int(row["review_count"]) <= int(row["sales"])
        assert row["in_stock"] in {"true", "false"}
        assert row["brand"] in row["title"]


def test_a_query_asks_for_a_product_of_the_catalogue_by_its_category_and_a_known_slice(shop: DemoShop) -> None:
    category = {row["product_id"]: row["category"] for row in read(shop.catalogue)}
    for row in read(shop.queries):
        assert row["category"] == category[row["product_id"]]
        assert row["slice"] in SLICES


def test_the_box_of_a_query_lies_in_its_photo(shop: DemoShop) -> None:
    for row in read(shop.queries):
        left, top, right, bottom = (int(value) for value in row["box"].split(","))
        with Image.open(shop.folder / row["image"]) as image:
            assert 0 <= left < right <= image.width
            assert 0 <= top < bottom <= image.height


def test_planted_pictures_name_two_products_for_which_nobody_asks(shop: DemoShop) -> None:
    planted, asked = read(shop.planted), {row["product_id"] for row in read(shop.queries)}
    assert len({row["product_id"] for row in planted}) == shop.planted_products == 1
    for row in planted:
        assert row["product_id"] != row["duplicate_of_product_id"]
        assert not asked & {row["product_id"], row["duplicate_of_product_id"]}


def test_a_planted_picture_looks_most_like_the_product_it_repeats_and_has_other_bytes(shop: DemoShop) -> None:
    planted = {row["image"]: row for row in read(shop.planted)}
    others = [row for row in read(shop.catalogue) if row["image"] not in planted]
    gallery = np.stack([thumbnail(shop.folder / row["image"]) for row in others])
    for name, row in planted.items():
        nearest = np.abs(gallery - thumbnail(shop.folder / name)).mean(axis=(1, 2)).argmin()
        assert others[nearest]["product_id"] == row["duplicate_of_product_id"]
        assert (shop.folder / name).read_bytes() != (shop.folder / row["duplicate_of_image"]).read_bytes()


@pytest.mark.slow
def test_one_and_two_workers_write_the_same_bytes(tmp_path: Path) -> None:
    for workers in (1, 2):
        draw_shop(tmp_path / str(workers), seed=5, products=21, queries=6, workers=workers)
    assert every_byte(tmp_path / "1") == every_byte(tmp_path / "2")


@pytest.mark.slow
def test_another_seed_draws_another_shop_and_the_same_seed_replaces_it_by_the_same(tmp_path: Path) -> None:
    def draw(seed: int) -> dict[str, bytes]:
        draw_shop(tmp_path, seed=seed, products=14, queries=0, workers=1)
        return every_byte(tmp_path)

    first, second = draw(1), draw(2)
    assert first.keys() != second.keys() or all(first[name] != second[name] for name in first if name.endswith(".jpg"))
    assert draw(1) == first


def test_progress_counts_every_product_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    draw_shop(tmp_path, products=14, queries=0, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 14) for done in range(1, 15)]


@pytest.mark.parametrize(
    ("products", "queries", "workers", "field"),
    [(13, 0, 1, "products"), (14, 15, 1, "queries"), (14, -1, 1, "queries"), (14, 0, 0, "workers")],
)
def test_a_count_out_of_range_is_refused_by_name(
    tmp_path: Path, products: int, queries: int, workers: int, field: str
) -> None:
    with pytest.raises(InputError, match=r"need .* got -?\d+") as refused:
        draw_shop(tmp_path / "none", products=products, queries=queries, workers=workers)
    assert refused.value.field == field
    assert not (tmp_path / "none").exists()


@settings(max_examples=30, deadline=None)
@given(leaf=integers(0, len(LEAVES) - 1), seed=integers(0, 10**6))
def test_every_leaf_draws_a_thing_of_some_size_whose_colours_stay_below_its_alpha(leaf: int, seed: int) -> None:
    rgba = drawn(leaf, seed).rgba
    assert max(rgba.shape[:2]) >= 200
    assert (rgba[:, :, 3] > 128).mean() > 0.04
    assert (rgba[:, :, :3].astype(int) <= rgba[:, :, 3:].astype(int) + 1).all()


@settings(max_examples=16, deadline=None)
@given(trouble=sampled_from(SLICES), leaf=integers(0, len(LEAVES) - 1), seed=integers(0, 10**6))
def test_the_box_of_a_snapshot_holds_the_subject_tightly(trouble: str, leaf: int, seed: int) -> None:
    sprite = drawn(leaf, seed)
    taken = snapshot(sprite, np.random.default_rng(seed), trouble=trouble, other_thing=lambda rng: drawn(40, 2))
    rows, columns = np.nonzero(taken.mask > 64)
    assert taken.pixels.shape[:2] == taken.mask.shape
    assert (taken.box.left, taken.box.top) == (columns.min(), rows.min())
    assert (taken.box.right, taken.box.bottom) == (columns.max() + 1, rows.max() + 1)
    assert (taken.mask > 64).sum() > 0.01 * taken.mask.size


@settings(max_examples=10, deadline=None)
@given(leaf=integers(0, len(LEAVES) - 1), seed=integers(0, 10**6))
def test_a_sellers_photo_has_a_clean_border(leaf: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    photo = studio_photo(drawn(leaf, seed), rng, first=True, may_mirror=False, shop="Corumi")
    border = np.concatenate([photo[:3].reshape(-1, 3), photo[-3:].reshape(-1, 3)]).astype(float)
    assert border.std(axis=0).max() < 30  # a soft shadow may reach the edge
    assert photo.mean() > 90


def test_a_near_copy_differs_in_bytes_and_not_in_kind() -> None:
    rng = np.random.default_rng(0)
    photo = studio_photo(drawn(30, 4), rng, first=True, may_mirror=False, shop="Corumi")
    copy = near_copy(photo, rng)
    small, other = (
        np.asarray(Image.fromarray(each).convert("L").resize((16, 16)), dtype=float) for each in (photo, copy)
    )
    assert copy.shape[0] <= photo.shape[0]
    assert np.abs(small - other).mean() < 16


@pytest.mark.slow
def test_colour_alone_finds_at_most_every_third_product(tmp_path: Path) -> None:
    shop = draw_shop(tmp_path, seed=9, products=280, queries=80, workers=2)
    catalogue, queries = read(shop.catalogue), read(shop.queries)
    gallery = np.stack([colours(tmp_path / row["image"], None) for row in catalogue])
    found = 0
    for row in queries:
        seen = colours(tmp_path / row["image"], row["box"])
        best = catalogue[int(np.argmax(np.minimum(seen, gallery).sum(axis=1)))]
        found += best["product_id"] == row["product_id"]
    assert 0.02 <= found / len(queries) <= 0.35


def colours(path: Path, box: str | None) -> NDArray[np.float64]:
    """Return the share of each of 8 x 8 x 8 colours in a picture or in a box of it."""
    with Image.open(path) as image:
        part = image.crop(tuple(int(value) for value in box.split(","))) if box else image  # type: ignore[arg-type]
        cells = np.asarray(part.resize((96, 96))).reshape(-1, 3) // 32
    counted = np.bincount(cells.astype(int) @ np.array([64, 8, 1]), minlength=512)
    shares: NDArray[np.float64] = counted / counted.sum()
    return shares
