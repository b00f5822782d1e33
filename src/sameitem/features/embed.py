"""Crops in, features out: the ONNX session of a model folder's `embed` graph."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # type: ignore[import-untyped]

from sameitem.core.errors import InputError
from sameitem.core.records import Pixels
from sameitem.features.model_folder import EMBED, read_graph, read_model
from sameitem.features.preprocess import to_square

SESSION_ERRORS = (
    ort_errors.EPFail,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)

_OUTSIDE_WEIGHTS = "session.model_external_initializers_file_folder_path"


def open_session(graph: bytes, *, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph on the CPU.

    Args:
        graph: an ONNX file's bytes; weights in other files are refused.
        threads: processor threads of one run.

    Raises:
        InputError: not an ONNX graph that this version of ONNX Runtime runs.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # every error is raised; the log would only repeat it
    options.add_session_config_entry(_OUTSIDE_WEIGHTS, os.devnull)  # where no file can be
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except SESSION_ERRORS as error:
        if "External data" in str(error):
            raise InputError("the graph keeps weights in other files; export it with its weights inside") from error
        raise InputError(f"ONNX Runtime cannot load the graph: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return what a library's error says in its first line, at most 300 characters."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


class Embedder:
    """Turns crops into unit features with one model version; one instance may serve many threads."""

    def __init__(self, folder: Path, *, threads: int = 1, batch: int = 32) -> None:
        """Load the model folder.

        Args:
            folder: of the model version.
            threads: processor threads of one run.
            batch: most crops of one run; a graph whose batch is fixed to 1 gets one at a time.

        Raises:
            NotFoundError: no model folder there.
            InputError: the folder or its graph does not fit its manifest.
        """
        if threads < 1 or batch < 1:
            raise InputError(f"need threads and batch of at least 1, got {threads} and {batch}")
        model = read_model(folder)
        graph = model.graphs[EMBED]
        self._session = open_session(read_graph(folder, model, EMBED), threads=threads)
        inputs = {end.name: end for end in self._session.get_inputs()}
        outputs = {end.name for end in self._session.get_outputs()}
        if set(inputs) != {graph.input} or graph.output not in outputs:
            raise InputError(
                f"{folder}: the manifest names the ends {graph.input!r} and {graph.output!r}, "
                f"the graph has {sorted(inputs)} and {sorted(outputs)}"
            )
        takes_bytes = inputs[graph.input].type == "tensor(uint8)"
        if takes_bytes and (set(model.preprocessing.mean), set(model.preprocessing.std)) != ({0.0}, {1.0}):
            raise InputError(f"{folder}: a graph of uint8 pixels needs mean 0 and std 1 in its manifest")
        self._model = model
        self._dtype = np.uint8 if takes_bytes else np.float32
        self._batch = 1 if inputs[graph.input].shape[:1] == [1] else batch

    @property
    def version(self) -> str:
        """The model version that every feature belongs to."""
        return self._model.version

    @property
    def dim(self) -> int:
        """Numbers in a feature."""
        return self._model.dim

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Turn crops of any size into features; companions change a crop's feature by rounding at most.

        Returns:
            (crops, dim) rows of unit length, in the order of the crops.

        Raises:
            ShapeError: a crop is not an RGB picture.
            InputError: the graph failed, or gave a feature without a direction.
        """
        features = np.empty((len(crops), self.dim), np.float32)
        for start in range(0, len(crops), self._batch):
            rows = slice(start, start + self._batch)
            features[rows] = self._run(crops[rows])
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise InputError(f"model {self.version} gave a feature that is zero or not finite; import another graph")
        features /= lengths
        return features

    def _run(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        graph = self._model.graphs[EMBED]
        inputs = np.stack([to_square(crop, self._model.preprocessing) for crop in crops]).astype(
            self._dtype, copy=False
        )
        try:
            (features,) = self._session.run([graph.output], {graph.input: inputs})
        except SESSION_ERRORS as error:
            raise InputError(f"model {self.version} failed on {inputs.shape}: {first_line(error)}") from error
        if features.shape != (len(crops), self.dim):
            raise InputError(
                f"model {self.version} gave {features.shape}, its manifest says ({len(crops)}, {self.dim})"
            )
        rows: NDArray[np.float32] = features.astype(np.float32, copy=False)
        return rows
