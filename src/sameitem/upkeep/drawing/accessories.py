"""What is worn beside clothes: shoes, bags and wallets, watches, jewellery and accessories."""

import math

import numpy as np
from numpy.random import Generator

from sameitem.upkeep.drawing.canvas import (
    BALL,
    CLOTH,
    FLAT,
    GEM,
    METAL,
    PANEL,
    SOFT,
    Canvas,
    Form,
    Points,
    arc,
    ellipse,
    mirrored,
    mixed,
    points,
    rectangle,
    smooth,
    star,
    turned,
)
from sameitem.upkeep.drawing.marks import dial, emblem, inks, zigzag
from sameitem.upkeep.drawing.patterns import Palette, filled, patterned, worked

SOLES = ((238, 236, 230), (44, 42, 42), (196, 160, 112), (120, 82, 54))
RING = Form(0.012, 0.9)


def sneaker(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a sports shoe from the side: sole, panels, laces, a mark on the flank."""
    name, sheet = patterned(rng, palette, plain_share=0.35)
    material = ("leather", "knit", "linen")[rng.integers(0, 3)]
    sheet = worked(sheet, material, rng)
    collar, tongue = rng.uniform(0.28, 0.4), rng.uniform(0.22, 0.3)
    toe = rng.uniform(0.54, 0.6)
    upper = smooth(
        points(
            (0.08, 0.66),
            (0.07, 0.5),
            (0.09, collar),
            (0.2, collar - 0.02),
            (0.28, collar + 0.05),
            (0.4, tongue + 0.04),
            (0.55, 0.42),
            (0.75, toe - 0.06),
            (0.9, toe + 0.02),
            (0.95, 0.66),
            (0.5, 0.68),
        )
    )
    flap = smooth(points((0.29, collar + 0.04), (0.33, tongue - 0.03), (0.42, tongue), (0.5, 0.42), (0.4, 0.44)))
    canvas.part(flap, worked(filled(palette.third), "linen", rng), CLOTH)
    canvas.part(upper, sheet, SOFT)
    canvas.part(
        smooth(points((0.1, collar + 0.01), (0.2, collar - 0.01), (0.28, collar + 0.06), (0.2, collar + 0.05))),
        mixed(palette.third, (0, 0, 0), 0.35),
        FLAT,
    )
    over = worked(
        filled((palette.second, palette.third, palette.main, palette.accent)[rng.integers(0, 4)]), "leather", rng
    )
    if rng.random() < 0.75:
        canvas.part(
            smooth(points((0.72, toe - 0.05), (0.9, toe + 0.02), (0.95, 0.66), (0.7, 0.67), (0.66, 0.6))), over, PANEL
        )
    if rng.random() < 0.7:
        canvas.part(
            smooth(points((0.075, 0.44), (0.1, 0.4), (rng.uniform(0.18, 0.26), 0.52), (0.24, 0.66), (0.08, 0.66))),
            over,
            PANEL,
        )
    if rng.random() < 0.6:
        canvas.part(smooth(points((0.33, 0.4), (0.41, 0.36), (0.66, 0.5), (0.6, 0.54), (0.42, 0.5))), over, PANEL)
    mark = int(rng.integers(0, 6))
    paint = inks(rng, palette, palette.main)[0]
    if mark == 0:
        for step in range(int(rng.integers(2, 5))):
            canvas.stroke(points((0.36 + step * 0.06, 0.64), (0.42 + step * 0.06, 0.48)), 0.022, paint, PANEL)
    elif mark == 1:
        canvas.part(smooth(points((0.3, 0.54), (0.38, 0.62), (0.66, 0.5), (0.4, 0.57))), paint, PANEL)
    elif mark == 2:
        canvas.part(star(0.44, 0.56, rng.uniform(0.05, 0.08), int(rng.integers(4, 8))), paint, PANEL)
    elif mark == 3:
        canvas.text(0.45, 0.57, brand.upper(), 0.055, paint, bold=True, width=0.26)
    elif mark == 4:
        canvas.stroke(zigzag((0.28, 0.6), (0.66, 0.58), int(rng.integers(2, 5)), 0.09), 0.02, paint, PANEL)
    else:
        canvas.stroke(
            smooth(points((0.24, 0.5), (0.36, 0.62), (0.5, 0.5), (0.66, 0.62)), closed=False), 0.025, paint, PANEL
        )
    lace = inks(rng, palette, palette.main)[1]
    for step in range(int(rng.integers(4, 7))):
        x, y = 0.36 + step * 0.042, tongue + 0.1 + step * 0.036
        canvas.stroke(points((x - 0.03, y + 0.035), (x + 0.045, y - 0.02)), 0.016, lace, Form(0.005))
    sole = SOLES[rng.integers(0, 4)]
    thick, heel = rng.uniform(0.05, 0.1), rng.uniform(0.0, 0.05)
    base = points(
        (0.06, 0.65 - heel),
        (0.3, 0.66),
        (0.6, 0.66),
        (0.94, 0.64),
        (0.97, 0.68),
        (0.93, 0.66 + thick),
        (0.6, 0.67 + thick),
        (0.07, 0.67 + thick),
    )
    canvas.part(smooth(base, steps=4), worked(filled(sole), "paper", rng), PANEL)
    stripe = (palette.accent, palette.second, palette.main, sole)[rng.integers(0, 4)]
    canvas.stroke(points((0.07, 0.68), (0.5, 0.69), (0.95, 0.68)), rng.uniform(0.006, 0.02), stripe)
    tread = int(rng.integers(6, 24))
    for x in np.linspace(0.09, 0.91, tread):
        canvas.stroke(points((x, 0.66 + thick), (x + 0.01, 0.66 + thick * 0.72)), 0.008, mixed(sole, (0, 0, 0), 0.4))
    return f"{name} {material}"


def boot(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a boot from the side: shaft, laces, zip or elastic, heel and sole."""
    material = ("leather", "leather", "linen")[rng.integers(0, 3)]
    sheet = worked(worked(filled(palette.main), "folds", rng), material, rng, strength=1.6)
    top, heel_y = rng.uniform(0.05, 0.34), 0.82
    wide = rng.uniform(0.13, 0.18)
    upper = smooth(
        points(
            (0.2, 0.8),
            (0.19, 0.6),
            (0.21, top + 0.02),
            (0.21 + wide, top),
            (0.21 + 2 * wide, top + 0.02),
            (0.5, 0.5),
            (0.62, 0.57),
            (0.82, 0.62),
            (0.9, 0.72),
            (0.9, 0.8),
            (0.5, 0.82),
        )
    )
    canvas.part(upper, sheet, SOFT)
    seam = mixed(palette.main, (0, 0, 0), 0.5)
    canvas.part(ellipse(0.21 + wide, top + 0.015, wide * 0.94, 0.02), mixed(palette.main, (0, 0, 0), 0.6), FLAT)
    cap = worked(filled((palette.second, palette.third, palette.main)[rng.integers(0, 3)]), material, rng)
    if rng.random() < 0.6:
        canvas.part(smooth(points((0.74, 0.61), (0.86, 0.64), (0.9, 0.74), (0.9, 0.8), (0.7, 0.81))), cap, PANEL)
        canvas.stitches(points((0.735, 0.61), (0.69, 0.81)), palette.accent)
    if rng.random() < 0.5:
        canvas.part(smooth(points((0.19, 0.62), (0.32, 0.64), (0.34, 0.81), (0.2, 0.81))), cap, PANEL)
    kind = int(rng.integers(0, 4))
    if kind == 0:
        for y in np.linspace(top + 0.07, 0.56, max(4, int((0.6 - top) / rng.uniform(0.05, 0.08)))):
            x = 0.2 + 1.7 * wide + max(0.0, (y - 0.42)) * 0.7
            canvas.part(ellipse(x, y, 0.01, steps=12), palette.accent, BALL)
            canvas.stroke(
                points((x, y), (x + 0.09, y - 0.02)), 0.013, palette.third if rng.random() < 0.5 else seam, Form(0.004)
            )
    elif kind == 1:
        x = 0.21 + wide
        canvas.part(
            smooth(points((x - 0.07, top + 0.06), (x + 0.07, top + 0.06), (x + 0.05, 0.58), (x - 0.02, 0.6))),
            worked(filled(palette.third), "rib", rng),
            PANEL,
        )
    elif kind == 2:
        for y in np.linspace(top + 0.12, 0.6, int(rng.integers(1, 4))):
            reach = 0.21 + 2 * wide + max(0.0, y - 0.45) * 0.5
            canvas.stroke(points((0.2, y + 0.02), (reach, y)), 0.04, cap, PANEL)
            canvas.stroke(
                rectangle(0.3, y - 0.03, 0.36, y + 0.035, 0.008), 0.012, palette.accent, Form(0.004), closed=True
            )
    else:
        canvas.stroke(points((0.28, top + 0.04), (0.3, 0.76)), 0.014, palette.accent, Form(0.004))
        canvas.part(
            smooth(
                points(
                    (0.22, top + 0.02), (0.21 + 2 * wide, top + 0.02), (0.21 + 2 * wide, top + 0.09), (0.22, top + 0.1)
                )
            ),
            worked(filled(palette.third), "knit", rng),
            SOFT,
        )
    sole = SOLES[rng.integers(0, 4)]
    thick, heel = rng.uniform(0.03, 0.07), rng.uniform(0.02, 0.13)
    narrow = rng.uniform(0.0, 0.1) if heel > 0.07 else 0.0
    canvas.part(points((0.18, 0.8), (0.4, 0.8), (0.38 - narrow, heel_y + heel), (0.2, heel_y + heel)), sole, PANEL)
    canvas.part(
        smooth(
            points(
                (0.18, 0.79),
                (0.5, 0.81),
                (0.9, 0.79),
                (0.93, 0.81),
                (0.9, 0.8 + thick),
                (0.5, 0.81 + thick),
                (0.18, 0.8 + thick),
            ),
            steps=4,
        ),
        sole,
        PANEL,
    )
    canvas.stitches(points((0.2, 0.805), (0.5, 0.82), (0.9, 0.805)), palette.accent)
    if rng.random() < 0.5:
        canvas.stroke(arc(0.2, top + 0.01, 0.022, 0.04, math.pi / 2, math.pi * 1.5), 0.014, palette.third)
    return material


def heel(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a pump or a strapped sandal with a heel, from the side."""
    name, sheet = patterned(rng, palette, plain_share=0.35)
    sheet = worked(sheet, "leather", rng)
    lift = rng.uniform(0.16, 0.34)
    back, floor = 0.78 - lift, 0.8
    sole = smooth(
        points((0.1, back), (0.24, back + 0.03), (0.5, back + 0.55 * lift), (0.68, floor - 0.02), (0.94, floor - 0.03)),
        closed=False,
    )
    thin = rng.uniform(0.015, 0.1)
    slant = rng.uniform(0, 0.06)
    canvas.part(
        points((0.1, back + 0.01), (0.24, back + 0.04), (0.12 + slant + thin, floor), (0.12 + slant, floor)),
        worked(filled((palette.main, palette.accent, palette.second)[rng.integers(0, 3)]), "paper", rng),
        Form(0.01, 0.6, "x", 0.2),
    )
    canvas.stroke(sole, rng.uniform(0.03, 0.09), SOLES[rng.integers(0, 4)], PANEL)
    kind = int(rng.choice(3, p=[0.45, 0.3, 0.25]))
    toe = rng.uniform(0.9, 0.98)
    if kind < 2:
        cut = rng.uniform(0.0, 0.04)
        upper = points(
            (0.09, back + 0.02),
            (0.07, back - 0.14),
            (0.14, back - 0.15),
            (0.3, back - 0.05 + cut),
            (0.48, back + 0.33 * lift - 0.03 + cut),
            (0.6, floor - 0.2 + cut),
            (0.78, floor - 0.14),
            (toe, floor - 0.05),
            (0.7, floor - 0.01),
            (0.5, back + 0.6 * lift),
            (0.24, back + 0.06),
        )
        canvas.part(smooth(upper, steps=5), sheet, CLOTH)
        canvas.stroke(smooth(upper[2:6], closed=False), 0.012, mixed(palette.third, (0, 0, 0), 0.35))
    if kind:
        for x in np.linspace(0.6, 0.84, int(rng.integers(1, 4)) + (kind == 2)):
            canvas.stroke(
                arc(x + 0.03, floor - 0.05, 0.05, rng.uniform(0.09, 0.15), math.pi, 2 * math.pi),
                rng.uniform(0.025, 0.05),
                sheet,
                CLOTH,
            )
        ankle = back - rng.uniform(0.13, 0.2)
        canvas.stroke(points((0.1, back), (0.11, ankle)), 0.03, sheet, CLOTH)
        canvas.stroke(ellipse(0.24, ankle, 0.13, 0.03), 0.022, sheet, CLOTH, closed=True)
        canvas.stroke(
            rectangle(0.31, ankle, 0.345, ankle + 0.045, 0.006), 0.008, palette.accent, Form(0.003), closed=True
        )
    trim = int(rng.integers(0, 5))
    at = (0.76, floor - 0.13)
    if trim == 0:
        for side in (-1, 1):
            canvas.part(
                smooth(points(at, (at[0] + side * 0.08, at[1] - 0.05), (at[0] + side * 0.08, at[1] + 0.04))),
                palette.accent,
                CLOTH,
            )
    elif trim == 1:
        canvas.stroke(
            rectangle(at[0] - 0.05, at[1] - 0.03, at[0] + 0.04, at[1] + 0.03),
            0.014,
            palette.accent,
            Form(0.004),
            closed=True,
        )
    elif trim == 2:
        canvas.part(star(*at, 0.05, int(rng.integers(5, 9)), inner=0.6), palette.second, PANEL)
    elif trim == 3:
        for step in range(int(rng.integers(3, 8))):
            canvas.part(ellipse(0.64 + step * 0.04, floor - 0.12 + step * 0.012, 0.011, steps=12), palette.accent, BALL)
    return f"{name} leather"


def _handle(
    canvas: Canvas,
    rng: Generator,
    left: float,
    right: float,
    y: float,
    high: float,
    paint: Points | tuple[int, int, int],
    width: float,
) -> None:
    line = smooth(
        points(
            (left, y),
            (left + 0.02, y - high * 0.7),
            ((left + right) / 2, y - high),
            (right - 0.02, y - high * 0.7),
            (right, y),
        ),
        closed=False,
    )
    canvas.stroke(line, width, paint, Form(0.008, 0.7))  # type: ignore[arg-type]


def handbag(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a handbag with a flap or a zip, handle, hardware."""
    name, sheet = patterned(rng, palette, plain_share=0.5)
    sheet = worked(worked(sheet, "leather", rng), "folds", rng, strength=0.6)
    lower, upper = rng.uniform(0.3, 0.42), rng.uniform(0.22, 0.36)
    top, bottom = rng.uniform(0.36, 0.48), rng.uniform(0.82, 0.92)
    strap = (palette.second, palette.main, palette.third)[rng.integers(0, 3)]
    if rng.random() < 0.5:
        _handle(
            canvas,
            rng,
            0.5 - upper * 0.6,
            0.5 + upper * 0.6,
            top + 0.02,
            rng.uniform(0.16, 0.3),
            strap,
            rng.uniform(0.02, 0.04),
        )
    else:
        _handle(canvas, rng, 0.5 - upper, 0.5 + upper, top + 0.04, rng.uniform(0.26, 0.34), strap, 0.018)
    body = mirrored(
        smooth(
            points(
                (0.5, top),
                (0.5 + upper, top + 0.01),
                (0.5 + lower, (top + bottom) / 2 + 0.08),
                (0.5 + lower - rng.uniform(0.0, 0.06), bottom),
                (0.5, bottom),
            ),
            closed=False,
            steps=6,
        )
    )
    canvas.part(body, sheet, SOFT)
    front = worked(filled(palette.second if rng.random() < 0.35 else palette.main), "leather", rng)
    kind = int(rng.integers(0, 4))
    deep = top + (bottom - top) * rng.uniform(0.35, 0.65)
    if kind < 2:
        flap = mirrored(
            smooth(
                points(
                    (0.5, top - 0.01),
                    (0.5 + upper, top),
                    (0.5 + upper * 1.05, (top + deep) / 2),
                    (0.5 + upper * rng.uniform(0.3, 1.0), deep - 0.02),
                    (0.5, deep),
                ),
                closed=False,
                steps=6,
            )
        )
        canvas.part(flap, front if rng.random() < 0.5 else sheet, CLOTH)
        canvas.stitches(flap[6:-6] * 0.96 + np.array([0.5, top]) * 0.04, palette.accent)
    elif kind == 2:
        canvas.stroke(
            points((0.5 - upper + 0.02, top + 0.05), (0.5 + upper - 0.02, top + 0.05)),
            0.014,
            palette.accent,
            Form(0.004),
        )
        canvas.part(rectangle(0.5 - lower * 0.7, deep, 0.5 + lower * 0.7, bottom - 0.05, 0.03), front, CLOTH)
    else:
        for side in (-1, 1):
            x = 0.5 + side * upper * 0.55
            canvas.part(rectangle(x - 0.025, top, x + 0.025, bottom - 0.01), front, PANEL)
        deep = (top + bottom) / 2
    _clasp(canvas, rng, palette, brand, top=top, deep=deep, tag_x=0.5 - upper * 0.6)
    return f"{name} leather"


def _clasp(
    canvas: Canvas, rng: Generator, palette: Palette, brand: str, *, top: float, deep: float, tag_x: float
) -> None:
    """Close a bag with a plate, a ring, a star, lettering or a hanging tassel."""
    clasp = int(rng.integers(0, 5))
    size = rng.uniform(0.025, 0.05)
    if clasp == 0:
        canvas.part(rectangle(0.5 - size, deep - 0.04, 0.5 + size, deep + 0.01, 0.008), palette.accent, METAL)
    elif clasp == 1:
        canvas.stroke(ellipse(0.5, deep - 0.03, size), 0.014, palette.accent, Form(0.005), closed=True)
    elif clasp == 2:
        canvas.part(star(0.5, deep - 0.03, size * 1.4, int(rng.integers(4, 8))), palette.accent, METAL)
    elif clasp == 3:
        canvas.text(0.5, deep - 0.04, brand, 0.04, palette.accent, bold=True, width=0.3)
    else:
        canvas.stroke(points((tag_x, top), (tag_x, top + 0.1)), 0.01, palette.accent)
        canvas.part(
            [
                star(tag_x, top + 0.16, 0.06, 12, inner=0.6),
                rectangle(tag_x - 0.03, top + 0.14, tag_x + 0.03, top + 0.27),
            ],
            palette.third,
            CLOTH,
        )


def tote(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw an open shopping bag with two long handles and a print."""
    printed = rng.random() < 0.55
    name, sheet = patterned(rng, palette, plain_share=1.0 if printed else 0.05)
    sheet = worked(worked(sheet, "linen", rng), "folds", rng)
    wide, top, bottom = rng.uniform(0.26, 0.36), rng.uniform(0.36, 0.46), rng.uniform(0.84, 0.96)
    flare = rng.uniform(-0.03, 0.05)
    strap = worked(filled((palette.second, palette.main, palette.third)[rng.integers(0, 3)]), "linen", rng)
    gap, width = rng.uniform(0.35, 0.6), rng.uniform(0.025, 0.045)
    line = smooth(
        points(
            (0.5 - wide * gap, top + 0.02),
            (0.5 - wide * gap + 0.02, 0.14),
            (0.5, 0.06),
            (0.5 + wide * gap - 0.02, 0.14),
            (0.5 + wide * gap, top + 0.02),
        ),
        closed=False,
    )
    canvas.stroke(line - (0, 0.02), width, mixed(palette.main, (0, 0, 0), 0.4), PANEL)
    canvas.part(
        points((0.5 - wide - flare, top), (0.5 + wide + flare, top), (0.5 + wide, bottom), (0.5 - wide, bottom)),
        sheet,
        SOFT,
    )
    base = int(rng.integers(0, 3))
    other = worked(filled(palette.third), ("leather", "linen")[rng.integers(0, 2)], rng)
    if base == 0:
        canvas.part(
            points(
                (0.5 - wide, bottom - rng.uniform(0.08, 0.2)),
                (0.5 + wide, bottom - rng.uniform(0.08, 0.2)),
                (0.5 + wide, bottom),
                (0.5 - wide, bottom),
            ),
            other,
            PANEL,
        )
    elif base == 1:
        canvas.part(rectangle(0.5 - wide - flare, top, 0.5 + wide + flare, top + rng.uniform(0.03, 0.09)), other, PANEL)
    canvas.stroke(line, width, strap, PANEL)
    for side in (-1, 1):
        x = 0.5 + side * wide * gap
        canvas.part(rectangle(x - width / 2, top, x + width / 2, top + rng.uniform(0.07, 0.15)), strap, PANEL)
    if printed:
        emblem(canvas, rng, 0.5, (top + bottom) / 2 + 0.03, rng.uniform(0.12, 0.18), inks(rng, palette, palette.main))
    return f"{'printed' if printed else name} canvas"


def backpack(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a backpack from the front: pockets, zips, straps, label."""
    name, sheet = patterned(rng, palette, plain_share=0.55)
    sheet = worked(worked(sheet, "linen", rng), "folds", rng)
    wide, top, bottom = rng.uniform(0.25, 0.32), 0.14, rng.uniform(0.86, 0.95)
    second = worked(
        filled((palette.second, palette.third, palette.main)[rng.integers(0, 3)]),
        ("leather", "linen")[rng.integers(0, 2)],
        rng,
    )
    canvas.stroke(
        smooth(points((0.42, top + 0.02), (0.44, 0.06), (0.56, 0.06), (0.58, top + 0.02)), closed=False),
        0.03,
        second,
        PANEL,
    )
    for side in (-1, 1):
        canvas.stroke(
            smooth(
                points(
                    (0.5 + side * wide * 0.8, top + 0.08),
                    (0.5 + side * (wide + 0.06), 0.4),
                    (0.5 + side * (wide + 0.05), 0.7),
                    (0.5 + side * wide * 0.9, bottom - 0.04),
                ),
                closed=False,
            ),
            0.05,
            second,
            CLOTH,
        )
    canvas.part(rectangle(0.5 - wide, top, 0.5 + wide, bottom, rng.uniform(0.08, 0.22)), sheet, SOFT)
    lid = int(rng.integers(0, 3))
    zip_paint = palette.accent if rng.random() < 0.5 else (40, 40, 42)
    if lid == 0:
        canvas.part(
            smooth(
                points(
                    (0.5 - wide, top + 0.1),
                    (0.5 - wide * 0.7, top - 0.01),
                    (0.5 + wide * 0.7, top - 0.01),
                    (0.5 + wide, top + 0.1),
                    (0.5 + wide * 0.96, 0.42),
                    (0.5 - wide * 0.96, 0.42),
                ),
                steps=5,
            ),
            second,
            CLOTH,
        )
        for x in (0.5 - wide * 0.5, 0.5 + wide * 0.5):
            canvas.part(rectangle(x - 0.018, 0.36, x + 0.018, rng.uniform(0.54, 0.6)), second, PANEL)
            canvas.part(rectangle(x - 0.028, 0.46, x + 0.028, 0.49), palette.accent, METAL)
    else:
        canvas.stroke(arc(0.5, 0.42, wide * 0.86, 0.22, math.pi, 2 * math.pi), 0.012, zip_paint, Form(0.004))
    pocket_top = rng.uniform(0.5, 0.64)
    inset = rng.uniform(0.03, 0.08)
    canvas.part(
        rectangle(0.5 - wide + inset, pocket_top, 0.5 + wide - inset, bottom - 0.03, rng.uniform(0.02, 0.08)),
        second if lid and rng.random() < 0.6 else sheet,
        CLOTH,
    )
    canvas.stroke(
        points((0.5 - wide + inset + 0.03, pocket_top + 0.05), (0.5 + wide - inset - 0.03, pocket_top + 0.05)),
        0.012,
        zip_paint,
        Form(0.004),
    )
    mark = int(rng.integers(0, 4))
    ground = palette.main
    if mark == 0:
        canvas.part(rectangle(0.42, 0.34, 0.58, 0.42, 0.008), palette.third, PANEL)
        canvas.text(0.5, 0.38, brand, 0.035, inks(rng, palette, palette.third)[0], bold=True, width=0.14)
    elif mark == 1:
        emblem(canvas, rng, 0.5, 0.34, 0.08, inks(rng, palette, ground))
    elif mark == 2:
        canvas.part(turned(rectangle(0.46, 0.3, 0.54, 0.38), math.pi / 4, 0.5, 0.34), palette.third, PANEL)
        canvas.stroke(points((0.48, 0.34), (0.52, 0.34)), 0.012, (30, 30, 30))
    else:
        emblem(canvas, rng, 0.5, (pocket_top + bottom) / 2 + 0.03, 0.07, inks(rng, palette, ground))
    return f"{name} canvas"


def wallet(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a wallet or purse: closed, with stitching, clasp or zip."""
    name, sheet = patterned(rng, palette, plain_share=0.4)
    sheet = worked(sheet, "leather", rng, strength=1.5)
    wide, tall = rng.uniform(0.32, 0.44), rng.uniform(0.2, 0.32)
    box = (0.5 - wide, 0.5 - tall, 0.5 + wide, 0.5 + tall)
    canvas.part(
        rectangle(box[0] + 0.012, box[1] + 0.016, box[2] + 0.012, box[3] + 0.016, 0.03),
        mixed(palette.main, (0, 0, 0), 0.5),
        PANEL,
    )
    canvas.part(rectangle(*box, rng.uniform(0.01, 0.06)), sheet, CLOTH)
    canvas.stitches(
        np.concatenate([rectangle(box[0] + 0.02, box[1] + 0.02, box[2] - 0.02, box[3] - 0.02, 0.02)] * 1),
        palette.accent,
    )
    other = worked(filled((palette.second, palette.third)[rng.integers(0, 2)]), "leather", rng)
    kind = int(rng.integers(0, 5))
    if kind == 0:
        edge = 0.5 + rng.uniform(-0.02, 0.1)
        canvas.part(
            mirrored(
                smooth(
                    points(
                        (0.5, box[1] - 0.005),
                        (box[2], box[1] - 0.005),
                        (box[2], edge - 0.08),
                        (0.5 + wide * 0.4, edge),
                        (0.5, edge),
                    ),
                    closed=False,
                    steps=5,
                )
            ),
            other,
            CLOTH,
        )
        canvas.part(ellipse(0.5, edge - 0.04, 0.024), palette.accent, BALL)
    elif kind == 1:
        canvas.part(rectangle(box[2] - 0.18, 0.45, box[2] + 0.01, 0.55, 0.03), other, CLOTH)
        canvas.part(ellipse(box[2] - 0.12, 0.5, 0.02), palette.accent, BALL)
    elif kind == 2:
        canvas.stroke(
            points((box[0] + 0.01, box[1] + 0.03), (box[2] - 0.01, box[1] + 0.03)), 0.022, palette.accent, Form(0.006)
        )
        canvas.part(
            points(
                (box[2] - 0.06, box[1] + 0.03),
                (box[2] - 0.02, box[1] + 0.03),
                (box[2] - 0.03, box[1] + 0.16),
                (box[2] - 0.055, box[1] + 0.16),
            ),
            other,
            PANEL,
        )
    elif kind == 3:
        x = 0.5 + rng.uniform(-0.6, 0.4) * wide
        canvas.part(rectangle(x, box[1], x + rng.uniform(0.06, 0.2), box[3]), other, PANEL)
    else:
        canvas.part([rectangle(0.5 - 0.03, box[1] - 0.05, 0.5 + 0.03, box[1] + 0.02)], palette.accent, METAL)
    mark = int(rng.integers(0, 4))
    x, y = 0.5 + rng.uniform(-0.5, 0.2) * wide, 0.5 + rng.uniform(0.1, 0.5) * tall
    seen = inks(rng, palette, palette.main)
    if mark == 0:
        canvas.text(x, y, brand, rng.uniform(0.035, 0.06), seen[0], bold=True, width=0.4)
    elif mark == 1:
        emblem(canvas, rng, x, y, rng.uniform(0.06, 0.11), seen)
    elif mark == 2:
        canvas.stroke(ellipse(x, y, 0.06, 0.045), 0.008, palette.accent, Form(0.003), closed=True)
        canvas.text(x, y, brand[:1], 0.05, palette.accent, bold=True)
    return f"{name} leather"


def _strap(canvas: Canvas, rng: Generator, palette: Palette, top: float, bottom: float, wide: float) -> str:
    """Lay the upper and lower band of a watch, made of links, leather or mesh."""
    kind = int(rng.integers(0, 4))
    taper = rng.uniform(0.75, 1.0)
    for start, end in ((top, 0.02), (bottom, 0.98)):
        band = points((0.5 - wide, start), (0.5 - wide * taper, end), (0.5 + wide * taper, end), (0.5 + wide, start))
        if kind == 0:
            canvas.part(band, palette.main, METAL)
            rows = int(rng.integers(7, 14)) if start == top else 10
            for y in np.linspace(start, end, rows):
                canvas.stroke(points((0.5 - wide, y), (0.5 + wide, y)), 0.006, mixed(palette.main, (0, 0, 0), 0.55))
            for x in (-0.4, 0.4):
                canvas.stroke(
                    points((0.5 + x * wide, start), (0.5 + x * wide * taper, end)),
                    0.006,
                    mixed(palette.main, (0, 0, 0), 0.5),
                )
            canvas.part(
                points(
                    (0.5 - 0.4 * wide, start),
                    (0.5 - 0.4 * wide * taper, end),
                    (0.5 + 0.4 * wide * taper, end),
                    (0.5 + 0.4 * wide, start),
                ),
                palette.third,
                METAL,
                alpha=0.45,
            )
        elif kind == 3:
            canvas.part(band, worked(filled(palette.second), "wicker", rng), Form(0.012, 0.6))
        else:
            paint = ((96, 60, 40), (34, 32, 34), palette.accent, (178, 130, 84))[(kind * 2 + len(palette.name)) % 4]
            _, sheet = patterned(
                rng,
                Palette("", paint, mixed(paint, (250, 250, 250), 0.7), palette.third, palette.accent),
                plain_share=0.6,
            )
            canvas.part(band, worked(sheet, "leather" if kind == 1 else "linen", rng), CLOTH)
            for x in (-0.8, 0.8):
                canvas.stitches(points((0.5 + x * wide, start), (0.5 + x * wide * taper, end)), palette.third)
            if end > 0.5:
                for y in np.linspace(0.82, 0.95, 4):
                    canvas.part(ellipse(0.5, y, 0.011, steps=12), (24, 22, 22), FLAT)
    return ("steel", "leather", "fabric", "mesh")[kind]


def round_watch(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a wristwatch with a round case."""
    r = rng.uniform(0.22, 0.3)
    words = _strap(canvas, rng, palette, 0.5 - r * 0.85, 0.5 + r * 0.85, r * rng.uniform(0.4, 0.62))
    for side in (-1, 1):
        canvas.part(
            [
                rectangle(
                    0.5 + side * r * 0.62 - 0.025, 0.5 - r * 1.12, 0.5 + side * r * 0.62 + 0.025, 0.5 + r * 1.12, 0.01
                )
            ],
            palette.main,
            METAL,
        )
    for angle in ((0.0,), (0.0, 0.5, -0.5))[rng.integers(0, 2)]:
        canvas.part(
            turned(rectangle(0.5 + r, 0.5 - 0.022, 0.5 + r + 0.045, 0.5 + 0.022, 0.006), angle, 0.5, 0.5),
            palette.second,
            METAL,
        )
    canvas.part(ellipse(0.5, 0.5, r), palette.main, Form(0.02, 1.0, "flat"))
    bezel = int(rng.integers(0, 3))
    if bezel == 1:
        canvas.part(
            ellipse(0.5, 0.5, r * 0.96), (palette.second, palette.accent, (30, 30, 34))[rng.integers(0, 3)], RING
        )
        for hour in range(12):
            turn = math.pi * hour / 6
            canvas.part(
                ellipse(0.5 + 0.88 * r * math.sin(turn), 0.5 - 0.88 * r * math.cos(turn), 0.04 * r, steps=12),
                palette.third,
                FLAT,
            )
    elif bezel == 2:
        notches = int(rng.integers(24, 60))
        canvas.part(star(0.5, 0.5, r * 1.03, notches, inner=0.95), palette.second, RING)
    dial(canvas, rng, 0.5, 0.5, r * rng.uniform(0.76, 0.88), palette, brand)
    canvas.part(
        turned(ellipse(0.5 - 0.3 * r, 0.5 - 0.35 * r, 0.5 * r, 0.12 * r), -0.7, 0.5 - 0.3 * r, 0.5 - 0.35 * r),
        (255, 255, 255),
        FLAT,
        alpha=0.12,
    )
    return words


def square_watch(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a square watch: digital display, or a dial with hands."""
    wide, tall = rng.uniform(0.2, 0.27), rng.uniform(0.2, 0.29)
    words = _strap(canvas, rng, palette, 0.5 - tall * 0.9, 0.5 + tall * 0.9, wide * rng.uniform(0.6, 0.9))
    canvas.part(
        rectangle(0.5 - wide, 0.5 - tall, 0.5 + wide, 0.5 + tall, rng.uniform(0.02, 0.1)), palette.main, Form(0.02, 0.9)
    )
    for y in ((0.45, 0.55), (0.5,), ())[rng.integers(0, 3)]:
        canvas.part(rectangle(0.5 + wide, y - 0.02, 0.5 + wide + 0.03, y + 0.02, 0.006), palette.second, METAL)
    inner = (0.5 - wide * 0.84, 0.5 - tall * 0.84, 0.5 + wide * 0.84, 0.5 + tall * 0.84)
    if rng.random() < 0.6:
        canvas.part(rectangle(*inner, 0.03), (26, 28, 32), PANEL)
        glow = ((120, 230, 180), (240, 240, 240), (250, 170, 80), (110, 180, 250))[rng.integers(0, 4)]
        y = rng.uniform(0.42, 0.56)
        canvas.text(
            0.5,
            y,
            f"{rng.integers(0, 24):02d}:{rng.integers(0, 60):02d}",
            rng.uniform(0.1, 0.14),
            glow,
            bold=True,
            width=wide * 1.5,
        )
        for step in range(int(rng.integers(1, 4))):
            turn = rng.uniform(1, 6)
            canvas.stroke(
                arc(0.5 - wide * 0.5 + step * wide * 0.5, 0.66, 0.03, 0.03, 0, turn),
                0.012,
                ((230, 80, 110), (120, 220, 90), (90, 200, 240))[step],
            )
        canvas.text(0.5, 0.5 - tall * 0.62, brand, 0.03, (200, 200, 200), width=wide)
        for x in np.linspace(inner[0] + 0.03, inner[2] - 0.03, int(rng.integers(0, 9))):
            canvas.stroke(points((x, 0.5 + tall * 0.3), (x, 0.5 + tall * 0.3 - rng.uniform(0.01, 0.06))), 0.014, glow)
    else:
        canvas.part(rectangle(*inner, 0.01), palette.third, PANEL)
        dial(canvas, rng, 0.5, 0.5, min(wide, tall) * 0.8, palette, brand)
    return words


_STONES = (
    (176, 28, 52),
    (32, 80, 168),
    (28, 128, 88),
    (222, 234, 240),
    (136, 76, 168),
    (232, 170, 60),
    (60, 168, 178),
    (40, 40, 44),
)


def _stone(canvas: Canvas, rng: Generator, x: float, y: float, r: float, paint: tuple[int, int, int], cut: int) -> None:
    sides = (40, 4, 6, 8, 40)[cut]
    tall = r * (1.45 if cut == 4 else 1.0)
    outline = ellipse(x, y, r, tall, steps=sides)
    canvas.part(outline, mixed(paint, (0, 0, 0), 0.25), GEM)
    inner = (outline - (x, y)) * 0.55 + (x, y)
    canvas.part(inner, mixed(paint, (255, 255, 255), 0.3), FLAT, alpha=0.7)
    for a, b in list(zip(outline, inner, strict=True))[:: max(1, sides // 8)]:
        canvas.stroke(np.stack([a, b]), 0.004, (255, 255, 255), alpha=0.5)


def ring(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a finger ring, standing, with a stone or several."""
    r, band = rng.uniform(0.24, 0.3), rng.uniform(0.03, 0.08)
    y = 0.62
    canvas.stroke(
        ellipse(0.5, y, r, r * rng.uniform(0.92, 1.0), steps=80),
        band,
        worked(filled(palette.main), "metal", rng),
        RING,
        closed=True,
    )
    if rng.random() < 0.4:
        canvas.stroke(ellipse(0.5, y, r, steps=80), band * 0.3, palette.third, RING, closed=True)
    paint = _STONES[rng.integers(0, len(_STONES))]
    cut = int(rng.integers(0, 5))
    big = rng.uniform(0.06, 0.13)
    top = y - r - band / 3
    halo = int(rng.integers(0, 3))
    if halo == 0:
        count = int(rng.integers(8, 16))
        for turn in np.linspace(0, 2 * math.pi, count, endpoint=False):
            canvas.part(
                ellipse(0.5 + (big + 0.022) * math.cos(turn), top + (big + 0.022) * math.sin(turn), 0.02, steps=14),
                (232, 238, 242),
                GEM,
            )
    elif halo == 1:
        for side in (-1, 1):
            for step in range(1, int(rng.integers(2, 6))):
                turn = -math.pi / 2 + side * (0.28 + 0.2 * step)
                _stone(
                    canvas,
                    rng,
                    0.5 + r * math.cos(turn),
                    y + r * math.sin(turn),
                    band * 0.45,
                    paint if step % 2 else (232, 238, 242),
                    0,
                )
    for side in (-1, 1):
        canvas.part(
            points(
                (0.5 + side * big * 1.1, top - big * 0.3),
                (0.5 + side * big * 0.8, top + big * 0.9),
                (0.5 + side * 0.02, top + big * 1.2),
            ),
            palette.second,
            METAL,
        )
    kind = int(rng.integers(0, 4))
    if kind == 3:
        for petal in range(int(rng.integers(4, 8))):
            turn = 2 * math.pi * petal / 6
            _stone(canvas, rng, 0.5 + big * math.cos(turn), top + big * math.sin(turn), big * 0.5, paint, cut)
    _stone(canvas, rng, 0.5, top, big if kind else big * 0.8, paint, cut)
    return f"{palette.name} with stone"


def necklace(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a necklace: chain or beads with a pendant."""
    deep, wide = rng.uniform(0.6, 0.76), rng.uniform(0.24, 0.36)
    line = smooth(
        points(
            (0.5 - wide * 0.7, 0.06),
            (0.5 - wide, 0.24),
            (0.5 - wide * 0.6, deep * 0.78),
            (0.5, deep),
            (0.5 + wide * 0.6, deep * 0.78),
            (0.5 + wide, 0.24),
            (0.5 + wide * 0.7, 0.06),
        ),
        closed=False,
        steps=16,
    )
    beads = rng.random() < 0.5
    first, second = _STONES[rng.integers(0, len(_STONES))], _STONES[rng.integers(0, len(_STONES))]
    walked = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
    size = rng.uniform(0.013, 0.032) if beads else 0.009
    places = np.arange(0, walked[-1], size * (2.0 if beads else 1.7))
    every = int(rng.integers(2, 7))
    xs, ys = np.interp(places, walked, line[:, 0]), np.interp(places, walked, line[:, 1])
    for step, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if beads:
            swell = size * (1.35 - 0.7 * abs(step / len(places) - 0.5)) if every > 4 else size
            canvas.part(ellipse(x, y, swell, steps=16), second if step % every == 0 else first, BALL)
        else:
            canvas.stroke(ellipse(x, y, size, size * 0.7, steps=12), 0.006, palette.main, Form(0.003), closed=True)
    size = rng.uniform(0.06, 0.12)
    y = deep + size * 0.8
    kind = int(rng.integers(0, 6))
    canvas.stroke(ellipse(0.5, deep + 0.012, 0.018, steps=16), 0.008, palette.main, Form(0.003), closed=True)
    if kind == 0:
        canvas.part(ellipse(0.5, y, size), palette.main, RING)
        emblem(canvas, rng, 0.5, y, size * 0.6, [palette.second, palette.third, first, palette.accent])
    elif kind == 1:
        canvas.part(star(0.5, y, size * 1.1, int(rng.integers(4, 9)), inner=rng.uniform(0.4, 0.7)), palette.main, RING)
        _stone(canvas, rng, 0.5, y, size * 0.35, first, 0)
    elif kind == 2:
        _stone(canvas, rng, 0.5, y, size * 0.8, first, int(rng.integers(0, 5)))
    elif kind == 3:
        canvas.stroke(ellipse(0.5, y, size), 0.018, palette.main, RING, closed=True)
        for x in np.linspace(-0.6, 0.6, int(rng.integers(2, 6))):
            canvas.stroke(
                points((0.5 + x * size, y + size * 0.8), (0.5 + x * size, y + size * 1.7)), 0.006, palette.main
            )
            canvas.part(ellipse(0.5 + x * size, y + size * 1.8, 0.016, 0.024, steps=14), second, GEM)
    elif kind == 4:
        canvas.part(
            smooth(
                points(
                    (0.5, y + size * 1.3),
                    (0.5 - size, y - size * 0.1),
                    (0.5 - size * 0.5, y - size * 0.8),
                    (0.5, y - size * 0.4),
                    (0.5 + size * 0.5, y - size * 0.8),
                    (0.5 + size, y - size * 0.1),
                )
            ),
            palette.main,
            RING,
        )
        _stone(canvas, rng, 0.5, y, size * 0.3, second, 1)
    else:
        canvas.part(lathe_leaf(0.5, y, size), palette.main, RING)
        canvas.stroke(points((0.5, y - size), (0.5, y + size * 1.4)), 0.007, palette.second)
        for rib in np.linspace(-0.5, 1.0, 5):
            canvas.stroke(
                points(
                    (0.5 - size * 0.45, y + size * rib),
                    (0.5, y + size * (rib + 0.3)),
                    (0.5 + size * 0.45, y + size * rib),
                ),
                0.005,
                palette.second,
            )
    return f"{palette.name} {'beads' if beads else 'chain'}"


def lathe_leaf(x: float, y: float, size: float) -> Points:
    """Return a pointed leaf hanging down."""
    return smooth(
        points((x, y - size), (x + size * 0.6, y + size * 0.2), (x, y + size * 1.5), (x - size * 0.6, y + size * 0.2))
    )


def earrings(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a pair of earrings: hoops, drops, tassels or geometric figures."""
    first, second = _STONES[rng.integers(0, len(_STONES))], _STONES[rng.integers(0, len(_STONES))]
    kind, cut = int(rng.integers(0, 5)), int(rng.integers(0, 5))
    size, drop, tips = rng.uniform(0.09, 0.15), rng.uniform(0.05, 0.2), int(rng.integers(3, 9))
    inner, count, thick = rng.uniform(0.4, 0.9), int(rng.integers(3, 8)), rng.uniform(0.012, 0.035)
    for x in (0.28, 0.72):
        canvas.stroke(arc(x, 0.14, 0.03, 0.06, math.pi * 0.6, math.pi * 2.2), 0.01, palette.main, Form(0.003))
        y = 0.2
        if rng.random() < 2:
            _stone(canvas, rng, x, y, size * 0.3, second, cut)
        canvas.stroke(points((x, y + size * 0.3), (x, y + drop + 0.03)), 0.008, palette.main)
        y += drop + size + 0.02
        if kind == 0:
            canvas.stroke(ellipse(x, y, size, size * 1.15, steps=60), thick, palette.main, RING, closed=True)
            for step in np.linspace(0.3, math.pi - 0.3, count):
                canvas.part(
                    ellipse(x + size * math.cos(step), y + 1.15 * size * math.sin(step), 0.02, steps=14), first, GEM
                )
        elif kind == 1:
            canvas.part(star(x, y, size, tips, inner=inner), palette.main, RING)
            _stone(canvas, rng, x, y, size * 0.4, first, cut)
        elif kind == 2:
            _stone(canvas, rng, x, y, size * 0.85, first, cut)
            canvas.stroke(
                ellipse(x, y, size, size * 1.35 if cut == 4 else size), thick, palette.main, RING, closed=True
            )
        elif kind == 3:
            canvas.part(ellipse(x, y - size * 0.7, size * 0.35, size * 0.3), palette.main, BALL)
            for strand in np.linspace(-0.4, 0.4, 12):
                canvas.stroke(
                    points(
                        (x + strand * size * 0.6, y - size * 0.5),
                        (x + strand * size * 1.5, y + size * (0.6 + inner * 1.5)),
                    ),
                    0.012,
                    mixed(first, second if int(strand * 20) % 2 else first, 0.6),
                    Form(0.004),
                )
        else:
            for step in range(count):
                canvas.part(
                    ellipse(x, y - size + step * size * 0.42, size * (0.2 + 0.09 * (step % tips)), size * 0.2),
                    (palette.main, first, second)[step % 3],
                    GEM,
                )
    return f"{palette.name} with stones"


def sunglasses(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw sunglasses from the front."""
    wide, tall = rng.uniform(0.16, 0.2), rng.uniform(0.11, 0.18)
    gap = rng.uniform(0.03, 0.05)
    shape = int(rng.integers(0, 4))
    _, sheet = patterned(rng, palette, plain_share=0.65)
    lens = ((40, 44, 50), (92, 66, 48), (50, 78, 104), (72, 96, 72), (150, 90, 110), (190, 130, 60))[rng.integers(0, 6)]
    rim = rng.uniform(0.012, 0.05)
    for side in (-1, 1):
        x = 0.5 + side * (wide + gap)
        if shape == 0:
            outline = ellipse(x, 0.5, wide, min(tall * 1.3, wide))
        elif shape == 1:
            outline = rectangle(x - wide, 0.5 - tall, x + wide, 0.5 + tall, rng.uniform(0.03, 0.05))
        elif shape == 2:
            outline = smooth(
                points(
                    (x - side * wide, 0.5 - tall * 0.6),
                    (x, 0.5 - tall * 0.9),
                    (x + side * wide * 1.15, 0.5 - tall * 1.3),
                    (x + side * wide * 0.85, 0.5 + tall * 0.5),
                    (x, 0.5 + tall),
                    (x - side * wide * 0.8, 0.5 + tall * 0.6),
                )
            )
        else:
            outline = smooth(
                points(
                    (x - side * wide, 0.5 - tall * 0.8),
                    (x + side * wide, 0.5 - tall * 0.9),
                    (x + side * wide, 0.5 + tall * 0.1),
                    (x + side * 0.2 * wide, 0.5 + tall * 1.15),
                    (x - side * wide * 0.7, 0.5 + tall * 0.5),
                )
            )
        canvas.stroke(
            points(
                (x + side * wide, 0.5 - tall * 0.6),
                (x + side * (wide + 0.05), 0.5 - tall * 0.75),
                (x + side * (wide + 0.06), 0.5 - tall * 0.2),
            ),
            0.028,
            sheet,
            PANEL,
        )
        canvas.part(outline, lens, Form(0.0, 0.6, "y", 0.12), alpha=0.93)
        canvas.part(
            (outline - (x, 0.5)) * (0.35, 0.12) + (x - 0.3 * wide, 0.5 - 0.5 * tall), (255, 255, 255), FLAT, alpha=0.25
        )
        canvas.stroke(outline, rim, sheet, RING, closed=True)
        if rng.random() < 0.5:
            canvas.part(ellipse(x + side * wide * 0.95, 0.5 - tall * 0.7, 0.014, steps=12), palette.accent, BALL)
    canvas.stroke(
        smooth(points((0.5 - gap - 0.01, 0.49), (0.5, 0.455), (0.5 + gap + 0.01, 0.49)), closed=False),
        max(rim, 0.018),
        sheet,
        RING,
    )
    if shape == 3:
        canvas.stroke(points((0.5 - wide, 0.5 - tall * 0.9), (0.5 + wide, 0.5 - tall * 0.9)), 0.014, palette.main, RING)
    return "acetate"


def hat(canvas: Canvas, rng: Generator, palette: Palette, brand: str) -> str:
    """Draw a cap, a knitted hat or a brimmed hat."""
    kind = int(rng.integers(0, 3))
    name, sheet = patterned(rng, palette, plain_share=0.5)
    other = filled((palette.second, palette.third, palette.accent)[rng.integers(0, 3)])
    seen = inks(rng, palette, palette.main)
    if kind == 0:
        sheet = worked(sheet, "linen", rng)
        canvas.part(
            smooth(
                points((0.16, 0.6), (0.18, 0.38), (0.4, 0.2), (0.62, 0.26), (0.74, 0.44), (0.74, 0.6), (0.45, 0.64))
            ),
            sheet,
            SOFT,
        )
        canvas.part(
            smooth(points((0.42, 0.58), (0.74, 0.54), (0.95, 0.66), (0.9, 0.72), (0.6, 0.66), (0.44, 0.66))),
            worked(other, "linen", rng) if rng.random() < 0.5 else sheet,
            CLOTH,
        )
        canvas.stroke(smooth(points((0.44, 0.2), (0.5, 0.4), (0.5, 0.62)), closed=False), 0.006, (0, 0, 0), alpha=0.35)
        canvas.stroke(
            smooth(points((0.44, 0.2), (0.28, 0.36), (0.26, 0.62)), closed=False), 0.006, (0, 0, 0), alpha=0.35
        )
        canvas.part(ellipse(0.44, 0.205, 0.025, 0.016), palette.second, BALL)
        emblem(canvas, rng, 0.6, 0.44, rng.uniform(0.06, 0.1), seen)
    elif kind == 1:
        sheet = worked(sheet, "knit", rng)
        canvas.part(smooth(points((0.2, 0.76), (0.22, 0.42), (0.5, 0.2), (0.78, 0.42), (0.8, 0.76))), sheet, SOFT)
        canvas.part(
            rectangle(0.18, rng.uniform(0.58, 0.66), 0.82, 0.82, 0.03),
            worked(other if rng.random() < 0.5 else filled(palette.main), "rib", rng),
            SOFT,
        )
        if rng.random() < 0.6:
            canvas.part(star(0.5, 0.17, rng.uniform(0.09, 0.13), 24, inner=0.8), worked(other, "paper", rng), BALL)
        if rng.random() < 0.5:
            canvas.part(rectangle(0.44, 0.68, 0.56, 0.75), seen[0], PANEL)
            canvas.text(0.5, 0.715, brand, 0.03, palette.main, bold=True, width=0.11)
    else:
        weave = ("wicker", "linen")[rng.integers(0, 2)]
        brim, crown, high = rng.uniform(0.38, 0.47), rng.uniform(0.2, 0.27), rng.uniform(0.24, 0.36)
        cloth = worked(sheet, weave, rng)
        canvas.part(ellipse(0.5, 0.68, brim, rng.uniform(0.09, 0.16)), cloth, CLOTH)
        canvas.part(
            mirrored(
                smooth(
                    points(
                        (0.5, 0.7 - high + 0.03),
                        (0.5 + crown * 0.55, 0.68 - high),
                        (0.5 + crown * 0.95, 0.72 - high),
                        (0.5 + crown, 0.68),
                    ),
                    closed=False,
                )
            ),
            cloth,
            SOFT,
        )
        band = rng.uniform(0.05, 0.1)
        canvas.part(
            np.concatenate(
                [arc(0.5, 0.68, crown * 1.01, 0.03, 0, math.pi), arc(0.5, 0.68 - band, crown * 0.99, 0.03, math.pi, 0)]
            ),
            worked(other, "linen", rng),
            PANEL,
        )
        if rng.random() < 0.5:
            for side in (-1, 1):
                canvas.part(
                    smooth(points((0.62, 0.66), (0.62 + side * 0.07, 0.61), (0.62 + side * 0.07, 0.7))),
                    palette.accent,
                    CLOTH,
                )
        name = f"{name} {weave}"
    return name
