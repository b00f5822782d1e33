"""Colours, materials and repeating patterns: pictures of the canvas's size from which parts are cut."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sameitem.core.records import Pixels
from sameitem.upkeep.drawing.canvas import SIDE_PX, Colour, Points, Shares, mixed, star


@dataclass(frozen=True, slots=True)
class Palette:
    """A named choice of colours that go together: the main one, two companions and an accent."""

    name: str
    main: Colour
    second: Colour
    third: Colour
    accent: Colour


FABRIC = (
    Palette("navy", (38, 50, 84), (226, 222, 210), (122, 142, 178), (196, 72, 58)),
    Palette("black", (42, 41, 44), (214, 210, 204), (110, 108, 112), (178, 58, 62)),
    Palette("white", (236, 233, 226), (62, 84, 122), (186, 190, 196), (206, 104, 80)),
    Palette("grey", (142, 144, 148), (44, 46, 56), (208, 208, 208), (86, 122, 140)),
    Palette("red", (168, 44, 48), (238, 226, 208), (92, 24, 34), (34, 46, 74)),
    Palette("green", (62, 96, 72), (226, 218, 190), (132, 158, 116), (214, 152, 66)),
    Palette("beige", (206, 186, 156), (104, 76, 58), (236, 226, 208), (120, 132, 104)),
    Palette("blue", (74, 116, 168), (240, 236, 226), (34, 54, 96), (236, 186, 84)),
    Palette("pink", (218, 156, 160), (246, 234, 228), (154, 78, 96), (94, 112, 92)),
    Palette("mustard", (204, 156, 58), (60, 52, 48), (240, 226, 190), (130, 62, 44)),
)
LEATHER = (
    Palette("brown", (112, 72, 46), (66, 42, 30), (168, 122, 82), (206, 176, 112)),
    Palette("black", (40, 38, 40), (78, 76, 80), (20, 20, 22), (202, 200, 196)),
    Palette("tan", (178, 126, 78), (118, 76, 44), (214, 178, 134), (222, 196, 132)),
    Palette("burgundy", (104, 36, 44), (62, 22, 30), (160, 92, 92), (208, 182, 124)),
    Palette("cream", (224, 212, 190), (168, 140, 108), (244, 238, 226), (196, 168, 104)),
    Palette("navy", (44, 56, 86), (26, 32, 54), (118, 132, 166), (206, 206, 204)),
    Palette("white", (234, 232, 228), (58, 74, 104), (196, 196, 196), (200, 82, 66)),
)
WOOD = (
    Palette("oak", (190, 148, 98), (142, 104, 64), (226, 220, 208), (62, 60, 60)),
    Palette("walnut", (108, 74, 52), (72, 48, 36), (196, 188, 176), (198, 164, 98)),
    Palette("beech", (216, 180, 136), (172, 134, 92), (120, 138, 144), (88, 98, 92)),
    Palette("white", (232, 230, 224), (186, 150, 104), (150, 160, 166), (112, 116, 120)),
    Palette("black", (54, 52, 52), (150, 112, 76), (126, 126, 128), (200, 172, 110)),
    Palette("cherry", (142, 76, 50), (96, 48, 34), (214, 196, 168), (70, 88, 84)),
)
GLAZE = (
    Palette("white", (238, 236, 230), (52, 80, 132), (198, 196, 190), (186, 92, 64)),
    Palette("blue", (72, 106, 148), (234, 230, 220), (36, 56, 92), (214, 172, 92)),
    Palette("terracotta", (188, 108, 76), (240, 224, 200), (128, 64, 44), (64, 82, 78)),
    Palette("sage", (150, 168, 146), (246, 242, 232), (92, 112, 94), (204, 142, 98)),
    Palette("black", (50, 50, 54), (208, 172, 110), (126, 124, 126), (226, 222, 216)),
    Palette("yellow", (222, 184, 92), (250, 244, 228), (150, 108, 52), (82, 104, 128)),
)
METALS = (
    Palette("gold", (206, 168, 92), (150, 112, 52), (244, 224, 172), (150, 40, 60)),
    Palette("silver", (192, 194, 198), (124, 128, 134), (236, 238, 240), (46, 86, 150)),
    Palette("rose gold", (214, 158, 138), (160, 104, 88), (246, 216, 204), (56, 120, 100)),
    Palette("black", (58, 58, 62), (30, 30, 34), (126, 128, 132), (206, 206, 200)),
)
PACK = (
    Palette("red", (186, 40, 42), (250, 240, 222), (244, 190, 62), (96, 20, 28)),
    Palette("green", (52, 122, 74), (248, 244, 226), (180, 204, 90), (226, 146, 52)),
    Palette("blue", (40, 82, 156), (246, 246, 246), (120, 180, 222), (244, 200, 66)),
    Palette("yellow", (240, 196, 66), (72, 44, 36), (252, 240, 206), (196, 62, 50)),
    Palette("brown", (104, 66, 46), (244, 228, 200), (196, 142, 84), (178, 54, 48)),
    Palette("white", (242, 240, 236), (60, 92, 130), (206, 214, 216), (212, 96, 84)),
    Palette("purple", (104, 62, 124), (246, 232, 240), (190, 146, 196), (240, 186, 72)),
    Palette("pink", (230, 150, 170), (252, 244, 240), (176, 70, 106), (110, 150, 140)),
)


def _tile(side_px: int, ground: Colour) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (side_px * 2, side_px * 2), ground)
    return image, ImageDraw.Draw(image)


def _repeated(tile: Image.Image, rng: Generator, *, half_drop: bool = False) -> Pixels:
    """Cover the canvas with a tile that was drawn at twice its size, starting anywhere."""
    small = np.asarray(tile.reduce(2))
    height, width = small.shape[:2]
    if half_drop:
        small = np.concatenate([small, np.roll(small, height // 2, axis=0)], axis=1)
    across, down = SIDE_PX // width + 2, SIDE_PX // height + 2
    sheet = np.tile(small, (down, across, 1))
    row, column = rng.integers(0, height), rng.integers(0, width)
    return np.ascontiguousarray(sheet[row : row + SIDE_PX, column : column + SIDE_PX])


def _stamp(draw: ImageDraw.ImageDraw, outline: Points, paint: Colour, side_px: int) -> None:
    """Fill an outline given in shares of the tile, and again wherever it crosses the tile's border."""
    for right in (-1, 0, 1):
        for down in (-1, 0, 1):
            placed = np.add(outline, (right, down)) * side_px * 2
            if placed.max() > 0 and placed.min() < side_px * 2:
                draw.polygon(placed.ravel().tolist(), fill=paint)


