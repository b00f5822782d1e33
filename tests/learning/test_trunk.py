import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from sameitem.learning.trunk import CHANNELS, SameConv, Trunk, public_trunk  # noqa: E402


def slow_same_convolution(
    image: NDArray[np.float64], kernel: NDArray[np.float64], *, stride: int
) -> NDArray[np.float64]:
    """One channel, as TensorFlow's SAME padding is written down: the odd pixel after the image."""
    side, taps = len(image), len(kernel)
    rows = -(-side // stride)
    before = max((rows - 1) * stride + taps - side, 0) // 2
    result = np.zeros((rows, rows))
    for y in range(rows):
        for x in range(rows):
            for i in range(taps):
                for j in range(taps):
                    down, right = y * stride + i - before, x * stride + j - before
                    if 0 <= down < side and 0 <= right < side:
                        result[y, x] += image[down, right] * kernel[i, j]
    return result


@settings(max_examples=40, deadline=None)
@given(side=integers(1, 12), taps=sampled_from([1, 3, 5]), stride=sampled_from([1, 2]), seed=integers(0, 99))
def test_padding_is_that_of_the_network_the_weights_were_trained_in(
    side: int, taps: int, stride: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    image, kernel = rng.standard_normal((side, side)), rng.standard_normal((taps, taps))
    layer = SameConv(1, 1, taps, stride, bias=False).double()
    with torch.no_grad():
        layer.weight[:] = torch.from_numpy(kernel)
        result = layer(torch.from_numpy(image)[None, None])[0, 0].numpy()
    assert result == pytest.approx(slow_same_convolution(image, kernel, stride=stride), abs=1e-9)


def test_the_last_maps_are_at_stride_32_and_not_negative() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        maps = Trunk().eval()(torch.randn(2, 3, 64, 96))
    assert maps.shape == (2, CHANNELS, 2, 3)
    assert float(maps.min()) >= 0


@pytest.mark.slow
def test_the_public_weights_load_and_tell_pictures_apart() -> None:
    torch.manual_seed(0)
    trunk = public_trunk()
    with torch.inference_mode():
        maps = trunk(torch.stack([torch.zeros(3, 224, 224), torch.rand(3, 224, 224) * 2 - 1]))
        one, other = maps.mean((2, 3))
    assert not trunk.training
    assert float(torch.cosine_similarity(one, other, dim=0)) < 0.9
