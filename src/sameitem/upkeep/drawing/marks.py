"""What is printed on things: invented brands, emblems, labels, dials."""

import math

import numpy as np
from numpy.random import Generator

from sameitem.upkeep.drawing.canvas import (
    FLAT,
    Canvas,
    Colour,
    Points,
    arc,
    ellipse,
    mixed,
    points,
    rectangle,
    smooth,
    star,
    turned,
)
from sameitem.upkeep.drawing.patterns import PATTERNS, Palette

_FIRST = (
    *("Bram", "Cor", "Dov", "Elv", "Fen", "Gal", "Hul", "Jor", "Kel", "Lum", "Mar", "Nim"),
    *("Ost", "Pel", "Quin", "Rav", "Sel", "Tov", "Ulm", "Vex", "Wim", "Yar", "Zin", "Ald"),
)
_LAST = ("abo", "eddo", "iska", "ovar", "umi", "anto", "elby", "orra", "itta", "uvo", "essa", "yndo")
WORDS = (
    *("river", "north", "cloud", "ember", "maple", "tide", "stone", "field", "lunar", "cedar", "harbor", "meadow"),
    *("copper", "violet", "summit", "coral", "drift", "hazel", "orbit", "willow", "canyon", "pepper", "velvet"),
    *("island", "comet", "prairie", "amber", "nomad", "aurora", "lagoon", "thistle", "marble"),
)


def brand_name(rng: Generator) -> str:
    """Return one of 288 invented brands."""
    return _FIRST[rng.integers(0, len(_FIRST))] + _LAST[rng.integers(0, len(_LAST))]


def inks(rng: Generator, palette: Palette, ground: Colour) -> list[Colour]:
    """Return the palette's colours that can be seen on a ground, in a drawn order, at least two."""
    every = [palette.main, palette.second, palette.third, palette.accent, (246, 242, 234), (34, 32, 36)]
    seen = [paint for paint in every if sum(abs(a - b) for a, b in zip(paint, ground, strict=True)) > 110]
    return [seen[i] for i in rng.permutation(len(seen))]


def emblem(canvas: Canvas, rng: Generator, x: float, y: float, size: float, paints: list[Colour]) -> None:
    """Print one drawn emblem of this half size around (x, y)."""
    _EMBLEMS[rng.integers(0, len(_EMBLEMS))](canvas, rng, x, y, size, [paints[i % len(paints)] for i in range(4)])


