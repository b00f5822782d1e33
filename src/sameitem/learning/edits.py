"""Pictures of the same item made from one: edited as a photo differs from another, or set on another background."""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from sameitem.core.records import Pixels
from sameitem.features.colour import subject_mask, to_lab

_SIDE_PX = 320  # of a composition
_WHITE = (255, 255, 255)


def edit(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Take the picture again: another crop, viewpoint, light and sharpness, compressed as JPEG."""
    picture = Image.fromarray(pixels)
    share = generator.uniform(0.7, 1)
    left, top = (generator.uniform(0, 1 - share) * side for side in picture.size)
    picture = picture.crop((left, top, left + share * picture.width, top + share * picture.height))
    picture = _relight(_move(picture, generator, fill=_WHITE), generator)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=int(generator.integers(30, 91)))
    with Image.open(encoded) as compressed:
        return np.asarray(compressed)


def compose(pixels: Pixels, background: Pixels, generator: np.random.Generator) -> Pixels:
    """Cut the subject off its even backdrop and set it, seen from another side, somewhere on a background photo."""
    mask = Image.fromarray(subject_mask(to_lab(pixels)).astype(np.uint8) * 255)
    box = mask.getbbox() or (0, 0, *mask.size)
    subject = Image.fromarray(pixels)
    subject.putalpha(mask.filter(ImageFilter.MinFilter(3)).filter(ImageFilter.GaussianBlur(0.7)))
    subject = _move(subject.crop(box), generator, fill=(0, 0, 0, 0))
    scale = generator.uniform(0.45, 0.85) * _SIDE_PX / max(subject.size)
    subject = subject.resize((max(1, int(subject.width * scale)), max(1, int(subject.height * scale))))
    scene = _square_part(Image.fromarray(background), generator)
    place = (
        int(generator.integers(0, _SIDE_PX - subject.width + 1)),
        int(generator.integers(0, _SIDE_PX - subject.height + 1)),
    )
    scene.paste(subject.convert("RGB"), place, subject.getchannel("A"))
    return np.asarray(_relight(scene, generator))


def _square_part(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    side = max(1, int(min(picture.size) * generator.uniform(0.5, 1)))
    left, top = (int(generator.integers(0, whole - side + 1)) for whole in picture.size)
    return picture.crop((left, top, left + side, top + side)).resize((_SIDE_PX, _SIDE_PX))


def _move(picture: Image.Image, generator: np.random.Generator, *, fill: tuple[int, ...]) -> Image.Image:
    """Change the viewpoint: each corner by up to 12 % of the sides, then a turn of up to 20 degrees."""
    width, height = picture.size
    corners = np.array([(0, 0), (0, height), (width, height), (width, 0)]) + generator.uniform(-0.12, 0.12, (4, 2)) * (
        width,
        height,
    )
    bent = picture.transform(
        picture.size,
        Image.Transform.QUAD,
        tuple(corners.ravel().tolist()),
        Image.Resampling.BILINEAR,
        fillcolor=fill,
    )
    return bent.rotate(generator.uniform(-20, 20), Image.Resampling.BILINEAR, expand=True, fillcolor=fill)


def _relight(picture: Image.Image, generator: np.random.Generator) -> Image.Image:
    picture = ImageEnhance.Brightness(picture).enhance(generator.uniform(0.65, 1.3))
    picture = ImageEnhance.Color(picture).enhance(generator.uniform(0.7, 1.3))
    picture = ImageEnhance.Contrast(picture).enhance(generator.uniform(0.75, 1.25))
    if generator.random() < 0.35:
        picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.2)))
    return picture
