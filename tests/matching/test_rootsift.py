import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sameitem.core.errors import InputError, ShapeError
from sameitem.core.records import Pixels
from sameitem.matching.rootsift import LocalFeatures, detect


def blob(x: float, y: float, sigma: float, *, width: int = 120, height: int = 100, light: float = 150.0) -> Pixels:
    """A round Gaussian spot on grey."""
    right, down = np.meshgrid(np.arange(width) - x, np.arange(height) - y)
    spot = 60 + light * np.exp(-(right**2 + down**2) / (2 * sigma**2))
    return np.repeat(np.rint(spot).astype(np.uint8)[:, :, None], 3, axis=2)


def textured(seed: int, *, width: int = 160, height: int = 120) -> Pixels:
    """Smooth random texture with detail of several sizes."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width))
    for cells in (6, 15, 40):
        coarse = Image.fromarray(generator.normal(size=(cells, cells)).astype(np.float32))
        total += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    level = np.clip(128 + 45 * total, 0, 255).astype(np.uint8)
    return np.repeat(level[:, :, None], 3, axis=2)


@given(
    x=st.floats(50, 70),
    y=st.floats(40, 60),
    sigma=st.floats(3, 8),
    is_bright=st.booleans(),
)
@settings(max_examples=15, deadline=None)
def test_a_round_spot_is_found_at_its_centre_with_its_size(x: float, y: float, sigma: float, is_bright: bool) -> None:
    spot = blob(x, y, sigma)
    keypoints = detect(spot if is_bright else 255 - spot).keypoints
    assert len(keypoints)
    assert np.abs(keypoints[:, :2] - (x, y)).max() < 0.5
    # the difference of Gaussians s and s * 2 ** (1/3) answers a spot of its own blur most strongly near s = sigma
    assert np.abs(np.log2(keypoints[:, 2] / sigma)).max() < 0.5


@pytest.mark.parametrize("quarter_turns", [0, 1, 2, 3])
def test_the_angle_points_from_dark_to_light_turning_from_x_to_y(quarter_turns: int) -> None:
    slope = 90 + (np.arange(101) - 50.0)[None, :, None]
    lighter_to_the_right = np.clip(blob(50, 50, 6, width=101, height=101, light=60) * 0.8 + slope - 48, 0, 255)
    keypoints = detect(np.rot90(lighter_to_the_right, k=-quarter_turns).astype(np.uint8)).keypoints
    angles = keypoints[np.hypot(*(keypoints[:, :2] - 50).T) < 2, 3]
    assert len(angles)
    mean = np.exp(1j * (angles - quarter_turns * math.pi / 2)).mean()
    assert abs(mean) > 0.5
    assert abs(np.angle(mean)) < 0.1


@pytest.mark.parametrize("shape", [(160, 200), (1, 300), (300, 1), (1, 1), (11, 11), (5, 4000)])
def test_a_picture_without_texture_has_no_features(shape: tuple[int, int]) -> None:
    features = detect(np.full((*shape, 3), 200, np.uint8))
    assert features.keypoints.shape == (0, 4)
    assert features.descriptors.shape == (0, 128)


def test_a_straight_edge_has_no_features() -> None:
    edge = np.full((160, 200, 3), 40, np.uint8)
    edge[:, 100:] = 220
    assert not len(detect(edge).keypoints)


@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "black and white", "stripes"]),
)
@settings(max_examples=25, deadline=None)
def test_any_picture_gives_unit_descriptors_and_places_inside_it(height: int, width: int, seed: int, kind: str) -> None:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    if kind == "black and white":
        pixels = (pixels // 128) * np.uint8(255)
    if kind == "stripes":
        pixels = np.repeat(pixels[:1], height, axis=0)
    features = detect(pixels, max_keypoints=50)
    assert len(features.keypoints) <= 50
    assert np.isfinite(features.keypoints).all()
    assert ((features.keypoints[:, :2] >= -0.5) & (features.keypoints[:, :2] <= (width - 0.5, height - 0.5))).all()
    assert (features.keypoints[:, 2] > 0).all()
    assert ((features.keypoints[:, 3] >= 0) & (features.keypoints[:, 3] < 6.2832)).all()
    assert (features.descriptors >= 0).all()
    np.testing.assert_allclose(np.linalg.norm(features.descriptors, axis=1), 1, atol=1e-5)


def test_two_runs_give_the_same_bytes() -> None:
    one, other = detect(textured(1)), detect(textured(1).copy())
    assert one.keypoints.tobytes() == other.keypoints.tobytes()
    assert one.descriptors.tobytes() == other.descriptors.tobytes()


def test_fewer_keypoints_are_a_part_of_more() -> None:
    few, many = detect(textured(2), max_keypoints=20), detect(textured(2), max_keypoints=1000)
    assert len(few.keypoints) == 20 < len(many.keypoints)
    assert {tuple(row) for row in few.keypoints.tolist()} <= {tuple(row) for row in many.keypoints.tolist()}


def test_a_quarter_turn_turns_places_and_angles_and_keeps_descriptors() -> None:
    picture = textured(3)
    one, turned = detect(picture), detect(np.rot90(picture, k=-1).copy())  # clockwise: x becomes y, y becomes -x
    expected = np.column_stack([picture.shape[0] - 1 - one.keypoints[:, 1], one.keypoints[:, 0]])
    gaps = np.hypot(*(expected[:, None] - turned.keypoints[None, :, :2]).transpose(2, 0, 1))
    turn = (turned.keypoints[None, :, 3] - one.keypoints[:, None, 3] - math.pi / 2 + math.pi) % (2 * math.pi) - math.pi
    alike = one.descriptors @ turned.descriptors.T
    is_found = ((gaps < 0.5) & (np.abs(turn) < 0.1) & (alike > 0.95)).any(1)
    assert is_found.mean() > 0.9


def test_a_change_of_brightness_and_contrast_keeps_descriptors() -> None:
    picture = textured(4)
    one, other = detect(picture), detect((picture * 0.7 + 40).astype(np.uint8))
    gaps = np.hypot(*(one.keypoints[:, None, :2] - other.keypoints[None, :, :2]).transpose(2, 0, 1))
    is_found = ((gaps < 0.5) & (one.descriptors @ other.descriptors.T > 0.98)).any(1)
    assert is_found.mean() > 0.8


def test_coordinates_are_pixels_of_the_input_at_any_working_size() -> None:
    large = np.asarray(Image.fromarray(blob(60, 50, 6)).resize((720, 600), Image.Resampling.BICUBIC))
    keypoints = detect(large, side_px=300).keypoints
    assert len(keypoints)
    assert np.abs(keypoints[:, :2] - (362.5, 302.5)).max() < 3  # (60 + 0.5) * 6 - 0.5
    assert np.abs(np.log2(keypoints[:, 2] / 36)).max() < 0.5


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((20, 20, 3), np.float32),
        np.zeros((0, 20, 3), np.uint8),
    ],
)
def test_what_is_not_a_picture_is_refused(pixels: Pixels) -> None:
    with pytest.raises(ShapeError, match="need uint8 pixels"):
        detect(pixels)


@pytest.mark.parametrize("limits", [{"max_keypoints": 0}, {"side_px": 11}])
def test_limits_that_allow_nothing_are_refused(limits: dict[str, int]) -> None:
    with pytest.raises(InputError, match="or more"):
        detect(textured(0), **limits)


def test_keypoints_without_their_descriptors_are_refused() -> None:
    with pytest.raises(ShapeError, match="with one n"):
        LocalFeatures(np.zeros((2, 4), np.float32), np.zeros((1, 128), np.float32))
