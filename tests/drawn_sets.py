"""A small folder in the format of the real photographs: a manifest beside archives of drawn pictures."""

import csv
import io
import json
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

COLUMNS = (
    *("archive", "member", "source", "product_id", "category_path", "top14", "role", "split", "box"),
    *("width", "height", "orig_width", "orig_height", "attrs", "licence", "ship_ok"),
)

# archive, how many, category, top14, roles and splits in turn, ship_ok, cluster
PLAN = [
    ("grocery", 6, "Packages > Milk", "packaged_food_drink", (("catalogue", "gallery"), ("query", "val")), "1"),
    ("grocery", 4, "Fruit", "fresh_food", (("query", "train"),), "1"),
    ("eafit_dev", 6, "Lab parts", "", (("catalogue", "val"), ("query", "val")), "0"),
    ("clothing", 60, "Clothing", "tops", (("query", "train"), ("query", "val")), "1"),
    ("clothing", 3, "", "", (("query", "train"),), "1"),
    ("abo", 8, "Home", "furniture", (("catalogue", "train"), ("catalogue", "val")), "1"),
    ("fashion_hi", 70, "Bags", "bags_wallets", (("catalogue", "train"), ("catalogue", "val")), "0"),
]


def draw_sets(folder: Path) -> None:
    """Draw pictures of one colour pattern per product; a query and a catalogue image of one product are equal."""
    (folder / "images").mkdir()
    rows = []
    archives: dict[str, zipfile.ZipFile] = {}
    for number, (archive, count, category, top14, turns, ship_ok) in enumerate(PLAN):
        if archive not in archives:
            archives[archive] = zipfile.ZipFile(folder / "images" / f"{archive}.zip", "w")
        for place in range(count):
            product = f"{archive}/{number}-{place // 2}"
            pattern = np.random.default_rng([number, place // 2]).integers(0, 256, (4, 4, 3), dtype=np.uint8)
            picture = io.BytesIO()
            Image.fromarray(pattern).resize((40, 40), Image.Resampling.NEAREST).save(picture, "PNG")
            member = f"{archive}/{number}-{place}.png"
            archives[archive].writestr(member, picture.getvalue())
            role, split = turns[place % len(turns)]
            rows.append(
                dict.fromkeys(COLUMNS, "")
                | {
                    "archive": f"images/{archive}.zip",
                    "member": member,
                    "product_id": f"{member}" if archive == "abo" else product,
                    "category_path": f"{category} {place % 4 // 2}" if category else "",
                    "top14": top14,
                    "role": role,
                    "split": split,
                    "attrs": json.dumps({"visual_cluster": place // 2}) if archive == "abo" else "",
                    "licence": "CC0-1.0",
                    "ship_ok": ship_ok,
                }
            )
    for target in archives.values():
        target.close()
    with (folder / "manifest.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
