"""The demo shop: a catalogue, its pictures and users' photos with known answers, drawn by our own code from a seed."""

import csv
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image

from sameitem.core.errors import InputError
from sameitem.core.records import Box, Pixels
from sameitem.upkeep.drawing import accessories, clothing, fresh, home, packs
from sameitem.upkeep.drawing.canvas import Canvas, Sprite
from sameitem.upkeep.drawing.marks import WORDS, brand_name
from sameitem.upkeep.drawing.patterns import FABRIC, GLAZE, LEATHER, METALS, PACK, WOOD, Palette
from sameitem.upkeep.drawing.photos import SLICES, near_copy, snapshot, studio_photo

Draw = Callable[[Canvas, Generator, Palette, str], str]

CATALOGUE_COLUMNS = (
    "product_id",
    "image",
    "kind",
    "category",
    "title",
    "brand",
    "url",
    "price",
    "currency",
    "sales",
    "conversion_rate",
    "ctr",
    "rating",
    "review_count",
    "in_stock",
    "seller_quality",
    "colour",
    "material",
)
QUERY_COLUMNS = ("image", "product_id", "category", "box", "slice")
PLANTED_COLUMNS = ("image", "product_id", "duplicate_of_image", "duplicate_of_product_id")
_PLANTED_SHARE = 0.05
_CLUTTER = 28  # things that lie about in users' photos; none of them is sold


@dataclass(frozen=True, slots=True)
class Leaf:
    """A leaf category: how its products look, what they are called and what they cost."""

    category: str
    noun: str
    draw: Draw
    palettes: tuple[Palette, ...]
    price: tuple[float, float]
    may_mirror: bool = False  # a mirrored picture still looks right: nothing is written on it


