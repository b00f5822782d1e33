import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance

from sameitem.catalog.same_picture import difference, reduce_picture

SAME = 8.0  # selection.duplicate_difference


def room(rug: str = "firebrick", sofa: str = "slategrey") -> Image.Image:
    """A staged room: what differs between two of its pictures is the rug or the sofa alone."""
    picture = Image.new("RGB", (400, 300), "#d6cec2")
    draw = ImageDraw.Draw(picture)
    draw.rectangle((0, 190, 400, 300), fill="peru")
    draw.ellipse((120, 215, 320, 290), fill=rug)
    draw.rectangle((60, 100, 260, 200), fill=sofa)
    draw.rectangle((40, 90, 90, 210), fill="darkslategrey")
    draw.polygon([(310, 40), (360, 40), (375, 100), (295, 100)], fill="#c09a30")
    draw.line((335, 100, 335, 210), fill="black", width=6)
    for step in range(12):
        draw.line((60 + 17 * step, 100, 75 + 17 * step, 200), fill="grey", width=2)
    return picture


def encoded(picture: Image.Image, quality: int) -> Image.Image:
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=quality)
    return Image.open(stream).convert("RGB")


def padded(picture: Image.Image, share: float) -> Image.Image:
    canvas = Image.new("RGB", (round(400 * (1 + share)), round(300 * (1 + share))), "#d6cec2")
    canvas.paste(picture, (round(200 * share), round(150 * share)))
    return canvas


def difference_of(left: Image.Image, right: Image.Image) -> float:
    return difference(reduce_picture(np.asarray(left)), reduce_picture(np.asarray(right)))


EDITS = {
    "nothing": room(),
    "encoded again": encoded(room(), 40),
    "half the size": encoded(room().resize((200, 150)), 80),
    "squeezed to a square": room().resize((300, 300)),
    "slightly brighter": ImageEnhance.Brightness(room()).enhance(1.06),
    "more contrast": ImageEnhance.Contrast(room()).enhance(1.1),
    "cropped": room().crop((8, 6, 392, 294)),
    "padded": padded(room(), 0.05),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_of_a_picture_is_the_same_picture(edit: str) -> None:
    assert difference_of(room(), EDITS[edit]) <= SAME
    assert difference_of(EDITS[edit], room()) <= SAME


@pytest.mark.parametrize("variant", [room(rug="seagreen"), room(rug="tan"), room(sofa="steelblue"), room().rotate(180)])
def test_another_rug_or_sofa_in_the_same_room_is_another_picture(variant: Image.Image) -> None:
    assert difference_of(room(), variant) > SAME
    assert difference_of(encoded(variant, 60), room()) > SAME


def test_even_pictures_are_compared_by_their_colour() -> None:
    white, cream, grey = (Image.new("RGB", (64, 64), colour) for colour in ("white", "ivory", "dimgrey"))
    assert difference_of(white, white) == 0.0
    assert difference_of(white, grey) > SAME
    assert difference_of(white, cream) > SAME
