"""Clothes: tops, bottoms, dresses and ethnic wear, outerwear."""

import math

import numpy as np
from numpy.random import Generator

from sameitem.core.records import Pixels
from sameitem.upkeep.drawing.canvas import (
    BALL,
    CLOTH,
    FLAT,
    METAL,
    PANEL,
    SOFT,
    Canvas,
    Colour,
    Form,
    Points,
    arc,
    ellipse,
    mirrored,
    mixed,
    points,
    rectangle,
    smooth,
)
from sameitem.upkeep.drawing.marks import emblem, inks
from sameitem.upkeep.drawing.patterns import Palette, filled, patterned, turned_sheet, worked

DARK = (52, 46, 44)


def _fold_lines(
    canvas: Canvas, rng: Generator, left: float, right: float, top: float, bottom: float, count: int
) -> None:
    for _ in range(count):
        x, y = rng.uniform(left, right), rng.uniform(top, bottom - 0.1)
        reach = rng.uniform(0.08, 0.25)
        lean = rng.uniform(-0.06, 0.06)
        line = smooth(
            points((x, y), (x + lean / 2 + 0.01, y + reach / 2), (x + lean, min(bottom, y + reach))), closed=False
        )
        canvas.stroke(line, rng.uniform(0.006, 0.014), (0, 0, 0), alpha=0.07)
        canvas.stroke(line + np.array([0.009, 0]), 0.006, (255, 255, 255), alpha=0.07)


def _buttons(
    canvas: Canvas, rng: Generator, x: float, top: float, bottom: float, paint: Colour, *, count: int | None = None
) -> None:
    size = rng.uniform(0.008, 0.014)
    for y in np.linspace(top, bottom, count or int(rng.integers(4, 9))):
        canvas.part(ellipse(x, y, size, steps=16), paint, BALL)


def _sleeve(
    shoulder: float, top: float, armpit_x: float, armpit_y: float, length: float, spread: float, cuff: float
) -> Points:
    """Return the right sleeve, hanging from the shoulder at an angle."""
    angle = spread
    tip = np.array([shoulder + length * math.sin(angle), top + length * math.cos(angle)])
    across = cuff * np.array([math.cos(angle), -math.sin(angle)])
    return points(
        (shoulder - 0.03, top - 0.01),
        (shoulder + 0.015, top + 0.02),
        tuple(tip + across / 2),
        tuple(tip - across / 2),
        (armpit_x, armpit_y),
    )


def _torso(
    shoulder: float, top: float, neck: float, chest: float, waist: float, hem: float, bottom: float, droop: float
) -> Points:
    """Return the outline of a body from its half widths; the neck's curve is cut by the caller."""
    return mirrored(
        points(
            (0.5 + neck, top - droop),
            (0.5 + shoulder, top),
            (0.5 + chest, top + 0.16),
            (0.5 + waist, (top + bottom) / 2 + 0.04),
            (0.5 + hem, bottom),
        )
    )


def _flip(outline: Points) -> Points:
    return outline[::-1] * (-1, 1) + (1, 0)


def _neckline(canvas: Canvas, rng: Generator, neck: float, top: float, paint: Colour, kind: str) -> None:
    """Draw the opening: the inside of the back, then the rim."""
    depth = {"crew": 0.05, "scoop": 0.1, "vee": 0.14}[kind]
    inside = mixed(paint, (0, 0, 0), 0.45)
    if kind == "vee":
        rim = points((0.5 - neck, top), (0.5, top + depth), (0.5 + neck, top))
    else:
        rim = arc(0.5, top, neck, depth, math.pi, 0)
    back = arc(0.5, top, neck, 0.022, 0, math.pi)
    canvas.part(np.concatenate([rim, back]), inside, FLAT)
    canvas.stroke(back - (0, 0.004), 0.016, mixed(paint, (0, 0, 0), 0.15))
    canvas.stroke(rim, rng.uniform(0.014, 0.026), paint)


def _garment(rng: Generator, palette: Palette, materials: tuple[str, ...], plain_share: float) -> tuple[str, Pixels]:
    name, sheet = patterned(rng, palette, plain_share=plain_share)
    material = materials[rng.integers(0, len(materials))]
    return f"{name} {material}", worked(worked(sheet, "folds", rng), material, rng)


