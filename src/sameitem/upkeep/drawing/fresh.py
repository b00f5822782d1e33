"""Fresh food: fruit and vegetables in trays and nets, bread, cakes, cheese, prepared dishes."""

import math

import numpy as np
from numpy.random import Generator

from sameitem.upkeep.drawing.canvas import (
    BALL,
    CLOTH,
    FLAT,
    PANEL,
    SOFT,
    Canvas,
    Colour,
    Form,
    arc,
    ellipse,
    mixed,
    points,
    rectangle,
    smooth,
    star,
    turned,
)
from sameitem.upkeep.drawing.marks import bar_code, emblem, inks
from sameitem.upkeep.drawing.patterns import Palette, filled, patterned, worked

LEAF: Colour = (76, 124, 58)
PEEL = Form(0.0, 0.75, "ball", 0.3)


def _sticker(canvas: Canvas, rng: Generator, x: float, y: float, size: float, palette: Palette, brand: str) -> None:
    canvas.part(ellipse(x, y, size, size * rng.uniform(0.7, 1.0)), palette.main, FLAT)
    seen = inks(rng, palette, palette.main)
    canvas.stroke(ellipse(x, y, size * 0.85, size * 0.65), size * 0.1, seen[0], closed=True)
    canvas.text(x, y, brand, size * 0.45, seen[0], bold=True, width=size * 1.4)


def _banner(canvas: Canvas, rng: Generator, palette: Palette, brand: str, words: str, y: float, wide: float) -> None:
    """Print the paper band or the label of a pack."""
    ground = (palette.main, palette.second, (246, 243, 236))[rng.integers(0, 3)]
    seen = inks(rng, palette, ground)
    kind = int(rng.integers(0, 3))
    if kind == 0:
        canvas.part(rectangle(0.5 - wide, y - 0.07, 0.5 + wide, y + 0.07), ground, PANEL)
        reach = wide
    elif kind == 1:
        reach = rng.uniform(0.16, 0.24)
        canvas.part(ellipse(0.5, y, reach, 0.1), ground, PANEL)
    else:
        reach = rng.uniform(0.15, 0.22)
        canvas.part(rectangle(0.5 - reach, y - 0.1, 0.5 + reach, y + 0.1, 0.02), ground, PANEL)
        bar_code(canvas, rng, 0.5 + reach * 0.3, y + 0.03, 0.5 + reach * 0.92, y + 0.085)
    canvas.text(0.5, y - 0.025, brand, 0.055, seen[0], bold=True, width=reach * 1.6)
    canvas.text(
        0.5 - (0.3 * reach if kind == 2 else 0),
        y + 0.04,
        words,
        0.032,
        seen[1],
        width=reach * (1.0 if kind == 2 else 1.5),
    )
    if kind == 0:
        for side in (-1, 1):
            emblem(canvas, rng, 0.5 + side * wide * 0.75, y, 0.045, seen)