def filled(paint: Colour) -> Pixels:
    """Return a canvas of one colour."""
    return np.broadcast_to(np.array(paint, dtype=np.uint8), (SIDE_PX, SIDE_PX, 3)).copy()


def plain(rng: Generator, palette: Palette) -> Pixels:
    """Return the main colour alone."""
    return filled(palette.main)


def stripes(rng: Generator, palette: Palette) -> Pixels:
    """Return stripes in one of four directions, their widths and order drawn."""
    others = [palette.second, palette.third, palette.accent]
    bands: list[tuple[Colour, int]] = []
    for _ in range(int(rng.integers(1, 4))):
        bands.append((palette.main, int(rng.integers(6, 40))))
        bands.append((others[rng.integers(0, 3)], int(rng.integers(3, 24))))
    line = np.concatenate([np.tile(np.array(paint, dtype=np.uint8), (width, 1)) for paint, width in bands])
    along = np.arange(SIDE_PX)
    way = int(rng.integers(0, 5))
    slope = {0: (0, 1), 1: (0, 1), 2: (1, 0), 3: (1, 1), 4: (1, -1)}[way]
    place = (along[None, :] * slope[0] + along[:, None] * slope[1]) % len(line)
    return np.ascontiguousarray(line[place])


def checks(rng: Generator, palette: Palette) -> Pixels:
    """Return a woven check: the same or two threadings crossing each other."""

    def threading() -> Shares:
        line: Shares = np.zeros((0, 3), dtype=np.float32)
        for _ in range(int(rng.integers(2, 5))):
            paint = (palette.main, palette.second, palette.third, palette.accent)[
                int(rng.choice(4, p=[0.45, 0.25, 0.2, 0.1]))
            ]
            line = np.concatenate([line, np.tile(np.array(paint, dtype=np.float32), (int(rng.integers(3, 34)), 1))])
        line = np.concatenate([line, np.tile(np.array(palette.main, dtype=np.float32), (int(rng.integers(8, 26)), 1))])
        return line[np.arange(SIDE_PX) % len(line)]

    across = threading()
    down = across if rng.random() < 0.6 else threading()
    return ((across[None, :] + down[:, None]) / 2).astype(np.uint8)


