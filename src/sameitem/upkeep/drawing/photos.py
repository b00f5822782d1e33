"""Photos of a drawn thing: as sellers take them on a clean ground, and as users take them at home or in a shop."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from sameitem.core.records import Box, Pixels
from sameitem.upkeep.drawing.canvas import SIDE_PX, Shares, Sprite, font, mixed, turned
from sameitem.upkeep.drawing.patterns import FABRIC, WOOD, Palette, filled, patterned, worked

OtherThing = Callable[[Generator], Sprite]  # picks one of the things that lie about
SLICES = ("clear", "busy", "far", "tilted", "dim", "blurred", "covered", "grainy")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A user's photo, the box of its subject in pixels, and the share of each pixel that the subject covers."""

    pixels: Pixels
    box: Box
    mask: NDArray[np.uint8]  # (height, width), 255 = subject, also where something lies over it
    quality: int  # of the JPEG it is saved as


@dataclass(frozen=True, slots=True)
class _Placed:
    """A thing as it lies in a photo: colours multiplied by alpha, alpha, and the left and top of its region."""

    rgb: Image.Image
    alpha: Image.Image
    left: int
    top: int


def _homography(source: NDArray[np.float64], target: NDArray[np.float64]) -> list[float]:
    """Return the eight numbers that take target corners to source corners, as Pillow wants them."""
    rows = []
    for (u, v), (x, y) in zip(source, target, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    solved: list[float] = np.linalg.solve(np.array(rows), source.reshape(-1)).tolist()
    return solved


def _place(
    sprite: Sprite,
    rng: Generator,
    *,
    size_px: float,
    centre: tuple[float, float],
    angle: float,
    skew: float,
    mirror: bool = False,
) -> _Placed:
    """Scale, mirror, turn and tilt a thing; `skew` is how far a corner may move, as a share of its size."""
    height, width = sprite.rgba.shape[:2]
    scale = size_px / max(height, width)
    wide, tall = max(2, round(width * scale)), max(2, round(height * scale))
    image = Image.frombuffer("RGBX", (width, height), sprite.rgba, "raw", "RGBX", 0, 1)
    image = image.resize((wide, tall), Image.Resampling.BICUBIC if scale < 1 else Image.Resampling.BILINEAR)
    source = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]], dtype=np.float64)
    corners = (source - (wide / 2, tall / 2)) * (1 + rng.uniform(-skew, skew, (4, 2)))
    corners = turned(corners, angle, 0, 0) + centre
    left, top = (int(v) for v in np.floor(corners.min(axis=0)) - 1)
    right, bottom = (int(v) for v in np.ceil(corners.max(axis=0)) + 2)
    if mirror:
        source = source[[1, 0, 3, 2]]
    flat = image.transform(
        (right - left, bottom - top),
        Image.Transform.PERSPECTIVE,
        _homography(source, corners - (left, top)),
        Image.Resampling.BILINEAR,
    )
    red, green, blue, alpha = flat.split()
    return _Placed(Image.merge("RGB", (red, green, blue)), alpha, left, top)


def _table(gain: float, *, start: float = 0.0) -> list[int]:
    """Return what each value of a channel becomes."""
    values: list[int] = np.clip(start + gain * np.arange(256), 0, 255).astype(int).tolist()
    return values


def _lay(photo: Image.Image, placed: _Placed, *, gain: float = 1.0) -> None:
    """Lay a thing on a photo, in place."""
    at = (placed.left, placed.top)
    under = photo.crop((*at, placed.left + placed.rgb.width, placed.top + placed.rgb.height))
    under.paste((0, 0, 0), mask=placed.alpha)
    over = placed.rgb if gain == 1.0 else placed.rgb.point(_table(gain) * 3)
    photo.paste(ImageChops.add(under, over), at)


