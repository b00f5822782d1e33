"""Small ONNX graphs drawn in code, and model folders around them."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sameitem.features.model_folder import (
    BOX_SCORES,
    BOXES,
    CATEGORY_LOGITS,
    DETECT,
    EMBED,
    Detect,
    Graph,
    ModelFolder,
    read_graph,
    read_model,
    write_model,
)
from sameitem.features.preprocess import Fit, Layout, Preprocessing

onnx = pytest.importorskip("onnx", reason="the package onnx (extra `train`) draws the graphs of these tests")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

SIDE = 16
DETECT_SIDE = 64
DARK = 60  # grey level below which the drawn detector takes a pixel for the subject
CORNER = (0.0, 0.0, 0.25, 0.25)  # the drawn detector's second object, shares of the padded square
REDNESS = 12.0  # logit of a photo that is all red, in favour of the drawn detector's second category


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


def detection_graph(*, categories: int = 0, corner_score: float = 0.5) -> bytes:
    """Return a graph whose best box is that of the dark pixels, and whose second is always the upper left corner.

    The first category is favoured by bluish photos, the second by reddish ones, further ones by none.
    """
    side = DETECT_SIDE
    mean, std = _DETECT_PREPROCESSING.mean[0], _DETECT_PREPROCESSING.std[0]
    nodes, constants = [], []

    def constant(name: str, value: object, dtype: type = np.float32) -> str:
        constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def add(operator: str, inputs: list[str], output: str, **about: object) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **about))
        return output

    grey = add("ReduceMax", ["image"], "brightest", axes=[1], keepdims=0)  # (n, side, side)
    dark = add("Cast", [add("Less", [grey, constant("dark", (DARK - mean) / std)], "less")], "darkness", to=1)
    edges = {}
    for name, axis in (("x", 1), ("y", 2)):
        any_dark = add("ReduceMax", [dark], f"any_{name}", axes=[axis], keepdims=0)  # (n, side)
        for end, last in (("low", 0), ("high", 1)):
            place = add("ArgMax", [any_dark], f"{end}_{name}_place", axis=1, keepdims=1, select_last_index=last)
            real = add("Cast", [place], f"{end}_{name}_real", to=1)
            edges[end + name] = add("Add", [real, constant(f"{end}_{name}_end", last)], f"{end}_{name}")
    pixels = add("Concat", [edges[edge] for edge in ("lowx", "lowy", "highx", "highy")], "pixels", axis=1)
    best = add(
        "Unsqueeze", [add("Div", [pixels, constant("side", side)], "shares"), constant("one", [1], np.int64)], "best"
    )
    nothing = add("Mul", [best, constant("zero", 0)], "nothing")  # (n, 1, 4), so that constants get the batch's rows
    corner = add("Add", [nothing, constant("corner", [[CORNER]])], "corner_box")
    add("Concat", [best, corner], BOXES, axis=1)
    flat = add("ReduceSum", [nothing, constant("last", [2], np.int64)], "flat", keepdims=0)  # (n, 1)
    add("Add", [flat, constant("scores", [[0.9, corner_score]])], BOX_SCORES)
    outputs = [
        helper.make_tensor_value_info(BOXES, TensorProto.FLOAT, ["n", 2, 4]),
        helper.make_tensor_value_info(BOX_SCORES, TensorProto.FLOAT, ["n", 2]),
    ]
    if categories:
        weights = np.zeros((3, categories), np.float32)
        weights[:, :2] = np.array([[-1, 1], [0, 0], [1, -1]]) * REDNESS / 2 * std / 255
        colours = add("ReduceMean", ["image"], "colours", axes=[2, 3], keepdims=0)
        add("MatMul", [colours, constant("weights", weights)], CATEGORY_LOGITS)
        outputs.append(helper.make_tensor_value_info(CATEGORY_LOGITS, TensorProto.FLOAT, ["n", categories]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, side, side])
    graph = helper.make_graph(nodes, "detection", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


_DETECT_PREPROCESSING = Preprocessing(DETECT_SIDE, Fit.PAD, 255, (127.0,) * 3, (128.0,) * 3, Layout.NCHW)


def detect_of(
    *, categories: tuple[str, ...] = (), views: tuple[float, ...] = (1.0,), temperature: float = 1.0
) -> Detect:
    """Describe what is made of a graph of `detection_graph`."""
    return Detect(_DETECT_PREPROCESSING, categories, temperature, views)


def with_detector(model: ModelFolder, graph: bytes, detect: Detect, *, version: str) -> ModelFolder:
    """Describe the model with a detection graph added."""
    detects = Graph("detect.onnx", hashlib.sha256(graph).hexdigest(), "image", BOXES)
    return replace(model, version=version, graphs={**model.graphs, DETECT: detects}, detect=detect)


def write_detecting(
    folder: Path,
    *,
    embedder: Path | None = None,
    categories: tuple[str, ...] = (),
    views: tuple[float, ...] = (1.0,),
    temperature: float = 1.0,
    graph: bytes | None = None,
    grey: float = 127.0,
) -> ModelFolder:
    """Write a model folder that finds dark subjects.

    Args:
        folder: of the new model; its name is the version.
        embedder: model folder whose features it has; None = drawn ones.
        categories: at least two, or none.
        views: of the subject.
        temperature: of the logits.
        graph: another detection graph.
        grey: level that drawn features are measured from.
    """
    if embedder is None:
        embeds = embedding_graph()
        model = model_of(embeds)
        model = replace(model, preprocessing=replace(model.preprocessing, mean=(grey,) * 3))
    else:
        model = read_model(embedder)
        embeds = read_graph(embedder, model, EMBED)
    detects = graph or detection_graph(categories=len(categories))
    detect = detect_of(categories=categories, views=views, temperature=temperature)
    model = with_detector(model, detects, detect, version=folder.name)
    write_model(folder, model, graphs={EMBED: embeds, DETECT: detects}, card="# drawn\n")
    return model


def photo_of_a_thing(
    box: tuple[int, int, int, int],
    *,
    size: tuple[int, int] = (400, 300),
    backdrop: NDArray[np.uint8] | None = None,
    thing: NDArray[np.uint8] | None = None,
) -> NDArray[np.uint8]:
    """Draw a dark thing in a box (left, top, right, bottom) on a busy backdrop that is nowhere dark.

    Args:
        box: pixels.
        size: width and height where there is no backdrop.
        backdrop: (height, width, 3); stripes where there is none.
        thing: colours of the thing, all dark, stretched over the box; black where there is none.
    """
    width, height = size
    if backdrop is None:
        stripes = np.linspace(0, 40 * np.pi, width)[None, :, None] + np.linspace(0, 9, height)[:, None, None]
        backdrop = (180 + 70 * np.sin(stripes + np.array([0, 1, 2]))).astype(np.uint8)
    photo = backdrop.copy()
    left, top, right, bottom = box
    if thing is None:
        thing = np.zeros((1, 1, 3), np.uint8)
    picture = Image.fromarray(thing).resize((right - left, bottom - top), Image.Resampling.NEAREST)
    photo[top:bottom, left:right] = np.asarray(picture)
    return photo


def photos(count: int, *, seed: int = 0) -> list[NDArray[np.uint8]]:
    """Draw pictures of different sizes."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, (count, 2))
    return [rng.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]
