"""The folder of real photographs: `manifest.csv` beside archives of images, and the rule of what may be trained on."""

import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sameitem.core.errors import NotFoundError
from sameitem.core.records import Pixels


@dataclass(frozen=True, slots=True)
class Row:
    """One image of the manifest."""

    archive: str
    member: str
    product: str  # what makes two images the same item: the visual cluster under ABO, else the product id
    category: str
    top14: str
    role: str  # query, catalogue, scene or other
    split: str  # train, val or gallery
    licence: str
    trainable: bool  # weights that ship may see it
    group: str  # what no split may tear apart: the sender of a photo where he is known, else the product


class RealSets:
    """The manifest's rows and the pixels behind them; keeps the archives open."""

    def __init__(self, folder: Path) -> None:
        """Read the manifest.

        Raises:
            NotFoundError: no manifest there.
        """
        manifest = folder / "manifest.csv"
        if not manifest.is_file():
            raise NotFoundError(f"no {manifest}; give the folder of the real photographs")
        with manifest.open(newline="") as stream:
            self.rows = [_row(cells) for cells in csv.DictReader(stream)]
        self._folder = folder
        self._archives: dict[str, zipfile.ZipFile] = {}

    def select(self, archive: str, accept: Callable[[Row], bool] = lambda row: True) -> list[Row]:
        """Return the rows of one archive (`abo`, `grocery`, …) that are accepted, in the manifest's order."""
        return [row for row in self.rows if row.archive == f"images/{archive}.zip" and accept(row)]

    def pixels(self, row: Row) -> Pixels:
        """Decode one image."""
        if row.archive not in self._archives:
            self._archives[row.archive] = zipfile.ZipFile(self._folder / row.archive)
        with Image.open(io.BytesIO(self._archives[row.archive].read(row.member))) as image:
            return np.asarray(image.convert("RGB"))


def _row(cells: dict[str, str]) -> Row:
    attributes: dict[str, Any] = json.loads(cells["attrs"] or "{}")
    cluster, sender = attributes.get("visual_cluster"), attributes.get("sender_id")
    product = cells["product_id"] if cluster is None else f"abo cluster {cluster}"
    return Row(
        archive=cells["archive"],
        member=cells["member"],
        product=product,
        category=cells["category_path"],
        top14=cells["top14"],
        role=cells["role"],
        split=cells["split"],
        licence=cells["licence"],
        trainable=cells["ship_ok"] == "1" and cells["split"] == "train",
        group=product if sender is None else f"{cells['source']} sender {sender}",
    )
