"""A transparent picture on which a thing is laid part by part, from back to front, and the outlines it is made of.

Coordinates are shares of the canvas's side: x to the right, y down, 0..1.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from sameitem.core.records import Pixels

Points = NDArray[np.float64]  # (points, 2): x, y
Shares = NDArray[np.float32]  # (height, width), 0..1
Colour = tuple[int, int, int]
Paint = Colour | Pixels  # one colour, or a picture of the canvas's size to cut the part from

SIDE_PX = 432  # of a canvas: a little more than a thing measures in a photo
_FINER = 2  # outlines are filled at this many times the resolution, then averaged


@dataclass(frozen=True, slots=True)
class Form:
    """How a part takes the light, which comes from the upper left.

    `bulge` is the width of the rounded rim and `depth` its contrast; `turn` says whether the whole part is flat, a
    cylinder lying across x, one lying across y, or a ball; `gloss` is the strength of the highlight.
    """

    bulge: float = 0.02
    depth: float = 0.5
    turn: str = "flat"
    gloss: float = 0.0


FLAT = Form(0.0)
PANEL = Form(0.008, 0.5)
CLOTH = Form(0.03, 0.5)
SOFT = Form(0.055, 0.6)
TUBE = Form(0.0, 0.6, "x", 0.15)
ROD = Form(0.0, 0.6, "y", 0.15)
GLASS = Form(0.01, 0.5, "x", 0.55)
METAL = Form(0.012, 0.7, "x", 0.7)
BALL = Form(0.0, 0.7, "ball", 0.35)
GEM = Form(0.01, 0.9, "ball", 0.9)


def points(*pairs: tuple[float, float]) -> Points:
    """Return the corners given as x, y pairs."""
    return np.array(pairs, dtype=np.float64)


def smooth(corners: Points, *, closed: bool = True, steps: int = 8) -> Points:
    """Return the Catmull-Rom curve through the corners, `steps` points for each of them."""
    around = (
        np.concatenate([corners[-1:], corners, corners[:2]])
        if closed
        else np.concatenate([corners[:1], corners, corners[-1:]])
    )
    before, start, end, after = around[:-3, None], around[1:-2, None], around[2:-1, None], around[3:, None]
    t = (np.arange(steps) / steps)[None, :, None]
    spline = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    curve: Points = spline.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, corners[-1:]])


def mirrored(right_half: Points, *, middle: float = 0.5) -> Points:
    """Close the right half of an outline, listed from top to bottom, with its mirror image."""
    left_half = right_half[::-1] * (-1, 1) + (2 * middle, 0)
    return np.concatenate([right_half, left_half])


def lathe(*profile: tuple[float, float], middle: float = 0.5, round_: bool = True) -> Points:
    """Return the outline of a turned thing from pairs of height and half width, listed from top to bottom."""
    half = np.array([(middle + width, y) for y, width in profile], dtype=np.float64)
    return mirrored(smooth(half, closed=False) if round_ else half, middle=middle)


def ellipse(x: float, y: float, width: float, height: float | None = None, *, steps: int = 48) -> Points:
    """Return an ellipse around (x, y) with these half axes; a circle without a height."""
    angle = np.linspace(0, 2 * math.pi, steps, endpoint=False)
    return np.stack([x + width * np.cos(angle), y + (width if height is None else height) * np.sin(angle)], axis=1)


def rectangle(left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> Points:
    """Return a rectangle, its corners rounded by the radius."""
    if radius <= 0:
        return points((left, top), (right, top), (right, bottom), (left, bottom))
    radius = min(radius, (right - left) / 2, (bottom - top) / 2)
    angle = np.linspace(0, math.pi / 2, 6)
    quarter = radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.concatenate(
        [
            np.add(quarter, (right - radius, bottom - radius)),
            np.add(quarter[::-1] * (-1, 1), (left + radius, bottom - radius)),
            np.add(-quarter, (left + radius, top + radius)),
            np.add(quarter[::-1] * (1, -1), (right - radius, top + radius)),
        ]
    )


def star(x: float, y: float, radius: float, tips: int, *, inner: float = 0.5, angle: float = 0.0) -> Points:
    """Return a star with this many tips; `inner` is the share of the radius where its notches lie."""
    turn = angle + np.arange(2 * tips) * math.pi / tips - math.pi / 2
    reach = np.where(np.arange(2 * tips) % 2, radius * inner, radius)
    return np.stack([x + reach * np.cos(turn), y + reach * np.sin(turn)], axis=1)


def turned(outline: Points, angle: float, x: float, y: float) -> Points:
    """Turn an outline around (x, y) by an angle in radians, clockwise as seen."""
    cos, sin = math.cos(angle), math.sin(angle)
    moved: Points = (outline - (x, y)) @ np.array([[cos, sin], [-sin, cos]]) + (x, y)
    return moved


def arc(x: float, y: float, width: float, height: float, start: float, stop: float, *, steps: int = 24) -> Points:
    """Return an open piece of an ellipse between two angles in radians, 0 pointing right, growing clockwise as seen."""
    angle = np.linspace(start, stop, steps)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """Return the colour this share of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


