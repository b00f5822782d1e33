"""Things for the home: furniture, decoration and lighting, household and office goods."""

import math
from itertools import pairwise

import numpy as np
from numpy.random import Generator

from sameitem.core.records import Pixels
from sameitem.upkeep.drawing.canvas import (
    BALL,
    CLOTH,
    FLAT,
    METAL,
    PANEL,
    ROD,
    SOFT,
    TUBE,
    Canvas,
    Colour,
    Form,
    arc,
    ellipse,
    lathe,
    mirrored,
    mixed,
    points,
    rectangle,
    smooth,
    star,
    turned,
)
from sameitem.upkeep.drawing.marks import dial, emblem, inks, label, lines_of_text
from sameitem.upkeep.drawing.patterns import FABRIC, Palette, filled, patterned, worked

POT = Form(0.008, 0.75, "x", 0.18)


def _wood(rng: Generator, paint: Colour, *, upright: bool = False) -> Pixels:
    return worked(filled(paint), "wood", rng, upright=upright)


def _cloth(rng: Generator, *, plain_share: float) -> tuple[str, Pixels, Palette]:
    palette = FABRIC[rng.integers(0, len(FABRIC))]
    name, sheet = patterned(rng, palette, plain_share=plain_share)
    return name, worked(sheet, "linen", rng), palette


def _legs(
    canvas: Canvas,
    rng: Generator,
    xs: tuple[float, ...],
    top: float,
    bottom: float,
    paint: Pixels | Colour,
    kind: int,
    wide: float,
) -> None:
    """Stand something on legs: straight, tapered and splayed, or turned."""
    for x in xs:
        out = (x - 0.5) * (0.18 if kind == 1 else 0.0)
        if kind == 2:
            canvas.part(
                lathe(
                    (top, wide * 0.6),
                    ((top * 3 + bottom) / 4, wide),
                    ((top + bottom) / 2, wide * 0.45),
                    ((top + 3 * bottom) / 4, wide * 0.9),
                    (bottom, wide * 0.5),
                    middle=x,
                ),
                paint,
                TUBE,
            )
        else:
            foot = wide * (0.45 if kind == 1 else 0.9)
            canvas.part(
                points((x - wide, top), (x + wide, top), (x + out + foot, bottom), (x + out - foot, bottom)),
                paint,
                PANEL,
            )


def _chair_back(
    canvas: Canvas,
    rng: Generator,
    palette: Palette,
    back: int,
    wood: Pixels,
    cloth: Pixels,
    *,
    box: tuple[float, float, float, float],
    round_top: float,
) -> None:
    """Fill the frame of a chair's back: slats, rungs, cane, upholstery, a splat or a cross."""
    left, top, right, seat_y = box
    reach = (right - left) / 2 + 0.02
    if back == 0:
        for x in np.linspace(left + 0.03, right - 0.03, int(rng.integers(3, 9))):
            canvas.stroke(
                points((x, seat_y), (x + (x - 0.5) * 0.1, top + 0.05)),
                rng.uniform(0.012, 0.022),
                wood,
                PANEL,
            )
    elif back == 1:
        for y in np.linspace(top + 0.1, seat_y - 0.12, int(rng.integers(2, 6))):
            canvas.part(rectangle(left, y - 0.02, right, y + rng.uniform(0.01, 0.025)), wood, PANEL)
    elif back == 2:
        canvas.part(
            rectangle(left, top, right, seat_y - 0.08, round_top),
            worked(filled(mixed(palette.main, (240, 220, 180), 0.4)), "wicker", rng),
            PANEL,
        )
    elif back == 3:
        canvas.part(rectangle(left, top, right, seat_y - rng.uniform(0.02, 0.1), round_top), cloth, SOFT)
        for x in np.linspace(left + 0.08, right - 0.08, int(rng.integers(0, 4))):
            canvas.part(ellipse(x, top + 0.14, 0.01, steps=12), palette.second, BALL)
    elif back == 4:
        canvas.part(rectangle(0.5 - reach * 0.35, top + 0.02, 0.5 + reach * 0.35, seat_y, 0.02), wood, PANEL)
        emblem(canvas, rng, 0.5, (top + seat_y) / 2, reach * 0.24, [palette.second, palette.third])
    else:
        for lean_way in (-1, 1):
            canvas.stroke(
                points((0.5 - lean_way * reach * 0.8, top + 0.06), (0.5 + lean_way * reach * 0.8, seat_y - 0.06)),
                0.022,
                wood,
                PANEL,
            )


