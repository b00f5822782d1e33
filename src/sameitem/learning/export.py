"""From a trained module to the int8 ONNX graph that serving runs."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (  # type: ignore[import-untyped]
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process  # type: ignore[import-untyped]
from torch import nn

from sameitem.core.errors import InputError

OPSET = 18


def to_onnx(module: nn.Module, *, input_name: str, output_names: Sequence[str], side_px: int) -> bytes:
    """Export a module of one image input; batch norm is folded, the batch is dynamic, the side fixed.

    Args:
        module: takes (n, 3, side_px, side_px) float32; is put into evaluation mode.
        input_name: of the graph's only input.
        output_names: of the graph's outputs, in the order of what the module returns.
        side_px: height and width.
    """
    example = torch.zeros(2, 3, side_px, side_px)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the exporter's own use of what torch deprecates
        file = Path(folder) / "graph.onnx"
        torch.onnx.export(
            module.eval(),
            (example,),
            file,
            input_names=[input_name],
            output_names=list(output_names),
            dynamic_shapes=({0: torch.export.Dim("n")},),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return forget_traces(file.read_bytes())


def forget_traces(graph: bytes) -> bytes:
    """Remove what the exporter notes about the source code: stack traces name the folders of whoever exported."""
    model = onnx.load_from_string(graph)
    ends = (*model.graph.input, *model.graph.output)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *ends):
        part.doc_string = ""
        del part.metadata_props[:]
    for function in model.functions:
        function.doc_string = ""
        del function.metadata_props[:]
        for node in function.node:
            node.doc_string = ""
            del node.metadata_props[:]
    content: bytes = model.SerializeToString()
    return content


class _Samples(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, samples: Iterable[NDArray[np.float32]], input_name: str) -> None:
        self._inputs: Iterator[dict[str, NDArray[np.float32]]] = ({input_name: sample} for sample in samples)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        return next(self._inputs, None)


def to_int8(graph: bytes, samples: Iterable[NDArray[np.float32]], *, input_name: str) -> bytes:
    """Quantise a graph's convolutions statically; everything after them stays float.

    Weights are signed and scaled per channel; activations are unsigned, because signed ones take the slow path of
    processors without VNNI.

    Args:
        graph: what `to_onnx` made.
        samples: inputs (n, 3, side_px, side_px) that show the range of every activation.
        input_name: of the graph's only input.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, folded, small = (Path(folder) / name for name in ("source.onnx", "folded.onnx", "small.onnx"))
        source.write_bytes(graph)
        quant_pre_process(source, folded, skip_symbolic_shape=True)  # it stumbles over some heads
        quantize_static(
            folded,
            small,
            _Samples(samples, input_name),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv", "Clip", "Add"],
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
        )
        return small.read_bytes()


def shrink_weights(graph: bytes) -> bytes:
    """Store the graph's large float32 matrices as int8 with a scale per column; a session turns them back on loading.

    A feature moves by less than the int8 convolutions before it move it (cosine above 0.9999).
    """
    model = onnx.load_from_string(graph)
    casts, added = [], []
    for weight in model.graph.initializer:
        if weight.data_type != onnx.TensorProto.FLOAT or len(weight.dims) != 2:
            continue
        name = weight.name
        values, scale = columns_as_int8(numpy_helper.to_array(weight))
        weight.CopyFrom(numpy_helper.from_array(values, f"{name}_int8"))
        added.append(numpy_helper.from_array(scale, f"{name}_scale"))
        ends = [f"{name}_int8", f"{name}_scale"]
        casts.append(helper.make_node("DequantizeLinear", ends, [name], name=f"{name}_float", axis=1))
    model.graph.initializer.extend(added)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _shorten_names(model)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def columns_as_int8(matrix: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a (rows, columns) matrix as int8 with a (columns,) scale by which a column is multiplied."""
    scale = np.maximum(np.abs(matrix).max(axis=0) / 127, 1e-12).astype(np.float32)
    return np.rint(matrix / scale).astype(np.int8), scale


def cut_before_last_layer(graph: bytes, output: str) -> bytes:
    """Take the last matrix off a graph that ends in `MatMul` and a division by its length.

    Args:
        graph: what `shrink_weights` made of a feature branch.
        output: name of the new graph's only output, which that matrix was multiplied with.

    Returns:
        The new graph: the same bytes for two graphs that differ in the last matrix alone.

    Raises:
        InputError: another kind of graph.
    """
    model = onnx.load_from_string(graph)
    product, _ = _last_layer(model)
    ended = helper.make_node("Identity", [product.input[0]], [output])
    needed, nodes = {product.input[0]}, [ended]
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    weights = [weight for weight in model.graph.initializer if weight.name in needed]
    end = helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)
    part = helper.make_graph(nodes, "trunk", list(model.graph.input), [end], weights)
    made = helper.make_model(part, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    content: bytes = made.SerializeToString(deterministic=True)
    return content


def with_last_layer(graph: bytes, matrix: NDArray[np.floating]) -> bytes:
    """Return a graph that `cut_before_last_layer` can take apart with another last matrix of the same shape.

    Raises:
        InputError: another kind of graph, or another shape.
    """
    model = onnx.load_from_string(graph)
    _, weights = _last_layer(model)
    if list(weights[0].dims) != list(matrix.shape):
        raise InputError(f"the last layer is {list(weights[0].dims)}, got {list(matrix.shape)}")
    parts: Sequence[NDArray[Any]] = (matrix.astype(np.float32),)
    if len(weights) == 2:
        parts = columns_as_int8(matrix)
    for weight, values in zip(weights, parts, strict=True):
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _last_layer(model: onnx.ModelProto) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """Return the last product of a graph, and its matrix: int8 with a scale per column, or float32."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    if products:
        name = products[-1].input[1]
        if name in weights:
            return products[-1], [weights[name]]
        source = made_by.get(name)
        if source is not None and source.op_type == "DequantizeLinear" and set(source.input) <= weights.keys():
            return products[-1], [weights[part] for part in source.input]
    raise InputError("the graph does not end in a product with a matrix of its own; train without --feature-only")


def _shorten_names(model: onnx.ModelProto) -> None:
    """Number everything that only the graph itself names: the exporter's names are 2 % of a small graph."""
    graph = model.graph
    ends = {end.name for end in (*graph.input, *graph.output)}
    short: dict[str, str] = {"": ""}  # an input that is left out

    def number(name: str) -> str:
        return name if name in ends else short.setdefault(name, f"_{len(short):x}")

    for weight in graph.initializer:
        weight.name = number(weight.name)
    for node in graph.node:
        node.name = ""
        node.input[:] = [number(name) for name in node.input]
        node.output[:] = [number(name) for name in node.output]
    del graph.value_info[:]