@lru_cache(maxsize=64)
def font(size_px: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return Pillow's built-in font at this size."""
    return ImageFont.load_default(size=size_px)


@dataclass(frozen=True, slots=True)
class Sprite:
    """A cut-out thing, cropped to what is not empty."""

    rgba: NDArray[np.uint8]  # (height, width, 4); the colours are already multiplied by the alpha


class Canvas:
    """The picture under work: RGB multiplied by alpha, and alpha, both 0..255."""

    def __init__(self) -> None:
        self._rgba = np.zeros((SIDE_PX, SIDE_PX, 4), dtype=np.float32)

    def part(self, outline: Points | Sequence[Points], paint: Paint, form: Form = CLOTH, *, alpha: float = 1.0) -> None:
        """Lay a filled outline, or several as one part, on top."""
        outlines = [outline] if isinstance(outline, np.ndarray) else list(outline)
        self._lay(outlines, 0.0, paint, form, alpha)

    def stroke(
        self, line: Points, width: float, paint: Paint, form: Form = FLAT, *, alpha: float = 1.0, closed: bool = False
    ) -> None:
        """Lay a line of this width on top."""
        self._lay([np.concatenate([line, line[:1]]) if closed else line], width, paint, form, alpha)

    def stitches(self, line: Points, paint: Colour, *, width: float = 0.004, dash: float = 0.014) -> None:
        """Lay a dashed line on top."""
        steps = np.hypot(*np.diff(line, axis=0).T)
        walked = np.concatenate([[0.0], np.cumsum(steps)])
        starts = np.arange(0, walked[-1] - dash / 2, dash)
        ends = [
            np.stack([np.interp(at, walked, line[:, axis]) for axis in (0, 1)], axis=1)
            for at in (starts, starts + dash * 0.55)
        ]
        self._lay([np.stack(pair) for pair in zip(*ends, strict=True)], width, paint, FLAT, 1.0)

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: float,
        paint: Colour,
        *,
        angle: float = 0.0,
        bold: bool = False,
        stretch: float = 1.0,
        width: float | None = None,
    ) -> None:
        """Write words centred on (x, y), `size` high, turned by an angle in radians and made to fit a width."""
        face = font(max(8, round(size * SIDE_PX * 1.35)))
        stroke = max(1, round(size * SIDE_PX * 0.04)) if bold else 0
        left, top, right, bottom = face.getbbox(words, stroke_width=stroke)
        mask = Image.new("L", (int(right - left) + 4, int(bottom - top) + 4))
        ImageDraw.Draw(mask).text((2 - left, 2 - top), words, fill=255, font=face, stroke_width=stroke)
        shrink = min(1.0, (width or 9.0) * SIDE_PX / (mask.width * stretch))
        mask = mask.resize(
            (max(1, round(mask.width * stretch * shrink)), max(1, round(mask.height * max(shrink, 0.6))))
        )
        if angle:
            mask = mask.rotate(-math.degrees(angle), Image.Resampling.BILINEAR, expand=True)
        share = np.asarray(mask, dtype=np.float32) * np.float32(1 / 255)
        row, column = round(y * SIDE_PX - mask.height / 2), round(x * SIDE_PX - mask.width / 2)
        cut = share[max(0, -row) : SIDE_PX - row, max(0, -column) : SIDE_PX - column]
        if cut.size:
            self._blend(cut, max(0, column), max(0, row), paint, None)

    def cut_out(self) -> Sprite:
        """Return what was drawn, cropped to what is not empty."""
        rgba = np.clip(self._rgba, 0, 255).astype(np.uint8)
        rows = np.flatnonzero(rgba[:, :, 3].max(axis=1) > 8)
        columns = np.flatnonzero(rgba[:, :, 3].max(axis=0) > 8)
        return Sprite(np.ascontiguousarray(rgba[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]))

    def _lay(self, outlines: Sequence[Points], stroke: float, paint: Paint, form: Form, alpha: float) -> None:
        found = _cover(outlines, stroke)
        if found is None:
            return
        share, left, top = found
        light = None if form == FLAT else _lit(share, form)
        self._blend(share * np.float32(alpha) if alpha < 1 else share, left, top, paint, light)

    def _blend(
        self, share: Shares, left: int, top: int, paint: Paint, light: tuple[Shares, Shares | None] | None
    ) -> None:
        height, width = share.shape
        under = self._rgba[top : top + height, left : left + width]
        colour = (
            np.asarray(paint[top : top + height, left : left + width], dtype=np.float32)
            if isinstance(paint, np.ndarray)
            else np.array(paint, dtype=np.float32)
        )
        if light is not None:
            colour = colour * light[0][:, :, None]
            if light[1] is not None:
                colour += light[1][:, :, None]
            np.clip(colour, 0, 255, out=colour)
        under *= (1 - share)[:, :, None]
        under[:, :, :3] += colour * share[:, :, None]
        under[:, :, 3] += 255 * share