def dots(rng: Generator, palette: Palette) -> Pixels:
    """Return dots on a half-drop grid, rings or two sizes among them."""
    side = int(rng.integers(18, 64))
    image, draw = _tile(side, palette.main)
    paint = (palette.second, palette.third, palette.accent)[rng.integers(0, 3)]
    radius = rng.uniform(0.16, 0.4)
    _stamp(draw, star(0.5, 0.5, radius, 12, inner=0.97), paint, side)
    if rng.random() < 0.35:
        _stamp(draw, star(0.5, 0.5, radius * 0.55, 12, inner=0.97), palette.main, side)
    if rng.random() < 0.4:
        _stamp(draw, star(0.0, 0.0, radius * 0.4, 12, inner=0.97), palette.accent, side)
    return _repeated(image, rng, half_drop=rng.random() < 0.6)


def flowers(rng: Generator, palette: Palette) -> Pixels:
    """Return scattered flowers with leaves, their petals, sizes and places drawn."""
    side = int(rng.integers(70, 170))
    image, draw = _tile(side, palette.main)
    petals = int(rng.integers(4, 9))
    inner = rng.uniform(0.3, 0.75)
    size = rng.uniform(0.09, 0.2)
    leaf = mixed(palette.main, (70, 120, 70), 0.6)
    for _ in range(int(rng.integers(3, 8))):
        x, y, turn = rng.random(), rng.random(), rng.uniform(0, 3)
        radius = size * rng.uniform(0.6, 1.3)
        for way in rng.uniform(0, 2 * math.pi, int(rng.integers(1, 4))):
            tip = np.array([x + 1.9 * radius * math.cos(way), y + 1.9 * radius * math.sin(way)])
            wide = 0.35 * radius * np.array([-math.sin(way), math.cos(way)])
            middle = (np.array([x, y]) + tip) / 2
            _stamp(draw, np.stack([np.array([x, y]), middle + wide, tip, middle - wide]), leaf, side)
        paint = (palette.second, palette.third, palette.accent)[rng.integers(0, 3)]
        _stamp(draw, star(x, y, radius, petals, inner=inner, angle=turn), paint, side)
        _stamp(draw, star(x, y, radius * 0.3, 8, inner=0.9), mixed(palette.accent, (250, 220, 120), 0.5), side)
    return _repeated(image, rng, half_drop=rng.random() < 0.5)


def leaves(rng: Generator, palette: Palette) -> Pixels:
    """Return sprigs of pointed leaves along stems."""
    side = int(rng.integers(60, 150))
    image, draw = _tile(side, palette.main)
    length, wide = rng.uniform(0.12, 0.3), rng.uniform(0.03, 0.09)
    for _ in range(int(rng.integers(2, 5))):
        x, y, way = rng.random(), rng.random(), rng.uniform(0, 2 * math.pi)
        paint = (palette.second, palette.third, palette.accent)[rng.integers(0, 3)]
        for step in range(int(rng.integers(3, 7))):
            for fork in (-0.8, 0.8):
                angle = way + fork
                tip = np.array([math.cos(angle), math.sin(angle)]) * length
                side_way = np.array([-tip[1], tip[0]]) / length * wide
                foot = np.array([x, y]) + step * 0.09 * np.array([math.cos(way), math.sin(way)])
                _stamp(
                    draw,
                    np.stack([foot, foot + tip / 2 + side_way, foot + tip, foot + tip / 2 - side_way]),
                    paint,
                    side,
                )
    return _repeated(image, rng)


def diamonds(rng: Generator, palette: Palette) -> Pixels:
    """Return nested diamonds in a row-and-column order, as on argyle and ikat."""
    side = int(rng.integers(36, 110))
    image, draw = _tile(side, palette.main)
    tall = rng.uniform(0.35, 0.5)
    wide = rng.uniform(0.25, 0.5)
    paints = [palette.second, palette.third, palette.accent, palette.main]
    order = rng.permutation(4)
    for step, share in enumerate(np.linspace(1, rng.uniform(0.2, 0.5), int(rng.integers(2, 5)))):
        corners = np.array([[0, -tall], [wide, 0], [0, tall], [-wide, 0]]) * share + 0.5
        _stamp(draw, corners, paints[order[step % 4]], side)
    if rng.random() < 0.5:
        _stamp(draw, np.array([[0, -0.14], [0.14, 0], [0, 0.14], [-0.14, 0]]), paints[order[1]], side)
    return _repeated(image, rng, half_drop=rng.random() < 0.3)


