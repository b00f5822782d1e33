"""The drawn world of the simulated month: products, their sellers, and the photos of thirty days, from a seed.

A shop of few kinds of things, as most shops are: a design has a shape and a colour way, other designs have the same
shape in another colour way, and one to three sellers offer each design with pictures and prices of their own. Whoever
photographs a design is right to find any of its offers. Users' photos are taken in a look of this shop's customers that
no drawn photo elsewhere has: under one kind of light, by one kind of phone. All photos of all days come from the same
generator, and photos that test are never searched with by shoppers.

The folder that is written, all files relative to it:

    catalogue.csv  as `sameitem import` reads it, with the columns `design` and `day` besides: one row per picture
    photos.csv     image, design, day, use: shoppers' photos by day, photos that test from their day on, and some that
                   the shop has labelled for its gate
    gate.csv       those, as `sameitem evaluate` reads labelled photos
    images/, photos/
"""

import csv
import json
import multiprocessing
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from sameitem.core.records import Pixels
from sameitem.upkeep.demo_shop import CATALOGUE_COLUMNS, LEAVES, Leaf
from sameitem.upkeep.drawing.canvas import Canvas, Sprite
from sameitem.upkeep.drawing.marks import WORDS, brand_name
from sameitem.upkeep.drawing.photos import SLICES, snapshot, studio_photo

SOLD = (  # leaf categories of the shop
    "shoes > sneakers",
    "bags_wallets > backpacks",
    "bags_wallets > handbags",
    "tops > t-shirts",
    "home_decor_lighting > cushions",
    "household_office > mugs",
)
DAYS = 30
DESIGNS, DESIGNS_A_DAY = 120, 6  # at the start, and new ones each day
WAYS = 3  # colour ways of a shape
SELLERS = (0.5, 0.3, 0.2)  # share of designs with one, two, three offers
PICTURES = 2  # of an offer
NEVER = 0.2  # share of designs that no shopper looks for
TESTS = 1  # test photos of a design
LABELLED = 2  # photos that the shop has labelled for its gate, of each design there from the start with one offer
HISTORY = 1500  # photos that shoppers have searched with before the first day
SIDE_PX = 320  # longest side of every picture
BRANDS = 12
DONE = "world.json"  # written last
SHOPPER, TEST, GATE = "shopper", "test", "gate"
CATALOGUE, PHOTOS, GATE_QUERIES = "catalogue.csv", "photos.csv", "gate.csv"
_CLUTTER = 28  # things that lie about in users' photos; none of them is sold
_LONG_TAIL = 0.7  # standard deviation of the logarithm of how often a design is photographed


@dataclass(frozen=True, slots=True)
class Plan:
    """How large a world is."""

    seed: int
    days: int = DAYS
    a_day: int = 120  # photos that shoppers search with
    history: int = HISTORY
    designs: int = DESIGNS


@dataclass(frozen=True, slots=True)
class Design:
    """What a picture shows."""

    number: int
    shape: int
    way: int  # which colour way of the shape
    day: int  # from which it is sold, 0 = from the start
    sellers: int
    is_wanted: bool  # by shoppers

    @property
    def products(self) -> tuple[str, ...]:
        """Ids of the offers."""
        return tuple(f"D{self.number:04d}-{seller}" for seller in range(self.sellers))


@dataclass(frozen=True, slots=True)
class Photo:
    """A user's photo."""

    image: str  # file, relative to the world
    design: int
    day: int  # it is taken on; a test photo tests from then on
    use: str