def _cover(outlines: Sequence[Points], stroke: float) -> tuple[Shares, int, int] | None:
    """Return the share of each pixel that the outlines cover, with the left and top of that region."""
    if not outlines:
        return None
    low = np.min([line.min(axis=0) for line in outlines], axis=0) - stroke
    high = np.max([line.max(axis=0) for line in outlines], axis=0) + stroke
    left, top = (max(0, int(v)) for v in np.floor(low * SIDE_PX) - 1)
    right, bottom = (min(SIDE_PX, int(v)) for v in np.ceil(high * SIDE_PX) + 2)
    if right <= left or bottom <= top:
        return None
    mask = Image.new("L", ((right - left) * _FINER, (bottom - top) * _FINER))
    draw = ImageDraw.Draw(mask)
    width = max(1, round(stroke * SIDE_PX * _FINER))
    for line in outlines:
        flat = ((line * SIDE_PX - (left, top)) * _FINER).ravel().tolist()
        if stroke:
            draw.line(flat, fill=255, width=width, joint="curve")
        else:
            draw.polygon(flat, fill=255)
    return np.asarray(mask.reduce(_FINER), dtype=np.float32) * np.float32(1 / 255), left, top


def _lit(share: Shares, form: Form) -> tuple[Shares, Shares | None]:
    """Return the light that falls on a part and the highlight to add to it."""
    height, width = share.shape
    light: Shares = np.ones_like(share)
    shine: Shares | None = None
    across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    if form.turn in ("x", "y"):
        place = across if form.turn == "x" else down
        light = light * (1 - np.float32(form.depth * 0.75) * np.abs(place + 0.25) ** 2.2)
        if form.gloss:
            shine = 255 * np.float32(form.gloss) * np.exp(-(((place + 0.42) / 0.14) ** 2)) * np.ones_like(share)
    elif form.turn == "ball":
        far = np.minimum(across**2 + down**2, 1)
        facing = np.sqrt(1 - far)
        light = 1 - np.float32(form.depth) * (1 - np.clip(0.85 * facing - 0.35 * across - 0.45 * down, 0, 1.1))
        if form.gloss:
            shine = 255 * np.float32(form.gloss) * np.exp(-((across + 0.35) ** 2 + (down + 0.42) ** 2) / 0.035)
    if form.bulge:
        radius = max(1.0, form.bulge * SIDE_PX)
        pad = int(radius) + 2
        wide = Image.fromarray(np.pad(np.uint8(share * 255), pad))
        wide = wide.filter(ImageFilter.BoxBlur(radius * 0.6)).filter(ImageFilter.BoxBlur(radius * 0.4))
        blurred = np.asarray(wide, dtype=np.float32) * np.float32(1 / 255)
        slope = np.zeros(blurred.shape, dtype=np.float32)
        slope[:, 1:-1] += 0.5 * (blurred[:, 2:] - blurred[:, :-2])
        slope[1:-1] += 0.7 * (blurred[2:] - blurred[:-2])
        light += np.float32(form.depth * radius) * slope[pad:-pad, pad:-pad]
    return light.astype(np.float32), None if shine is None else shine.astype(np.float32)
