"""Rectangles from one picture's pixels to another's."""

from sameitem.core.records import Box


def scale_box(box: Box, across: float, down: float) -> Box:
    """Return the box in a picture that is `across` times as wide and `down` times as high."""
    return Box(box.left * across, box.top * down, box.right * across, box.bottom * down)
