"""A model version on disk: manifest, graphs and card; read with every check, written atomically.

manifest.json:
{"format": 1, "version": "base-2", "kind": "base", "dim": 1024, "graphs": {"embed": {"file": "embed.onnx",
"sha256": "…", "input": "image", "output": "feature"}}, "preprocessing": {"side_px": 224, "fit": "pad", "fill": 255,
"mean": […], "std": […], "layout": "NCHW"}, "licence": "…", "source": "…", "metrics": {}}

A model that finds subjects has a graph "detect" too, and "detect": {"preprocessing": {…}, "categories": ["tops", …],
"temperature": 1.2, "views": [1.0, 1.3]}; one that training can go on from has "weights": {"file": "weights.npz",
"sha256": "…"}. docs/file-formats.md says what each key means.
"""

import hashlib
import json
import math
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from sameitem.core.durable import publish, synced
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.features.preprocess import Fit, Preprocessing

FORMAT = 1
DIMS = (128, 1024)  # smallest and largest feature the engine is built for
VERSION_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MANIFEST, CARD, PAGE = "manifest.json", "card.md", "training.html"
EMBED, DETECT = "embed", "detect"  # roles of graphs
BOXES, BOX_SCORES, CATEGORY_LOGITS = "boxes", "box_scores", "category_logits"  # outputs of a graph `detect`
MAX_VIEWS = 8  # runs of the graph `embed` that one photo may cost
MAX_SCALE = 4.0
_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Graph:
    """One ONNX file of a model folder and the names of its ends."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    file: str
    sha256: str  # of the file's bytes, 64 hex digits
    input: str
    output: str


@dataclass(frozen=True, slots=True)
class Detect:
    """How the graph `detect` is fed and what is made of its answers."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    preprocessing: Preprocessing  # of the whole photo; boxes are shares of this padded square
    categories: tuple[str, ...]  # top category ids in the order of the graph's logits; empty = it has none
    temperature: float  # the logits are divided by it before the softmax
    views: tuple[float, ...]  # scales of the box whose unit features are averaged, 0 = the whole photo; the first votes

    def __post_init__(self) -> None:
        if self.preprocessing.fit is not Fit.PAD:
            raise InputError(f"need fit=pad to find subjects, got {self.preprocessing.fit}", field="detect")
        if len(set(self.categories)) != len(self.categories) or not all(self.categories):
            raise InputError(f"need different category ids, got {list(self.categories)}", field="detect")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"need a temperature above 0, got {self.temperature}", field="detect")
        fitting = all(view == 0 or 0.1 <= view <= MAX_SCALE for view in self.views)
        if not 1 <= len(self.views) <= MAX_VIEWS or not fitting:
            raise InputError(
                f"need 1-{MAX_VIEWS} views, each 0 (the whole photo) or 0.1-{MAX_SCALE:g} times the box, "
                f"got {list(self.views)}",
                field="detect",
            )


@dataclass(frozen=True, slots=True)
class Weights:
    """The float weights that training goes on from; serving never reads them."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    file: str
    sha256: str  # of the file's bytes, 64 hex digits


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """What a model version is, as its manifest says."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    version: str
    kind: str  # base (shipped), trained (from clicks) or imported
    dim: int
    graphs: Mapping[str, Graph]  # by role; "embed" is always there
    preprocessing: Preprocessing  # of the graph `embed`
    licence: str
    source: str
    metrics: Mapping[str, Any]
    detect: Detect | None = None  # there iff the graph `detect` is
    weights: Weights | None = None

    def __post_init__(self) -> None:
        if not VERSION_PATTERN.fullmatch(self.version):
            raise InputError(
                f"need a model version of 1-64 letters, digits, dots, dashes or underscores, got {self.version!r}",
                field="version",
            )
        if not DIMS[0] <= self.dim <= DIMS[1]:
            raise InputError(f"need a feature of {DIMS[0]}-{DIMS[1]} numbers, got {self.dim}", field="dim")
        if EMBED not in self.graphs:
            raise InputError(f"need a graph named {EMBED!r}, got {sorted(self.graphs)}", field="graphs")
        if (DETECT in self.graphs) != (self.detect is not None):
            raise InputError(
                f"need the graph {DETECT!r} and the key {DETECT!r} together, got the graphs {sorted(self.graphs)} "
                f"{'with' if self.detect else 'without'} the key",
                field="detect",
            )
        files = [graph.file for graph in self.graphs.values()] + ([self.weights.file] if self.weights else [])
        for file in files:
            if Path(file).name != file or file in {"", ".", "..", MANIFEST, CARD, PAGE}:
                raise InputError(f"need a plain file name of a graph or of weights, got {file!r}", field="graphs")
        if len(set(files)) != len(files):
            raise InputError(f"need a file for each graph and for the weights, got {files}", field="graphs")


_MODEL = TypeAdapter(ModelFolder)