LEAVES = (
    Leaf("tops > t-shirts", "T-shirt", clothing.t_shirt, FABRIC, (8, 35)),
    Leaf("tops > shirts", "Shirt", clothing.shirt, FABRIC, (18, 70)),
    Leaf("tops > sweaters", "Sweater", clothing.sweater, FABRIC, (22, 95)),
    Leaf("bottoms > trousers", "Trousers", clothing.trousers, FABRIC, (20, 90)),
    Leaf("bottoms > shorts", "Shorts", clothing.shorts, FABRIC, (12, 45)),
    Leaf("bottoms > skirts", "Skirt", clothing.skirt, FABRIC, (15, 70)),
    Leaf("dresses_ethnic > dresses", "Dress", clothing.dress, FABRIC, (25, 140)),
    Leaf("dresses_ethnic > robes", "Robe", clothing.robe, FABRIC, (30, 160)),
    Leaf("dresses_ethnic > tunics", "Embroidered tunic", clothing.tunic, FABRIC, (22, 110)),
    Leaf("outerwear > jackets", "Jacket", clothing.jacket, FABRIC, (45, 220)),
    Leaf("outerwear > coats", "Coat", clothing.coat, FABRIC, (70, 320)),
    Leaf("outerwear > puffer jackets", "Puffer jacket", clothing.puffer, FABRIC, (50, 260)),
    Leaf("shoes > sneakers", "Sneaker", accessories.sneaker, FABRIC, (35, 150), True),
    Leaf("shoes > boots", "Boot", accessories.boot, LEATHER, (60, 240), True),
    Leaf("shoes > heels", "Heeled shoe", accessories.heel, LEATHER + FABRIC, (40, 190), True),
    Leaf("bags_wallets > handbags", "Handbag", accessories.handbag, LEATHER, (40, 380)),
    Leaf("bags_wallets > tote bags", "Tote bag", accessories.tote, FABRIC, (12, 60)),
    Leaf("bags_wallets > backpacks", "Backpack", accessories.backpack, FABRIC, (30, 140)),
    Leaf("bags_wallets > wallets", "Wallet", accessories.wallet, LEATHER, (15, 110)),
    Leaf("watches > round watches", "Watch", accessories.round_watch, METALS, (40, 600)),
    Leaf("watches > square watches", "Square watch", accessories.square_watch, METALS, (30, 420)),
    Leaf("jewellery_accessories > rings", "Ring", accessories.ring, METALS[:3], (25, 900)),
    Leaf("jewellery_accessories > necklaces", "Necklace", accessories.necklace, METALS[:3], (20, 600)),
    Leaf("jewellery_accessories > earrings", "Earrings", accessories.earrings, METALS[:3], (12, 300)),
    Leaf("jewellery_accessories > sunglasses", "Sunglasses", accessories.sunglasses, LEATHER + METALS, (15, 180)),
    Leaf("jewellery_accessories > hats", "Hat", accessories.hat, FABRIC, (12, 60)),
    Leaf("beauty > perfume", "Eau de parfum", packs.perfume, PACK, (25, 160)),
    Leaf("beauty > lipstick", "Lipstick", packs.lipstick, PACK, (6, 38)),
    Leaf("beauty > skin care", "Cream", packs.cream_jar, PACK, (9, 90)),
    Leaf("beauty > bath and body", "Lotion", packs.pump_bottle, PACK, (5, 32)),
    Leaf("beauty > make-up palettes", "Eye shadow palette", packs.makeup_palette, PACK, (12, 60)),
    Leaf("furniture > chairs", "Chair", home.chair, WOOD, (45, 320)),
    Leaf("furniture > tables", "Table", home.table, WOOD, (80, 650), True),
    Leaf("furniture > sofas", "Sofa", home.sofa, WOOD, (240, 1600), True),
    Leaf("furniture > cabinets", "Cabinet", home.cabinet, WOOD, (90, 900)),
    Leaf("home_decor_lighting > table lamps", "Table lamp", home.lamp, GLAZE, (25, 190), True),
    Leaf("home_decor_lighting > pendant lamps", "Pendant lamp", home.pendant, GLAZE + METALS, (30, 260), True),
    Leaf("home_decor_lighting > vases", "Vase", home.vase, GLAZE, (12, 120)),
    Leaf("home_decor_lighting > pictures", "Framed print", home.picture, FABRIC, (15, 130)),
    Leaf("home_decor_lighting > cushions", "Cushion", home.cushion, FABRIC, (10, 55)),
    Leaf("home_decor_lighting > clocks", "Wall clock", home.wall_clock, WOOD, (18, 110)),
    Leaf("household_office > mugs", "Mug", home.mug, GLAZE, (5, 28)),
    Leaf("household_office > pots and kettles", "Pot", home.pan, GLAZE + METALS, (18, 140)),
    Leaf("household_office > flasks", "Vacuum flask", home.flask, GLAZE + METALS, (10, 48)),
    Leaf("household_office > notebooks", "Notebook", home.notebook, FABRIC, (4, 28)),
    Leaf("household_office > storage", "Storage box", home.storage_tin, PACK, (6, 40)),
    Leaf("packaged_food_drink > cartons", "Carton", packs.carton, PACK, (2, 9)),
    Leaf("packaged_food_drink > cans", "Can", packs.can, PACK, (1, 6)),
    Leaf("packaged_food_drink > snacks", "Snack bag", packs.snack_bag, PACK, (1, 6)),
    Leaf("packaged_food_drink > bottles", "Bottle", packs.drink_bottle, PACK, (2, 24)),
    Leaf("packaged_food_drink > preserves", "Jar", packs.preserve_jar, PACK, (2, 12)),
    Leaf("fresh_food > fruit and vegetables", "Tray", fresh.fruit_tray, PACK, (2, 9)),
    Leaf("fresh_food > bunches", "Bunch", fresh.bunch, PACK, (1, 6)),
    Leaf("fresh_food > bread", "Bread", fresh.bread, PACK, (2, 8)),
    Leaf("fresh_food > cakes", "Cake", fresh.cake, PACK, (12, 60)),
    Leaf("fresh_food > pizza and bowls", "Dish", fresh.pizza, GLAZE, (5, 18)),
    Leaf("fresh_food > cheese", "Cheese", fresh.cheese, PACK, (3, 20)),
)
TOP_CATEGORIES = tuple(dict.fromkeys(leaf.category.split(" > ")[0] for leaf in LEAVES))


@dataclass(frozen=True, slots=True)
class DemoShop:
    """Where a drawn shop lies and how much is in it."""

    folder: Path
    catalogue: Path  # CSV, one row per picture
    queries: Path  # CSV, one row per user photo
    planted: Path  # CSV, one row per picture that nearly repeats another seller's
    products: int
    images: int
    query_photos: int
    planted_products: int


