"""Small ONNX graphs drawn in code, and model folders around them."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sameitem.features.model_folder import EMBED, Graph, ModelFolder, write_model
from sameitem.features.preprocess import Fit, Layout, Preprocessing

onnx = pytest.importorskip("onnx", reason="the package onnx (extra `train`) draws the graphs of these tests")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SIDE = 16


def embedding_graph(
    *,
    layout: Layout = Layout.NCHW,
    dtype: int = TensorProto.FLOAT,
    batch: int | str = "n",
    side: int | str = SIDE,
    dim: int = 128,
    outputs: tuple[str, ...] = ("feature",),
    scale: float = 1.0,
    weights: NDArray[np.float32] | None = None,
    operator: str = "MatMul",
) -> bytes:
    """Return a graph that multiplies the flattened image with random weights; each output adds its place."""
    if weights is None:
        weights = np.random.default_rng(0).standard_normal((3 * SIDE * SIDE, dim)).astype(np.float32) * scale
    shape = [batch, 3, side, side] if layout is Layout.NCHW else [batch, side, side, 3]
    nodes = [
        helper.make_node("Cast", ["image"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["real"], ["flat"]),
    ]
    constants = [numpy_helper.from_array(weights, "weights")]
    for place, name in enumerate(outputs):
        constants.append(numpy_helper.from_array(np.array(place, np.float32), f"place{place}"))
        nodes.append(helper.make_node(operator, ["flat", "weights"], [f"product{place}"]))
        nodes.append(helper.make_node("Add", [f"product{place}", f"place{place}"], [name]))
    graph = helper.make_graph(
        nodes,
        "embedding",
        [helper.make_tensor_value_info("image", dtype, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, weights.shape[1]]) for name in outputs],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def model_of(graph: bytes, *, version: str = "drawn", dim: int = 128, layout: Layout = Layout.NCHW) -> ModelFolder:
    """Describe a graph of `embedding_graph`."""
    return ModelFolder(
        version=version,
        kind="imported",
        dim=dim,
        graphs={EMBED: Graph("embed.onnx", hashlib.sha256(graph).hexdigest(), "image", "feature")},
        preprocessing=Preprocessing(SIDE, Fit.PAD, 255, (127.0,) * 3, (128.0,) * 3, layout),
        licence="CC0-1.0",
        source="drawn by a test",
        metrics={"ms_per_photo": 0.1},
    )


def write_drawn(folder: Path, graph: bytes, **about: object) -> ModelFolder:
    """Write a model folder around a graph."""
    model = model_of(graph, **about)  # type: ignore[arg-type]
    write_model(folder, model, graphs={EMBED: graph}, card="# drawn\n")
    return model


def photos(count: int, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Draw pictures of different sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, (count, 2))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