def _sun(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    canvas.part(ellipse(x, y, r), paints[0], FLAT)
    height = rng.uniform(-0.3, 0.2) * r
    for step in range(int(rng.integers(1, 4))):
        peak = x + rng.uniform(-0.5, 0.5) * r
        base = y + 0.85 * r - step * 0.03
        canvas.part(
            points((x - 0.95 * r, base), (peak, y + height + step * 0.2 * r), (x + 0.95 * r, base)),
            paints[1 + step % 2],
            FLAT,
        )
    for step in range(int(rng.integers(0, 4))):
        canvas.stroke(
            points((x - r, y + r * (1.02 + 0.16 * step)), (x + r, y + r * (1.02 + 0.16 * step))), 0.05 * r, paints[2]
        )


def _burst(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    tips = int(rng.integers(4, 17))
    canvas.part(star(x, y, r, tips, inner=rng.uniform(0.3, 0.85), angle=rng.uniform(0, 3)), paints[0], FLAT)
    canvas.part(
        star(x, y, r * rng.uniform(0.35, 0.7), int(rng.integers(3, 12)), inner=rng.uniform(0.4, 0.95)), paints[1], FLAT
    )
    if rng.random() < 0.6:
        canvas.part(ellipse(x, y, r * rng.uniform(0.12, 0.28)), paints[2], FLAT)


def _face(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    ear = rng.uniform(0.25, 0.5)
    long = rng.uniform(0.9, 1.7)
    for side in (-1, 1):
        if rng.random() < 0.5:
            canvas.part(
                points(
                    (x + side * 0.85 * r, y), (x + side * 0.75 * r, y - long * r), (x + side * 0.1 * r, y - 0.6 * r)
                ),
                paints[0],
                FLAT,
            )
        else:
            canvas.part(ellipse(x + side * 0.62 * r, y - 0.62 * r * long, ear * r, ear * r * long), paints[0], FLAT)
    canvas.part(ellipse(x, y, r, r * rng.uniform(0.75, 1)), paints[0], FLAT)
    gap, big = rng.uniform(0.25, 0.5) * r, rng.uniform(0.07, 0.2) * r
    for side in (-1, 1):
        canvas.part(ellipse(x + side * gap, y - 0.1 * r, big), paints[1], FLAT)
    canvas.part(ellipse(x, y + 0.35 * r, rng.uniform(0.15, 0.5) * r, rng.uniform(0.1, 0.28) * r), paints[2], FLAT)
    if rng.random() < 0.5:
        for side in (-1, 1):
            for tilt in (-0.1, 0.05):
                canvas.stroke(
                    points((x + side * 0.35 * r, y + 0.35 * r), (x + side * 1.1 * r, y + (0.35 + tilt) * r)),
                    0.03 * r,
                    paints[1],
                )


def _flower(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    stem = smooth(
        points((x, y), (x + rng.uniform(-0.2, 0.2) * r, y + 0.6 * r), (x + rng.uniform(-0.3, 0.3) * r, y + 1.3 * r)),
        closed=False,
    )
    canvas.stroke(stem, 0.06 * r, paints[2])
    for side in (-1, 1):
        canvas.part(
            turned(ellipse(x + side * 0.35 * r, y + 0.85 * r, 0.32 * r, 0.12 * r), side * -0.5, x, y + 0.85 * r),
            paints[2],
            FLAT,
        )
    count = int(rng.integers(5, 13))
    wide = rng.uniform(0.13, 0.3)
    for petal in range(count):
        turn = 2 * math.pi * petal / count
        canvas.part(
            turned(ellipse(x, y - 0.5 * r, wide * r, 0.42 * r), turn, x, y),
            paints[petal % 2 * int(rng.random() < 0.3)],
            FLAT,
        )
    canvas.part(ellipse(x, y, 0.24 * r), paints[3] if paints[3] != paints[0] else paints[1], FLAT)


def _roundel(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    for step, share in enumerate(sorted(rng.uniform(0.25, 1, int(rng.integers(2, 5))), reverse=True)):
        canvas.part(ellipse(x, y, r * share), paints[step % 3], FLAT)
    canvas.text(x, y, WORDS[rng.integers(0, len(WORDS))].upper(), 0.3 * r, paints[3], bold=True, width=1.7 * r)


def _lettering(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    lines = int(rng.integers(1, 4))
    for line in range(lines):
        word = WORDS[rng.integers(0, len(WORDS))]
        word = word.upper() if rng.random() < 0.6 else word.capitalize()
        canvas.text(
            x,
            y + (line - (lines - 1) / 2) * 0.62 * r,
            word,
            rng.uniform(0.4, 0.6) * r,
            paints[line % 2],
            bold=rng.random() < 0.6,
            width=2.2 * r,
            stretch=rng.uniform(0.8, 1.3),
        )
    if rng.random() < 0.5:
        canvas.stroke(points((x - r, y + 0.36 * r * lines), (x + r, y + 0.36 * r * lines)), 0.05 * r, paints[2])


def _blocks(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    cells = int(rng.integers(2, 5))
    step = 2 * r / cells
    for row in range(cells):
        for column in range(cells):
            left, top = x - r + column * step, y - r + row * step
            figure = int(rng.integers(0, 5))
            paint = paints[rng.integers(0, 3)]
            if figure == 0:
                canvas.part(rectangle(left, top, left + step, top + step), paint, FLAT)
            elif figure == 1:
                canvas.part(points((left, top), (left + step, top), (left, top + step)), paint, FLAT)
            elif figure == 2:
                canvas.part(ellipse(left + step / 2, top + step / 2, step / 2, steps=24), paint, FLAT)
            elif figure == 3:
                canvas.part(points((left, top), (left + step, top + step), (left, top + step)), paint, FLAT)


def _fish(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    tall = rng.uniform(0.3, 0.6) * r
    canvas.part(points((x + 0.4 * r, y), (x + r, y - tall), (x + 0.85 * r, y), (x + r, y + tall)), paints[1], FLAT)
    canvas.part(ellipse(x - 0.2 * r, y, 0.75 * r, tall), paints[0], FLAT)
    for band in range(int(rng.integers(0, 5))):
        canvas.stroke(arc(x - 0.55 * r + band * 0.24 * r, y, 0.12 * r, tall * 0.7, -1.3, 1.3), 0.06 * r, paints[2])
    canvas.part(ellipse(x - 0.65 * r, y - 0.1 * r, 0.08 * r), paints[3], FLAT)


def _palm(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    if rng.random() < 0.6:
        canvas.part(ellipse(x + rng.uniform(-0.3, 0.3) * r, y - 0.1 * r, rng.uniform(0.5, 0.8) * r), paints[1], FLAT)
    lean = rng.uniform(-0.4, 0.4) * r
    canvas.stroke(
        smooth(points((x, y + r), (x + 0.2 * lean, y + 0.3 * r), (x + lean, y - 0.4 * r)), closed=False),
        0.11 * r,
        paints[0],
    )
    for frond in np.linspace(-2.9, -0.2, int(rng.integers(5, 9))):
        tip_x, tip_y = x + lean + 0.8 * r * math.cos(frond), y - 0.4 * r + 0.6 * r * math.sin(frond) + 0.35 * r
        canvas.part(
            smooth(
                points(
                    (x + lean, y - 0.4 * r),
                    ((x + lean + tip_x) / 2, y - 0.75 * r),
                    (tip_x, tip_y),
                    ((x + lean + tip_x) / 2, y - 0.45 * r),
                )
            ),
            paints[2],
            FLAT,
        )


def _heart(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    t = np.linspace(0, 2 * math.pi, 40, endpoint=False)
    tall = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    shape: Points = np.stack([x + r * np.sin(t) ** 3, y - r * tall / 16], axis=1)
    for step, share in enumerate((1.0, 0.72, 0.46)[: int(rng.integers(1, 4))]):
        canvas.part((shape - (x, y)) * share + (x, y), paints[step % 3], FLAT)
    if rng.random() < 0.5:
        canvas.text(x, y, WORDS[rng.integers(0, len(WORDS))], 0.34 * r, paints[3], bold=True, width=1.5 * r)


def _wheel(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paints: list[Colour]) -> None:
    spokes = int(rng.integers(6, 20))
    for spoke in range(spokes):
        turn = 2 * math.pi * spoke / spokes
        foot = rng.uniform(0.2, 0.25)
        canvas.stroke(
            points(
                (x + foot * r * math.cos(turn), y + foot * r * math.sin(turn)),
                (x + r * math.cos(turn), y + r * math.sin(turn)),
            ),
            0.07 * r,
            paints[spoke % 2],
        )
    canvas.stroke(ellipse(x, y, r), 0.08 * r, paints[2], closed=True)
    canvas.part(ellipse(x, y, rng.uniform(0.1, 0.5) * r), paints[1], FLAT)


_EMBLEMS = (_sun, _burst, _face, _flower, _roundel, _lettering, _lettering, _blocks, _fish, _palm, _heart, _wheel)


def lines_of_text(
    canvas: Canvas, rng: Generator, left: float, top: float, right: float, bottom: float, paint: Colour
) -> None:
    """Print small print: rows of dashes as long as words."""
    for y in np.arange(top, bottom, 0.018):
        x = left
        while x < right - 0.02:
            end = min(right, x + rng.uniform(0.015, 0.06))
            canvas.stroke(points((x, y), (end, y)), 0.006, paint, alpha=0.75)
            x = end + 0.01


def bar_code(canvas: Canvas, rng: Generator, left: float, top: float, right: float, bottom: float) -> None:
    """Print a white field with bars."""
    canvas.part(rectangle(left, top, right, bottom), (248, 248, 246), FLAT)
    x = left + 0.006
    while x < right - 0.008:
        wide = rng.uniform(0.002, 0.006)
        canvas.part(rectangle(x, top + 0.006, x + wide, bottom - 0.006), (24, 24, 26), FLAT)
        x += wide + rng.uniform(0.002, 0.006)


def label(
    canvas: Canvas, rng: Generator, box: tuple[float, float, float, float], palette: Palette, brand: str, words: str
) -> None:
    """Print a package's face into a box: ground, brand, emblem or pattern, name, small print."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    x = (left + right) / 2
    ground = (palette.main, palette.second, palette.third, (244, 240, 230))[rng.integers(0, 4)]
    canvas.part(rectangle(left, top, right, bottom), ground, FLAT)
    seen = inks(rng, palette, ground)
    layout = int(rng.integers(0, 5))
    if layout == 0:  # a patterned field above or below a band
        _, sheet = (
            PATTERNS[rng.integers(1, len(PATTERNS))][0],
            PATTERNS[rng.integers(1, len(PATTERNS))][1](rng, palette),
        )
        edge = top + height * rng.uniform(0.3, 0.6)
        canvas.part(
            rectangle(left, top, right, edge) if rng.random() < 0.5 else rectangle(left, edge, right, bottom),
            sheet,
            FLAT,
        )
    elif layout == 1:  # a diagonal
        cut = rng.uniform(0.25, 0.75, 2)
        canvas.part(
            points((left, top + cut[0] * height), (right, top + cut[1] * height), (right, bottom), (left, bottom)),
            seen[0],
            FLAT,
        )
        seen = seen[1:] + seen[:1]
    elif layout == 2:  # bands
        for y in np.sort(rng.uniform(top, bottom, int(rng.integers(1, 4)))):
            canvas.part(
                rectangle(left, y, right, min(bottom, y + height * rng.uniform(0.02, 0.12))),
                seen[rng.integers(0, len(seen))],
                FLAT,
            )
    elif layout == 3:  # a frame
        inset = rng.uniform(0.04, 0.12) * width
        canvas.stroke(
            rectangle(left + inset, top + inset, right - inset, bottom - inset, 0.02), 0.008, seen[0], closed=True
        )
    reach = min(width, height)
    emblem_y = top + height * rng.uniform(0.4, 0.68)
    emblem(canvas, rng, x + rng.uniform(-0.12, 0.12) * width, emblem_y, reach * rng.uniform(0.16, 0.3), seen)
    brand_y = top + height * rng.uniform(0.1, 0.24)
    tall = min(0.11, 0.26 * width, 0.2 * height) * rng.uniform(0.7, 1.1)
    if rng.random() < 0.45:
        plate = seen[0]
        canvas.part(
            rectangle(
                left + 0.06 * width,
                brand_y - 0.75 * tall,
                right - 0.06 * width,
                brand_y + 0.75 * tall,
                rng.uniform(0, 0.04),
            ),
            plate,
            FLAT,
        )
        canvas.text(x, brand_y, brand, tall, inks(rng, palette, plate)[0], bold=True, width=0.8 * width)
    else:
        canvas.text(
            x, brand_y, brand.upper() if rng.random() < 0.5 else brand, tall, seen[-1], bold=True, width=0.88 * width
        )
    if words:
        canvas.text(
            x, top + height * rng.uniform(0.78, 0.88), words, tall * rng.uniform(0.5, 0.8), seen[0], width=0.86 * width
        )
    if rng.random() < 0.5:
        lines_of_text(canvas, rng, left + 0.1 * width, top + 0.92 * height, right - 0.1 * width, bottom - 0.01, seen[0])


def dial(canvas: Canvas, rng: Generator, x: float, y: float, r: float, palette: Palette, brand: str) -> None:
    """Draw a clock face with marks, hands and, at times, small dials."""
    ground = ((244, 242, 236), (30, 32, 38), palette.accent, palette.second, palette.third)[rng.integers(0, 5)]
    canvas.part(ellipse(x, y, r), ground, FLAT)
    seen = inks(rng, palette, ground)
    ink, other = seen[0], seen[1]
    if rng.random() < 0.35:
        canvas.stroke(ellipse(x, y, r * rng.uniform(0.55, 0.9)), 0.05 * r, other, closed=True)
    if rng.random() < 0.3:
        for ring in np.arange(0.15, 0.95, 0.1):
            canvas.stroke(ellipse(x, y, r * ring), 0.012 * r, ink, closed=True, alpha=0.35)
    kind = int(rng.integers(0, 4))
    for hour in range(12):
        turn = math.pi * hour / 6
        ux, uy = math.sin(turn), -math.cos(turn)
        if kind == 0 or (kind == 3 and hour % 3):
            canvas.stroke(
                points((x + 0.78 * r * ux, y + 0.78 * r * uy), (x + 0.93 * r * ux, y + 0.93 * r * uy)),
                (0.05 if hour % 3 else 0.1) * r,
                ink,
            )
        elif kind == 1 or kind == 3:
            numeral = str(hour or 12)
            canvas.text(x + 0.76 * r * ux, y + 0.76 * r * uy, numeral, 0.21 * r, ink, bold=True)
        else:
            canvas.part(
                ellipse(x + 0.82 * r * ux, y + 0.82 * r * uy, (0.05 if hour % 3 else 0.085) * r, steps=16), ink, FLAT
            )
    if rng.random() < 0.4:
        for turn in rng.choice([0.5, 1.0, 1.5, 0.0], int(rng.integers(1, 4)), replace=False) * math.pi:
            at = (x + 0.42 * r * math.cos(turn), y + 0.42 * r * math.sin(turn))
            canvas.part(ellipse(*at, 0.22 * r), mixed(ground, other, 0.35), FLAT)
            canvas.stroke(ellipse(*at, 0.22 * r), 0.025 * r, ink, closed=True)
            hand = rng.uniform(0, 6)
            canvas.stroke(
                points(at, (at[0] + 0.16 * r * math.cos(hand), at[1] + 0.16 * r * math.sin(hand))), 0.03 * r, ink
            )
    elif rng.random() < 0.5:
        canvas.part(rectangle(x + 0.4 * r, y - 0.09 * r, x + 0.62 * r, y + 0.09 * r), (250, 250, 248), FLAT)
        canvas.text(x + 0.51 * r, y, str(rng.integers(1, 32)), 0.12 * r, (30, 30, 34))
    canvas.text(x, y - 0.38 * r, brand, 0.1 * r, ink, width=0.8 * r)
    wide = rng.uniform(0.04, 0.12) * r
    for reach, turn in ((0.5, rng.uniform(0, 6.28)), (0.74, rng.uniform(0, 6.28))):
        canvas.part(
            turned(
                points(
                    (x - wide / 2, y + 0.1 * r),
                    (x - wide / 2, y - reach * 0.7 * r),
                    (x, y - reach * r),
                    (x + wide / 2, y - reach * 0.7 * r),
                    (x + wide / 2, y + 0.1 * r),
                ),
                turn,
                x,
                y,
            ),
            ink,
            FLAT,
        )
    if rng.random() < 0.6:
        turn = rng.uniform(0, 6.28)
        canvas.stroke(
            points((x, y), (x + 0.85 * r * math.sin(turn), y - 0.85 * r * math.cos(turn))), 0.02 * r, palette.accent
        )
    canvas.part(ellipse(x, y, 0.06 * r, steps=16), ink, FLAT)


def zigzag(start: tuple[float, float], end: tuple[float, float], teeth: int, swing: float) -> Points:
    """Return a saw-toothed line between two places."""
    t = np.linspace(0, 1, 2 * teeth + 1)
    along = np.array(end) - np.array(start)
    sideways = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9)
    line: Points = np.array(start) + t[:, None] * along + (np.arange(2 * teeth + 1) % 2)[:, None] * swing * sideways
    return line