def chair(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a chair, half turned: back of slats, cane, panel or cushion, seat and legs."""
    wood, dark = _wood(rng, palette.main, upright=True), _wood(rng, mixed(palette.main, (0, 0, 0), 0.25), upright=True)
    seat_y, top, bottom = rng.uniform(0.5, 0.58), rng.uniform(0.06, 0.2), 0.95
    wide, deep = rng.uniform(0.2, 0.26), rng.uniform(0.06, 0.1)
    leg, kind = rng.uniform(0.014, 0.028), int(rng.integers(0, 3))
    name, cloth, _ = _cloth(rng, plain_share=0.4)
    _legs(canvas, rng, (0.5 - wide + 0.05, 0.5 + wide - 0.03), seat_y - deep / 2, bottom - 0.09, dark, kind, leg)
    back = int(rng.integers(0, 6))
    lean = rng.uniform(0.0, 0.04)
    round_top = rng.uniform(0.0, 0.14)
    left, right = 0.5 - wide + 0.02, 0.5 + wide - 0.02
    _chair_back(canvas, rng, palette, back, wood, cloth, box=(left, top, right, seat_y), round_top=round_top)
    frame = smooth(
        points(
            (left, seat_y),
            (left - lean, top + round_top),
            (left + round_top, top),
            (right - round_top, top),
            (right + lean, top + round_top),
            (right, seat_y),
        ),
        closed=False,
        steps=6,
    )
    if back != 3 or rng.random() < 0.4:
        canvas.stroke(frame, rng.uniform(0.022, 0.04), wood, Form(0.01, 0.6))
    seat = points(
        (0.5 - wide + 0.03, seat_y - deep),
        (0.5 + wide - 0.03, seat_y - deep),
        (0.5 + wide + 0.03, seat_y + deep * 0.5),
        (0.5 - wide - 0.03, seat_y + deep * 0.5),
    )
    canvas.part(seat, wood, PANEL)
    canvas.part(
        rectangle(
            0.5 - wide - 0.03,
            seat_y + deep * 0.5 - 0.005,
            0.5 + wide + 0.03,
            seat_y + deep * 0.5 + rng.uniform(0.02, 0.05),
        ),
        dark,
        PANEL,
    )
    if rng.random() < 0.6:
        canvas.part(
            smooth(
                points(
                    (0.5 - wide, seat_y - deep - 0.02),
                    (0.5 + wide, seat_y - deep - 0.02),
                    (0.5 + wide + 0.02, seat_y + deep * 0.3),
                    (0.5 - wide - 0.02, seat_y + deep * 0.3),
                ),
                steps=6,
            ),
            cloth,
            SOFT,
        )
        name = f"{name} seat"
    _legs(
        canvas, rng, (0.5 - wide - 0.005, 0.5 + wide + 0.005), seat_y + deep * 0.5 + 0.02, bottom, wood, kind, leg * 1.2
    )
    if rng.random() < 0.5:
        y = rng.uniform(0.72, 0.82)
        canvas.stroke(points((0.5 - wide, y), (0.5 + wide, y)), 0.018, dark, PANEL)
    if rng.random() < 0.35:
        for side in (-1, 1):
            x = 0.5 + side * (wide + 0.02)
            canvas.stroke(
                smooth(
                    points((x - side * 0.03, seat_y - 0.18), (x + side * 0.02, seat_y - 0.17), (x, seat_y)),
                    closed=False,
                ),
                0.028,
                wood,
                PANEL,
            )
    return f"{palette.name} wood, {name}"


def table(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a table or desk: round or square top, legs, drawers, shelf."""
    wood, dark = _wood(rng, palette.main), _wood(rng, mixed(palette.main, (0, 0, 0), 0.22))
    wide, top, thick = rng.uniform(0.32, 0.45), rng.uniform(0.28, 0.42), rng.uniform(0.015, 0.05)
    bottom, deep = rng.uniform(0.78, 0.88), rng.uniform(0.05, 0.09)
    base = wood if rng.random() < 0.6 else worked(filled(palette.accent), "metal", rng)
    kind = int(rng.integers(0, 5))
    is_round = rng.random() < 0.35
    if kind < 3:
        _legs(
            canvas,
            rng,
            (0.5 - wide * 0.62, 0.5 + wide * 0.62),
            top,
            bottom - 0.09,
            dark,
            kind,
            rng.uniform(0.014, 0.022),
        )
        if rng.random() < 0.35:
            y = rng.uniform(0.62, 0.72)
            canvas.part(
                points(
                    (0.5 - wide * 0.7, y - 0.04),
                    (0.5 + wide * 0.7, y - 0.04),
                    (0.5 + wide * 0.85, y + 0.01),
                    (0.5 - wide * 0.85, y + 0.01),
                ),
                dark,
                PANEL,
            )
        _legs(canvas, rng, (0.5 - wide * 0.88, 0.5 + wide * 0.88), top, bottom, base, kind, rng.uniform(0.018, 0.03))
    elif kind == 3:
        canvas.part(
            lathe(
                (top, 0.06),
                ((top + bottom) / 2, rng.uniform(0.02, 0.07)),
                (bottom - 0.06, 0.05),
                (bottom, rng.uniform(0.14, 0.22)),
            ),
            base,
            POT,
        )
    else:
        for side in (-1, 1):
            for lean in (-1, 1):
                canvas.stroke(
                    points((0.5 + side * wide * 0.7, top), (0.5 + side * wide * 0.7 + lean * 0.1, bottom)),
                    0.03,
                    base,
                    PANEL,
                )
        canvas.stroke(
            points((0.5 - wide * 0.7, (top + bottom) / 2), (0.5 + wide * 0.7, (top + bottom) / 2)), 0.02, dark, PANEL
        )
    drawers = int(rng.integers(0, 4)) if kind < 3 and not is_round else 0
    if drawers:
        tall = rng.uniform(0.07, 0.14)
        canvas.part(rectangle(0.5 - wide * 0.9, top, 0.5 + wide * 0.9, top + tall), dark, PANEL)
        edges = np.linspace(0.5 - wide * 0.88, 0.5 + wide * 0.88, drawers + 1)
        for left, right in pairwise(edges):
            canvas.part(
                rectangle(left + 0.008, top + 0.012, right - 0.008, top + tall - 0.01),
                _wood(rng, (palette.main, palette.third)[drawers % 2]),
                PANEL,
            )
            canvas.part(
                ellipse((left + right) / 2, top + tall / 2, rng.uniform(0.01, 0.03), 0.01), palette.accent, METAL
            )
    if is_round:
        canvas.part([ellipse(0.5, top, wide, deep), ellipse(0.5, top + thick, wide, deep)], dark, PANEL)
        canvas.part(ellipse(0.5, top, wide, deep), wood, FLAT)
        if rng.random() < 0.4:
            canvas.stroke(ellipse(0.5, top, wide * 0.8, deep * 0.8), 0.008, palette.second, closed=True)
    else:
        canvas.part(
            points(
                (0.5 - wide * 0.84, top - deep), (0.5 + wide * 0.84, top - deep), (0.5 + wide, top), (0.5 - wide, top)
            ),
            wood,
            FLAT,
        )
        canvas.part(rectangle(0.5 - wide, top, 0.5 + wide, top + thick), dark, PANEL)
        if rng.random() < 0.3:
            canvas.part(
                points(
                    (0.5 - wide * 0.3, top - deep),
                    (0.5 + wide * 0.3, top - deep),
                    (0.5 + wide * 0.36, top),
                    (0.5 - wide * 0.36, top),
                ),
                worked(filled(palette.third), "linen", rng),
                FLAT,
            )
    return f"{palette.name} wood"


def sofa(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw an armchair or sofa with cushions."""
    name, cloth, colours = _cloth(rng, plain_share=0.5)
    if rng.random() < 0.3:
        name, cloth = (
            "leather",
            worked(filled(((120, 78, 50), (46, 42, 42), (168, 120, 78))[rng.integers(0, 3)]), "leather", rng),
        )
    wide, top, seat = rng.uniform(0.3, 0.46), rng.uniform(0.22, 0.36), rng.uniform(0.52, 0.58)
    arm, arm_top, bottom = rng.uniform(0.05, 0.1), rng.uniform(0.4, 0.5), rng.uniform(0.74, 0.8)
    _legs(
        canvas,
        rng,
        (0.5 - wide + 0.05, 0.5 + wide - 0.05),
        bottom - 0.02,
        rng.uniform(0.82, 0.88),
        _wood(rng, palette.main, upright=True),
        int(rng.integers(0, 3)),
        0.018,
    )
    canvas.part(rectangle(0.5 - wide + 0.02, top, 0.5 + wide - 0.02, bottom, rng.uniform(0.02, 0.14)), cloth, SOFT)
    seats = 1 if wide < 0.34 else int(rng.integers(1, 4))
    edges = np.linspace(0.5 - wide + arm, 0.5 + wide - arm, seats + 1)
    tufts = rng.random() < 0.4
    for left, right in pairwise(edges):
        canvas.part(rectangle(left + 0.004, top + 0.05, right - 0.004, seat + 0.02, 0.03), cloth, SOFT)
        if tufts:
            for y in (top + 0.12, top + 0.2):
                for x in np.linspace(left + 0.05, right - 0.05, 3):
                    canvas.part(ellipse(x, y, 0.009, steps=12), mixed(colours.main, (0, 0, 0), 0.5), FLAT)
        canvas.part(rectangle(left + 0.002, seat, right - 0.002, seat + 0.11, 0.03), cloth, SOFT)
    canvas.part(rectangle(0.5 - wide + 0.02, seat + 0.1, 0.5 + wide - 0.02, bottom, 0.015), cloth, CLOTH)
    round_arm = rng.uniform(0.01, 0.05)
    for side in (-1, 1):
        x = 0.5 + side * (wide - arm / 2)
        canvas.part(rectangle(x - arm / 2, arm_top, x + arm / 2, bottom, round_arm), cloth, SOFT)
    for x in (edges[0] + 0.09, edges[-1] - 0.09)[: int(rng.integers(0, 3))]:
        _, cushion, _ = _cloth(rng, plain_share=0.1)
        turn = rng.uniform(-0.25, 0.25)
        size = rng.uniform(0.07, 0.09)
        canvas.part(
            turned(rectangle(x - size, seat - 2 * size, x + size, seat, 0.025), turn, x, seat - size), cushion, SOFT
        )
    return f"{name} cover"


def cabinet(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a cabinet, chest or bookcase: doors, drawers, open shelves with things on them."""
    wood, dark = _wood(rng, palette.main, upright=True), _wood(rng, mixed(palette.main, (0, 0, 0), 0.35))
    wide, top, bottom = rng.uniform(0.22, 0.42), rng.uniform(0.08, 0.34), rng.uniform(0.84, 0.9)
    _legs(
        canvas,
        rng,
        (0.5 - wide + 0.03, 0.5 + wide - 0.03),
        bottom - 0.01,
        bottom + rng.uniform(0.02, 0.08),
        dark,
        int(rng.integers(0, 3)),
        0.02,
    )
    canvas.part(rectangle(0.5 - wide, top, 0.5 + wide, bottom, rng.uniform(0, 0.02)), wood, PANEL)
    canvas.part(
        rectangle(0.5 - wide - 0.015, top - 0.015, 0.5 + wide + 0.015, top + rng.uniform(0.005, 0.03)), wood, PANEL
    )
    columns, rows = int(rng.integers(1, 4)), int(rng.integers(2, 6))
    xs = np.linspace(0.5 - wide + 0.02, 0.5 + wide - 0.02, columns + 1)
    ys = np.linspace(top + 0.04, bottom - 0.02, rows + 1)
    handle = int(rng.integers(0, 3))
    front = (palette.main, palette.third, palette.second)
    style = rng.integers(0, 4, columns)
    for column in range(columns):
        left, right = xs[column] + 0.006, xs[column + 1] - 0.006
        spans = [(ys[0], ys[-1])] if style[column] == 3 else list(pairwise(ys))
        for over, under in spans:
            kind = int(style[column]) if style[column] == 3 else int(rng.integers(0, 3))
            field = rectangle(left, over + 0.005, right, under - 0.005)
            if kind == 0:
                canvas.part(field, mixed(palette.main, (0, 0, 0), 0.55), FLAT)
                x = left + 0.008
                while x < right - 0.03:
                    thick, tall = rng.uniform(0.012, 0.03), (under - over) * rng.uniform(0.5, 0.85)
                    spine = FABRIC[rng.integers(0, len(FABRIC))].main
                    canvas.part(rectangle(x, under - 0.008 - tall, x + thick, under - 0.006), spine, PANEL)
                    x += thick + (rng.uniform(0.02, 0.1) if rng.random() < 0.25 else 0.002)
                continue
            paint = front[int(rng.integers(0, 3)) if rng.random() < 0.3 else 0]
            canvas.part(field, _wood(rng, paint, upright=kind == 3), PANEL)
            middle_x, middle_y = (left + right) / 2, (over + under) / 2
            if kind == 3 and rng.random() < 0.5:
                canvas.stroke(
                    rectangle(left + 0.025, over + 0.03, right - 0.025, under - 0.03),
                    0.01,
                    mixed(paint, (0, 0, 0), 0.4),
                    closed=True,
                )
            if handle == 0:
                canvas.part(
                    ellipse(right - 0.03 if kind == 3 else middle_x, middle_y, 0.012, steps=14), palette.accent, BALL
                )
            elif handle == 1:
                canvas.part(
                    rectangle(middle_x - 0.04, over + 0.018, middle_x + 0.04, over + 0.03, 0.004), palette.accent, METAL
                )
            else:
                canvas.part(arc(middle_x, over + 0.012, 0.03, 0.025, 0, math.pi), mixed(paint, (0, 0, 0), 0.6), FLAT)
    return f"{palette.name} wood"


def lamp(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a table lamp: turned foot and patterned shade."""
    name, sheet = patterned(rng, palette, plain_share=0.2)
    top, rim, wide = rng.uniform(0.05, 0.12), rng.uniform(0.36, 0.48), rng.uniform(0.2, 0.32)
    narrow = wide * rng.uniform(0.35, 1.0)
    base = rng.uniform(0.08, 0.16)
    material = int(rng.integers(0, 3))
    colours = (palette.main, palette.third, palette.second, palette.accent)
    paint: Pixels = filled(colours[rng.integers(0, 4)])
    if material == 0:
        paint = _wood(rng, ((150, 104, 66), (92, 62, 44), (206, 170, 124))[rng.integers(0, 3)], upright=True)
    widths = rng.uniform(0.015, 0.11, int(rng.integers(3, 6)))
    heights = np.linspace(rim, 0.9, len(widths) + 2)
    canvas.part(
        lathe(
            (rim - 0.02, 0.014),
            *[(float(y), float(w)) for y, w in zip(heights[1:-1], widths, strict=True)],
            (0.9, base * 0.8),
            (0.93, base),
        ),
        paint,
        (POT, POT, METAL)[material],
    )
    for y in heights[1:-1][: int(rng.integers(0, 4))]:
        canvas.stroke(points((0.5 - 0.05, y), (0.5 + 0.05, y)), 0.01, palette.accent, alpha=0.7)
    bulge = rng.uniform(-0.03, 0.06)
    shade = mirrored(
        smooth(
            points((0.5 + narrow, top), (0.5 + (narrow + wide) / 2 + bulge, (top + rim) / 2), (0.5 + wide, rim)),
            closed=False,
        )
    )
    warm = mixed((255, 236, 196), palette.main, 0.1)
    canvas.part(
        [shade, arc(0.5, rim, wide, 0.03, 0, math.pi)],
        worked(((sheet.astype(np.float32) * 0.72) + np.array(warm) * 0.28).astype(np.uint8), "linen", rng),
        Form(0.0, 0.45, "x"),
    )
    trim = rng.uniform(0.006, 0.02)
    canvas.stroke(arc(0.5, rim, wide, 0.03, 0, math.pi), trim, palette.accent)
    canvas.stroke(arc(0.5, top, narrow, 0.02, 0, math.pi), trim, palette.accent)
    if rng.random() < 0.3:
        for x in np.linspace(-0.95, 0.95, int(rng.integers(10, 26))):
            y = rim + 0.03 * math.sqrt(1 - x * x)
            canvas.stroke(points((0.5 + x * wide, y), (0.5 + x * wide, y + 0.05)), 0.008, palette.accent)
    return f"{name} shade, {('wood', 'ceramic', 'metal')[material]} foot"


def pendant(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a hanging lamp: dome, globe, cage or cone on a cord."""
    canvas.part(mirrored(points((0.5, 0.02), (0.57, 0.02), (0.56, 0.06), (0.5, 0.06))), palette.accent, METAL)
    drop = rng.uniform(0.22, 0.4)
    canvas.stroke(points((0.5, 0.05), (0.5, drop)), 0.012, (40, 38, 38))
    canvas.part(rectangle(0.47, drop - 0.05, 0.53, drop + 0.03, 0.01), palette.accent, METAL)
    kind = int(rng.integers(0, 4))
    wide, bottom = rng.uniform(0.22, 0.4), rng.uniform(0.66, 0.86)
    name, sheet = patterned(rng, palette, plain_share=0.45)
    surface = ("metal", "wicker", "linen")[rng.integers(0, 3)]
    sheet = worked(sheet, surface, rng)
    if kind == 0:
        canvas.part(
            [
                lathe((drop, 0.03), (drop + 0.08, wide * rng.uniform(0.5, 0.85)), (bottom, wide)),
                arc(0.5, bottom, wide, 0.04, 0, math.pi),
            ],
            sheet,
            METAL,
        )
        canvas.part(ellipse(0.5, bottom, wide * 0.96, 0.036), (255, 240, 206), FLAT)
        canvas.part(ellipse(0.5, bottom + 0.01, 0.06, 0.04), (255, 250, 232), BALL)
    elif kind == 1:
        radius = min(wide, 0.32)
        canvas.part(ellipse(0.5, drop + radius, radius), sheet, BALL)
        for band in np.linspace(-0.8, 0.8, int(rng.integers(0, 7))):
            canvas.stroke(
                arc(0.5, drop + radius + band * radius, radius * math.sqrt(1 - band * band), 0.02, 0, math.pi),
                0.006,
                palette.second,
            )
    elif kind == 2:
        middle = (drop + bottom) / 2
        canvas.part(ellipse(0.5, middle, 0.07, 0.09), (255, 238, 190), BALL)
        bars = int(rng.integers(4, 10))
        for share in np.linspace(-1, 1, bars):
            canvas.stroke(
                smooth(
                    points(
                        (0.5 + share * 0.04, drop),
                        (0.5 + share * wide, middle),
                        (0.5 + share * wide * rng.uniform(0.3, 0.32), bottom),
                    ),
                    closed=False,
                ),
                0.012,
                palette.main,
                Form(0.004),
            )
        for y, reach in ((middle, wide), (bottom, wide * 0.31)):
            canvas.stroke(ellipse(0.5, y, reach, 0.03), 0.012, palette.main, Form(0.004), closed=True)
    else:
        tiers = int(rng.integers(2, 5))
        edges = np.linspace(drop, bottom, tiers + 1)
        for tier in range(tiers):
            reach = wide * rng.uniform(0.5, 1.0)
            paint = (
                sheet if tier % 2 == 0 else worked(filled((palette.second, palette.third)[tier // 2 % 2]), surface, rng)
            )
            canvas.part(
                [
                    lathe((edges[tier], reach * 0.5), (edges[tier + 1] + 0.01, reach), round_=False),
                    arc(0.5, edges[tier + 1] + 0.01, reach, 0.025, 0, math.pi),
                ],
                paint,
                METAL,
            )
    return f"{name} {surface}"


def vase(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a vase or plant pot with a painted or glazed body, at times with stems."""
    top, bottom = rng.uniform(0.14, 0.42), 0.93
    widths = rng.uniform(0.06, 0.26, int(rng.integers(3, 6)))
    widths[-1] = rng.uniform(0.08, 0.18)
    heights = np.linspace(top, bottom, len(widths))
    name, sheet = patterned(rng, palette, plain_share=0.3)
    if top > 0.3 or rng.random() < 0.3:
        green = ((84, 128, 76), (116, 150, 92), (60, 98, 70))[rng.integers(0, 3)]
        for _ in range(int(rng.integers(3, 10))):
            x, y = 0.5 + rng.uniform(-0.28, 0.28), rng.uniform(0.03, top - 0.06) if top > 0.12 else 0.04
            canvas.stroke(
                smooth(points((0.5, top + 0.05), ((x + 0.5) / 2, (y + top) / 2 + 0.02), (x, y)), closed=False),
                0.008,
                green,
            )
            if rng.random() < 0.5:
                canvas.part(
                    star(x, y, rng.uniform(0.03, 0.07), int(rng.integers(5, 9)), inner=0.55),
                    (palette.accent, palette.second, (236, 200, 210))[rng.integers(0, 3)],
                    CLOTH,
                )
            else:
                canvas.part(turned(ellipse(x, y, 0.035, 0.1), rng.uniform(-1, 1), x, y), green, CLOTH)
    body = lathe(*[(float(y), float(w)) for y, w in zip(heights, widths, strict=True)])
    canvas.part(body, worked(sheet, "paper", rng), Form(0.01, 0.75, "x", 0.3))
    canvas.part(ellipse(0.5, top, float(widths[0]), 0.018), mixed(palette.main, (0, 0, 0), 0.6), FLAT)
    canvas.stroke(ellipse(0.5, top, float(widths[0]), 0.018), 0.012, palette.third, Form(0.004), closed=True)
    glaze = int(rng.integers(0, 4))
    reach = float(widths.max())
    if glaze == 0:
        cut = rng.uniform(0.4, 0.8)
        edge = top + (bottom - top) * cut
        low = body[body[:, 1] > edge]
        if len(low) > 4:
            canvas.part(low, worked(filled(palette.second), "paper", rng), Form(0.0, 0.75, "x", 0.3))
    elif glaze == 1:
        emblem(canvas, rng, 0.5, (top + bottom) / 2, reach * 0.5, inks(rng, palette, palette.main))
    elif glaze == 2:
        for side in (-1, 1):
            canvas.stroke(
                smooth(
                    points(
                        (0.5 + side * widths[0], top + 0.04),
                        (0.5 + side * (reach + 0.07), top + 0.16),
                        (0.5 + side * widths[1] * 0.9, top + 0.3),
                    ),
                    closed=False,
                ),
                0.026,
                palette.main,
                Form(0.008),
            )
    return f"{name} ceramic"


def picture(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a framed picture or print."""
    wide, tall = rng.uniform(0.26, 0.44), rng.uniform(0.26, 0.44)
    box = (0.5 - wide, 0.5 - tall, 0.5 + wide, 0.5 + tall)
    rim, mat = rng.uniform(0.02, 0.06), rng.uniform(0.0, 0.09)
    frame = ((60, 44, 34), (32, 32, 34), (236, 234, 230), (196, 160, 96), (170, 126, 80))[rng.integers(0, 5)]
    canvas.part(rectangle(*box), _wood(rng, frame), Form(0.012, 0.8))
    inner = (box[0] + rim, box[1] + rim, box[2] - rim, box[3] - rim)
    canvas.part(rectangle(*inner), (244, 241, 234), PANEL)
    art = (inner[0] + mat, inner[1] + mat, inner[2] - mat, inner[3] - mat)
    width, height = art[2] - art[0], art[3] - art[1]
    ground = (palette.main, palette.second, palette.third)[rng.integers(0, 3)]
    canvas.part(rectangle(*art), ground, FLAT)
    colours = (palette.main, palette.second, palette.third, palette.accent)
    kind = int(rng.integers(0, 4))
    if kind == 0:
        canvas.part(
            ellipse(
                art[0] + width * rng.uniform(0.2, 0.8),
                art[1] + height * rng.uniform(0.2, 0.45),
                min(width, height) * rng.uniform(0.08, 0.2),
            ),
            palette.accent,
            FLAT,
        )
        for step, share in enumerate(np.linspace(0.45, 0.85, int(rng.integers(2, 5)))):
            xs = np.linspace(art[0], art[2], 9)
            ys = art[1] + height * np.clip(share + rng.uniform(-0.12, 0.12, 9), 0, 1)
            hill = smooth(np.stack([xs, ys], axis=1), closed=False, steps=4)
            hill = np.concatenate([hill, points((art[2], art[3]), (art[0], art[3]))])
            canvas.part(
                np.clip(hill, (art[0], art[1]), (art[2], art[3])),
                mixed(colours[(step + 1) % 4], (0, 0, 0), 0.12 * step),
                FLAT,
            )
    elif kind == 1:
        for _ in range(int(rng.integers(4, 10))):
            x, y = art[0] + width * rng.random(), art[1] + height * rng.random()
            size = rng.uniform(0.1, 0.35) * min(width, height)
            shape = (
                ellipse(x, y, size),
                star(x, y, size, int(rng.integers(3, 5)), inner=0.6),
                rectangle(x - size, y - size / 2, x + size, y + size / 2),
            )[rng.integers(0, 3)]
            canvas.part(np.clip(shape, (art[0], art[1]), (art[2], art[3])), colours[rng.integers(0, 4)], FLAT)
    elif kind == 2:
        _, sheet = patterned(rng, palette)
        canvas.part(rectangle(*art), sheet, FLAT)
    emblem(canvas, rng, 0.5, 0.5, min(width, height) * rng.uniform(0.2, 0.36), inks(rng, palette, ground))
    canvas.part(
        points((inner[0], inner[1]), (inner[0] + wide * 0.7, inner[1]), (inner[0], inner[1] + tall)),
        (255, 255, 255),
        FLAT,
        alpha=0.08,
    )
    return "framed print"


def cushion(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a cushion: patterned, piped, tasselled or with a motif."""
    name, sheet = patterned(rng, palette, plain_share=0.25)
    sheet = worked(sheet, ("linen", "knit")[rng.integers(0, 2)], rng)
    wide, tall = rng.uniform(0.36, 0.43), rng.uniform(0.26, 0.42)
    pinch = rng.uniform(0.88, 0.96)
    outline = smooth(
        points(
            (0.5 - wide, 0.5 - tall),
            (0.5, 0.5 - tall * pinch),
            (0.5 + wide, 0.5 - tall),
            (0.5 + wide * pinch, 0.5),
            (0.5 + wide, 0.5 + tall),
            (0.5, 0.5 + tall * pinch),
            (0.5 - wide, 0.5 + tall),
            (0.5 - wide * pinch, 0.5),
        ),
        steps=8,
    )
    trim = (palette.accent, palette.second, palette.third)[rng.integers(0, 3)]
    edge = int(rng.integers(0, 3))
    if edge == 0:
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            canvas.part(star(0.5 + x * (wide + 0.015), 0.5 + y * (tall + 0.015), 0.05, 12, inner=0.6), trim, BALL)
    elif edge == 1:
        for place in outline[::2]:
            canvas.stroke(np.stack([place, (place - 0.5) * 1.09 + 0.5]), 0.012, trim)
    canvas.part(outline, sheet, Form(0.09, 1.0))
    if edge == 2:
        canvas.stroke(outline, 0.016, trim, Form(0.005), closed=True)
    if name == "plain":
        emblem(canvas, rng, 0.5, 0.5, rng.uniform(0.15, 0.24), inks(rng, palette, palette.main))
    elif rng.random() < 0.3:
        canvas.part(ellipse(0.5, 0.5, 0.03), trim, BALL)
    return f"{name} cover"


def wall_clock(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a wall clock: round, sun-shaped or square."""
    r = rng.uniform(0.3, 0.42)
    kind = int(rng.integers(0, 3))
    wood = _wood(rng, palette.main)
    if kind == 0:
        canvas.part(ellipse(0.5, 0.5, r + 0.03), wood, Form(0.02, 0.9))
    elif kind == 1:
        canvas.part(
            star(0.5, 0.5, min(0.48, r + 0.14), int(rng.integers(8, 28)), inner=rng.uniform(0.6, 0.8)), wood, PANEL
        )
        r *= 0.72
        canvas.part(ellipse(0.5, 0.5, r + 0.02), palette.second, PANEL)
    else:
        canvas.part(
            rectangle(0.5 - r - 0.02, 0.5 - r - 0.02, 0.5 + r + 0.02, 0.5 + r + 0.02, rng.uniform(0.02, 0.12)),
            wood,
            Form(0.02, 0.9),
        )
    dial(canvas, rng, 0.5, 0.5, r * 0.94, palette, brand)
    return f"{palette.name} frame"


def mug(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a mug or cup with a print or pattern."""
    wide, top, bottom = rng.uniform(0.2, 0.28), rng.uniform(0.2, 0.36), rng.uniform(0.76, 0.86)
    foot = wide * rng.uniform(0.55, 1.02)
    printed = rng.random() < 0.55
    name, sheet = patterned(rng, palette, plain_share=1.0 if printed else 0.0)
    side = 0.44
    handle = int(rng.integers(0, 3))
    reach = rng.uniform(0.12, 0.2)
    middle, half = (top + bottom) / 2 - 0.02, (bottom - top) * rng.uniform(0.24, 0.36)
    loop = (
        arc(side + wide * 0.9, middle, reach, half, -math.pi / 2, math.pi / 2),
        points(
            (side + wide * 0.9, middle - half),
            (side + wide + reach, middle - half),
            (side + wide + reach * 0.8, middle + half),
            (side + wide * 0.85, middle + half),
        ),
        smooth(
            points(
                (side + wide * 0.9, middle - half),
                (side + wide + reach * 1.1, middle - half * 0.8),
                (side + wide + reach * 0.5, middle + half * 0.5),
                (side + wide * 0.85, middle + half),
            ),
            closed=False,
        ),
    )[handle]
    canvas.stroke(
        loop, rng.uniform(0.03, 0.05), (palette.main, palette.accent)[int(rng.random() < 0.2)], Form(0.012, 0.8)
    )
    body = mirrored(
        smooth(
            points(
                (side + wide, top),
                (side + (wide * 0.6 + foot * 0.4), (top + bottom) / 2),
                (side + foot, bottom - 0.02),
                (side + foot * 0.9, bottom),
            ),
            closed=False,
        ),
        middle=side,
    )
    canvas.part([body, arc(side, bottom, foot * 0.9, 0.02, 0, math.pi)], sheet, Form(0.0, 0.6, "x", 0.2))
    canvas.part(ellipse(side, top, wide, 0.035), mixed(palette.main, (255, 255, 255), 0.15), FLAT)
    canvas.part(
        ellipse(side, top + 0.006, wide * 0.92, 0.026),
        ((70, 44, 30), (232, 230, 226), (150, 96, 44), palette.second)[rng.integers(0, 4)],
        FLAT,
    )
    seen = inks(rng, palette, palette.main)
    if printed:
        emblem(canvas, rng, side - 0.02, (top + bottom) / 2 + 0.02, min(wide, foot) * rng.uniform(0.45, 0.65), seen)
    bands = int(rng.integers(0, 3))
    for y in (bottom - 0.06, top + 0.09)[:bands]:
        canvas.stroke(
            arc(side, y - 0.02, wide * 0.98 if y < 0.5 else foot * 1.0, 0.03, 0, math.pi),
            rng.uniform(0.008, 0.02),
            seen[-1],
        )
    return f"{'printed' if printed else name} ceramic"


def pan(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a cooking pot or kettle with handles and a lid."""
    wide, top, bottom = rng.uniform(0.24, 0.34), rng.uniform(0.36, 0.5), rng.uniform(0.76, 0.84)
    name, sheet = patterned(rng, palette, plain_share=0.6)
    kind = int(rng.integers(0, 3))
    knob = (palette.accent, (36, 34, 34), (150, 104, 66))[rng.integers(0, 3)]
    if kind == 0:
        for way in (-1, 1):
            canvas.stroke(
                smooth(
                    points(
                        (0.5 + way * wide * 0.95, top + 0.07),
                        (0.5 + way * (wide + 0.09), top + 0.06),
                        (0.5 + way * (wide + 0.09), top + 0.13),
                        (0.5 + way * wide * 0.95, top + 0.14),
                    ),
                    closed=False,
                ),
                0.03,
                knob,
                Form(0.01, 0.8),
            )
    elif kind == 1:
        canvas.part(
            smooth(
                points(
                    (0.5 + wide * 0.9, top + 0.07),
                    (0.98, top + rng.uniform(-0.06, 0.04)),
                    (0.98, top + 0.06),
                    (0.5 + wide * 0.9, top + 0.12),
                )
            ),
            knob,
            ROD,
        )
    else:
        canvas.stroke(
            smooth(
                points(
                    (0.5 - wide * 0.8, top + 0.02),
                    (0.5 - wide * 0.7, top - 0.26),
                    (0.5 + wide * 0.7, top - 0.26),
                    (0.5 + wide * 0.8, top + 0.02),
                ),
                closed=False,
            ),
            0.035,
            knob,
            Form(0.01, 0.8),
        )
        canvas.part(
            smooth(
                points(
                    (0.5 - wide * 0.8, bottom - 0.14),
                    (0.5 - wide - 0.14, top + 0.02),
                    (0.5 - wide - 0.08, top),
                    (0.5 - wide * 0.8, bottom - 0.26),
                )
            ),
            palette.main,
            METAL,
        )
    swell = rng.uniform(0.94, 1.12)
    body = lathe(
        (top, wide),
        ((top + bottom) / 2, wide * swell),
        (bottom - 0.02, wide * rng.uniform(0.8, 1.0)),
        (bottom, wide * 0.78),
    )
    canvas.part(body, sheet, METAL)
    high = rng.uniform(0.04, 0.12)
    canvas.part(
        lathe((top - high, wide * 0.3), (top - high * 0.4, wide * 0.8), (top, wide * 1.03)),
        worked(filled((palette.main, palette.second, palette.third)[rng.integers(0, 3)]), "metal", rng),
        METAL,
    )
    canvas.stroke(points((0.5 - wide * 1.03, top), (0.5 + wide * 1.03, top)), 0.022, (190, 190, 192), ROD)
    canvas.part(ellipse(0.5, top - high - 0.03, rng.uniform(0.025, 0.05), 0.03), knob, BALL)
    if rng.random() < 0.5:
        emblem(canvas, rng, 0.5, (top + bottom) / 2 + 0.02, rng.uniform(0.05, 0.1), inks(rng, palette, palette.main))
    for y in np.linspace(bottom - 0.08, bottom - 0.03, int(rng.integers(0, 3))):
        canvas.stroke(points((0.5 - wide * 0.95, y), (0.5 + wide * 0.95, y)), 0.012, palette.second)
    return f"{name} enamel"


def flask(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a drinking bottle or vacuum flask."""
    wide, neck = rng.uniform(0.13, 0.19), rng.uniform(0.07, 0.13)
    top = rng.uniform(0.16, 0.26)
    name, sheet = patterned(rng, palette, plain_share=0.4)
    canvas.part(
        lathe((top, neck), (top + 0.06, neck), (top + 0.15, wide), (0.9, wide), (0.95, wide * 0.92), round_=False),
        worked(sheet, "metal", rng),
        METAL,
    )
    cap = (palette.accent, palette.second, palette.third, (46, 46, 48))[rng.integers(0, 4)]
    high = rng.uniform(0.07, 0.13)
    canvas.part(rectangle(0.5 - neck * 1.1, top - high, 0.5 + neck * 1.1, top + 0.01, 0.02), cap, METAL)
    for x in np.linspace(-0.9, 0.9, int(rng.integers(0, 9))):
        canvas.stroke(
            points((0.5 + x * neck, top - high + 0.02), (0.5 + x * neck, top - 0.01)), 0.006, mixed(cap, (0, 0, 0), 0.4)
        )
    if rng.random() < 0.5:
        canvas.stroke(
            arc(0.5, top - high, neck * 0.8, rng.uniform(0.06, 0.1), math.pi, 2 * math.pi), 0.025, cap, Form(0.008)
        )
    base = int(rng.integers(0, 3))
    if base == 0:
        canvas.part(
            rectangle(0.5 - wide, rng.uniform(0.74, 0.86), 0.5 + wide, 0.95, 0.02),
            worked(filled(palette.third), "paper", rng),
            METAL,
        )
    elif base == 1:
        for y in np.sort(rng.uniform(0.4, 0.9, int(rng.integers(1, 4)))):
            canvas.part(rectangle(0.5 - wide, y, 0.5 + wide, y + rng.uniform(0.01, 0.04)), palette.second, METAL)
    seen = inks(rng, palette, palette.main)
    if rng.random() < 0.6:
        emblem(canvas, rng, 0.5, rng.uniform(0.5, 0.62), wide * rng.uniform(0.5, 0.72), seen)
    else:
        canvas.text(0.5, 0.6, brand.upper(), 0.08, seen[0], angle=-math.pi / 2, bold=True)
    return f"{name} steel"


def notebook(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a notebook or folder: cover, binding, band, label."""
    wide, tall = rng.uniform(0.28, 0.36), rng.uniform(0.36, 0.44)
    box = (0.5 - wide, 0.5 - tall, 0.5 + wide, 0.5 + tall)
    canvas.part(rectangle(box[0] + 0.02, box[1] + 0.02, box[2] + 0.02, box[3] + 0.02, 0.015), (240, 236, 226), PANEL)
    name, sheet = patterned(rng, palette, plain_share=0.4)
    canvas.part(rectangle(*box, 0.02), worked(sheet, ("leather", "linen", "paper")[rng.integers(0, 3)], rng), PANEL)
    binding = int(rng.integers(0, 4))
    if binding == 0:
        for y in np.linspace(box[1] + 0.04, box[3] - 0.04, int(rng.integers(9, 20))):
            canvas.stroke(arc(box[0], y, 0.035, 0.014, math.pi * 0.3, math.pi * 1.9), 0.009, (70, 70, 74), Form(0.003))
    elif binding == 1:
        canvas.part(
            rectangle(box[0], box[1], box[0] + rng.uniform(0.05, 0.14), box[3], 0.01),
            worked(filled(palette.third), "linen", rng),
            PANEL,
        )
    elif binding == 2:
        canvas.part(rectangle(box[2] - 0.1, box[1] - 0.005, box[2] - 0.08, box[3] + 0.005), palette.accent, PANEL)
    seen = inks(rng, palette, palette.main)
    y = rng.uniform(0.3, 0.66)
    if rng.random() < 0.5:
        canvas.part(
            rectangle(0.5 - wide * 0.6, y - 0.09, 0.5 + wide * 0.6, y + 0.09, rng.uniform(0, 0.03)),
            (246, 242, 232),
            PANEL,
        )
        canvas.text(
            0.5,
            y - 0.03,
            ("NOTES", "IDEAS", "PLANNER", "JOURNAL", "SKETCHES")[rng.integers(0, 5)],
            0.05,
            (60, 56, 56),
            bold=True,
            width=wide,
        )
        lines_of_text(canvas, rng, 0.5 - wide * 0.45, y + 0.025, 0.5 + wide * 0.45, y + 0.06, (120, 116, 112))
    if rng.random() < 0.6:
        emblem(
            canvas, rng, 0.5 + rng.uniform(-0.08, 0.08), y + (0.22 if y < 0.5 else -0.22), rng.uniform(0.09, 0.15), seen
        )
    return f"{name} cover"


def storage_tin(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a storage box or desk organiser with a label."""
    if rng.random() < 0.5:
        label(canvas, rng, (0.16, 0.34, 0.84, 0.86), palette, brand, "STORAGE")
        wash = worked(filled((palette.main, palette.third)[rng.integers(0, 2)]), "paper", rng)
        canvas.part(rectangle(0.13, 0.24, 0.87, 0.36, 0.015), wash, Form(0.012, 0.7))
        canvas.part(rectangle(0.42, 0.6, 0.58, 0.66, 0.02), mixed(palette.main, (0, 0, 0), 0.5), PANEL)
        return "lidded tin"
    cells = int(rng.integers(2, 5))
    edges = np.linspace(0.14, 0.86, cells + 1)
    name, sheet = patterned(rng, palette, plain_share=0.35)
    for cell in range(cells):
        left, right = edges[cell], edges[cell + 1]
        height = rng.uniform(0.4, 0.62)
        for _ in range(int(rng.integers(1, 5))):
            x = rng.uniform(left + 0.02, right - 0.02)
            tip = height - rng.uniform(0.1, 0.3)
            ink = FABRIC[rng.integers(0, len(FABRIC))].accent
            lean = rng.uniform(-0.04, 0.04)
            canvas.stroke(points((x, height + 0.1), (x + lean, tip)), 0.022, ink, Form(0.006, 0.7))
            canvas.part(
                points((x + lean - 0.011, tip + 0.005), (x + lean, tip - 0.035), (x + lean + 0.011, tip + 0.005)),
                (222, 190, 150),
                FLAT,
            )
        paint = worked(sheet if cell % 2 == 0 else filled((palette.second, palette.third)[cell // 2 % 2]), "paper", rng)
        canvas.part(rectangle(left + 0.004, height, right - 0.004, 0.88, 0.01), paint, PANEL)
        if rng.random() < 0.5:
            emblem(
                canvas,
                rng,
                (left + right) / 2,
                (height + 0.88) / 2,
                (right - left) * 0.3,
                inks(rng, palette, palette.main),
            )
    return f"{name} desk tray"
