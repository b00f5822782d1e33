"""What a training starts from, and a process that trains: run as `python drawn_start.py FOLDER NAME KILL_AT`."""

import hashlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from drawn_graphs import embedding_graph, model_of
from drawn_triplets import draw_clicks
from sameitem.features.model_folder import EMBED, ModelFolder, Weights, write_model
from sameitem.features.preprocess import Fit, Layout, Preprocessing
from sameitem.learning.judge import JUDGE_PX, Judge
from sameitem.learning.network import FeatureBranch, SubjectPooling
from sameitem.learning.phases import Recipe
from sameitem.learning.train import train_embedding
from sameitem.learning.trunk import CHANNELS, folded_trunk
from sameitem.learning.weights import Learned, pack

DIM = 128
SMALL = Recipe(mask_steps=2, rounds=2, searched=24, fit_steps=52, judge_steps=2, feature_steps=3, feature_px=96, rows=8)


def fresh() -> Learned:
    """A model that has learned nothing yet: the public trunk and a random projection."""
    rows = np.random.default_rng(0).standard_normal((CHANNELS, DIM))
    pooling = SubjectPooling(centre=float("inf"), contrast=0.0)
    return Learned(FeatureBranch(folded_trunk(), pooling, np.linalg.qr(rows)[0]).eval(), None, None)


def drawn_judge(images: NDArray[np.uint8], folder: Path) -> Judge:
    """A judge that sees colours only: its graph averages cells of 10 pixels and mixes them."""
    cells = 3 * (JUDGE_PX // 10) ** 2
    mixing = np.random.default_rng(0).standard_normal((cells, CHANNELS)).astype(np.float32) / cells**0.5
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["image"], ["cells"], kernel_shape=[10, 10], strides=[10, 10]),
            helper.make_node("Flatten", ["cells"], ["flat"]),
            helper.make_node("MatMul", ["flat", "mixing"], ["pooled"]),
        ],
        "judge",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, JUDGE_PX, JUDGE_PX])],
        [helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["n", CHANNELS])],
        [numpy_helper.from_array(mixing, "mixing")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (folder / f"judge-{JUDGE_PX}.onnx").write_bytes(model.SerializeToString())
    return Judge(images, folder)


def write_start(folder: Path) -> ModelFolder:
    """Write the model folder that a training starts from; its graph is a drawn one, as training reads the weights."""
    graph, weights = embedding_graph(), pack(fresh())
    model = replace(
        model_of(graph, version=folder.name),
        preprocessing=Preprocessing(96, Fit.PAD, 255, (127.0,) * 3, (128.0,) * 3, Layout.NCHW),
        weights=Weights("weights.npz", hashlib.sha256(weights).hexdigest()),
    )
    write_model(folder, model, graphs={EMBED: graph}, card="# drawn\n", weights=weights)
    return model


def train(folder: Path, name: str, *, kill_at: tuple[str, int] | None = None, recipe: Recipe = SMALL) -> None:
    """Train a model version on drawn clicks; the process ends with SIGKILL after a phase's step, from 1."""

    def tell(phase: str, _percent: float, figures: Mapping[str, float]) -> None:
        if (phase, figures["step"]) == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    clicks = draw_clicks(folder / name)
    train_embedding(
        triplets=clicks.file,
        start=folder / "start",
        out=folder / "models" / name,
        photo=clicks.photo,
        checkpoint=folder / name / "checkpoint",
        minutes=None,
        seed=3,
        tell=tell,
        recipe=recipe,
    )


if __name__ == "__main__":
    moment = sys.argv[3].rsplit(":", 1) if len(sys.argv) > 3 else None
    train(Path(sys.argv[1]), sys.argv[2], kill_at=(moment[0], int(moment[1])) if moment else None)
