"""A small shop of dark things whose model finds them: pictures on plain and on busy backdrops, photos of users."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from drawn_graphs import photo_of_a_thing, write_detecting
from sameitem.core.records import Box, ProductId
from sameitem.pipeline.shop import Shop
from shops import import_source, open_shop

SIZE = (400, 300)  # width and height of the users' photos
CATEGORIES = ("shoes", "tops")  # of the products, in turn; the drawn detector tells reddish photos from bluish ones
MODEL = "finder"
VIEWS = (0.9, 0.7)  # inside the box, whose edges are coarse
DARKNESS = 45  # grey levels of the things' patches end here


@dataclass(frozen=True)
class Things:
    """An open shop, and photos of its products with their true boxes."""

    shop: Shop
    photos: list[tuple[Path, ProductId, Box]]


def open_things(folder: Path, **flags: object) -> Shop:
    """Open the shop's folder; things differ too little in the dark to be folded as duplicates."""
    return open_shop(folder, model={"active": MODEL}, selection={"duplicate_distance": 0.0}, **flags)


def draw_things(folder: Path, *, products: int = 12, **flags: object) -> Things:
    """Draw a shop and import it; it is not built yet.

    Products with an even number fill a picture on a plain backdrop, the others lie somewhere on a busy one.
    """
    shop = open_things(folder / "shop", **flags)
    write_detecting(shop.models_root / MODEL, categories=("tops", "shoes"), views=VIEWS, grey=DARKNESS / 2)
    pictures = folder / "pictures"
    pictures.mkdir()
    photos = []
    with (folder / "feed.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["product_id", "image", "category", "price"])
        for number in range(products):
            generator = np.random.default_rng(number)
            thing = generator.integers(0, DARKNESS, (6, 6, 3), dtype=np.uint8)
            listed = pictures / f"{number}.jpg"
            if number % 2 == 0:
                plain = np.full((200, 200, 3), DARKNESS // 2, np.uint8)
                listed.write_bytes(jpeg(photo_of_a_thing((9, 9, 191, 191), thing=thing, backdrop=plain)))
            else:
                listed.write_bytes(jpeg(photo_of_a_thing((110, 60, 290, 240), thing=thing, backdrop=_busy(generator))))
            leaf = f"{CATEGORIES[number % 2]} > kind {number % 4}"
            writer.writerow([f"T{number}", listed, leaf, 10 + number])
            left, top = generator.integers(110, 200), generator.integers(80, 160)  # clear of the corner
            box = (int(left), int(top), int(left) + 130, int(top) + 130)
            photo = pictures / f"user-{number}.jpg"
            photo.write_bytes(jpeg(photo_of_a_thing(box, thing=thing, backdrop=_busy(generator))))
            photos.append((photo, ProductId(f"T{number}"), Box(*map(float, box))))
    import_source(shop, folder / "feed.csv")
    return Things(shop, photos)


def jpeg(pixels: NDArray[np.uint8]) -> bytes:
    """Encode a picture."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92)
    return out.getvalue()


def _busy(generator: np.random.Generator) -> NDArray[np.uint8]:
    """Draw a backdrop of soft spots of every colour, nowhere dark and without straight edges."""
    spots = generator.integers(130, 255, (6, 8, 3), dtype=np.uint8)
    soft = np.asarray(Image.fromarray(spots).resize(SIZE, Image.Resampling.BICUBIC))
    return np.maximum(soft, 100)
