"""Crops in, features out: the ONNX session of a model folder's `embed` graph, and what its other graphs share."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # type: ignore[import-untyped]

from sameitem.core.errors import InputError
from sameitem.core.records import Pixels
from sameitem.features.model_folder import EMBED, ModelFolder, read_graph, read_model
from sameitem.features.preprocess import Preprocessing, to_square

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


class PictureSession:
    """One graph of a model folder that takes pictures; one instance may serve many threads."""

    def __init__(
        self,
        folder: Path,
        model: ModelFolder,
        role: str,
        *,
        preprocessing: Preprocessing,
        outputs: Sequence[str],
        threads: int,
        batch: int,
    ) -> None:
        """Load the graph and check its ends.

        Args:
            folder: of the model version.
            model: what its manifest says.
            role: of the graph.
            preprocessing: of its pictures.
            outputs: that `run` returns.
            threads: processor threads of one run.
            batch: most pictures of one run; a graph whose batch is fixed to 1 gets one at a time.

        Raises:
            InputError: the graph does not fit the manifest.
        """
        if threads < 1 or batch < 1:
            raise InputError(f"need threads and batch of at least 1, got {threads} and {batch}")
        self._session = open_session(read_graph(folder, model, role), threads=threads)
        self._version, self._preprocessing, self._outputs = model.version, preprocessing, list(outputs)
        self._input = model.graphs[role].input
        inputs = {end.name: end for end in self._session.get_inputs()}
        found = {end.name for end in self._session.get_outputs()}
        if inputs.keys() != {self._input} or not found.issuperset(outputs):
            raise InputError(
                f"{folder}: the graph {role!r} needs the ends {self._input!r} and {', '.join(map(repr, outputs))}, "
                f"it has {sorted(inputs)} and {sorted(found)}"
            )
        takes_bytes = inputs[self._input].type == "tensor(uint8)"
        if takes_bytes and (set(preprocessing.mean), set(preprocessing.std)) != ({0.0}, {1.0}):
            raise InputError(f"{folder}: a graph of uint8 pixels needs mean 0 and std 1 in its manifest")
        self._dtype = np.uint8 if takes_bytes else np.float32
        self._batch = 1 if inputs[self._input].shape[:1] == [1] else batch

    def run(self, pictures: Sequence[Pixels]) -> Iterator[tuple[slice, list[NDArray[np.float32]]]]:
        """Yield the outputs of one batch of pictures after the other, with the rows they belong to.

        Raises:
            ShapeError: not an RGB picture.
            InputError: the graph failed, or gave an output that has not one row per picture.
        """
        for start in range(0, len(pictures), self._batch):
            part = pictures[start : start + self._batch]
            squares = [to_square(picture, self._preprocessing) for picture in part]
            inputs = np.stack(squares).astype(self._dtype, copy=False)
            try:
                outputs = self._session.run(self._outputs, {self._input: inputs})
            except SESSION_ERRORS as error:
                raise InputError(f"model {self._version} failed on {inputs.shape}: {first_line(error)}") from error
            rows = [np.asarray(output, np.float32) for output in outputs]
            if any(output.shape[:1] != (len(part),) for output in rows):
                raise InputError(f"model {self._version} gave {[row.shape for row in rows]} for {len(part)} pictures")
            yield slice(start, start + len(part)), rows


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
        model = read_model(folder)
        outputs = [model.graphs[EMBED].output]
        self._session = PictureSession(
            folder, model, EMBED, preprocessing=model.preprocessing, outputs=outputs, threads=threads, batch=batch
        )
        self._version, self._dim = model.version, model.dim

    @property
    def version(self) -> str:
        """The model version that every feature belongs to."""
        return self._version

    @property
    def dim(self) -> int:
        """Numbers in a feature."""
        return self._dim

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Turn crops of any size into features; companions change a crop's feature by rounding at most.

        Returns:
            (crops, dim) rows of unit length, in the order of the crops.

        Raises:
            ShapeError: a crop is not an RGB picture.
            InputError: the graph failed, or gave a feature without a direction.
        """
        features = np.empty((len(crops), self.dim), np.float32)
        for rows, (found,) in self._session.run(crops):
            if found.shape[1:] != (self.dim,):
                raise InputError(
                    f"model {self.version} gave {found.shape}, its manifest says ({len(found)}, {self.dim})"
                )
            features[rows] = found
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        if not (np.isfinite(lengths).all() and (lengths > 0).all()):
            raise InputError(f"model {self.version} gave a feature that is zero or not finite; import another graph")
        features /= lengths
        return features

    def embed_each(self, views: Sequence[Pixels]) -> NDArray[np.float32]:
        """Turn views into features as `embed` does; the same array twice is embedded once.

        Returns:
            (views, dim) rows of unit length, in the order of the views.
        """
        distinct = {id(view): view for view in views}
        row_of = {key: row for row, key in enumerate(distinct)}
        return self.embed(list(distinct.values()))[[row_of[id(view)] for view in views]]

    def embed_views(self, photos: Sequence[Sequence[Pixels]]) -> NDArray[np.float32]:
        """Turn several views of each photo into one feature: the mean of their unit features, of unit length.

        Args:
            photos: at least one view of each; a view that stands there twice counts twice.

        Returns:
            (photos, dim), in the order of the photos.

        Raises:
            ShapeError: a view is not an RGB picture.
            InputError: the graph failed, or gave a feature without a direction.
        """
        views = self.embed_each([view for photo in photos for view in photo])
        ends = np.cumsum([len(photo) for photo in photos], dtype=np.int64)
        means = np.empty((len(photos), self.dim), np.float32)
        for row, (end, photo) in enumerate(zip(ends, photos, strict=True)):
            means[row] = unit_mean(views[end - len(photo) : end])
        return means


def unit_mean(views: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the direction of the mean of unit features (views, dim) as one unit feature (dim,)."""
    mean = views.mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean), np.float32)
