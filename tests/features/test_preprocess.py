import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, sampled_from
from numpy.typing import NDArray
from PIL import Image

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Box
from sameitem.features.preprocess import Fit, Layout, Preprocessing, crop, square_pixels, to_square

NCHW = Preprocessing(32, Fit.PAD, 255, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0), Layout.NCHW)


def photo(seed: int, *, width: int, height: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@given(width=integers(1, 70), height=integers(1, 70), fit=sampled_from(Fit))
def test_every_size_and_fit_gives_the_square_that_was_asked_for(width: int, height: int, fit: Fit) -> None:
    square = square_pixels(photo(0, width=width, height=height), side_px=24, fit=fit, fill=255)
    assert square.shape == (24, 24, 3)
    assert square.dtype == np.uint8


@given(width=integers(1, 60), height=integers(1, 60), side=integers(1, 40))
def test_padding_keeps_the_proportions_and_centres_the_photo(width: int, height: int, side: int) -> None:
    black = np.zeros((height, width, 3), np.uint8)
    inside = square_pixels(black, side_px=side, fit=Fit.PAD, fill=255)[..., 0] == 0
    rows, columns = inside.any(axis=1).sum(), inside.any(axis=0).sum()
    scale = side / max(width, height)
    assert inside.sum() == rows * columns
    assert max(rows, columns) == side
    assert abs(rows - height * scale) <= 1
    assert abs(columns - width * scale) <= 1
    top, left = np.argwhere(inside)[0]
    assert abs(top - (side - rows - top)) <= 1
    assert abs(left - (side - columns - left)) <= 1


def test_a_square_photo_of_the_right_side_passes_unchanged() -> None:
    pixels = photo(1, width=32, height=32)
    for fit in Fit:
        assert np.array_equal(square_pixels(pixels, side_px=32, fit=fit, fill=0), pixels)


def test_cropping_keeps_the_middle_square_only() -> None:
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 200
    assert (square_pixels(pixels, side_px=10, fit=Fit.CROP, fill=255) == 200).all()


def test_values_are_normalised_and_laid_out_as_the_manifest_says() -> None:
    pixels = photo(2, width=32, height=32)
    nchw = to_square(pixels, NCHW)
    nhwc = to_square(pixels, Preprocessing(32, Fit.PAD, 255, (10.0, 20.0, 30.0), (2.0, 4.0, 8.0), Layout.NHWC))
    assert nchw.dtype == nhwc.dtype == np.float32
    assert np.array_equal(nchw, ((pixels.astype(np.float64) - 127) / 128).transpose(2, 0, 1).astype(np.float32))
    assert nhwc[3, 4, 2] == (float(pixels[3, 4, 2]) - 30) / 8


def test_a_huge_photo_is_resized_like_a_plain_resize_of_all_its_pixels() -> None:
    small = photo(3, width=16, height=12)
    huge = np.asarray(Image.fromarray(small).resize((4000, 3000), Image.Resampling.BICUBIC))
    ours = square_pixels(huge, side_px=64, fit=Fit.STRETCH, fill=255)
    plain = np.asarray(Image.fromarray(huge).resize((64, 64), Image.Resampling.BILINEAR))
    assert np.abs(ours.astype(int) - plain).mean() < 1


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (5, 5), (5, 5, 4), (5, 5, 3, 1)])
def test_what_is_no_rgb_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="height, width, 3"):
        to_square(np.zeros(shape, np.uint8), NCHW)


def test_pixels_that_are_not_bytes_are_refused() -> None:
    with pytest.raises(ShapeError, match="float32"):
        to_square(np.zeros((4, 4, 3), np.float32), NCHW)  # type: ignore[arg-type]


@settings(max_examples=200)
@given(left=floats(-30, 60), top=floats(-30, 60), right=floats(-30, 60), bottom=floats(-30, 60), seed=integers(0, 3))
def test_a_crop_is_exactly_the_pixels_that_the_box_touches(
    left: float, top: float, right: float, bottom: float, seed: int
) -> None:
    pixels = photo(seed, width=40, height=30)
    columns = [x for x in range(40) if x + 1 > left and x < right]
    rows = [y for y in range(30) if y + 1 > top and y < bottom]
    if not (columns and rows and left < right and top < bottom):
        with pytest.raises(InputError, match="some area"):
            crop(pixels, Box(left, top, right, bottom))
        return
    assert np.array_equal(crop(pixels, Box(left, top, right, bottom)), pixels[np.ix_(rows, columns)])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_box_that_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(InputError, match="finite"):
        crop(photo(0, width=4, height=4), Box(0, 0, bad, 4))
