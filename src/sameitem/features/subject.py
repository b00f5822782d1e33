"""Where the subject of a picture is and which views of it make its feature, when nobody gave a box.

A photo that a user sends: the best box of the model's detector. A catalogue image: the whole picture where its backdrop
is plain (the picture was made to show the product, and a box could only cut it), else the detector's best box too. The
choice depends on the picture and the model version alone, so that a feature is kept under both.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sameitem.core.records import Box, Pixels
from sameitem.features.colour import has_plain_backdrop
from sameitem.features.detect import Detector
from sameitem.features.preprocess import crop

CENTRED = (1.0, 0.8, 0.65)  # sides of the centred views of a whole photo, as shares of its sides


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A part of a picture and the views of it whose features are averaged; the views are no copies."""

    box: Box  # of the part, pixels of the picture
    pixels: Pixels  # the part itself
    views: tuple[Pixels, ...]  # at least one


def part_of(pixels: Pixels, box: Box) -> Subject:
    """Return the part of a picture that somebody chose: one view.

    Raises:
        InputError: nothing of the box lies inside the picture.
    """
    part = crop(pixels, box)
    return Subject(box, part, (part,))


def detected_part(pixels: Pixels, box: Box, scales: Sequence[float]) -> Subject:
    """Return the part of a picture that a detector chose: a view per scale, because its box is not always right.

    Args:
        pixels: the whole picture.
        box: in its pixels.
        scales: sides of a view as shares of the box's, around its centre; 0 = the whole picture.
    """
    views = (crop(pixels, scaled(box, scale)) if scale else pixels for scale in scales)
    return Subject(box, crop(pixels, box), tuple(views))


def whole(pixels: Pixels) -> Box:
    """Return the box that leaves nothing of a picture out."""
    return Box(0.0, 0.0, float(pixels.shape[1]), float(pixels.shape[0]))


def scaled(box: Box, scale: float) -> Box:
    """Return the box around the same centre with sides `scale` times as long; it may reach out of the picture."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    half_width, half_height = scale * (box.right - box.left) / 2, scale * (box.bottom - box.top) / 2
    return Box(x - half_width, y - half_height, x + half_width, y + half_height)


def catalogue_subjects(pictures: Sequence[Pixels], detector: Detector | None) -> list[Subject]:
    """Return the subjects of catalogue images that came without a box; the whole picture where there is no detector.

    Raises:
        ShapeError: not an RGB picture.
        InputError: the detector's graph failed.
    """
    subjects = [part_of(picture, whole(picture)) for picture in pictures]
    if detector is None:
        return subjects
    busy: NDArray[np.int64] = np.flatnonzero([not has_plain_backdrop(picture) for picture in pictures])
    for row, detection in zip(busy, detector.detect([pictures[row] for row in busy]), strict=True):
        subjects[row] = detected_part(pictures[row], detection.boxes[0], detector.views)
    return subjects


def user_subjects(photos: Sequence[Pixels], detector: Detector | None) -> list[Subject]:
    """Return the subjects of photos that users sent; centred views of the whole photo where there is no detector.

    Raises:
        ShapeError: not an RGB picture.
        InputError: the detector's graph failed.
    """
    if detector is None:
        return [centred_views(photo) for photo in photos]
    found = zip(photos, detector.detect(photos), strict=True)
    return [detected_part(photo, detection.boxes[0], detector.views) for photo, detection in found]


def centred_views(photo: Pixels) -> Subject:
    """Return the whole of a photo, seen in views around its middle, where its subject is likely to be.

    Source: docs/decisions/0003-whole-photo-queries.md.
    """
    return Subject(whole(photo), photo, tuple(crop(photo, scaled(whole(photo), scale)) for scale in CENTRED))
