import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from sameitem.features.embed import open_session  # noqa: E402
from sameitem.features.model_folder import shipped_model  # noqa: E402
from sameitem.learning.export import shrink_weights, to_int8, to_onnx  # noqa: E402

SIDE = 32


class Small(torch.nn.Module):  # type: ignore[name-defined, misc]
    """A network with every kind of layer that export has to handle."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.norm = torch.nn.Conv2d(3, 16, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(16)
        self.second = torch.nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.last = torch.nn.Linear(16, 128)
        self.norm.running_mean.uniform_(-0.1, 0.1)
        self.norm.running_var.uniform_(0.5, 1.5)

    def forward(self, image: "torch.Tensor") -> "torch.Tensor":
        maps = torch.nn.functional.relu6(self.norm(self.first(image)))
        return self.last((maps + torch.nn.functional.relu6(self.second(maps))).mean((2, 3)))


def images(count: int) -> NDArray[np.float32]:
    return np.random.default_rng(1).uniform(-1, 1, (count, 3, SIDE, SIDE)).astype(np.float32)


def run(graph: bytes, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    (features,) = open_session(graph, threads=1).run(["feature"], {"image": inputs})
    return np.asarray(features)


@pytest.fixture(scope="module")
def exact() -> bytes:
    return to_onnx(Small(), input_name="image", output_names=["feature"], side_px=SIDE)


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_graph_computes_what_the_module_does_for_any_batch(exact: bytes, count: int) -> None:
    with torch.inference_mode():
        expected = Small().eval()(torch.from_numpy(images(count))).numpy()
    assert run(exact, images(count)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_batch_norm_is_folded_into_the_convolutions(exact: bytes) -> None:
    assert b"BatchNormalization" not in exact


@pytest.mark.slow
def test_int8_stays_near_the_exact_graph_and_shrunk_weights_nearer(exact: bytes) -> None:
    inputs = images(40)
    small = to_int8(exact, (image[None] for image in inputs), input_name="image")
    expected, approximate = run(exact, inputs), run(small, inputs)
    cosines = (expected * approximate).sum(1) / np.linalg.norm(expected, axis=1) / np.linalg.norm(approximate, axis=1)
    assert cosines.min() > 0.99
    assert b"QuantizeLinear" in small
    shrunk = shrink_weights(small)
    assert len(shrunk) < len(small)
    assert run(shrunk, inputs) == pytest.approx(approximate, abs=2e-3)


@pytest.mark.slow
def test_a_shipped_graph_names_no_file_of_the_machine_that_made_it(exact: bytes) -> None:
    shipped = (shipped_model() / "embed.onnx").read_bytes()
    for content in (exact, shipped):
        assert b'File "' not in content
        assert b"stack_trace" not in content