@dataclass(frozen=True, slots=True)
class _Order:
    """One product to draw: `design` differs from `number` where it repeats an earlier product's."""

    folder: Path
    seed: int
    number: int
    design: int
    leaf: int
    trouble: str | None  # the slice of its user photo; None = no photo is asked for


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The rows that one product adds to the three files."""

    catalogue: tuple[dict[str, str], ...]
    planted: tuple[dict[str, str], ...]
    query: dict[str, str] | None


def draw_shop(
    folder: Path,
    *,
    seed: int = 1,
    products: int = 1400,
    queries: int = 400,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> DemoShop:
    """Draw a shop and users' photos into a folder: the same bytes for the same seed, however many workers draw.

    One product in twenty repeats another seller's pictures nearly; neither it nor the product it repeats is asked for.

    Args:
        folder: made when missing; catalogue.csv, queries.csv, planted.csv, images/ and queries/ in it are replaced.
        seed: of everything that is drawn.
        products: how many to draw, spread evenly over the 14 top categories; at least one for each.
        queries: how many user photos, each of another product.
        workers: processes that draw; 1 draws in this one.
        progress: called with the products drawn and all products after each.

    Raises:
        InputError: a count is out of range.
    """
    orders = _orders(folder, seed=seed, products=products, queries=queries)
    if workers < 1:
        raise InputError(f"need at least 1 worker, got {workers}; give the number of cores", field="workers")
    for name in ("images", "queries"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for old in (folder / name).glob("*.jpg"):
            old.unlink()
    drawn: list[_Drawn] = []
    for done, each in enumerate(_drawn(orders, workers), start=1):
        drawn.append(each)
        if progress is not None:
            progress(done, products)
    shop = DemoShop(
        folder,
        folder / "catalogue.csv",
        folder / "queries.csv",
        folder / "planted.csv",
        products=products,
        images=sum(len(each.catalogue) for each in drawn),
        query_photos=queries,
        planted_products=sum(order.design != order.number for order in orders),
    )
    _write(shop.catalogue, CATALOGUE_COLUMNS, [row for each in drawn for row in each.catalogue])
    _write(shop.queries, QUERY_COLUMNS, [each.query for each in drawn if each.query is not None])
    _write(shop.planted, PLANTED_COLUMNS, [row for each in drawn for row in each.planted])
    return shop


def _orders(folder: Path, *, seed: int, products: int, queries: int) -> list[_Order]:
    """Decide what each product is: its leaf, whether it repeats another, whether a user asks for it."""
    if products < len(TOP_CATEGORIES):
        raise InputError(
            f"need at least {len(TOP_CATEGORIES)} products, one for each top category, got {products}", field="products"
        )
    rng = np.random.default_rng([seed, 0])
    copies = int(products * _PLANTED_SHARE)
    originals = products - copies
    repeated = np.sort(rng.choice(originals, copies, replace=False))
    alone = np.setdiff1d(np.arange(originals), repeated)
    if not 0 <= queries <= len(alone):
        raise InputError(f"need 0 to {len(alone)} queries for {products} products, got {queries}", field="queries")
    asked = dict(zip((int(n) for n in rng.permutation(alone)[:queries]), _cycled(SLICES, queries), strict=True))
    by_top = [[i for i, leaf in enumerate(LEAVES) if leaf.category.startswith(f"{top} > ")] for top in TOP_CATEGORIES]

    def leaf_of(design: int) -> int:
        leaves = by_top[design % len(by_top)]
        return leaves[design // len(by_top) % len(leaves)]

    designs = [*range(originals), *(int(n) for n in repeated)]
    return [
        _Order(folder, seed, number, design, leaf_of(design), asked.get(number))
        for number, design in enumerate(designs)
    ]


def _cycled(names: Sequence[str], count: int) -> list[str]:
    return [names[i % len(names)] for i in range(count)]


def _drawn(orders: Sequence[_Order], workers: int) -> Iterator[_Drawn]:
    """Draw every product, in order."""
    if workers == 1:
        yield from map(_draw_product, orders)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_draw_product, orders, chunksize=4)


def _draw_product(order: _Order) -> _Drawn:
    """Draw one product's pictures, and its user photo, and return their rows."""
    leaf = LEAVES[order.leaf]
    look = np.random.default_rng([order.seed, 1, order.design])
    palette = leaf.palettes[look.integers(0, len(leaf.palettes))]
    brand = brand_name(look)
    canvas = Canvas()
    material = leaf.draw(canvas, look, palette, brand)
    sprite = canvas.cut_out()
    facts = _facts(order, leaf, palette, brand, material)
    catalogue, planted = [], []
    for view in range(int(look.integers(2, 5))):
        photo = studio_photo(
            sprite,
            np.random.default_rng([order.seed, 2, order.design, view]),
            first=view == 0,
            may_mirror=leaf.may_mirror,
            shop=brand,
        )
        image = _image_name(order.number, view)
        if order.design != order.number:
            photo = near_copy(photo, np.random.default_rng([order.seed, 3, order.number, view]))
            original = {
                "duplicate_of_image": _image_name(order.design, view),
                "duplicate_of_product_id": _product_id(order.design),
            }
            planted.append({"image": image, "product_id": facts["product_id"], **original})
        _save(order.folder / image, photo, quality=90)
        catalogue.append({"image": image, "kind": "main" if view == 0 else "sku" if view == 1 else "other", **facts})
    query = None
    if order.trouble is not None:
        taken = snapshot(
            sprite,
            np.random.default_rng([order.seed, 4, order.number]),
            trouble=order.trouble,
            other_thing=partial(_other_thing, order.seed),
        )
        image = f"queries/q{order.number:05d}.jpg"
        _save(order.folder / image, taken.pixels, quality=taken.quality)
        query = {
            "image": image,
            "product_id": facts["product_id"],
            "category": leaf.category,
            "box": _written(taken.box),
            "slice": order.trouble,
        }
    return _Drawn(tuple(catalogue), tuple(planted), query)