def t_shirt(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a T-shirt with a print, stripes or a repeated pattern."""
    printed = rng.random() < 0.6
    words, sheet = _garment(rng, palette, ("linen", "paper"), 1.0 if printed else 0.1)
    shoulder, hem, top, bottom = rng.uniform(0.22, 0.27), rng.uniform(0.19, 0.25), 0.14, rng.uniform(0.82, 0.93)
    neck = rng.uniform(0.07, 0.12)
    contrast = palette.second if rng.random() < 0.35 else palette.main
    sleeves = turned_sheet(sheet, 30) if contrast == palette.main else worked(filled(contrast), "folds", rng)
    arm = _sleeve(
        0.5 + shoulder,
        top,
        0.5 + shoulder - 0.04,
        top + 0.19,
        rng.uniform(0.2, 0.32),
        rng.uniform(0.5, 0.9),
        rng.uniform(0.15, 0.2),
    )
    for outline in (arm, _flip(arm)):
        canvas.part(outline, sleeves)
        canvas.stitches(outline[2:4] * 0.97 + np.mean(outline, axis=0) * 0.03, mixed(contrast, DARK, 0.4))
    canvas.part(_torso(shoulder, top, neck, shoulder - 0.03, hem - 0.01, hem, bottom, 0.03), sheet)
    canvas.stitches(points((0.5 - hem, bottom - 0.015), (0.5 + hem, bottom - 0.015)), mixed(palette.main, DARK, 0.4))
    _neckline(canvas, rng, neck, top - 0.03, contrast, ("crew", "crew", "scoop", "vee")[rng.integers(0, 4)])
    if printed:
        emblem(canvas, rng, 0.5, rng.uniform(0.36, 0.46), rng.uniform(0.11, 0.17), inks(rng, palette, palette.main))
        words = "printed cotton"
    elif rng.random() < 0.3:
        canvas.part(rectangle(0.55, 0.3, 0.65, 0.42, 0.01), palette.third, PANEL)
    _fold_lines(canvas, rng, 0.33, 0.67, 0.3, bottom, 7)
    return words


def shirt(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a buttoned shirt with a collar and long or short sleeves."""
    words, sheet = _garment(rng, palette, ("linen", "paper", "denim"), 0.2)
    shoulder, hem, top, bottom = rng.uniform(0.2, 0.25), rng.uniform(0.19, 0.24), 0.15, rng.uniform(0.84, 0.94)
    long = rng.random() < 0.6
    arm = _sleeve(
        0.5 + shoulder,
        top,
        0.5 + shoulder - 0.05,
        top + 0.19,
        rng.uniform(0.5, 0.6) if long else rng.uniform(0.22, 0.3),
        rng.uniform(0.22, 0.42) if long else 0.6,
        0.1 if long else 0.17,
    )
    sleeves = turned_sheet(sheet, 20)
    trim = palette.second if rng.random() < 0.3 else palette.main
    for outline in (arm, _flip(arm)):
        canvas.part(outline, sleeves)
        ends = outline[2:4]
        canvas.stroke(ends - (0, 0.02), 0.045, mixed(trim, DARK, 0.08), Form(0.008, 0.4))
    body = _torso(shoulder, top, 0.07, shoulder - 0.03, hem - 0.015, hem, bottom, 0.03)
    canvas.part(body, sheet)
    canvas.part(
        smooth(
            points(
                (0.5 - hem, bottom - 0.01),
                (0.5 - hem / 2, bottom + 0.025),
                (0.5, bottom),
                (0.5 + hem / 2, bottom + 0.025),
                (0.5 + hem, bottom - 0.01),
                (0.5, bottom - 0.04),
            )
        ),
        sheet,
        FLAT,
    )
    canvas.part(ellipse(0.5, top - 0.025, 0.07, 0.025), mixed(palette.main, DARK, 0.6), FLAT)
    placket = rectangle(0.48, top + 0.03, 0.52, bottom - 0.005)
    canvas.part(placket, worked(filled(trim), "linen", rng) if trim != palette.main else sheet, PANEL)
    tip = rng.uniform(0.05, 0.1)
    for side in (-1, 1):
        collar = points(
            (0.5, top + 0.045),
            (0.5 + side * 0.065, top - 0.055),
            (0.5 + side * 0.09, top - 0.01),
            (0.5 + side * tip, top + 0.085),
        )
        canvas.part(
            collar, worked(filled(trim), "linen", rng) if trim != palette.main else sheets_for_collar(sheet), PANEL
        )
    _buttons(canvas, rng, 0.5, top + 0.1, bottom - 0.08, inks(rng, palette, palette.main)[0])
    for side in ((1,), (1, -1), ())[rng.integers(0, 3)]:
        left = 0.5 + side * 0.11 - 0.055
        canvas.part(
            points((left, 0.32), (left + 0.11, 0.32), (left + 0.11, 0.42), (left + 0.055, 0.445), (left, 0.42)),
            sheet,
            PANEL,
        )
    _fold_lines(canvas, rng, 0.32, 0.68, 0.3, bottom, 6)
    return words


def sheets_for_collar(sheet: Pixels) -> Pixels:
    """Return the cloth turned a quarter, as a collar is cut."""
    return np.ascontiguousarray(sheet.transpose(1, 0, 2))


def sweater(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a knitted sweater or a hooded sweatshirt."""
    hooded = rng.random() < 0.4
    name, sheet = patterned(rng, palette, plain_share=0.6 if hooded else 0.1)
    sheet = worked(worked(sheet, "folds", rng), "paper" if hooded else "knit", rng)
    rib = worked(filled(palette.third if rng.random() < 0.4 else palette.main), "rib", rng)
    shoulder, hem, top, bottom = rng.uniform(0.22, 0.26), rng.uniform(0.2, 0.25), 0.17, rng.uniform(0.84, 0.92)
    arm = _sleeve(
        0.5 + shoulder,
        top,
        0.5 + shoulder - 0.06,
        top + 0.2,
        rng.uniform(0.54, 0.64),
        rng.uniform(0.18, 0.36),
        rng.uniform(0.09, 0.13),
    )
    raglan = turned_sheet(sheet, 15) if rng.random() < 0.7 else worked(filled(palette.second), "knit", rng)
    for outline in (arm, _flip(arm)):
        canvas.part(outline, raglan, SOFT)
        canvas.stroke(outline[2:4] - (0, 0.02), 0.06, rib, Form(0.01, 0.4))
    if hooded:
        canvas.part(
            smooth(points((0.36, 0.2), (0.38, 0.06), (0.5, 0.02), (0.62, 0.06), (0.64, 0.2), (0.5, 0.26))), sheet, SOFT
        )
        canvas.part(ellipse(0.5, 0.15, 0.085, 0.075), mixed(palette.main, (0, 0, 0), 0.5), FLAT)
    canvas.part(_torso(shoulder, top, 0.1, shoulder - 0.02, hem + 0.01, hem, bottom, 0.02), sheet, SOFT)
    canvas.part(rectangle(0.5 - hem, bottom - 0.05, 0.5 + hem, bottom + 0.01, 0.01), rib, PANEL)
    if hooded:
        for side in (-1, 1):
            canvas.stroke(
                points((0.5 + side * 0.04, 0.21), (0.5 + side * rng.uniform(0.03, 0.06), rng.uniform(0.32, 0.42))),
                0.012,
                palette.second,
                Form(0.004),
            )
        canvas.part(points((0.4, 0.62), (0.6, 0.62), (0.66, 0.78), (0.34, 0.78)), sheet, PANEL)
        emblem(canvas, rng, 0.5, 0.44, rng.uniform(0.07, 0.12), inks(rng, palette, palette.main))
        return "hooded fleece"
    _neckline(canvas, rng, 0.1, top - 0.02, mixed(palette.main, DARK, 0.1), ("crew", "vee")[rng.integers(0, 2)])
    if rng.random() < 0.4:
        for y in np.cumsum(rng.uniform(0.03, 0.09, int(rng.integers(1, 4)))) + 0.32:
            canvas.part(
                rectangle(0.5 - shoulder + 0.025, y, 0.5 + shoulder - 0.025, y + rng.uniform(0.01, 0.04)),
                worked(filled(palette.accent), "knit", rng),
                FLAT,
            )
    return f"{name} knit"


def trousers(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw jeans or trousers: straight, slim or flared, with pockets, seams and details."""
    denim = rng.random() < 0.5
    name, sheet = patterned(rng, palette, plain_share=0.8 if denim else 0.45)
    sheet = worked(worked(sheet, "folds", rng, strength=1.5), "denim" if denim else "linen", rng)
    waist, hip, top = rng.uniform(0.13, 0.17), rng.uniform(0.18, 0.22), 0.04
    cuff, knee = rng.uniform(0.06, 0.13), rng.uniform(0.085, 0.11)
    spread, bottom = rng.uniform(0.1, 0.16), rng.uniform(0.86, 0.97)
    crotch = rng.uniform(0.34, 0.4)
    leg = points(
        (0.5, top),
        (0.5 + waist, top),
        (0.5 + hip, 0.24),
        (0.5 + spread + knee, 0.6),
        (0.5 + spread + cuff, bottom),
        (0.5 + spread - cuff, bottom),
        (0.5 + spread - knee + 0.02, 0.6),
        (0.503, crotch),
    )
    canvas.part([leg, _flip(leg)], sheet, SOFT)
    canvas.part(rectangle(0.5 - waist, top - 0.005, 0.5 + waist, top + 0.045), sheet, PANEL)
    thread = mixed(palette.accent, palette.main, 0.3) if denim else mixed(palette.main, DARK, 0.5)
    canvas.stitches(points((0.5 - waist, top + 0.04), (0.5 + waist, top + 0.04)), thread)
    canvas.stroke(
        smooth(points((0.5, top + 0.045), (0.5, 0.22), (0.5, crotch)), closed=False),
        0.006,
        mixed(palette.main, DARK, 0.6),
    )
    canvas.stitches(smooth(points((0.52, top + 0.045), (0.53, 0.15), (0.505, 0.23)), closed=False), thread)
    canvas.part(ellipse(0.5, top + 0.022, 0.012, steps=16), palette.accent, METAL)
    for side in (-1, 1):
        canvas.stitches(
            smooth(
                points((0.5 + side * 0.06, top + 0.045), (0.5 + side * 0.1, 0.13), (0.5 + side * (waist + 0.02), 0.16)),
                closed=False,
            ),
            thread,
        )
        canvas.part(
            rectangle(0.5 + side * 0.09 - 0.006, top - 0.012, 0.5 + side * 0.09 + 0.006, top + 0.05), sheet, PANEL
        )
        middle = 0.5 + side * spread
        canvas.stroke(
            points((middle, 0.45), (middle, bottom - 0.02)), 0.005, mixed(palette.main, (0, 0, 0), 0.35), alpha=0.4
        )
    detail = int(rng.integers(0, 6))
    for side in (-1, 1):
        middle = 0.5 + side * spread
        if detail == 0:
            canvas.part(
                rectangle(middle - cuff, bottom - rng.uniform(0.04, 0.08), middle + cuff, bottom), palette.third, PANEL
            )
        elif detail == 1:
            canvas.part(
                rectangle(middle - 0.07 + side * 0.04, 0.46, middle + 0.05 + side * 0.04, 0.6, 0.01), sheet, PANEL
            )
        elif detail == 2:
            canvas.stroke(
                points(
                    (0.5 + side * hip * 0.97, 0.25),
                    (middle + side * knee * 0.95, 0.6),
                    (middle + side * cuff * 0.9, bottom - 0.01),
                ),
                0.025,
                palette.second,
            )
        elif detail == 3:
            for _ in range(4):
                x, y = middle + rng.uniform(-0.04, 0.04), rng.uniform(0.45, 0.75)
                canvas.part(
                    ellipse(x, y, rng.uniform(0.02, 0.05), rng.uniform(0.006, 0.015)),
                    mixed(palette.main, (245, 245, 245), 0.7),
                    PANEL,
                )
    if detail == 4:
        emblem(canvas, rng, 0.5 + spread, rng.uniform(0.4, 0.6), 0.06, inks(rng, palette, palette.main))
    return f"{name} {'denim' if denim else 'cotton'}"


def shorts(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw shorts with a drawstring or a belt."""
    words, sheet = _garment(rng, palette, ("linen", "denim", "paper"), 0.15)
    waist, hip, wide = rng.uniform(0.22, 0.27), rng.uniform(0.3, 0.36), rng.uniform(0.36, 0.44)
    top, bottom, crotch = 0.15, rng.uniform(0.68, 0.86), rng.uniform(0.5, 0.58)
    leg = points(
        (0.5, top), (0.5 + waist, top), (0.5 + hip, 0.4), (0.5 + wide, bottom), (0.53, bottom + 0.02), (0.502, crotch)
    )
    canvas.part([leg, _flip(leg)], sheet, SOFT)
    band = worked(filled(palette.third), "rib", rng) if rng.random() < 0.5 else sheet
    canvas.part(rectangle(0.5 - waist, top - 0.02, 0.5 + waist, top + 0.055), band, PANEL)
    canvas.stroke(points((0.5, top + 0.055), (0.5, crotch)), 0.006, DARK, alpha=0.7)
    if rng.random() < 0.6:
        for side in (-1, 1):
            tail = smooth(
                points(
                    (0.5, top + 0.02),
                    (0.5 + side * 0.03, top + 0.1),
                    (0.5 + side * rng.uniform(0.01, 0.05), top + rng.uniform(0.14, 0.24)),
                ),
                closed=False,
            )
            canvas.stroke(tail, 0.012, palette.second, Form(0.004))
    for side in (-1, 1):
        canvas.stitches(
            points((0.5 + side * 0.04, bottom), (0.5 + side * wide * 0.97, bottom - 0.02)),
            mixed(palette.main, DARK, 0.5),
        )
        canvas.stroke(
            points((0.5 + side * waist * 0.8, top + 0.06), (0.5 + side * hip * 0.95, 0.36)), 0.007, DARK, alpha=0.5
        )
        if rng.random() < 0.3:
            canvas.stroke(
                points((0.5 + side * hip * 0.96, 0.4), (0.5 + side * wide * 0.95, bottom - 0.01)), 0.03, palette.accent
            )
    _fold_lines(canvas, rng, 0.2, 0.8, 0.3, bottom, 8)
    return words


def skirt(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a skirt: straight, flared or pleated."""
    words, sheet = _garment(rng, palette, ("linen", "leather", "denim", "paper"), 0.15)
    waist, hem = rng.uniform(0.15, 0.2), rng.uniform(0.22, 0.45)
    top, bottom = 0.1, rng.uniform(0.66, 0.93)
    body = mirrored(
        smooth(
            points(
                (0.5 + waist, top),
                (0.5 + waist + 0.05, top + 0.17),
                (0.5 + (waist + hem) / 2 + 0.02, (top + bottom) / 2),
                (0.5 + hem, bottom),
            ),
            closed=False,
        )
    )
    lower = arc(0.5, bottom, hem, rng.uniform(0.01, 0.05), 0, math.pi)
    canvas.part([body, lower], sheet, SOFT)
    pleats = int(rng.integers(0, 14))
    for share in np.linspace(-0.9, 0.9, pleats):
        canvas.stroke(
            points((0.5 + share * waist, top + 0.05), (0.5 + share * hem, bottom + 0.01)), 0.012, (0, 0, 0), alpha=0.2
        )
        canvas.stroke(
            points((0.512 + share * waist, top + 0.05), (0.515 + share * hem, bottom + 0.01)),
            0.008,
            (255, 255, 255),
            alpha=0.12,
        )
    band = worked(filled((palette.main, palette.second, palette.third, palette.accent)[rng.integers(0, 4)]), "rib", rng)
    canvas.part(rectangle(0.5 - waist - 0.005, top - 0.03, 0.5 + waist + 0.005, top + 0.04), band, PANEL)
    detail = int(rng.integers(0, 4))
    if detail == 0:
        _buttons(canvas, rng, 0.5, top + 0.08, bottom - 0.04, palette.second)
    elif detail == 1:
        for y in np.linspace(top + 0.3, bottom - 0.03, int(rng.integers(1, 4))):
            share = (y - top) / (bottom - top)
            reach = (waist + (hem - waist) * share) * 0.98
            canvas.stroke(points((0.5 - reach, y), (0.5 + reach, y)), 0.02, palette.second)
    elif detail == 2:
        canvas.part(
            points(
                (0.5 - 0.04, top),
                (0.5, top + 0.03),
                (0.5 + 0.04, top),
                (0.56, top + 0.2),
                (0.5, top + 0.05),
                (0.44, top + 0.2),
            ),
            palette.accent,
            CLOTH,
        )
    return words


def dress(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a dress: neckline, sleeves, waist and length drawn."""
    words, sheet = _garment(rng, palette, ("linen", "paper"), 0.12)
    shoulder, chest, waist = rng.uniform(0.12, 0.17), rng.uniform(0.125, 0.15), rng.uniform(0.09, 0.13)
    hem, top = rng.uniform(0.18, 0.36), 0.07
    middle, bottom = rng.uniform(0.3, 0.42), rng.uniform(0.78, 0.97)
    sleeve = int(rng.integers(0, 4))
    if sleeve:
        length = (0.0, 0.14, 0.3, 0.44)[sleeve]
        arm = _sleeve(
            0.5 + shoulder, top, 0.5 + chest - 0.02, top + 0.16, length, rng.uniform(0.2, 0.6), rng.uniform(0.07, 0.16)
        )
        for outline in (arm, _flip(arm)):
            canvas.part(outline, turned_sheet(sheet, 25), SOFT)
    second = sheet if rng.random() < 0.65 else worked(worked(filled(palette.second), "folds", rng), "linen", rng)
    below = mirrored(
        smooth(
            points(
                (0.5 + waist, middle),
                (0.5 + (waist + hem) / 2 + rng.uniform(0, 0.04), (middle + bottom) / 2),
                (0.5 + hem, bottom),
            ),
            closed=False,
        )
    )
    canvas.part([below, arc(0.5, bottom, hem, 0.03, 0, math.pi)], sheet, SOFT)
    for share in np.linspace(-0.85, 0.85, int(rng.integers(3, 10))):
        canvas.stroke(
            points((0.5 + share * waist, middle), (0.5 + share * hem, bottom + 0.01)), 0.01, (0, 0, 0), alpha=0.13
        )
    body = mirrored(
        points((0.5 + 0.06, top - 0.03), (0.5 + shoulder, top), (0.5 + chest, top + 0.15), (0.5 + waist, middle))
    )
    if sleeve == 0:
        body = mirrored(
            points((0.5 + 0.07, top - 0.03), (0.5 + 0.09, top - 0.03), (0.5 + chest, top + 0.14), (0.5 + waist, middle))
        )
    canvas.part(body, second, CLOTH)
    _neckline(
        canvas,
        rng,
        rng.uniform(0.055, 0.075),
        top - 0.03,
        mixed(palette.main, DARK, 0.15),
        ("crew", "scoop", "vee")[rng.integers(0, 3)],
    )
    band = (palette.accent, palette.second, palette.third)[rng.integers(0, 3)]
    if rng.random() < 0.6:
        canvas.part(
            rectangle(0.5 - waist - 0.004, middle - 0.02, 0.5 + waist + 0.004, middle + rng.uniform(0.01, 0.03)),
            band,
            CLOTH,
        )
        if rng.random() < 0.4:
            for side in (-1, 1):
                canvas.part(
                    smooth(
                        points((0.5, middle), (0.5 + side * 0.07, middle - 0.04), (0.5 + side * 0.07, middle + 0.04))
                    ),
                    band,
                    CLOTH,
                )
    if rng.random() < 0.35:
        _buttons(canvas, rng, 0.5, top + 0.08, middle - 0.04, band, count=4)
    for step in range(int(rng.integers(0, 4))):
        y = bottom - 0.02 - step * rng.uniform(0.06, 0.1)
        reach = waist + (hem - waist) * (y - middle) / (bottom - middle)
        canvas.stroke(points((0.5 - reach, y), (0.5 + reach, y)), 0.014, band)
    return words


def robe(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a robe with crossed lapels, wide sleeves and a sash."""
    words, sheet = _garment(rng, palette, ("linen", "paper"), 0.04)
    top, bottom = 0.1, rng.uniform(0.86, 0.97)
    drop, reach = rng.uniform(0.22, 0.4), rng.uniform(0.38, 0.46)
    hem = rng.uniform(0.17, 0.24)
    sleeve = points(
        (0.62, top), (0.5 + reach, top + 0.06), (0.5 + reach, top + drop), (0.66, top + drop), (0.64, top + 0.2)
    )
    for outline in (sleeve, _flip(sleeve)):
        canvas.part(outline, sheet, CLOTH)
        ends = outline[1:3] if outline is sleeve else outline[2:4]
        canvas.stroke(ends, 0.025, palette.second, PANEL)
    canvas.part(
        mirrored(points((0.56, top - 0.02), (0.65, top + 0.01), (0.66, top + 0.3), (0.5 + hem, bottom))), sheet, SOFT
    )
    trim = (palette.second, palette.third, palette.accent)[rng.integers(0, 3)]
    edge = smooth(points((0.58, top - 0.03), (0.52, 0.3), (0.46, 0.42), (0.46, bottom)), closed=False)
    wide = rng.uniform(0.03, 0.05)
    canvas.part(points((0.44, top - 0.03), (0.5, 0.24), (0.56, top - 0.03)), mixed(trim, DARK, 0.5), FLAT)
    canvas.stroke(smooth(points((0.42, top - 0.03), (0.48, 0.24), (0.53, 0.4)), closed=False), wide, trim, PANEL)
    canvas.stroke(edge, wide, trim, PANEL)
    _, sash = patterned(
        rng, Palette(palette.name, palette.accent, palette.third, palette.main, palette.second), plain_share=0.4
    )
    y, tall = rng.uniform(0.4, 0.46), rng.uniform(0.05, 0.1)
    canvas.part(rectangle(0.33, y, 0.67, y + tall), worked(sash, "linen", rng), CLOTH)
    canvas.stroke(points((0.33, y + tall / 2), (0.67, y + tall / 2)), 0.012, palette.second)
    canvas.stroke(points((0.5 - hem, bottom), (0.5 + hem, bottom)), rng.uniform(0.015, 0.05), trim)
    return words


def tunic(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a long embroidered tunic with side slits over trousers."""
    words, sheet = _garment(rng, palette, ("linen",), 0.3)
    top, bottom, hem = 0.08, rng.uniform(0.68, 0.8), rng.uniform(0.2, 0.27)
    pale = worked(filled((palette.second, palette.third)[rng.integers(0, 2)]), "folds", rng)
    for side in (-1, 1):
        canvas.part(
            points((0.5, 0.5), (0.5 + side * 0.15, 0.5), (0.5 + side * 0.13, 0.96), (0.5 + side * 0.04, 0.96)),
            pale,
            SOFT,
        )
    arm = _sleeve(
        0.68, top + 0.02, 0.64, top + 0.17, rng.uniform(0.36, 0.5), rng.uniform(0.15, 0.35), rng.uniform(0.09, 0.14)
    )
    trim = (palette.accent, palette.second)[rng.integers(0, 2)]
    for outline in (arm, _flip(arm)):
        canvas.part(outline, sheet, CLOTH)
        canvas.stroke(outline[2:4], rng.uniform(0.015, 0.035), trim)
    canvas.part(
        mirrored(points((0.57, top - 0.03), (0.68, top + 0.01), (0.65, top + 0.22), (0.64, 0.42), (0.5 + hem, bottom))),
        sheet,
        SOFT,
    )
    canvas.stroke(points((0.5 - hem, bottom), (0.5 + hem, bottom)), rng.uniform(0.02, 0.05), trim)
    _neckline(canvas, rng, 0.07, top - 0.03, trim, ("crew", "vee")[rng.integers(0, 2)])
    yoke = rng.uniform(0.16, 0.34)
    tips = int(rng.integers(4, 9))
    for y in np.linspace(top + 0.09, top + yoke, int(rng.integers(4, 9))):
        canvas.part(ellipse(0.5, y, 0.014, steps=tips), trim, FLAT)
        for side in (-1, 1):
            canvas.part(ellipse(0.5 + side * rng.uniform(0.03, 0.034), y, 0.009, 0.013, steps=12), palette.third, FLAT)
    canvas.stroke(
        points(
            (0.45, top + 0.06),
            (0.45, top + yoke + 0.02),
            (0.5, top + yoke + 0.06),
            (0.55, top + yoke + 0.02),
            (0.55, top + 0.06),
        ),
        0.009,
        trim,
    )
    for x in np.linspace(0.5 - hem * 0.85, 0.5 + hem * 0.85, int(rng.integers(5, 12))):
        canvas.part(ellipse(x, bottom - 0.05, 0.013, 0.02, steps=tips), trim, FLAT)
    return f"embroidered {words}"


def jacket(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a short jacket with a zip: bomber, denim or leather."""
    material = ("leather", "denim", "linen")[rng.integers(0, 3)]
    name, sheet = patterned(rng, palette, plain_share=0.6)
    sheet = worked(worked(sheet, "folds", rng), material, rng)
    shoulder, hem, top, bottom = rng.uniform(0.23, 0.27), rng.uniform(0.21, 0.25), 0.17, rng.uniform(0.78, 0.88)
    arm = _sleeve(
        0.5 + shoulder, top, 0.5 + shoulder - 0.06, top + 0.2, rng.uniform(0.54, 0.62), rng.uniform(0.16, 0.3), 0.12
    )
    other = sheet if rng.random() < 0.6 else worked(worked(filled(palette.third), "folds", rng), material, rng)
    rib = worked(filled((palette.main, palette.second, palette.third)[rng.integers(0, 3)]), "rib", rng)
    for outline in (arm, _flip(arm)):
        canvas.part(outline, other, SOFT)
        canvas.stroke(outline[2:4] - (0, 0.015), 0.05, rib, Form(0.01, 0.4))
    canvas.part(_torso(shoulder, top, 0.09, shoulder - 0.02, hem + 0.01, hem, bottom, 0.03), sheet, SOFT)
    canvas.part(rectangle(0.5 - hem, bottom - 0.055, 0.5 + hem, bottom + 0.005, 0.01), rib, PANEL)
    thread = mixed(palette.accent, palette.main, 0.3)
    if rng.random() < 0.5:
        canvas.part(points((0.5, top + 0.02), (0.42, top - 0.06), (0.35, top + 0.02), (0.43, top + 0.11)), other, PANEL)
        canvas.part(points((0.5, top + 0.02), (0.58, top - 0.06), (0.65, top + 0.02), (0.57, top + 0.11)), other, PANEL)
    else:
        canvas.part(rectangle(0.4, top - 0.07, 0.6, top + 0.03, 0.02), rib, CLOTH)
    teeth = palette.accent if rng.random() < 0.5 else (186, 186, 190)
    if rng.random() < 0.7:
        canvas.stroke(points((0.5, top + 0.02), (0.5, bottom)), 0.014, teeth, Form(0.004))
        canvas.stitches(points((0.5, top + 0.02), (0.5, bottom)), DARK, width=0.012, dash=0.008)
    else:
        canvas.stroke(points((0.5, top + 0.02), (0.5, bottom)), 0.006, DARK)
        _buttons(canvas, rng, 0.515, top + 0.07, bottom - 0.03, teeth)
    pocket = int(rng.integers(0, 4))
    for side in (-1, 1):
        middle = 0.5 + side * 0.12
        if pocket == 0:
            canvas.stroke(points((middle - side * 0.03, 0.66), (middle + side * 0.05, 0.54)), 0.016, teeth, PANEL)
        elif pocket == 1:
            canvas.part(
                points(
                    (middle - 0.06, 0.34),
                    (middle + 0.06, 0.34),
                    (middle + 0.06, 0.45),
                    (middle, 0.475),
                    (middle - 0.06, 0.45),
                ),
                sheet,
                PANEL,
            )
            canvas.part(
                points(
                    (middle - 0.065, 0.33),
                    (middle + 0.065, 0.33),
                    (middle + 0.06, 0.37),
                    (middle, 0.39),
                    (middle - 0.06, 0.37),
                ),
                sheet,
                PANEL,
            )
        elif pocket == 2:
            canvas.part(rectangle(middle - 0.065, 0.56, middle + 0.065, 0.7, 0.01), other, PANEL)
            canvas.part(rectangle(middle - 0.07, 0.55, middle + 0.07, 0.595, 0.01), other, PANEL)
        canvas.stitches(points((0.5 + side * (shoulder - 0.03), 0.32), (0.5 + side * 0.02, 0.32)), thread)
        canvas.stitches(points((0.5 + side * 0.17, 0.33), (0.5 + side * 0.13, bottom - 0.06)), thread)
    if rng.random() < 0.4:
        emblem(canvas, rng, 0.39, 0.29, 0.045, inks(rng, palette, palette.main))
    return f"{name} {material}"


def coat(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a long coat with lapels, one or two rows of buttons, at times a belt."""
    name, sheet = patterned(rng, palette, plain_share=0.45)
    sheet = worked(worked(sheet, "folds", rng), "linen", rng)
    shoulder, hem, top, bottom = rng.uniform(0.18, 0.22), rng.uniform(0.19, 0.26), 0.1, rng.uniform(0.86, 0.97)
    arm = _sleeve(
        0.5 + shoulder, top, 0.5 + shoulder - 0.05, top + 0.18, rng.uniform(0.46, 0.54), rng.uniform(0.1, 0.24), 0.11
    )
    for outline in (arm, _flip(arm)):
        canvas.part(outline, sheet, SOFT)
        canvas.stroke(outline[2:4] - (0, 0.035), 0.012, mixed(palette.main, DARK, 0.5))
    canvas.part(_torso(shoulder, top, 0.06, shoulder - 0.02, shoulder - 0.015, hem, bottom, 0.03), sheet, SOFT)
    deep = rng.uniform(0.3, 0.46)
    canvas.part(
        points((0.45, top - 0.03), (0.5, deep), (0.55, top - 0.03)), worked(filled(palette.second), "knit", rng), FLAT
    )
    wide = rng.uniform(0.08, 0.13)
    facing = sheet if rng.random() < 0.65 else worked(filled(palette.third), "linen", rng)
    for side in (-1, 1):
        notch = rng.uniform(0.0, 0.04)
        canvas.part(
            points(
                (0.5, deep),
                (0.5 + side * 0.05, top - 0.05),
                (0.5 + side * (wide + 0.01), top + 0.04),
                (0.5 + side * (wide - notch), top + 0.07),
                (0.5 + side * wide, top + 0.1),
            ),
            facing,
            PANEL,
        )
    canvas.stroke(points((0.5, deep), (0.5, bottom)), 0.006, DARK, alpha=0.8)
    button = (DARK, palette.accent, palette.second)[rng.integers(0, 3)]
    belt = rng.random() < 0.4
    rows = (0.06, -0.06) if rng.random() < 0.5 else (0.02,)
    for x in rows:
        _buttons(
            canvas,
            rng,
            0.5 + x,
            deep + 0.03,
            min(bottom - 0.2, deep + rng.uniform(0.2, 0.34)),
            button,
            count=int(rng.integers(2, 5)),
        )
    if belt:
        canvas.part(rectangle(0.5 - shoulder + 0.01, 0.47, 0.5 + shoulder - 0.01, 0.515), facing, CLOTH)
        canvas.stroke(rectangle(0.47, 0.46, 0.53, 0.525, 0.01), 0.012, button, closed=True)
    for side in (-1, 1):
        x = 0.5 + side * 0.12
        if rng.random() < 0.5:
            canvas.part(rectangle(x - 0.055, 0.58, x + 0.055, 0.615, 0.008), facing, PANEL)
        else:
            canvas.part(rectangle(x - 0.055, 0.57, x + 0.055, 0.7, 0.02), sheet, PANEL)
    return f"{name} wool"


def puffer(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a quilted jacket or vest."""
    shoulder, hem, top, bottom = rng.uniform(0.22, 0.27), rng.uniform(0.22, 0.27), 0.18, rng.uniform(0.78, 0.92)
    rows = int(rng.integers(4, 11))
    edges = np.linspace(top - 0.03, bottom, rows + 1)
    split = int(rng.integers(0, rows + 3))
    _, sheet = patterned(rng, palette, plain_share=0.75)
    paints = [
        worked(sheet, "folds", rng),
        worked(filled((palette.second, palette.third, palette.accent)[rng.integers(0, 3)]), "folds", rng),
    ]
    puff = Form(0.03, 1.0, "flat")
    if rng.random() < 0.7:
        angle, length, count = rng.uniform(0.12, 0.3), rng.uniform(0.5, 0.58), int(rng.integers(5, 10))
        along = np.array([math.sin(angle), math.cos(angle)])
        across = np.array([math.cos(angle), -math.sin(angle)]) * 0.07
        for step in range(count):
            start = np.array([0.5 + shoulder - 0.02, top + 0.03]) + along * length * step / count
            end = start + along * length / count * 1.08
            piece = np.stack([start + across, end + across * 0.95, end - across * 0.95, start - across])
            paint = paints[int(step >= split)]
            canvas.part(piece, paint, puff)
            canvas.part(_flip(piece), paint, puff)
    hood = rng.random() < 0.5
    if hood:
        canvas.part(
            smooth(points((0.35, 0.2), (0.37, 0.06), (0.5, 0.02), (0.63, 0.06), (0.65, 0.2), (0.5, 0.26))),
            paints[0],
            SOFT,
        )
        canvas.part(ellipse(0.5, 0.15, 0.09, 0.07), mixed(palette.third, (0, 0, 0), 0.5), FLAT)
    else:
        canvas.part(rectangle(0.4, top - 0.1, 0.6, top + 0.02, 0.03), paints[1], SOFT)
    for step in range(rows):
        share = step / rows
        reach = shoulder + (hem - shoulder) * share - (0.06 if step == 0 else 0)
        canvas.part(
            rectangle(0.5 - reach, edges[step], 0.5 + reach, edges[step + 1] + 0.006, 0.02),
            paints[int(step >= split)],
            puff,
        )
    canvas.stroke(
        points((0.5, top - 0.02), (0.5, bottom)), 0.016, palette.accent if rng.random() < 0.4 else DARK, Form(0.005)
    )
    for side in (-1, 1):
        x = 0.5 + side * 0.13
        canvas.stroke(points((x - side * 0.02, bottom - 0.08), (x + side * 0.04, bottom - 0.2)), 0.013, DARK, alpha=0.8)
    if rng.random() < 0.6:
        canvas.part(rectangle(0.56, 0.33, 0.66, 0.375), inks(rng, palette, palette.main)[0], PANEL)
        canvas.text(0.61, 0.352, brand, 0.024, palette.main, bold=True, width=0.09)
    return "quilted nylon"