def draw_world(folder: Path, plan: Plan, *, workers: int, tell: Callable[[int, int], None]) -> None:
    """Draw a world into a folder: the same bytes for the same plan, however many workers draw.

    Pictures that are there stay: a longer plan of the same seed goes on where a shorter one ended.
    """
    done = folder / DONE
    if done.is_file() and json.loads(done.read_text()) == asdict(plan):
        return
    done.unlink(missing_ok=True)
    for name in ("images", "photos"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    designs, photos = designs_of(plan), photos_of(plan)
    wanted: dict[int, list[Photo]] = {design.number: [] for design in designs}
    for photo in photos:
        wanted[photo.design].append(photo)
    orders = [_Order(folder, plan.seed, design, tuple(wanted[design.number])) for design in designs]
    rows: list[dict[str, str]] = []
    for number, drawn in enumerate(_drawn(orders, workers), 1):
        rows += drawn
        tell(number, len(orders))
    _write(folder / CATALOGUE, (*CATALOGUE_COLUMNS, "design", "day"), rows)
    _write(folder / PHOTOS, ("image", "design", "day", "use"), [asdict(photo) for photo in photos])
    labelled = [{"image": p.image, "product_id": designs[p.design].products[0]} for p in photos if p.use == GATE]
    _write(folder / GATE_QUERIES, ("image", "product_id"), labelled)
    done.write_text(json.dumps(asdict(plan)))


def photos_of(plan: Plan) -> list[Photo]:
    """Return every photo of a world: the shoppers' day by day, then those that test."""
    designs = designs_of(plan)
    liked = np.random.default_rng([plan.seed, 5]).lognormal(0, _LONG_TAIL, len(designs))
    photos = []
    for day in range(plan.days + 1):
        sold = liked * [design.is_wanted and design.day <= day for design in designs]
        generator = np.random.default_rng([plan.seed, 5, day])
        chosen = generator.choice(len(designs), plan.a_day if day else plan.history, p=sold / sold.sum())
        photos += [
            Photo(f"photos/s{day:02d}-{n:04d}.jpg", int(design), day, SHOPPER) for n, design in enumerate(chosen)
        ]
    tests = [(design, n) for design in designs for n in range(TESTS)]
    photos += [Photo(f"photos/t{d.number:04d}-{n}.jpg", d.number, d.day, TEST) for d, n in tests]
    labelled = [(design, n) for design in designs if design.day == 0 and design.sellers == 1 for n in range(LABELLED)]
    return photos + [Photo(f"photos/g{d.number:04d}-{n}.jpg", d.number, 0, GATE) for d, n in labelled]


@dataclass(frozen=True, slots=True)
class _Order:
    folder: Path
    seed: int
    design: Design
    photos: tuple[Photo, ...]


def _drawn(orders: Sequence[_Order], workers: int) -> Iterator[list[dict[str, str]]]:
    if workers == 1:
        yield from map(_draw_design, orders)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_draw_design, orders, chunksize=2)


def _draw_design(order: _Order) -> list[dict[str, str]]:
    """Draw a design's pictures and photos, and return the catalogue's rows."""
    design = order.design
    sprite, brand = _sprite(order.seed, design.shape, design.way)
    for photo in order.photos:
        if not (order.folder / photo.image).is_file():
            _save(taken(order.seed, design, photo.image), order.folder / photo.image)
    rows = []
    for seller, product in enumerate(design.products):
        facts = _facts(order.seed, design, seller, product)
        for view in range(PICTURES):
            rng = np.random.default_rng([order.seed, 6, design.number, seller, view])
            image = f"images/{product}-{view}.jpg"
            if not (order.folder / image).is_file():
                picture = studio_photo(sprite, rng, first=view == 0, may_mirror=False, shop=brand)
                _save(small(picture), order.folder / image)
            rows.append({"image": image, "kind": "main" if view == 0 else "sku", **facts})
    return rows


def _facts(seed: int, design: Design, seller: int, product: str) -> dict[str, str]:
    """Invent what a seller says about an offer."""
    rng, leaf = np.random.default_rng([seed, 7, design.number, seller]), _leaf(design.shape)
    low, high = leaf.price
    common = np.random.default_rng([seed, 8, design.shape]).random()  # offers of a shape cost about the same
    price = low * (high / low) ** np.clip(common + rng.normal(0, 0.15), 0, 1)
    sales = int(rng.lognormal(3.6, 1.4))
    brand = f"{WORDS[int(rng.integers(BRANDS))].capitalize()} Store"
    return {
        "product_id": product,
        "category": leaf.category,
        "title": f"{leaf.noun} {design.shape}, {design.way + 1}",
        "brand": brand,
        "url": f"https://shop.example/item/{product}",
        "price": f"{price:.2f}",
        "currency": "EUR",
        "sales": str(sales),
        "conversion_rate": f"{rng.beta(2, 50):.4f}",
        "ctr": f"{rng.beta(2, 40):.4f}",
        "rating": f"{min(5.0, max(1.0, rng.normal(4.3, 0.4))):.1f}",
        "review_count": str(int(sales * rng.uniform(0.02, 0.3))),
        "in_stock": "true",
        "seller_quality": f"{rng.beta(6, 2):.2f}",
        "colour": "",
        "material": "",
        "design": str(design.number),
        "day": str(design.day),
    }