def _one(canvas: Canvas, rng: Generator, kind: int, x: float, y: float, r: float, tone: Colour) -> None:
    """Draw one fruit or vegetable."""
    if kind == 0:  # apple
        canvas.part(
            smooth(
                points(
                    (x, y - 0.78 * r),
                    (x + 0.55 * r, y - 0.95 * r),
                    (x + r, y - 0.3 * r),
                    (x + 0.75 * r, y + 0.6 * r),
                    (x + 0.3 * r, y + 0.95 * r),
                    (x, y + 0.85 * r),
                    (x - 0.3 * r, y + 0.95 * r),
                    (x - 0.75 * r, y + 0.6 * r),
                    (x - r, y - 0.3 * r),
                    (x - 0.55 * r, y - 0.95 * r),
                )
            ),
            tone,
            PEEL,
        )
        canvas.part(ellipse(x, y - 0.72 * r, 0.25 * r, 0.1 * r), mixed(tone, (50, 40, 20), 0.6), FLAT)
        canvas.stroke(points((x, y - 0.7 * r), (x + 0.12 * r, y - 1.2 * r)), 0.1 * r, (92, 66, 40))
        if rng.random() < 0.5:
            canvas.part(
                turned(ellipse(x + 0.4 * r, y - 1.1 * r, 0.35 * r, 0.14 * r), -0.4, x + 0.4 * r, y - 1.1 * r),
                LEAF,
                CLOTH,
            )
    elif kind == 1:  # citrus
        canvas.part(ellipse(x, y, r, r * 0.95), worked(filled(tone), "leather", rng, strength=0.8), PEEL)
        canvas.part(star(x, y - 0.55 * r, 0.12 * r, 5), mixed(tone, (60, 80, 30), 0.7), FLAT)
    elif kind == 2:  # tomato
        canvas.part(ellipse(x, y, r, r * 0.85), tone, PEEL)
        canvas.part(star(x, y - 0.5 * r, 0.5 * r, 5, inner=0.25, angle=rng.uniform(0, 1)), LEAF, PANEL)
    elif kind == 3:  # berry
        canvas.part(
            smooth(
                points(
                    (x, y - 0.8 * r),
                    (x + 0.8 * r, y - 0.6 * r),
                    (x + 0.55 * r, y + 0.4 * r),
                    (x, y + 1.05 * r),
                    (x - 0.55 * r, y + 0.4 * r),
                    (x - 0.8 * r, y - 0.6 * r),
                )
            ),
            tone,
            PEEL,
        )
        for row in (-0.3, 0.1, 0.5):
            for column in (-0.35, 0.0, 0.35):
                canvas.part(
                    ellipse(
                        x + column * r * (1 - row * 0.5), y + (row + abs(column) * 0.2) * r, 0.05 * r, 0.08 * r, steps=8
                    ),
                    (244, 214, 130),
                    FLAT,
                )
        canvas.part(star(x, y - 0.75 * r, 0.55 * r, 6, inner=0.35), LEAF, PANEL)
    elif kind == 4:  # pear or aubergine
        canvas.part(
            smooth(
                points(
                    (x, y - 1.2 * r),
                    (x + 0.4 * r, y - 0.8 * r),
                    (x + 0.85 * r, y + 0.3 * r),
                    (x + 0.5 * r, y + 0.95 * r),
                    (x - 0.5 * r, y + 0.95 * r),
                    (x - 0.85 * r, y + 0.3 * r),
                    (x - 0.4 * r, y - 0.8 * r),
                )
            ),
            tone,
            PEEL,
        )
        canvas.stroke(points((x, y - 1.15 * r), (x + 0.1 * r, y - 1.5 * r)), 0.1 * r, (92, 66, 40))
    else:  # pepper
        for side in (-0.45, 0.45, 0.0):
            canvas.part(
                smooth(
                    points(
                        (x + side * r, y - 0.85 * r),
                        (x + (side + 0.5) * r, y - 0.6 * r),
                        (x + (side * 0.7 + 0.4) * r, y + 0.7 * r),
                        (x + side * 0.7 * r, y + 0.95 * r),
                        (x + (side * 0.7 - 0.4) * r, y + 0.7 * r),
                        (x + (side - 0.5) * r, y - 0.6 * r),
                    )
                ),
                tone,
                Form(0.03, 0.7, "x", 0.25),
            )
        canvas.stroke(
            smooth(points((x, y - 0.75 * r), (x - 0.05 * r, y - 1.1 * r), (x + 0.15 * r, y - 1.3 * r)), closed=False),
            0.2 * r,
            LEAF,
            Form(0.006),
        )


_TONES: tuple[tuple[str, tuple[Colour, ...]], ...] = (
    ("apples", ((178, 36, 40), (150, 170, 62), (214, 160, 70))),
    ("oranges", ((232, 140, 40), (240, 206, 70), (150, 176, 60))),
    ("tomatoes", ((196, 44, 34), (226, 130, 44), (110, 46, 50))),
    ("strawberries", ((196, 32, 44), (170, 26, 46), (214, 56, 54))),
    ("pears", ((176, 176, 78), (86, 44, 84), (202, 164, 92))),
    ("peppers", ((190, 40, 36), (236, 180, 48), (84, 134, 56))),
)