def _facts(order: _Order, leaf: Leaf, palette: Palette, brand: str, material: str) -> dict[str, str]:
    """Invent what the shop says about a product; its popularity follows a long tail."""
    rng = np.random.default_rng([order.seed, 5, order.number])
    if order.design != order.number:
        brand = brand_name(rng)
    model = WORDS[rng.integers(0, len(WORDS))].capitalize()
    low, high = leaf.price
    price = low * (high / low) ** rng.random()
    sales = int(rng.lognormal(3.6, 1.4))
    ctr = float(rng.beta(2, 40))
    product_id = _product_id(order.number)
    return {
        "product_id": product_id,
        "category": leaf.category,
        "title": f"{brand} {model} {leaf.noun.lower()}, {palette.name}, {material}",
        "brand": brand,
        "url": f"https://shop.example/item/{product_id}",
        "price": f"{np.floor(price) + rng.choice([0.0, 0.49, 0.9, 0.99]):.2f}",
        "currency": "EUR",
        "sales": str(sales),
        "conversion_rate": f"{rng.beta(2, 50):.4f}",
        "ctr": f"{ctr:.4f}",
        "rating": f"{min(5.0, max(1.0, rng.normal(4.3, 0.4))):.1f}",
        "review_count": str(int(sales * rng.uniform(0.02, 0.3))),
        "in_stock": "true" if rng.random() < 0.93 else "false",
        "seller_quality": f"{rng.beta(6, 2):.2f}",
        "colour": palette.name,
        "material": material,
    }


def _other_thing(seed: int, rng: Generator) -> Sprite:
    return _thing(seed, int(rng.integers(0, _CLUTTER)))


@lru_cache(maxsize=_CLUTTER)
def _thing(seed: int, number: int) -> Sprite:
    """Draw one of the things that lie about in users' photos."""
    rng = np.random.default_rng([seed, 6, number])
    leaf = LEAVES[rng.integers(0, len(LEAVES))]
    canvas = Canvas()
    leaf.draw(canvas, rng, leaf.palettes[rng.integers(0, len(leaf.palettes))], brand_name(rng))
    return canvas.cut_out()


def _product_id(number: int) -> str:
    return f"P{number:05d}"


def _image_name(number: int, view: int) -> str:
    return f"images/p{number:05d}-{view + 1}.jpg"


def _written(box: Box) -> str:
    return f"{box.left:.0f},{box.top:.0f},{box.right:.0f},{box.bottom:.0f}"


def _save(path: Path, photo: Pixels, *, quality: int) -> None:
    Image.fromarray(photo).save(path, "JPEG", quality=quality)


def _write(path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
