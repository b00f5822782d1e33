"""Packaged goods: beauty products, packaged food and drink."""

import math
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from sameitem.upkeep.drawing.canvas import (
    BALL,
    CLOTH,
    FLAT,
    GLASS,
    METAL,
    PANEL,
    SOFT,
    Canvas,
    Colour,
    Form,
    arc,
    ellipse,
    lathe,
    mixed,
    points,
    rectangle,
    smooth,
)
from sameitem.upkeep.drawing.marks import WORDS, emblem, inks, label
from sameitem.upkeep.drawing.patterns import Palette, filled, patterned, worked

CAPS: tuple[Colour, ...] = ((206, 168, 92), (198, 200, 204), (38, 36, 38), (238, 236, 232), (150, 104, 66))
AROUND = Form(0.0, 0.55, "x", 0.1)


def perfume(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a perfume bottle: glass body with liquid, stopper, label."""
    cap = CAPS[rng.integers(0, len(CAPS))]
    wide, top, bottom = rng.uniform(0.18, 0.32), rng.uniform(0.34, 0.46), 0.92
    kind = int(rng.integers(0, 4))
    canvas.part(rectangle(0.45, top - 0.08, 0.55, top + 0.03), mixed(cap, (255, 255, 255), 0.3), METAL)
    high = rng.uniform(0.12, 0.22)
    stopper = int(rng.integers(0, 4))
    if stopper == 0:
        canvas.part(rectangle(0.42, top - 0.06 - high, 0.58, top - 0.05, 0.012), cap, METAL)
    elif stopper == 1:
        canvas.part(ellipse(0.5, top - 0.05 - high / 2, high * 0.55), cap, Form(0.0, 0.9, "ball", 0.6))
    elif stopper == 2:
        canvas.part(
            points(
                (0.5, top - 0.1 - high),
                (0.6, top - 0.06 - high / 2),
                (0.55, top - 0.05),
                (0.45, top - 0.05),
                (0.4, top - 0.06 - high / 2),
            ),
            cap,
            Form(0.02, 0.9),
        )
    else:
        canvas.part(lathe((top - 0.06 - high, 0.04), (top - 0.06 - high / 2, 0.1), (top - 0.05, 0.05)), cap, METAL)
    glass = mixed(palette.main, (255, 255, 255), rng.uniform(0.3, 0.6))
    body = (
        rectangle(0.5 - wide, top, 0.5 + wide, bottom, rng.uniform(0.02, 0.1)),
        ellipse(0.5, (top + bottom) / 2, wide * 1.1, (bottom - top) / 2),
        lathe((top, 0.07), (top + 0.12, wide), (bottom - 0.12, wide * 0.75), (bottom, wide * 0.85)),
        points(
            (0.5 - wide * 0.5, top),
            (0.5 + wide * 0.5, top),
            (0.5 + wide, top + 0.2),
            (0.5 + wide * 0.7, bottom),
            (0.5 - wide * 0.7, bottom),
            (0.5 - wide, top + 0.2),
        ),
    )[kind]
    canvas.part(body, mixed(glass, (255, 255, 255), 0.5), GLASS)
    middle = body.mean(axis=0)
    canvas.part(
        (body - middle) * 0.86 + middle + (0, 0.015), mixed(palette.main, palette.third, 0.2), Form(0.02, 0.5, "x", 0.3)
    )
    seen = inks(rng, palette, palette.main)
    y = rng.uniform(0.6, 0.72)
    mark = int(rng.integers(0, 4))
    if mark == 0:
        canvas.part(
            rectangle(0.5 - wide * 0.62, y - 0.08, 0.5 + wide * 0.62, y + 0.08, rng.uniform(0, 0.02)),
            (246, 242, 234),
            PANEL,
        )
        canvas.text(0.5, y - 0.02, brand, 0.06, (50, 46, 46), bold=True, width=wide * 1.1)
        canvas.text(0.5, y + 0.045, WORDS[rng.integers(0, len(WORDS))], 0.03, (120, 110, 100), width=wide)
    elif mark == 1:
        emblem(canvas, rng, 0.5, y, wide * rng.uniform(0.4, 0.55), seen)
    elif mark == 2:
        canvas.text(0.5, y, brand.upper(), 0.07, seen[0], bold=True, width=wide * 1.3)
        for step in (-0.07, 0.07):
            canvas.stroke(points((0.5 - wide * 0.55, y + step), (0.5 + wide * 0.55, y + step)), 0.008, cap)
    else:
        for x in np.linspace(-0.75, 0.75, int(rng.integers(4, 12))):
            canvas.stroke(
                points((0.5 + x * wide, top + 0.14), (0.5 + x * wide, bottom - 0.08)),
                0.012,
                (255, 255, 255),
                alpha=0.35,
            )
        canvas.part(ellipse(0.5, y, 0.07), cap, METAL)
        canvas.text(0.5, y, brand[:1], 0.07, (40, 36, 36), bold=True)
    return "glass"


def lipstick(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw an open lipstick beside its cap."""
    shade = ((170, 30, 46), (196, 84, 92), (140, 52, 60), (214, 112, 100), (112, 28, 48), (186, 96, 76))[
        rng.integers(0, 6)
    ]
    case = (palette.main, palette.second, (36, 34, 36), palette.third)[rng.integers(0, 4)]
    rim = CAPS[rng.integers(0, 2)]
    wide = rng.uniform(0.07, 0.1)
    x, base = rng.uniform(0.32, 0.38), rng.uniform(0.56, 0.66)
    tall = rng.uniform(0.2, 0.3)
    name, sheet = patterned(
        rng, Palette(palette.name, case, palette.third, palette.accent, palette.second), plain_share=0.45
    )
    slant = rng.uniform(0.05, 0.13)
    canvas.part(
        smooth(
            points(
                (x - wide * 0.62, base - tall + slant),
                (x - wide * 0.2, base - tall),
                (x + wide * 0.3, base - tall + 0.01),
                (x + wide * 0.62, base - tall + slant * 0.9),
                (x + wide * 0.62, base),
                (x - wide * 0.62, base),
            ),
            steps=5,
        ),
        shade,
        Form(0.012, 0.6, "x", 0.25),
    )
    canvas.part(rectangle(x - wide * 0.75, base - 0.08, x + wide * 0.75, base + 0.02), rim, METAL)
    canvas.part(rectangle(x - wide, base, x + wide, 0.94, 0.008), sheet, METAL)
    cap_x, cap_top = x + rng.uniform(0.27, 0.33), rng.uniform(0.4, 0.54)
    canvas.part(rectangle(cap_x - wide, cap_top, cap_x + wide, 0.94, rng.uniform(0.008, 0.05)), sheet, METAL)
    for bands in np.sort(rng.uniform(cap_top + 0.05, 0.9, int(rng.integers(1, 4)))):
        canvas.part(rectangle(cap_x - wide, bands, cap_x + wide, bands + rng.uniform(0.008, 0.03)), rim, METAL)
    canvas.part(rectangle(x - wide, 0.86, x + wide, 0.86 + rng.uniform(0.01, 0.03)), rim, METAL)
    seen = inks(rng, palette, case)
    if rng.random() < 0.5:
        canvas.text(cap_x, (cap_top + 0.94) / 2, brand.upper(), 0.05, seen[0], angle=-math.pi / 2, bold=True)
    else:
        emblem(canvas, rng, cap_x, (cap_top + 0.94) / 2, wide * 0.7, seen)
    return f"{name} case"


def cream_jar(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a jar of cream, closed, at times on its carton."""
    wide, top, bottom = rng.uniform(0.26, 0.38), rng.uniform(0.36, 0.48), rng.uniform(0.78, 0.88)
    lid_high = rng.uniform(0.1, 0.18)
    name, sheet = patterned(rng, palette, plain_share=0.6)
    canvas.part(
        lathe((top, wide * 0.95), (top + 0.05, wide), (bottom - 0.04, wide), (bottom, wide * rng.uniform(0.75, 0.95))),
        worked(sheet, "paper", rng),
        Form(0.012, 0.6, "x", 0.3),
    )
    cap = CAPS[rng.integers(0, len(CAPS))] if rng.random() < 0.6 else palette.second
    canvas.part(
        rectangle(0.5 - wide * 1.02, top - lid_high, 0.5 + wide * 1.02, top + 0.01, rng.uniform(0.008, 0.05)),
        worked(filled(cap), "metal", rng),
        METAL,
    )
    for x in np.linspace(-0.97, 0.97, int(rng.integers(0, 28))):
        canvas.stroke(
            points((0.5 + x * wide, top - lid_high + 0.03), (0.5 + x * wide, top - 0.01)),
            0.006,
            mixed(cap, (0, 0, 0), 0.35),
        )
    seen = inks(rng, palette, palette.main)
    y = (top + bottom) / 2
    if rng.random() < 0.45 or name != "plain":
        ground = (246, 243, 236) if rng.random() < 0.6 else palette.second
        canvas.part(
            rectangle(0.5 - wide * 0.65, y - 0.1, 0.5 + wide * 0.65, y + 0.11, rng.uniform(0, 0.05)), ground, PANEL
        )
        seen = inks(rng, palette, ground)
    canvas.text(0.5, y - 0.05, brand, 0.07, seen[0], bold=True, width=wide * 1.2)
    canvas.text(
        0.5,
        y + 0.02,
        ("day cream", "night cream", "body butter", "hair mask", "hand balm")[rng.integers(0, 5)],
        0.035,
        seen[1],
        width=wide,
    )
    emblem(canvas, rng, 0.5 + rng.uniform(-0.4, 0.4) * wide, y + 0.075, 0.035, seen)
    return f"{name} jar"


def pump_bottle(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a bottle or tube of lotion or shampoo."""
    wide, top = rng.uniform(0.14, 0.22), rng.uniform(0.26, 0.34)
    cap = (CAPS[rng.integers(0, len(CAPS))], palette.second, palette.accent)[rng.integers(0, 3)]
    if rng.random() < 0.5:
        canvas.part(rectangle(0.485, 0.12, 0.515, top), mixed(cap, (255, 255, 255), 0.3), METAL)
        canvas.part(
            smooth(points((0.3, 0.1), (0.34, 0.07), (0.55, 0.06), (0.56, 0.13), (0.4, 0.13), (0.33, 0.14))), cap, SOFT
        )
        canvas.part(rectangle(0.44, top - 0.07, 0.56, top + 0.02, 0.01), cap, METAL)
        shoulder = rng.uniform(0.02, 0.12)
        body = lathe((top, 0.06), (top + shoulder, wide), (0.9, wide * rng.uniform(0.9, 1.05)), (0.94, wide * 0.92))
    else:
        canvas.part(rectangle(0.5 - wide * 0.7, 0.1, 0.5 + wide * 0.7, 0.28, 0.02), cap, METAL)
        top = 0.27
        body = points(
            (0.5 - wide * 0.8, top), (0.5 + wide * 0.8, top), (0.5 + wide * 1.15, 0.94), (0.5 - wide * 1.15, 0.94)
        )
    name, sheet = patterned(rng, palette, plain_share=0.6)
    canvas.part(body, worked(sheet, "paper", rng), Form(0.008, 0.6, "x", 0.25))
    label(
        canvas,
        rng,
        (0.5 - wide * 0.82, top + 0.16, 0.5 + wide * 0.82, 0.88),
        palette,
        brand,
        ("shampoo", "body lotion", "shower gel", "hand soap")[rng.integers(0, 4)],
    )
    canvas.part(rectangle(0.5 - wide * 0.72, top + 0.16, 0.5 - wide * 0.55, 0.88), (255, 255, 255), FLAT, alpha=0.22)
    return f"{name} bottle"


def makeup_palette(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw an open box of eye shadows with a mirror."""
    wide, fold = rng.uniform(0.3, 0.43), rng.uniform(0.44, 0.5)
    name, sheet = patterned(rng, palette, plain_share=0.4)
    canvas.part(rectangle(0.5 - wide, fold - rng.uniform(0.28, 0.38), 0.5 + wide, fold, 0.03), sheet, PANEL)
    canvas.part(
        rectangle(0.5 - wide + 0.04, fold - 0.26, 0.5 + wide - 0.04, fold - 0.03, 0.015),
        (206, 218, 226),
        Form(0.01, 0.6),
    )
    canvas.part(
        points(
            (0.5 - wide + 0.1, fold - 0.03),
            (0.5 - wide + 0.25, fold - 0.26),
            (0.5 - wide + 0.34, fold - 0.26),
            (0.5 - wide + 0.19, fold - 0.03),
        ),
        (255, 255, 255),
        FLAT,
        alpha=0.4,
    )
    canvas.part(rectangle(0.5 - wide, fold, 0.5 + wide, 0.88, 0.03), worked(filled(palette.main), "paper", rng), PANEL)
    columns, rows = int(rng.integers(2, 7)), int(rng.integers(1, 5))
    xs, ys = np.linspace(0.5 - wide + 0.03, 0.5 + wide - 0.03, columns + 1), np.linspace(fold + 0.03, 0.85, rows + 1)
    tones: tuple[Colour, ...] = (
        (190, 132, 104),
        (120, 72, 56),
        (232, 204, 180),
        (168, 84, 92),
        (206, 160, 120),
        (92, 62, 76),
        (222, 172, 168),
        (142, 112, 90),
        palette.third,
        palette.accent,
    )
    is_round = rng.random() < 0.45
    for x0, x1 in pairwise(xs):
        for y0, y1 in pairwise(ys):
            tone = tones[rng.integers(0, len(tones))]
            pan = (
                ellipse((x0 + x1) / 2, (y0 + y1) / 2, (x1 - x0) * 0.43, (y1 - y0) * 0.43)
                if is_round
                else rectangle(x0 + 0.008, y0 + 0.008, x1 - 0.008, y1 - 0.008, 0.006)
            )
            canvas.part(pan, worked(filled(tone), "leather", rng), Form(0.008, -0.6))
    canvas.text(0.5, fold - 0.012, brand, 0.02, inks(rng, palette, palette.main)[0], width=0.3)
    return f"{name} palette"


def carton(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a cardboard box seen half from the side: cereal, biscuits, tea."""
    wide, tall = rng.uniform(0.24, 0.36), rng.uniform(0.28, 0.44)
    side = rng.uniform(0.06, 0.12)
    left, right, top, bottom = 0.5 - wide - side / 2, 0.5 + wide - side / 2, 0.52 - tall, 0.52 + tall
    label(canvas, rng, (left, top, right, bottom), palette, brand, food_name(rng))
    lift = side * 0.35
    spine = worked(filled((palette.main, palette.second, palette.third)[rng.integers(0, 3)]), "paper", rng)
    canvas.part(
        points((right, top), (right + side, top - lift), (right + side, bottom - lift), (right, bottom)),
        spine,
        Form(0.0, 0.7, "x"),
    )
    canvas.part(
        points((left, top), (left + side, top - lift), (right + side, top - lift), (right, top)),
        mixed(palette.main, (255, 255, 255), 0.25),
        PANEL,
    )
    for y in np.arange(top + 0.1, bottom - 0.1, 0.022):
        canvas.stroke(
            points((right + side * 0.2, y), (right + side * rng.uniform(0.5, 0.85), y - lift * 0.6)),
            0.006,
            (250, 250, 250),
            alpha=0.5,
        )
    return "carton"


def food_name(rng: Generator) -> str:
    """Return what a food package says it holds."""
    kind = (
        "oat crunch",
        "green tea",
        "honey bites",
        "crackers",
        "wafers",
        "granola",
        "cocoa",
        "rice crisps",
        "ginger cookies",
        "corn puffs",
        "black tea",
        "muesli",
    )
    return kind[rng.integers(0, len(kind))]


def can(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a can of a drink or of preserves."""
    slim = rng.random() < 0.6
    wide, top, bottom = (
        (rng.uniform(0.18, 0.22), 0.12, 0.92) if slim else (rng.uniform(0.26, 0.32), rng.uniform(0.22, 0.3), 0.86)
    )
    label(
        canvas,
        rng,
        (0.5 - wide, top + 0.05, 0.5 + wide, bottom - 0.04),
        palette,
        brand,
        ("lemonade", "cold brew", "tomatoes", "sparkling", "beans", "sweet corn", "ginger ale", "soup")[
            rng.integers(0, 8)
        ],
    )
    for share, dark in ((0.0, 0.32), (0.82, 0.4)):
        canvas.part(
            rectangle(0.5 - wide + share * 2 * wide, top + 0.05, 0.5 - wide + (share + 0.18) * 2 * wide, bottom - 0.04),
            (0, 0, 0),
            FLAT,
            alpha=dark * 0.4,
        )
        canvas.part(
            rectangle(
                0.5 - wide + (share + (0.09 if share else 0)) * 2 * wide,
                top + 0.05,
                0.5 - wide + (share + (0.18 if share else 0.09)) * 2 * wide,
                bottom - 0.04,
            ),
            (0, 0, 0),
            FLAT,
            alpha=dark * 0.6,
        )
    canvas.part(
        rectangle(0.5 - wide * 0.62, top + 0.05, 0.5 - wide * 0.42, bottom - 0.04), (255, 255, 255), FLAT, alpha=0.28
    )
    neck = wide * (0.86 if slim else 1.02)
    canvas.part(
        [
            points((0.5 - neck, top), (0.5 + neck, top), (0.5 + wide, top + 0.055), (0.5 - wide, top + 0.055)),
            arc(0.5, top, neck, 0.025, 0, 2 * math.pi),
        ],
        (196, 198, 202),
        METAL,
    )
    canvas.part(ellipse(0.5, top, neck * 0.92, 0.018), (150, 152, 158), PANEL)
    canvas.part(
        [
            rectangle(0.5 - wide, bottom - 0.045, 0.5 + wide, bottom - 0.01),
            arc(0.5, bottom - 0.012, wide * 0.96, 0.025, 0, math.pi),
        ],
        (186, 188, 194),
        METAL,
    )
    return "can"


def snack_bag(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a bag of crisps or sweets with crimped ends."""
    wide, tall = rng.uniform(0.27, 0.36), rng.uniform(0.34, 0.42)
    teeth = np.linspace(-wide, wide, 25)
    zig = np.where(np.arange(25) % 2, 0.0, 0.014)
    outline = np.concatenate(
        [
            np.stack([0.5 + teeth, 0.5 - tall - zig], axis=1),
            points((0.5 + wide * 1.04, 0.5)),
            np.stack([0.5 + teeth[::-1], 0.5 + tall + zig], axis=1),
            points((0.5 - wide * 1.04, 0.5)),
        ]
    )
    name, sheet = patterned(rng, palette, plain_share=0.5)
    canvas.part(outline, sheet, Form(0.06, 0.9))
    seen = inks(rng, palette, palette.main)
    window = int(rng.integers(0, 4))
    y = rng.uniform(0.54, 0.66)
    if window == 0:
        canvas.part(ellipse(0.5, y, wide * 0.72, 0.16), palette.second, PANEL)
        seen = inks(rng, palette, palette.second)
    elif window == 1:
        canvas.part(
            points((0.5 - wide, y - 0.1), (0.5 + wide, y - 0.2), (0.5 + wide, y + 0.14), (0.5 - wide, y + 0.2)),
            palette.third,
            FLAT,
        )
        seen = inks(rng, palette, palette.third)
    tone = ((226, 176, 84), (196, 126, 62), (150, 96, 56), (206, 70, 66), (120, 160, 72))[rng.integers(0, 5)]
    shape = int(rng.integers(0, 3))
    for _ in range(int(rng.integers(3, 9))):
        x, at = 0.5 + rng.uniform(-0.55, 0.55) * wide, y + rng.uniform(-0.07, 0.09)
        size = rng.uniform(0.04, 0.075)
        piece = (
            ellipse(x, at, size, size * 0.75),
            ellipse(x, at, size, size, steps=3),
            rectangle(x - size, at - size * 0.5, x + size, at + size * 0.5, 0.02),
        )[shape]
        canvas.part(piece, worked(filled(tone), "leather", rng) if _ == 0 else tone, SOFT)
    if rng.random() < 0.4:
        emblem(canvas, rng, 0.5 + rng.uniform(-0.12, 0.12), y + 0.16, 0.07, seen)
    plate = (seen[0], palette.accent, palette.second)[rng.integers(0, 3)]
    brand_y = rng.uniform(0.26, 0.36)
    canvas.part(
        (
            ellipse(0.5, brand_y, wide * 0.85, 0.085),
            rectangle(0.5 - wide * 0.85, brand_y - 0.07, 0.5 + wide * 0.85, brand_y + 0.07, 0.02),
            points(
                (0.5 - wide * 0.9, brand_y - 0.04),
                (0.5 + wide * 0.85, brand_y - 0.09),
                (0.5 + wide * 0.9, brand_y + 0.05),
                (0.5 - wide * 0.85, brand_y + 0.09),
            ),
        )[rng.integers(0, 3)],
        plate,
        PANEL,
    )
    canvas.text(
        0.5,
        brand_y,
        brand.upper() if rng.random() < 0.5 else brand,
        0.085,
        inks(rng, palette, plate)[0],
        bold=True,
        width=wide * 1.4,
        angle=rng.uniform(-0.08, 0.08),
    )
    canvas.text(
        0.5,
        brand_y + 0.12,
        ("sea salt", "paprika", "sour cream", "sweet mix", "chilli lime", "roasted")[rng.integers(0, 6)],
        0.045,
        inks(rng, palette, palette.main)[0],
        width=wide * 1.4,
    )
    for edge in (0.5 - tall + 0.02, 0.5 + tall - 0.02):
        for step in (-0.008, 0.008):
            canvas.stroke(
                points((0.5 - wide, edge + step), (0.5 + wide, edge + step)), 0.006, (255, 255, 255), alpha=0.35
            )
    for _ in range(5):
        x, at = 0.5 + rng.uniform(-0.8, 0.8) * wide, 0.5 + rng.uniform(-0.8, 0.8) * tall
        canvas.stroke(
            points((x, at), (x + rng.uniform(-0.06, 0.06), at + rng.uniform(0.04, 0.12))),
            0.014,
            (255, 255, 255),
            alpha=0.16,
        )
    return f"{name} bag"


def drink_bottle(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a bottle of juice, oil, sauce or wine with a label."""
    liquid = (
        (132, 30, 44),
        (226, 160, 52),
        (206, 92, 40),
        (120, 146, 66),
        (58, 42, 38),
        (238, 222, 160),
        (72, 106, 66),
    )[rng.integers(0, 7)]
    wide, neck = rng.uniform(0.13, 0.19), rng.uniform(0.04, 0.075)
    neck_end, shoulder = rng.uniform(0.2, 0.32), rng.uniform(0.34, 0.46)
    body = lathe((0.08, neck), (neck_end, neck * 1.05), (shoulder, wide), (0.9, wide), (0.95, wide * 0.9))
    canvas.part(body, liquid, Form(0.008, 0.65, "x", 0.5))
    cap = (palette.accent, palette.main, CAPS[rng.integers(0, len(CAPS))])[rng.integers(0, 3)]
    canvas.part(rectangle(0.5 - neck * 1.15, 0.05, 0.5 + neck * 1.15, rng.uniform(0.1, 0.2), 0.01), cap, METAL)
    top = shoulder + rng.uniform(0.02, 0.1)
    bottom = rng.uniform(0.78, 0.88)
    label(
        canvas,
        rng,
        (0.5 - wide, top, 0.5 + wide, bottom),
        palette,
        brand,
        ("orange juice", "olive oil", "cherry", "soy sauce", "apple", "red blend", "vinegar")[rng.integers(0, 7)],
    )
    for left, right, dark in ((-1, -0.8, 0.2), (-1, -0.9, 0.15), (0.78, 1, 0.22), (0.9, 1, 0.18)):
        canvas.part(rectangle(0.5 + left * wide, top, 0.5 + right * wide, bottom), (0, 0, 0), FLAT, alpha=dark)
    if rng.random() < 0.4:
        canvas.part(
            rectangle(0.5 - neck * 1.1, neck_end - 0.04, 0.5 + neck * 1.1, neck_end + 0.03), palette.second, PANEL
        )
    return "glass bottle"


def preserve_jar(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a glass of jam, honey or pickles with a cloth or metal lid."""
    fill = ((150, 34, 48), (220, 150, 44), (104, 44, 84), (120, 140, 60), (196, 92, 44), (86, 54, 36))[
        rng.integers(0, 6)
    ]
    wide, top, bottom = rng.uniform(0.22, 0.3), rng.uniform(0.26, 0.34), rng.uniform(0.84, 0.92)
    canvas.part(
        lathe((top, wide * 0.86), (top + 0.08, wide), (bottom - 0.05, wide), (bottom, wide * 0.9)),
        fill,
        Form(0.01, 0.6, "x", 0.5),
    )
    for _ in range(int(rng.integers(0, 14))):
        x, y, size = (
            0.5 + rng.uniform(-0.85, 0.85) * wide,
            rng.uniform(top + 0.06, bottom - 0.05),
            rng.uniform(0.015, 0.04),
        )
        canvas.part(ellipse(x, y, size), mixed(fill, (255, 230, 200), 0.25), BALL)
    high = rng.uniform(0.08, 0.14)
    _, sheet = patterned(rng, palette, plain_share=0.3)
    if rng.random() < 0.5:
        canvas.part(
            smooth(
                points(
                    (0.5 - wide * 0.9, top - high),
                    (0.5, top - high - 0.03),
                    (0.5 + wide * 0.9, top - high),
                    (0.5 + wide * 1.15, top + 0.06),
                    (0.5 + wide * 0.5, top + 0.03),
                    (0.5, top + 0.06),
                    (0.5 - wide * 0.5, top + 0.03),
                    (0.5 - wide * 1.15, top + 0.06),
                )
            ),
            worked(sheet, "linen", rng),
            CLOTH,
        )
        canvas.stroke(points((0.5 - wide * 0.95, top - 0.015), (0.5 + wide * 0.95, top - 0.015)), 0.016, palette.accent)
    else:
        canvas.part(rectangle(0.5 - wide * 0.95, top - high, 0.5 + wide * 0.95, top + 0.01, 0.015), sheet, METAL)
    y0 = rng.uniform(top + 0.1, top + 0.16)
    label(
        canvas,
        rng,
        (0.5 - wide * 0.8, y0, 0.5 + wide * 0.8, rng.uniform(bottom - 0.14, bottom - 0.06)),
        palette,
        brand,
        ("strawberry", "wild honey", "plum", "gherkins", "apricot", "fig")[rng.integers(0, 6)],
    )
    return "glass jar"
