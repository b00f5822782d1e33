"""Any embedding graph as a model version: checked on photos before it may name features."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sameitem.core.errors import InputError, NotFoundError, TooLargeError
from sameitem.core.records import Pixels
from sameitem.features.embed import SESSION_ERRORS, first_line, open_session
from sameitem.features.model_folder import DIMS, EMBED, Graph, ModelFolder, write_model
from sameitem.features.preprocess import Fit, Layout, Preprocessing, to_square

GRAPH_BYTES = 1 << 30  # a larger graph is no model for one photo on a CPU
SAMPLE_PHOTOS = 2  # at least; a model that cannot tell two photos apart is none
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
_SAME = 1e-5  # two unit features closer than this are one feature


@dataclass(frozen=True, slots=True)
class _Ends:
    """The image input and the feature output of a graph."""

    input: str
    output: str
    side_px: int
    layout: Layout
    dtype: type[np.float32 | np.uint8]


def import_model(
    onnx_file: Path,
    models_folder: Path,
    *,
    name: str,
    sample_photos: Sequence[Pixels],
    side_px: int | None = None,
    fit: Fit = Fit.PAD,
    fill: int = 255,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    output: str | None = None,
    licence: str = "",
    source: str = "",
) -> ModelFolder:
    """Make a model version of any graph that turns one image into 128-1024 numbers.

    The graph takes (batch, 3, side, side) or (batch, side, side, 3), float32 or uint8, with a free batch or one of 1.
    A uint8 graph gets the pixels as they are. Features need not be of unit length.

    Args:
        onnx_file: the graph with its weights inside.
        models_folder: gets the new folder `name`.
        name: the model version.
        sample_photos: at least two different pictures.
        side_px: height and width of the input; needed where the graph leaves them free.
        fit: how a picture becomes square.
        fill: grey level of the bars that `fit=pad` adds, 0..255.
        mean: of red, green and blue, 0..255.
        std: of red, green and blue, in the same unit.
        output: name of the output to take; needed where several have the right shape.
        licence: of the weights.
        source: where the weights come from.

    Returns:
        What was written; `metrics` holds `ms_per_photo` on one thread and `sample_photos`.

    Raises:
        NotFoundError: no such file.
        ConflictError: the model version exists.
        InputError: the graph cannot be used; the message says why. TooLargeError: above 1 GiB.
    """
    if len(sample_photos) < SAMPLE_PHOTOS:
        raise InputError(f"need at least {SAMPLE_PHOTOS} different sample photos, got {len(sample_photos)}")
    content = _read(onnx_file)
    session = open_session(content, threads=1)
    ends = _find_ends(session, side_px=side_px, output=output)
    if ends.dtype is np.uint8:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    preprocessing = Preprocessing(ends.side_px, fit, fill, mean, std, ends.layout)
    features, ms_per_photo = _try(session, ends, preprocessing, sample_photos)
    model = ModelFolder(
        version=name,
        kind="imported",
        dim=features.shape[1],
        graphs={EMBED: Graph("embed.onnx", hashlib.sha256(content).hexdigest(), ends.input, ends.output)},
        preprocessing=preprocessing,
        licence=licence,
        source=source,
        metrics={"ms_per_photo": round(ms_per_photo, 2), "sample_photos": len(sample_photos)},
    )
    folder = models_folder / name
    write_model(folder, model, graphs={EMBED: content}, card=_card(model, onnx_file.name))
    return model


def _read(onnx_file: Path) -> bytes:
    if not onnx_file.is_file():
        raise NotFoundError(f"no file {onnx_file}")
    size = onnx_file.stat().st_size
    if size > GRAPH_BYTES:
        raise TooLargeError(f"{onnx_file} has {size} bytes, at most {GRAPH_BYTES} are taken; export a smaller model")
    return onnx_file.read_bytes()


def _find_ends(session: onnxruntime.InferenceSession, *, side_px: int | None, output: str | None) -> _Ends:
    inputs = session.get_inputs()
    if len(inputs) != 1:
        raise InputError(f"need a graph with one image input, got {[end.name for end in inputs]}")
    (image,) = inputs
    dtypes: dict[str, type[np.float32 | np.uint8]] = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8}
    if image.type not in dtypes:
        raise InputError(f"need a float32 or uint8 input, got {image.type}; export the graph with a float32 input")
    shape = [size if isinstance(size, int) else None for size in image.shape]  # None: free
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise InputError(
            f"need an input (batch, 3, side, side) or (batch, side, side, 3), got {image.shape}; export it like that"
        )
    if shape[0] not in (None, 1):
        raise InputError(f"need a free batch or a batch of 1, got {shape[0]}; export the graph with a dynamic batch")
    layout = Layout.NCHW if shape[1] == 3 else Layout.NHWC
    sides = {size for size in (shape[2:] if layout is Layout.NCHW else shape[1:3]) if size is not None}
    wanted = sides | ({side_px} if side_px is not None else set())
    if len(wanted) != 1:
        raise InputError(f"need one square side, got {sorted(wanted)}: the graph says {image.shape}", field="side_px")
    (side,) = wanted
    return _Ends(image.name, _find_output(session, output), side, layout, dtypes[image.type])


def _find_output(session: onnxruntime.InferenceSession, wanted: str | None) -> str:
    outputs = {end.name: end for end in session.get_outputs()}
    if wanted is not None:
        if wanted not in outputs:
            raise InputError(f"need one of the outputs {sorted(outputs)}, got {wanted!r}", field="output")
        return wanted
    fitting = [
        name
        for name, end in outputs.items()
        if end.type == "tensor(float)"
        and len(end.shape) == 2
        and (not isinstance(end.shape[1], int) or DIMS[0] <= end.shape[1] <= DIMS[1])
    ]
    if len(fitting) != 1:
        shapes = {name: end.shape for name, end in outputs.items()}
        raise InputError(
            f"need one float32 output (batch, {DIMS[0]}-{DIMS[1]}), {len(fitting)} of {shapes} fit; name the output",
            field="output",
        )
    return str(fitting[0])


def _try(
    session: onnxruntime.InferenceSession, ends: _Ends, preprocessing: Preprocessing, photos: Sequence[Pixels]
) -> tuple[NDArray[np.float32], float]:
    """Return the unit features of the photos and the milliseconds a photo took; refuse what is no feature."""
    rows = []
    started = time.perf_counter()
    for photo in photos:
        image = to_square(photo, preprocessing).astype(ends.dtype)[None]
        try:
            (row,) = session.run([ends.output], {ends.input: image})
        except SESSION_ERRORS as error:
            raise InputError(f"the graph fails on a photo: {first_line(error)}") from error
        if not isinstance(row, np.ndarray) or row.ndim != 2 or len(row) != 1 or row.dtype != np.float32:
            shape = getattr(row, "shape", type(row).__name__)
            raise InputError(f"need an output (1, {DIMS[0]}-{DIMS[1]}) of float32 for one photo, got {shape}")
        rows.append(row[0])
    ms_per_photo = (time.perf_counter() - started) * 1000 / len(photos)
    if len({row.shape for row in rows}) != 1 or not DIMS[0] <= len(rows[0]) <= DIMS[1]:
        sizes = sorted({len(row) for row in rows})
        raise InputError(
            f"need {DIMS[0]}-{DIMS[1]} numbers a photo, got {sizes}; export the embedding, not the classes"
        )
    features = np.stack(rows)
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or not (lengths > 0).all():
        raise InputError("the graph gives zero or numbers that are not finite; check the weights and mean and std")
    features = features / lengths
    if np.ptp(features, axis=0).max() < _SAME:
        raise InputError("the graph gives every sample photo the same feature; check the weights and mean and std")
    return features, ms_per_photo


def _card(model: ModelFolder, file_name: str) -> str:
    return (
        f"# {model.version}\n\nImported from `{file_name}`. {model.dim} numbers a photo.\n\n"
        f"- Licence: {model.licence or 'not stated'}\n- Source: {model.source or 'not stated'}\n"
    )