def chevrons(rng: Generator, palette: Palette) -> Pixels:
    """Return zigzag bands."""
    period, swing = int(rng.integers(24, 90)), rng.uniform(0.4, 1.6)
    along = np.arange(SIDE_PX)
    wave = np.abs((along % period) / period - 0.5) * period * swing
    bands = np.array([palette.main, palette.second, palette.third, palette.accent], dtype=np.uint8)
    order = rng.choice(4, int(rng.integers(2, 6)), p=[0.4, 0.3, 0.2, 0.1])
    order[0] = 0
    thick = int(rng.integers(7, 26))
    place = ((along[:, None] + wave[None, :]) // thick).astype(np.int64) % len(order)
    sheet = bands[order][place]
    return np.ascontiguousarray(sheet if rng.random() < 0.7 else sheet.transpose(1, 0, 2))


def confetti(rng: Generator, palette: Palette) -> Pixels:
    """Return small repeated figures: stars, triangles, crosses, squares or hearts."""
    side = int(rng.integers(40, 120))
    image, draw = _tile(side, palette.main)
    tips, inner = ((5, 0.42), (3, 0.5), (4, 0.25), (4, 0.71), (6, 0.6), (8, 0.8))[rng.integers(0, 6)]
    size = rng.uniform(0.07, 0.2)
    for _ in range(int(rng.integers(2, 9))):
        paint = (palette.second, palette.third, palette.accent)[rng.integers(0, 3)]
        figure = star(
            rng.random(), rng.random(), size * rng.uniform(0.7, 1.3), tips, inner=inner, angle=rng.uniform(0, 6)
        )
        _stamp(draw, figure, paint, side)
    return _repeated(image, rng, half_drop=rng.random() < 0.5)


def blotches(rng: Generator, palette: Palette) -> Pixels:
    """Return soft-edged spots of two or three tones, as on animal prints and camouflage."""
    cells = int(rng.integers(10, 34))
    stretched = rng.uniform(0.6, 1.7)
    rough = rng.random((cells, max(4, round(cells * stretched)))).astype(np.float32)
    tone = np.asarray(Image.fromarray(rough).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC))
    low, high = np.sort(rng.uniform(0.35, 0.7, 2))
    sheet = filled(palette.main)
    sheet[tone > low] = palette.third
    sheet[tone > high + 0.05] = palette.second if rng.random() < 0.6 else palette.accent
    if rng.random() < 0.4:
        sheet[(tone > low) & (tone < low + 0.06)] = mixed(palette.main, (20, 18, 18), 0.7)
    return sheet


