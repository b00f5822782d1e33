"""From a trained module to the int8 ONNX graph that serving runs."""

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
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


def columns_as_int8(
    matrix: NDArray[np.floating], *, least: NDArray[np.floating] | float = 0.0
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Return a (rows, columns) matrix as int8 with a (columns,) scale by which a column is multiplied.

    Args:
        matrix: of any size.
        least: that a column's scale may be.
    """
    scale = np.maximum(np.abs(matrix).max(axis=0) / 127, np.maximum(least, 1e-12)).astype(np.float32)
    return np.rint(matrix / scale).astype(np.int8), scale


@dataclass(frozen=True, slots=True)
class ByteScale:
    """What unsigned bytes of a graph stand for: step x (byte - zero)."""

    step: float
    zero: int


def cut_before_last_block(graph: bytes, output: str) -> tuple[bytes, ByteScale]:
    """Take last block, head, pooling and last matrix off the graph of a feature branch.

    Args:
        graph: what `to_int8` and `shrink_weights` made of it.
        output: name of the new graph's only output, the last block's input as (n, 192, h, w) unsigned bytes.

    Returns:
        The new graph, the same bytes for two graphs that differ only in what was taken off; what its bytes stand for.

    Raises:
        InputError: another kind of graph.
    """
    model = onnx.load_from_string(graph)
    end = _end_of(model)
    maps = end.convolutions[0].codes_in.input
    needed, nodes = {maps[0]}, [helper.make_node("Identity", [maps[0]], [output])]
    for node in reversed(model.graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.insert(0, node)
    weights = [weight for weight in model.graph.initializer if weight.name in needed]
    ended = helper.make_tensor_value_info(output, onnx.TensorProto.UINT8, None)
    part = helper.make_graph(nodes, "trunk", list(model.graph.input), [ended], weights)
    made = helper.make_model(part, opset_imports=list(model.opset_import), ir_version=model.ir_version)
    content: bytes = made.SerializeToString(deterministic=True)
    step, zero = (numpy_helper.to_array(end.weights[name]) for name in maps[1:])
    return content, ByteScale(float(step), int(zero))


def with_last_block(
    graph: bytes, convolutions: Sequence[nn.Conv2d], matrix: NDArray[np.floating], *, narrow: tuple[float, float]
) -> bytes:
    """Return a graph that `cut_before_last_block` can take apart with other weights after the cut.

    Args:
        graph: of a feature branch.
        convolutions: the four of last block and head, `Trunk.last_convolutions`.
        matrix: (1280, dim) the last one.
        narrow: least and most of what the third convolution gives; the others are clipped to 0..6.

    Raises:
        InputError: another kind of graph, or other shapes.
    """
    model = onnx.load_from_string(graph)
    end = _end_of(model)

    def put(name: str, values: NDArray[Any]) -> None:
        known = end.weights[name]
        if tuple(known.dims) != values.shape:
            raise InputError(f"the graph has {tuple(known.dims)} where the weights are {values.shape}")
        known.CopyFrom(numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(known.data_type)), name))

    scale_in = numpy_helper.to_array(end.weights[end.convolutions[0].codes_in.input[1]])
    for number, (there, learned) in enumerate(zip(end.convolutions, convolutions, strict=True)):
        assert learned.bias is not None
        weight, bias = learned.weight.detach().numpy(), learned.bias.detach().numpy()
        least = np.abs(bias) / (2**30 * scale_in)  # of a channel's scale: its bias has 32 bits
        values, scale = columns_as_int8(weight.reshape(len(weight), -1).T, least=least)
        put(there.weight.input[0], np.ascontiguousarray(values.T).reshape(weight.shape))
        put(there.weight.input[1], scale)
        put(there.bias.input[0], np.rint(bias / (scale_in * scale)))
        put(there.bias.input[1], scale_in * scale)
        low, high = narrow if number == 2 else (0.0, 6.0)
        low, high = min(low, 0.0), max(high, 0.0)
        scale_in = np.array(max(high - low, 1e-6) / 255, np.float32)
        put(there.codes_out.input[1], scale_in)
        put(there.codes_out.input[2], np.rint(-low / scale_in))
    parts: Sequence[NDArray[Any]] = (matrix,) if len(end.matrix) == 1 else columns_as_int8(matrix)
    for name, values in zip(end.matrix, parts, strict=True):
        put(name, values)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


@dataclass(frozen=True, slots=True)
class _Convolution:
    """The nodes around an int8 convolution; each one's inputs are codes or values, scale and zero."""

    codes_in: onnx.NodeProto
    weight: onnx.NodeProto
    bias: onnx.NodeProto
    codes_out: onnx.NodeProto


@dataclass(frozen=True, slots=True, eq=False)
class _End:
    """What a feature branch's graph ends in."""

    convolutions: Sequence[_Convolution]
    matrix: Sequence[str]  # int8 values and a scale per column, or float32 values
    weights: Mapping[str, onnx.TensorProto]


def _end_of(model: onnx.ModelProto) -> _End:
    weights = {weight.name: weight for weight in model.graph.initializer}
    made_by = {name: node for node in model.graph.node for name in node.output}
    read_by = {name: node for node in model.graph.node for name in node.input}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"][-4:]
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    try:
        found = []
        for node in convolutions:
            codes_in, weight, bias = (made_by[name] for name in node.input)
            found.append(_Convolution(codes_in, weight, bias, read_by[node.output[0]]))
        last = products[-1].input[1]
        matrix = [last] if last in weights else list(made_by[last].input)
        names = [name for part in found for name in (*part.weight.input, *part.bias.input)]
        names += [name for part in found for name in (*part.codes_in.input[1:], *part.codes_out.input[1:])]
        kinds = [node.op_type for part in found for node in (part.codes_in, part.weight, part.bias, part.codes_out)]
        is_ours = kinds == 4 * [*3 * ["DequantizeLinear"], "QuantizeLinear"] and weights.keys() >= {*names, *matrix}
    except (KeyError, IndexError, ValueError):
        is_ours = False
    if not is_ours:
        raise InputError(
            "the graph does not end in an int8 last block, head and matrix as those trained here do; train without "
            "--feature-only"
        )
    return _End(found, matrix, weights)


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