def read_model(folder: Path) -> ModelFolder:
    """Read a model folder's manifest and check every graph file against it.

    Raises:
        NotFoundError: no manifest there.
        InputError: the manifest is not one, is of another format or does not fit its files.
    """
    manifest = folder / MANIFEST
    if not manifest.is_file():
        raise NotFoundError(f"no model folder at {folder}: {MANIFEST} is missing; `models list` shows what there is")
    model = _parse(manifest)
    for role in model.graphs:
        read_graph(folder, model, role)
    if model.weights is not None and not (folder / model.weights.file).is_file():
        raise _missing(folder, model.weights.file)
    return model


def read_graph(folder: Path, model: ModelFolder, role: str) -> bytes:
    """Read one graph's bytes, which are what the manifest's checksum was taken of.

    Raises:
        NotFoundError: the model has no such graph.
        InputError: the file is missing or is not the one the manifest was written for.
    """
    if role not in model.graphs:
        raise NotFoundError(f"model {model.version} has no graph {role!r}, only {sorted(model.graphs)}")
    return _read(folder, model.graphs[role].file, model.graphs[role].sha256)


def read_weights(folder: Path, model: ModelFolder) -> bytes:
    """Read the bytes of the weights that training goes on from.

    Raises:
        NotFoundError: the model has none.
        InputError: the file is missing or is not the one the manifest was written for.
    """
    if model.weights is None:
        raise NotFoundError(f"model {model.version} has no weights to train on from; it can be searched with only")
    return _read(folder, model.weights.file, model.weights.sha256)


def write_model(
    folder: Path,
    model: ModelFolder,
    *,
    graphs: Mapping[str, bytes],
    card: str,
    weights: bytes | None = None,
    page: bytes | None = None,
) -> None:
    """Publish a new model folder whole or not at all; model folders never change.

    Args:
        folder: where it shall stand; its parent is made when it is missing.
        model: what the manifest shall say; its checksums must be those of `graphs`.
        graphs: the ONNX bytes by role.
        card: Markdown: data, start, licences, metrics, limits.
        weights: bytes of the file that `model.weights` names.
        page: HTML of the curves of its training.

    Raises:
        ConflictError: the folder exists.
        InputError: `graphs` or `weights` are not those the model names.
    """
    if graphs.keys() != model.graphs.keys():
        raise InputError(f"need the bytes of the graphs {sorted(model.graphs)}, got {sorted(graphs)}", field="graphs")
    if (weights is None) != (model.weights is None):
        raise InputError("need the bytes of the weights where the model names them, and only there", field="weights")
    if folder.exists():
        raise ConflictError(f"{folder} exists and model folders never change; choose another version")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for role, content in graphs.items():
            _write(draft / model.graphs[role].file, content)
        _write(draft / CARD, card.encode())
        said = {key: value for key, value in asdict(model).items() if value is not None}
        _write(draft / MANIFEST, (json.dumps({"format": FORMAT} | said, indent=1) + "\n").encode())
        if model.weights is not None and weights is not None:
            _write(draft / model.weights.file, weights)
            read_weights(draft, model)
        if page is not None:
            _write(draft / PAGE, page)
        read_model(draft)
        draft.chmod(0o755)  # mkdtemp's folders are closed to other users
        try:
            publish(draft, folder)
        except OSError as error:
            raise ConflictError(f"{folder} appeared meanwhile; model folders never change") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def shipped_model() -> Path:
    """Find the model folder that comes with the package."""
    return Path(str(resources.files("sameitem.features") / "shipped" / "base-2"))


def _parse(manifest: Path) -> ModelFolder:
    if manifest.stat().st_size > _MANIFEST_BYTES:
        raise InputError(f"{manifest} has more than {_MANIFEST_BYTES} bytes; that is no manifest of a model folder")
    try:
        content = json.loads(manifest.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{manifest} is not JSON ({error}); copy the model folder again") from error
    if not isinstance(content, dict) or content.pop("format", None) != FORMAT:
        raise InputError(
            f'{manifest} has no "format": {FORMAT}, the one this version reads; upgrade or export it again'
        )
    try:
        return _MODEL.validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise InputError(f"{manifest} does not fit: {where}: {problem['msg']}", field=where) from error
    except InputError as error:
        raise InputError(f"{manifest} does not fit: {error}", field=error.field) from error


def _read(folder: Path, name: str, sha256: str) -> bytes:
    file = folder / name
    if not file.is_file():
        raise _missing(folder, name)
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise InputError(
            f"{file} has the checksum {found[:12]}…, its manifest says {sha256[:12]}…; copy the folder again"
        )
    return content


def _missing(folder: Path, name: str) -> InputError:
    return InputError(f"{folder / MANIFEST} names {name}, which is not there; copy the model folder again")


def _write(file: Path, content: bytes) -> None:
    with synced(file) as stream:
        stream.write(content)