def waves(rng: Generator, palette: Palette) -> Pixels:
    """Return wavy bands whose phase drifts, as on marbled or water prints."""
    along = np.arange(SIDE_PX, dtype=np.float32)
    swing, period = rng.uniform(6, 30), rng.uniform(50, 200)
    bent = along[:, None] + swing * np.sin(
        along[None, :] * 2 * math.pi / period + along[:, None] * rng.uniform(-0.03, 0.03)
    )
    bands = np.array([palette.main, palette.second, palette.third, palette.accent], dtype=np.uint8)
    order = rng.choice(4, int(rng.integers(2, 6)), p=[0.45, 0.25, 0.2, 0.1])
    order[0] = 0
    place = (bent // rng.uniform(8, 30)).astype(np.int64) % len(order)
    sheet = bands[order][place]
    return np.ascontiguousarray(sheet if rng.random() < 0.5 else sheet.transpose(1, 0, 2))


Pattern = Callable[[Generator, Palette], Pixels]
PATTERNS: tuple[tuple[str, Pattern], ...] = (
    ("plain", plain),
    ("striped", stripes),
    ("checked", checks),
    ("dotted", dots),
    ("floral", flowers),
    ("leaf print", leaves),
    ("diamond", diamonds),
    ("zigzag", chevrons),
    ("motif print", confetti),
    ("camouflage", blotches),
    ("wavy", waves),
)


def patterned(rng: Generator, palette: Palette, *, plain_share: float = 0.0) -> tuple[str, Pixels]:
    """Return a drawn pattern with its name; this share of all are plain."""
    if rng.random() < plain_share:
        return "plain", filled(palette.main)
    name, pattern = PATTERNS[rng.integers(1, len(PATTERNS))]
    return name, pattern(rng, palette)


def _grain(rng: Generator, rows: int, columns: int) -> Shares:
    return rng.standard_normal((rows, columns)).astype(np.float32)


def _noise(rng: Generator, rows: int, columns: int) -> Shares:
    """Return soft noise, at twice the canvas's size, of so many rows and columns of blobs."""
    return np.asarray(
        Image.fromarray(_grain(rng, rows, columns)).resize((SIDE_PX * 2, SIDE_PX * 2), Image.Resampling.BICUBIC)
    )


@lru_cache(maxsize=16)
def _material(name: str) -> NDArray[np.int16]:
    """Return the light and dark of a material in 128ths, at twice the canvas's size."""
    rng = np.random.default_rng(sum(map(ord, name)))
    size = SIDE_PX * 2
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    if name == "denim":
        light = 1 + 0.07 * np.sin((x + y) * 1.3) + 0.036 * _grain(rng, size, size) + 0.05 * _noise(rng, 8, 40)
    elif name == "knit":
        stitch = np.abs(np.sin(y * 0.32 + np.abs((x * 0.125) % 2 - 1) * 2.2)) ** 0.5
        light = 0.92 + 0.16 * np.abs(np.sin(x * 0.39)) * stitch
    elif name == "rib":
        light = 0.84 + 0.22 * np.abs(np.sin(x * 0.3))
    elif name == "leather":
        light = 1 + 0.032 * _noise(rng, size // 3, size // 3) + 0.04 * _noise(rng, 12, 12)
    elif name == "linen":
        light = 1 + 0.025 * _grain(rng, size, 1) + 0.025 * _grain(rng, 1, size)
    elif name == "wood":
        rings = np.sin((y * 0.055) + 3.2 * _noise(rng, 5, 3) + 0.3 * _noise(rng, 120, 4))
        light = 1 + 0.07 * rings + 0.05 * _noise(rng, 340, 7)
    elif name == "metal":
        light = 1 + 0.03 * _grain(rng, size, 1) + 0.02 * _noise(rng, 200, 4)
    elif name == "wicker":
        over = np.where(((x // 9) + (y // 7)) % 2 > 0, np.sin(x * math.pi / 9), np.sin(y * math.pi / 7))
        light = 0.72 + 0.36 * np.abs(over)
    elif name == "folds":
        light = 1 + 0.05 * _noise(rng, 5, 9) + 0.03 * _noise(rng, 9, 16)
    else:
        assert name == "paper", f"no material is called {name}"
        light = 1 + 0.02 * _grain(rng, size, size)
    whole: NDArray[np.int16] = np.clip(np.broadcast_to(light, (size, size)) * 128, 40, 255).astype(np.int16)
    return whole


def worked(sheet: Pixels, material: str, rng: Generator, *, strength: float = 1.0, upright: bool = False) -> Pixels:
    """Give a sheet the surface of a material: denim, knit, rib, leather, linen, wood, metal, wicker, folds or paper."""
    whole = _material(material)
    row, column = rng.integers(0, SIDE_PX, 2)
    light = whole[row : row + SIDE_PX, column : column + SIDE_PX]
    if upright:
        light = light.T
    if strength != 1.0:
        light = np.clip(128 + strength * (light - 128), 0, 255).astype(np.int16)
    lit = (sheet * light.astype(np.uint16)[:, :, None]) >> 7
    pixels: Pixels = np.minimum(lit, 255).astype(np.uint8)
    return pixels


_RIM_PX = round(SIDE_PX * (math.sqrt(2) - 1) / 2) + 1  # what a turned square lacks at its corners


def turned_sheet(sheet: Pixels, degrees: float) -> Pixels:
    """Return a sheet turned around its middle and wrapped at the corners."""
    wide = np.pad(sheet, ((_RIM_PX, _RIM_PX), (_RIM_PX, _RIM_PX), (0, 0)), mode="wrap")
    image = Image.fromarray(wide).rotate(degrees, Image.Resampling.NEAREST)
    whole: Pixels = np.asarray(image)[_RIM_PX:-_RIM_PX, _RIM_PX:-_RIM_PX]
    return whole