def fruit_tray(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw fruit or vegetables in a tray, basket, crate or bowl, with the grower's label."""
    kind = int(rng.integers(0, len(_TONES)))
    name, tones = _TONES[kind]
    tone = tones[rng.integers(0, 3)]
    other = tones[rng.integers(0, 3)] if rng.random() < 0.3 else tone
    columns, rows = int(rng.integers(3, 6)), int(rng.integers(2, 4))
    wide, top = rng.uniform(0.34, 0.42), rng.uniform(0.3, 0.42)
    holder = int(rng.integers(0, 4))
    paint = ((236, 236, 232), (60, 92, 66), (46, 46, 48), (206, 178, 140), (70, 110, 156))[rng.integers(0, 5)]
    r = wide / columns * 1.12
    base = top + rows * r * 0.95
    if holder == 3:
        canvas.part(ellipse(0.5, base - 0.02, wide * 1.12, 0.09), mixed(paint, (0, 0, 0), 0.4), FLAT)
    else:
        canvas.part(
            rectangle(0.5 - wide - 0.03, top - 0.05, 0.5 + wide + 0.03, base + 0.05, 0.03),
            mixed(paint, (0, 0, 0), 0.35),
            PANEL,
        )
    for row in range(rows):
        shift = (row % 2) * r * 0.5
        for column in range(columns):
            x = (
                0.5
                - wide
                + r * 0.9
                + (column + rng.uniform(-0.08, 0.08)) * (2 * wide - 1.8 * r) / max(1, columns - 1)
                + shift * 0.4
            )
            y = top + row * r * 1.05 + rng.uniform(-0.012, 0.012)
            _one(
                canvas,
                rng,
                kind,
                x,
                y,
                r * rng.uniform(0.86, 1.0),
                mixed(tone if rng.random() < 0.75 else other, (255, 240, 200), rng.uniform(0, 0.12)),
            )
    if holder == 0:
        canvas.part(
            rectangle(0.5 - wide - 0.04, base - 0.02, 0.5 + wide + 0.04, base + 0.15, 0.03),
            worked(filled(paint), "paper", rng),
            CLOTH,
        )
    elif holder == 1:
        canvas.part(
            points(
                (0.5 - wide - 0.05, base - 0.04),
                (0.5 + wide + 0.05, base - 0.04),
                (0.5 + wide, base + 0.17),
                (0.5 - wide, base + 0.17),
            ),
            worked(filled((196, 150, 96)), "wicker", rng),
            CLOTH,
        )
    elif holder == 2:
        for y in (base - 0.03, base + 0.075):
            canvas.part(
                rectangle(0.5 - wide - 0.05, y, 0.5 + wide + 0.05, y + 0.09),
                worked(filled((204, 166, 116)), "wood", rng),
                PANEL,
            )
    else:
        canvas.part(
            smooth(
                points(
                    (0.5 - wide * 1.12, base - 0.02),
                    (0.5 + wide * 1.12, base - 0.02),
                    (0.5 + wide * 0.7, base + 0.18),
                    (0.5 - wide * 0.7, base + 0.18),
                ),
                steps=6,
            ),
            worked(patterned(rng, palette, plain_share=0.4)[1], "paper", rng),
            SOFT,
        )
    if rng.random() < 0.75:
        _banner(canvas, rng, palette, brand, name, base + 0.06, wide + 0.02)
    for _ in range(int(rng.integers(0, 4))):
        _sticker(
            canvas,
            rng,
            0.5 + rng.uniform(-0.7, 0.7) * wide,
            top + rng.uniform(0.2, 0.8) * (base - top),
            rng.uniform(0.025, 0.04),
            palette,
            brand,
        )
    return name


def bunch(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a bunch of carrots, bananas, radishes, asparagus or leeks with a printed band."""
    kind = int(rng.integers(0, 4))
    count = int(rng.integers(4, 9))
    if kind == 1:
        for step in np.linspace(-0.5, 0.5, count):
            start, swing = np.array([0.5 + step * 0.1, 0.14]), 0.5 + step * 0.62
            tip = (swing + rng.uniform(-0.02, 0.02), 0.82 - 0.2 * abs(step) + rng.uniform(-0.03, 0.03))
            line = smooth(np.array([start, [0.5 + step * 0.5, 0.36], [swing + step * 0.12, 0.62], tip]), closed=False)
            canvas.stroke(line, 0.1, mixed((226, 186, 66), (150, 170, 60), rng.uniform(0, 0.35)), Form(0.025, 0.75))
            canvas.part(ellipse(*tip, 0.02), (70, 58, 40), FLAT)
        canvas.part(rectangle(0.46, 0.08, 0.54, 0.2, 0.02), (120, 110, 50), SOFT)
        name = "bananas"
    else:
        name, tone, thick = (
            ("carrots", (226, 120, 40), 0.075),
            ("", (0, 0, 0), 0.0),
            ("radishes", (196, 42, 76), 0.06),
            ("asparagus", (120, 150, 76), 0.035),
        )[kind]
        order = rng.permutation(count)
        for step in order:
            x = 0.5 + (step / (count - 1) - 0.5) * 0.42
            lean = (x - 0.5) * 0.35 + rng.uniform(-0.02, 0.02)
            for _ in range(3 if kind != 3 else 0):
                tip = x + lean * -0.8 + rng.uniform(-0.12, 0.12)
                canvas.stroke(
                    smooth(points((x, 0.42), ((x + tip) / 2, 0.25), (tip, rng.uniform(0.05, 0.15))), closed=False),
                    0.012,
                    mixed(LEAF, (150, 180, 80), rng.random() * 0.6),
                )
                canvas.part(
                    star(tip, 0.13 + rng.uniform(-0.05, 0.05), 0.05, 7, inner=0.6),
                    mixed(LEAF, (140, 170, 80), rng.random() * 0.5),
                    CLOTH,
                )
            if kind == 2:
                y = 0.54 + rng.uniform(-0.03, 0.14)
                canvas.stroke(points((x, 0.4), (x + lean, y)), 0.018, mixed(LEAF, (220, 120, 140), 0.4))
                canvas.stroke(
                    smooth(points((x + lean, y), (x + lean * 1.2, y + 0.12), (x + lean * 1.5, y + 0.22)), closed=False),
                    0.009,
                    (236, 200, 206),
                )
                canvas.part(
                    smooth(
                        points(
                            (x + lean, y - thick * 1.1),
                            (x + lean + thick, y),
                            (x + lean, y + thick * 1.4),
                            (x + lean - thick, y),
                        )
                    ),
                    tone,
                    PEEL,
                )
            elif kind == 0:
                canvas.part(
                    smooth(
                        points(
                            (x - thick / 2, 0.4),
                            (x + thick / 2, 0.4),
                            (x + lean + thick * 0.35, 0.68),
                            (x + lean * 1.3, rng.uniform(0.86, 0.95)),
                            (x + lean - thick * 0.35, 0.68),
                        )
                    ),
                    mixed(tone, (250, 190, 110), rng.uniform(0, 0.2)),
                    Form(0.0, 0.6, "x", 0.12),
                )
            else:
                canvas.part(
                    smooth(
                        points(
                            (x + lean * 0.6, 0.08),
                            (x + lean * 0.6 + thick * 0.7, 0.17),
                            (x + thick * 0.55, 0.5),
                            (x - lean + thick * 0.5, 0.93),
                            (x - lean - thick * 0.5, 0.93),
                            (x - thick * 0.55, 0.5),
                            (x + lean * 0.6 - thick * 0.7, 0.17),
                        )
                    ),
                    mixed(tone, (90, 60, 100), rng.uniform(0, 0.25)),
                    Form(0.0, 0.6, "x", 0.12),
                )
    y = (0.46, 0.3, 0.4, rng.uniform(0.5, 0.7))[kind]
    _, sheet = patterned(rng, palette, plain_share=0.4)
    wide = rng.uniform(0.2, 0.26)
    tall = rng.uniform(0.04, 0.09)
    canvas.part(
        rectangle(0.5 - wide, y - tall, 0.5 + wide, y + tall, 0.015), worked(sheet, "paper", rng), Form(0.01, 0.5, "x")
    )
    canvas.part(
        rectangle(0.5 - wide * 0.6, y - tall * 0.7, 0.5 + wide * 0.6, y + tall * 0.7, 0.01), (248, 246, 238), FLAT
    )
    canvas.text(0.5, y, brand, tall * 0.9, inks(rng, palette, (248, 246, 238))[0], bold=True, width=wide * 1.1)
    return name


def bread(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a loaf or a bun with cuts, seeds, at times in a paper sleeve."""
    crust = mixed(
        ((172, 108, 54), (128, 76, 42), (206, 152, 88), (96, 60, 40))[rng.integers(0, 4)],
        (200, 150, 90),
        rng.uniform(0, 0.25),
    )
    wide, tall = rng.uniform(0.3, 0.44), rng.uniform(0.16, 0.32)
    sheet = worked(worked(filled(crust), "leather", rng, strength=1.6), "folds", rng)
    shape = int(rng.integers(0, 4))
    outline = (
        ellipse(0.5, 0.55, wide, tall),
        smooth(
            points(
                (0.5 - wide, 0.5 + tall * 0.8),
                (0.5 - wide, 0.5 - tall * 0.3),
                (0.5 - wide * 0.6, 0.5 - tall),
                (0.5 + wide * 0.6, 0.5 - tall),
                (0.5 + wide, 0.5 - tall * 0.3),
                (0.5 + wide, 0.5 + tall * 0.8),
            ),
            steps=6,
        ),
        turned(ellipse(0.5, 0.55, 0.46, rng.uniform(0.09, 0.14)), rng.uniform(-0.6, -0.2), 0.5, 0.55),
        ellipse(0.5, 0.55, min(wide, 0.36)),
    )[shape]
    canvas.part(outline, sheet, Form(0.07, 1.0))
    pale = mixed(crust, (250, 226, 180), 0.65)
    tilt = rng.uniform(-0.9, 0.9)
    cuts = int(rng.integers(1, 7))
    angle = -0.4 if shape == 2 else 0.0
    for share in np.linspace(-0.65, 0.65, cuts) if cuts > 1 else (0.0,):
        x, y = 0.5 + share * wide * (1.0 if shape != 2 else 0.9), 0.54 + share * math.sin(angle) * 0.42
        reach = min(tall, 0.26 if shape != 2 else 0.08) * rng.uniform(0.45, 0.6)
        cut = turned(ellipse(x, y, 0.014 + 0.01 * rng.random(), reach), tilt, x, y)
        canvas.part(cut, pale, Form(0.01, -0.7))
    if rng.random() < 0.3:
        for share in (-0.4, 0.0, 0.4):
            canvas.part(
                turned(ellipse(0.5, 0.54 + share * tall, min(wide, tall) * 0.7, 0.015), -tilt, 0.5, 0.54),
                pale,
                Form(0.01, -0.6),
            )
    seed = ((240, 224, 186), (52, 46, 44), (206, 176, 110))[rng.integers(0, 3)]
    for _ in range(int(rng.integers(0, 3)) * 45):
        turn, far = rng.uniform(0, 6.28), math.sqrt(rng.random()) * 0.85
        x, y = 0.5 + far * wide * math.cos(turn), 0.54 + far * (tall if shape != 2 else 0.09) * math.sin(turn)
        canvas.part(turned(ellipse(x, y, 0.009, 0.005, steps=8), turn * 3, x, y), seed, FLAT)
    if shape in (0, 1) and rng.random() < 0.55:
        _, paper = patterned(rng, palette, plain_share=0.35)
        y = rng.uniform(0.56, 0.68)
        canvas.part(
            rectangle(0.5 - wide * 0.45, 0.54 - tall * 1.04, 0.5 + wide * 0.45, 0.56 + tall * 1.0),
            worked(paper, "paper", rng),
            Form(0.02, 0.5, "y"),
        )
        canvas.part(ellipse(0.5, y - 0.06, wide * 0.38, tall * 0.4), (248, 244, 234), FLAT)
        canvas.text(0.5, y - 0.06, brand, 0.06, inks(rng, palette, (248, 244, 234))[0], bold=True, width=wide * 0.64)
    return ("round loaf", "tin loaf", "baguette", "bun")[shape]


def cake(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a decorated cake on a stand or a cupcake."""
    sponge = ((226, 186, 130), (104, 62, 40), (240, 220, 180), (170, 60, 60))[rng.integers(0, 4)]
    icing = (palette.main, palette.second, palette.third, (248, 240, 226), (96, 56, 38))[rng.integers(0, 5)]
    tiers = int(rng.integers(1, 4))
    canvas.part(
        [ellipse(0.5, 0.86, 0.4, 0.05), ellipse(0.5, 0.885, 0.36, 0.05)],
        ((236, 236, 234), palette.third, (198, 168, 110))[rng.integers(0, 3)],
        PANEL,
    )
    bottom, wide = 0.85, rng.uniform(0.28, 0.36)
    drip = rng.random() < 0.6
    decoration = int(rng.integers(0, 5))
    topping = (palette.accent, (190, 34, 48), (74, 58, 110), palette.third)[rng.integers(0, 4)]
    for tier in range(tiers):
        high = rng.uniform(0.16, 0.3) / (1 + 0.35 * (tiers - 1)) + 0.06
        top = bottom - high
        flank = [rectangle(0.5 - wide, top, 0.5 + wide, bottom), arc(0.5, bottom, wide, 0.04, 0, math.pi)]
        _, sheet = patterned(
            rng,
            Palette(palette.name, sponge if tier % 2 == 0 else icing, palette.second, palette.third, palette.accent),
            plain_share=0.5,
        )
        canvas.part(flank, worked(sheet, "leather", rng, strength=0.6), Form(0.0, 0.55, "x"))
        for y in np.linspace(top + high * 0.35, bottom - high * 0.2, int(rng.integers(0, 3))):
            canvas.stroke(arc(0.5, y, wide, 0.04, 0, math.pi), 0.022, icing)
        canvas.part(ellipse(0.5, top, wide, 0.045), icing, PANEL)
        if drip:
            for x in np.linspace(-0.95, 0.95, int(rng.integers(8, 16))):
                y = top + 0.045 * math.sqrt(1 - x * x)
                canvas.stroke(
                    points((0.5 + x * wide, y - 0.02), (0.5 + x * wide, y + rng.uniform(0.01, high * 0.5))),
                    0.036,
                    icing,
                    Form(0.008, 0.6),
                )
        if decoration < 3:
            for x in np.linspace(-0.9, 0.9, int(rng.integers(5, 12))):
                y = top + 0.03 * math.sqrt(1 - x * x) - 0.012
                if decoration == 0:
                    canvas.part(ellipse(0.5 + x * wide, y, 0.026), topping, BALL)
                elif decoration == 1:
                    canvas.part(star(0.5 + x * wide, y, 0.034, 8, inner=0.7), mixed(icing, (255, 255, 255), 0.4), BALL)
                else:
                    canvas.part(
                        smooth(points((0.5 + x * wide, y - 0.06), (0.525 + x * wide, y), (0.475 + x * wide, y))),
                        topping,
                        BALL,
                    )
        bottom = top + 0.01
        wide *= rng.uniform(0.62, 0.76)
    if decoration == 3 or rng.random() < 0.4:
        for x in np.linspace(-0.5, 0.5, int(rng.integers(1, 6))):
            canvas.part(
                rectangle(0.492 + x * wide, bottom - 0.12, 0.508 + x * wide, bottom),
                (palette.accent, palette.third)[int(x * 10) % 2],
                PANEL,
            )
            canvas.part(ellipse(0.5 + x * wide, bottom - 0.14, 0.01, 0.02), (250, 180, 60), FLAT)
    if decoration == 4:
        emblem(canvas, rng, 0.5, bottom - 0.1, 0.09, [palette.accent, palette.third, topping, palette.second])
    return "iced"


def pizza(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a pizza, tart or salad bowl seen from above."""
    r = rng.uniform(0.38, 0.44)
    kind = int(rng.integers(0, 3))
    rim = ((196, 142, 76), (206, 164, 100), palette.main)[kind]
    canvas.part(
        ellipse(0.5, 0.5, r + 0.03),
        worked(filled(rim), "leather", rng) if kind < 2 else patterned(rng, palette, plain_share=0.5)[1],
        Form(0.04, 0.9),
    )
    ground = ((196, 70, 40), (240, 214, 150), (96, 140, 66))[kind]
    second = ((240, 214, 140), (250, 240, 220), (150, 184, 90))[kind]
    sheet = worked(filled(ground), "leather", rng, strength=1.5)
    canvas.part(ellipse(0.5, 0.5, r - rng.uniform(0.01, 0.05)), sheet, Form(0.01, -0.5))
    for _ in range(26):
        turn, far = rng.uniform(0, 6.28), math.sqrt(rng.random()) * (r - 0.08)
        canvas.part(
            smooth(
                ellipse(
                    0.5 + far * math.cos(turn),
                    0.5 + far * math.sin(turn),
                    rng.uniform(0.03, 0.08),
                    rng.uniform(0.03, 0.06),
                    steps=7,
                )
            ),
            second,
            PANEL,
        )
    toppings: tuple[Colour, ...] = (
        (186, 44, 40),
        (60, 56, 54),
        (94, 134, 58),
        (244, 236, 214),
        (226, 156, 56),
        (124, 44, 80),
    )
    chosen = rng.permutation(6)[: int(rng.integers(2, 5))]
    for which in chosen:
        tone, figure, size = toppings[which], int(rng.integers(0, 4)), rng.uniform(0.025, 0.06)
        ring = rng.random() < 0.4
        count = int(rng.integers(5, 14))
        for step in range(count):
            turn, far = (
                (2 * math.pi * step / count, (0.35 + 0.15 * (which % 4)) * r)
                if ring
                else (rng.uniform(0, 6.28), math.sqrt(rng.random()) * (r - 0.09))
            )
            x, y = 0.5 + far * math.cos(turn), 0.5 + far * math.sin(turn)
            if figure == 0:
                canvas.part(ellipse(x, y, size), tone, Form(0.01, 0.7))
            elif figure == 1:
                canvas.stroke(ellipse(x, y, size * 0.7), size * 0.5, tone, Form(0.006), closed=True)
            elif figure == 2:
                canvas.part(
                    turned(
                        smooth(points((x - size, y), (x, y - size * 0.5), (x + size, y), (x, y + size * 0.5))),
                        turn,
                        x,
                        y,
                    ),
                    tone,
                    Form(0.008, 0.7),
                )
            else:
                canvas.stroke(turned(arc(x, y, size, size, 0, 2.4), turn * 2, x, y), size * 0.4, tone, Form(0.006))
    if kind == 0 and rng.random() < 0.4:
        for turn in np.arange(0, math.pi, math.pi / 4):
            canvas.stroke(
                points(
                    (0.5 - r * math.cos(turn), 0.5 - r * math.sin(turn)),
                    (0.5 + r * math.cos(turn), 0.5 + r * math.sin(turn)),
                ),
                0.008,
                (120, 70, 40),
                alpha=0.7,
            )
    return ("pizza", "tart", "salad bowl")[kind]


def cheese(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a wedge or wheel of cheese with rind and label."""
    tone = ((240, 204, 104), (246, 234, 196), (230, 160, 70), (250, 244, 226))[rng.integers(0, 4)]
    rind = ((180, 120, 60), (160, 44, 40), (70, 60, 54), (236, 224, 196), (120, 130, 90))[rng.integers(0, 5)]
    sheet = worked(filled(tone), "leather", rng, strength=0.7)
    high = rng.uniform(0.16, 0.3)
    if rng.random() < 0.6:
        tip_y, back = rng.uniform(0.56, 0.64), rng.uniform(0.34, 0.44)
        left, right = 0.1, rng.uniform(0.82, 0.92)
        canvas.part(points((left, tip_y), (right, back), (right, back + high), (left, tip_y + high)), sheet, PANEL)
        canvas.part(
            smooth(
                points(
                    (left, tip_y),
                    (0.5, back - 0.12),
                    (right - 0.06, back - 0.1),
                    (right, back),
                    (right - 0.3, back + 0.1),
                ),
                steps=4,
            ),
            mixed(tone, (255, 255, 255), 0.2),
            PANEL,
        )
        canvas.part(points((left, tip_y), (right, back), (right, back + high), (left, tip_y + high)), sheet, PANEL)
        canvas.stroke(points((right, back), (right, back + high)), rng.uniform(0.02, 0.05), rind, PANEL)
        holes = int(rng.integers(0, 3)) * 5
        for _ in range(holes):
            share, down = rng.uniform(0.1, 0.9), rng.uniform(0.15, 0.85)
            x, y = left + share * (right - left), tip_y + share * (back - tip_y) + down * high
            canvas.part(
                ellipse(x, y, rng.uniform(0.01, 0.035), rng.uniform(0.01, 0.026)),
                mixed(tone, (120, 80, 20), 0.4),
                Form(0.008, -0.9),
            )
        if not holes:
            for _ in range(22):
                share, down = rng.uniform(0.05, 0.95), rng.uniform(0.1, 0.9)
                x, y = left + share * (right - left), tip_y + share * (back - tip_y) + down * high
                canvas.part(
                    ellipse(x, y, rng.uniform(0.005, 0.02), rng.uniform(0.004, 0.012)),
                    ((82, 102, 112), (90, 120, 70), (150, 60, 40))[len(brand) % 3],
                    FLAT,
                )
        label_at = (left + 0.55 * (right - left), (tip_y + back) / 2 + high * 0.5)
    else:
        y = rng.uniform(0.4, 0.46)
        canvas.part(
            [rectangle(0.12, y, 0.88, y + high), arc(0.5, y + high, 0.38, 0.12, 0, math.pi)],
            worked(filled(rind), "leather", rng),
            Form(0.01, 0.6, "x"),
        )
        canvas.part(ellipse(0.5, y, 0.38, 0.12), mixed(rind, (255, 255, 255), 0.2), PANEL)
        if rng.random() < 0.6:
            canvas.part(
                points(
                    (0.5, y),
                    (rng.uniform(0.5, 0.62), y + 0.118),
                    (rng.uniform(0.62, 0.72), y + high + 0.1),
                    (0.55, y + high + 0.115),
                    (0.5, y + high * 0.9),
                ),
                sheet,
                PANEL,
            )
        label_at = (0.38, y + high * 0.6 + 0.05)
    size = rng.uniform(0.08, 0.13)
    x, y = label_at
    paper = palette.main
    canvas.part(
        (
            ellipse(x, y, size * 1.2, size * 0.75),
            rectangle(x - size * 1.2, y - size * 0.7, x + size * 1.2, y + size * 0.7, 0.01),
            star(x, y, size * 1.15, 16, inner=0.88),
        )[rng.integers(0, 3)],
        paper,
        PANEL,
    )
    canvas.text(x, y - size * 0.2, brand, size * 0.45, inks(rng, palette, paper)[0], bold=True, width=size * 1.9)
    emblem(canvas, rng, x, y + size * 0.35, size * 0.26, inks(rng, palette, paper))
    return "cheese"