def designs_of(plan: Plan) -> list[Design]:
    """Return every design of a world; those of a shape come beside each other."""
    generator = np.random.default_rng([plan.seed, 0])
    made = []
    for number in range(plan.designs + DESIGNS_A_DAY * plan.days):
        day = 0 if number < plan.designs else 1 + (number - plan.designs) // DESIGNS_A_DAY
        made.append(
            Design(
                number,
                shape=number // WAYS,
                way=number % WAYS,
                day=day,
                sellers=1 + int(generator.choice(3, p=SELLERS)),
                is_wanted=bool(generator.random() >= NEVER),
            )
        )
    return made


def _leaf(shape: int) -> Leaf:
    name = SOLD[shape % len(SOLD)]
    return next(leaf for leaf in LEAVES if leaf.category == name)


@lru_cache(maxsize=256)
def _sprite(seed: int, shape: int, way: int) -> tuple[Sprite, str]:
    """Draw a shape in one of its colour ways, and say what is written on it."""
    leaf = _leaf(shape)
    order = np.random.default_rng([seed, 1, shape]).permutation(len(leaf.palettes))
    palette = leaf.palettes[order[way % len(order)]]
    look = np.random.default_rng([seed, 2, shape])
    brand = brand_name(look)
    canvas = Canvas()
    leaf.draw(canvas, look, palette, brand)
    return canvas.cut_out(), brand


def small(pixels: Pixels) -> Image.Image:
    """Make a picture as small as all of this world are."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image


def taken(seed: int, design: Design, name: str) -> Image.Image:
    """Photograph a design as this shop's customers do; the photo's name says how it comes out."""
    rng = np.random.default_rng([seed, 3, design.number, zlib.crc32(name.encode())])
    trouble = SLICES[rng.integers(0, len(SLICES))]
    sprite, _ = _sprite(seed, design.shape, design.way)
    shot = snapshot(sprite, rng, trouble=trouble, other_thing=partial(_other_thing, seed))
    return styled(small(shot.pixels), rng)


def styled(image: Image.Image, rng: Generator) -> Image.Image:
    """Give a photo the customers' look: coloured light, dull colours, dark corners, a cheap lens."""
    values = np.asarray(image, np.float32) / 255
    height, width = values.shape[:2]
    grey = values.mean(axis=2, keepdims=True)
    values = grey + (values - grey) * np.float32(rng.uniform(0.35, 0.75))
    warm = rng.uniform(0.1, 0.45)
    values = values * np.array([1.0, 1 - 0.45 * warm, 1 - 1.2 * warm], np.float32)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    values = values * (1 - rng.uniform(0.2, 0.6) * np.clip(x * x + y * y, 0, 1.5) / 1.5)[:, :, None].astype(np.float32)
    values = np.float32(rng.uniform(0.55, 0.95)) * values ** np.float32(rng.uniform(0.8, 1.5)) + np.float32(
        rng.uniform(0.0, 0.12)
    )
    made = Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))
    return made.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.2, 1.3))))


def _other_thing(seed: int, rng: Generator) -> Sprite:
    return _thing(seed, int(rng.integers(0, _CLUTTER)))


@lru_cache(maxsize=_CLUTTER)
def _thing(seed: int, number: int) -> Sprite:
    rng = np.random.default_rng([seed, 4, number])
    leaf = LEAVES[rng.integers(0, len(LEAVES))]
    canvas = Canvas()
    leaf.draw(canvas, rng, leaf.palettes[rng.integers(0, len(leaf.palettes))], brand_name(rng))
    return canvas.cut_out()


def _save(image: Image.Image, path: Path) -> None:
    """Write a picture whole or not at all."""
    draft = path.with_suffix(".part")
    image.save(draft, "JPEG", quality=82)
    draft.rename(path)


def _write(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