def _shadow(
    photo: Image.Image, placed: _Placed, *, shift: tuple[float, float], blur_px: float, strength: float
) -> None:
    """Darken the ground beside a thing, in place."""
    shade = Image.new("L", (photo.width // 4 + 1, photo.height // 4 + 1))
    small = placed.alpha.resize(
        (max(1, placed.alpha.width // 4), max(1, placed.alpha.height // 4)), Image.Resampling.BILINEAR
    )
    shade.paste(
        small.point(_table(strength)), (round((placed.left + shift[0]) / 4), round((placed.top + shift[1]) / 4))
    )
    soft = shade.filter(ImageFilter.BoxBlur(blur_px / 4)).filter(ImageFilter.BoxBlur(blur_px / 6))
    photo.paste((0, 0, 0), mask=soft.resize(photo.size, Image.Resampling.BILINEAR))


def _slope(rng: Generator, height: int, width: int, low: float, high: float) -> Shares:
    """Return light that falls off along a drawn direction."""
    turn = rng.uniform(0, 2 * math.pi)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :] * np.float32(math.cos(turn))
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None] * np.float32(math.sin(turn))
    return np.float32((low + high) / 2) + np.float32((high - low) / 2.6) * (x + y)


def _lit(photo: Image.Image, light: Shares, tint: NDArray[np.float64]) -> Pixels:
    """Multiply a photo by light, one share per pixel or for all, and by one share per channel."""
    seen = np.asarray(photo)
    factor = (light * 256).astype(np.uint16)
    channels = [
        np.minimum((seen[:, :, i] * (factor * np.float32(tint[i])).astype(np.uint32)) >> 8, 255) for i in range(3)
    ]
    return np.stack(channels, axis=2).astype(np.uint8)


def studio_photo(sprite: Sprite, rng: Generator, *, first: bool, may_mirror: bool, shop: str) -> Pixels:
    """Photograph a thing as a seller does: clean ground, soft shadow, at times a badge or a watermark."""
    width = int(rng.integers(400, 449))
    height = width if rng.random() < 0.7 else int(min(448, width * rng.uniform(1.0, 1.2)))
    photo = _clean_ground(rng, width, height, first=first)
    placed = _place(
        sprite,
        rng,
        size_px=rng.uniform(0.72, 0.9) * width if first else rng.uniform(0.6, 0.9) * width,
        centre=(width * rng.uniform(0.47, 0.53), height * rng.uniform(0.47, 0.53)),
        angle=rng.normal(0, 0.012 if first else 0.07),
        skew=0.015 if first else 0.07,
        mirror=may_mirror and not first and rng.random() < 0.35,
    )
    if rng.random() < 0.8:
        shift = (rng.uniform(-8, 10), rng.uniform(4, 12))
        _shadow(photo, placed, shift=shift, blur_px=rng.uniform(14, 30), strength=rng.uniform(0.15, 0.4))
    _lay(photo, placed)
    if not first:
        light = _slope(rng, height, width, rng.uniform(0.93, 1.0), rng.uniform(1.0, 1.05))
        photo = Image.fromarray(_lit(photo, light, rng.uniform(0.95, 1.04) * (1 + rng.uniform(-0.02, 0.02, 3))))
    extra = rng.random()
    if extra < 0.04:
        _badge(photo, rng)
    elif extra < 0.08:
        ink = ImageDraw.Draw(photo, "RGBA")
        for row in (0.2, 0.5, 0.8):
            ink.text((rng.uniform(0, 0.5) * width, height * row), shop, fill=(120, 120, 120, 70), font=font(26))
    return np.asarray(photo)


def _clean_ground(rng: Generator, width: int, height: int, *, first: bool) -> Image.Image:
    """Return white, grey or pale paper, at times darker towards the bottom."""
    kind = rng.random()
    if kind < (0.75 if first else 0.55):
        tone = np.full(3, 255.0 if rng.random() < 0.7 else rng.uniform(244, 254))
    elif kind < 0.88:
        tone = np.full(3, rng.uniform(205, 240)) + rng.uniform(-6, 6, 3)
    else:
        tone = np.array(FABRIC[rng.integers(0, len(FABRIC))].main) * 0.22 + 255 * 0.76
    fall = np.linspace(1.0, rng.uniform(0.84, 0.97) if kind >= 0.7 else 1.0, 32)
    column = np.clip(fall[:, None, None] * tone, 0, 255).astype(np.uint8)
    return Image.fromarray(column).resize((width, height), Image.Resampling.BILINEAR)


def _badge(image: Image.Image, rng: Generator) -> None:
    """Stick a small sales badge on a corner."""
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(52, 76))
    left = 6 if rng.random() < 0.5 else image.width - size - 6
    paint = ((206, 40, 46), (236, 150, 30), (38, 120, 74))[rng.integers(0, 3)]
    draw.ellipse((left, 6, left + size, 6 + size), fill=paint)
    words = ("NEW", "SALE", "-20%", "TOP", "-35%")[rng.integers(0, 5)]
    draw.text((left + size / 2, 6 + size / 2), words, fill=(255, 255, 255), font=font(size // 3), anchor="mm")


def near_copy(photo: Pixels, rng: Generator) -> Pixels:
    """Return nearly the same picture, as another seller puts it up: cropped a little, resized, brighter or darker."""
    height, width = photo.shape[:2]
    cut = rng.uniform(0.0, 0.016, 4)
    image = Image.fromarray(photo).crop(
        (int(cut[0] * width), int(cut[1] * height), int((1 - cut[2]) * width), int((1 - cut[3]) * height))
    )
    scale = rng.uniform(0.85, 1.0)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    lit = np.clip(np.asarray(image, dtype=np.float32) * np.float32(rng.uniform(0.95, 1.05)), 0, 255).astype(np.uint8)
    copy = Image.fromarray(lit)
    if rng.random() < 0.15:
        _badge(copy, rng)
    return np.asarray(copy)


def _boards(rng: Generator) -> Pixels:
    palette = WOOD[rng.integers(0, len(WOOD))]
    sheet = worked(filled(palette.main), "wood", rng, strength=1.5)
    image = Image.fromarray(sheet)
    draw = ImageDraw.Draw(image)
    y = -int(rng.integers(0, 60))
    while y < SIDE_PX:
        y += int(rng.integers(50, 130))
        draw.line((0, y, SIDE_PX, y), fill=mixed(palette.main, (0, 0, 0), 0.5), width=int(rng.integers(2, 5)))
        x = int(rng.integers(0, SIDE_PX))
        draw.line((x, y, x, y + 60), fill=mixed(palette.main, (0, 0, 0), 0.45), width=2)
    return np.asarray(image)


def _tiles(rng: Generator) -> Pixels:
    palette = FABRIC[rng.integers(0, len(FABRIC))]
    size = int(rng.integers(50, 130))
    grout = mixed(palette.third, (200, 200, 200), 0.6)
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), grout)
    draw = ImageDraw.Draw(image)
    ground = mixed(palette.main, (216, 212, 206), rng.uniform(0.3, 0.9))
    offset = int(rng.integers(0, 2)) * size // 2
    for row, top in enumerate(range(-size, SIDE_PX, size)):
        for left in range(-size - (row % 2) * offset, SIDE_PX, size):
            draw.rectangle(
                (left + 2, top + 2, left + size - 3, top + size - 3),
                fill=mixed(ground, (90, 90, 90), rng.uniform(0, 0.16)),
            )
    return worked(np.asarray(image), "paper", rng)


def _textile(rng: Generator) -> Pixels:
    palette = FABRIC[rng.integers(0, len(FABRIC))]
    faded = Palette(
        palette.name,
        *(mixed(tone, palette.main, 0.45) for tone in (palette.main, palette.second, palette.third, palette.accent)),
    )
    _, sheet = patterned(rng, faded, plain_share=0.35)
    return worked(worked(sheet, "linen", rng), "folds", rng, strength=2.0)


def _shelves(rng: Generator) -> Pixels:
    palette = WOOD[rng.integers(0, len(WOOD))]
    image = Image.new("RGB", (SIDE_PX, SIDE_PX), mixed(palette.main, (30, 28, 26), 0.5))
    draw = ImageDraw.Draw(image)
    y = int(rng.integers(60, 140))
    while y < SIDE_PX + 120:
        x = 0
        while x < SIDE_PX:
            wide, tall = int(rng.integers(16, 64)), int(rng.integers(40, 110))
            tone = FABRIC[rng.integers(0, len(FABRIC))]
            draw.rectangle((x, y - tall, x + wide, y), fill=mixed(tone.main, (90, 86, 80), 0.25))
            if rng.random() < 0.7:
                draw.rectangle(
                    (x + 4, y - tall * 0.7, x + wide - 4, y - tall * 0.4), fill=mixed(tone.second, (120, 110, 100), 0.2)
                )
            x += wide + int(rng.integers(1, 10))
        draw.rectangle((0, y, SIDE_PX, y + 12), fill=mixed(palette.main, (255, 255, 255), 0.1))
        y += int(rng.integers(120, 170))
    return np.asarray(image.filter(ImageFilter.BoxBlur(float(rng.uniform(0.5, 3)))))


def _room(rng: Generator) -> Pixels:
    """A wall above a floor or a table top."""
    wall = mixed(FABRIC[rng.integers(0, len(FABRIC))].main, (222, 216, 206), rng.uniform(0.5, 0.95))
    sheet = worked(filled(wall), "paper", rng)
    edge = int(rng.uniform(0.3, 0.65) * SIDE_PX)
    floor = (_boards, _tiles, _textile)[rng.integers(0, 3)](rng)
    sheet[edge:] = floor[edge:]
    sheet[edge : edge + 5] = np.array(mixed(wall, (60, 50, 40), 0.6), dtype=np.uint8)
    return sheet


_SCENES = (_boards, _tiles, _textile, _shelves, _room)


def _warped(sheet: Pixels, rng: Generator, width: int, height: int) -> Image.Image:
    """See a scene from a drawn angle."""
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], dtype=np.float64)
    seen = (corners * 0.76 + 0.12 + rng.uniform(-0.11, 0.11, (4, 2))) * SIDE_PX
    numbers = _homography(seen, corners * (width, height))
    return Image.fromarray(sheet).transform(
        (width, height), Image.Transform.PERSPECTIVE, numbers, Image.Resampling.BILINEAR
    )


def snapshot(sprite: Sprite, rng: Generator, *, trouble: str, other_thing: OtherThing) -> Snapshot:
    """Photograph a thing as a user does; `trouble` is one of SLICES and says what disturbs most."""
    width, height = 384, int(rng.integers(448, 513))
    if rng.random() < 0.5:
        width, height = height, width
    short = min(width, height)
    photo = _warped(_SCENES[rng.integers(0, len(_SCENES))](rng), rng, width, height)
    photo = photo.point(_table(rng.uniform(0.72, 1.02)) * 3)
    things = {"busy": 4, "clear": 1}.get(trouble, 2)
    for _ in range(int(rng.integers(things // 2, things + 1))):
        turn = rng.uniform(0, 2 * math.pi)
        beside = (width / 2 + math.cos(turn) * width * 0.46, height / 2 + math.sin(turn) * height * 0.46)
        _drop(photo, rng, other_thing, size_px=rng.uniform(0.25, 0.5) * short, centre=beside)
    size = rng.uniform(0.54, 0.66) if trouble == "far" else rng.uniform(0.7, 0.96)
    placed = _place(
        sprite,
        rng,
        size_px=size * short,
        centre=(width * rng.uniform(0.41, 0.59), height * rng.uniform(0.42, 0.58)),
        angle=rng.normal(0, 0.42 if trouble == "tilted" else 0.09),
        skew=0.2 if trouble == "tilted" else 0.09,
    )
    shift = (rng.uniform(-14, 14), rng.uniform(4, 16))
    _shadow(photo, placed, shift=shift, blur_px=rng.uniform(10, 26), strength=rng.uniform(0.35, 0.6))
    _lay(photo, placed, gain=rng.uniform(0.86, 1.04))
    cover = Image.new("L", photo.size)
    cover.paste(placed.alpha, (placed.left, placed.top))
    mask = np.asarray(cover)
    box = _box(mask)
    if trouble == "covered":
        _hide_an_edge(photo, box, rng, other_thing)
    return Snapshot(_exposed(photo, rng, trouble), box, mask, int(rng.integers(52, 86)))


def _drop(
    photo: Image.Image, rng: Generator, other_thing: OtherThing, *, size_px: float, centre: tuple[float, float]
) -> None:
    """Lay one of the things that lie about on a photo, in place."""
    other = other_thing(rng)
    laid = _place(other, rng, size_px=size_px, centre=centre, angle=rng.uniform(-0.8, 0.8), skew=0.05)
    _shadow(photo, laid, shift=(6, 8), blur_px=14, strength=0.4)
    _lay(photo, laid, gain=rng.uniform(0.75, 1.0))


def _box(mask: NDArray[np.uint8]) -> Box:
    rows, columns = np.flatnonzero(mask.max(axis=1) > 64), np.flatnonzero(mask.max(axis=0) > 64)
    return Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _hide_an_edge(photo: Image.Image, box: Box, rng: Generator, other_thing: OtherThing) -> None:
    """Lay a hand or another thing over an edge of the subject, in place."""
    short = min(photo.size)
    way = rng.uniform(0, 2 * math.pi)
    inward = np.array([-math.cos(way), -math.sin(way)])
    middle = np.array([box.left + box.right, box.top + box.bottom]) / 2
    edge = middle - inward * 0.425 * np.array([box.right - box.left, box.bottom - box.top])
    if rng.random() < 0.45:
        _drop(photo, rng, other_thing, size_px=rng.uniform(0.3, 0.42) * short, centre=(float(edge[0]), float(edge[1])))
        return
    skin = ((232, 190, 160), (196, 146, 112), (128, 88, 64), (246, 212, 190))[rng.integers(0, 4)]
    hand = Image.new("L", photo.size)
    draw = ImageDraw.Draw(hand)
    thick = 0.07 * short
    for finger in range(int(rng.integers(2, 5))):
        aside = np.array([inward[1], -inward[0]]) * (finger - 1.5) * 0.075 * short
        foot = edge + aside - inward * short * 0.5
        tip = edge + aside + inward * rng.uniform(0.03, 0.12) * short
        draw.line((*foot, *tip), fill=255, width=round(thick))
        draw.ellipse((*(tip - thick / 2), *(tip + thick / 2)), fill=255)
    rounded = hand.filter(ImageFilter.BoxBlur(7)).point(_table(0.55, start=115.0))
    lit = ImageChops.multiply(Image.merge("RGB", (rounded, rounded, rounded)), Image.new("RGB", photo.size, skin))
    photo.paste(lit, mask=hand.filter(ImageFilter.BoxBlur(1.2)))


def _exposed(photo: Image.Image, rng: Generator, trouble: str) -> Pixels:
    """Give a scene the light, colour, sharpness and noise of a phone's picture."""
    width, height = photo.size
    warmth, green = rng.normal(0, 0.06), rng.normal(0, 0.02)
    gain = rng.uniform(0.45, 0.65) if trouble == "dim" else rng.uniform(0.8, 1.12)
    spread = 0.35 if trouble == "dim" else 0.16
    tint = gain * np.array([1 + warmth, 1 + green, 1 - warmth])
    image = Image.fromarray(_lit(photo, _slope(rng, height, width, 1 - spread, 1 + spread), tint))
    if trouble == "blurred":
        radius = rng.uniform(1.2, 2.6)
        image = image.filter(ImageFilter.BoxBlur((radius, radius * 0.3) if rng.random() < 0.5 else radius))
    elif rng.random() < 0.4:
        image = image.filter(ImageFilter.BoxBlur(0.7))
    strength = rng.uniform(10, 20) if trouble in ("grainy", "dim") else rng.uniform(1.5, 5)
    noise = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(strength)
    contrast = np.float32(rng.uniform(0.85, 1.12))
    return np.clip((np.asarray(image, dtype=np.float32) - 118) * contrast + 118 + noise, 0, 255).astype(np.uint8)
