from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from drawn_sets import draw_sets  # noqa: E402
from sameitem.core.errors import ConflictError, NotFoundError, ShapeError  # noqa: E402
from sameitem.learning import googlenet  # noqa: E402
from sameitem.learning.googlenet import (  # noqa: E402
    CROP_PX,
    CURVE,
    SIDE_PX,
    GoogLeNet,
    Pictures,
    Plan,
    Training,
    centre_crops,
    load_googlenet,
    predict,
    random_crops,
    rate_at,
    train,
)

NAMES = ("dark", "light")
PLAN = Plan(steps=4, coarse=2, batch=2, rate=0.01)


def pictures(count: int = 6) -> Pictures:
    labels = np.arange(count) % 2
    noise = np.random.default_rng(0).integers(0, 100, (count, SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    return Pictures(noise + (labels * 100).astype(np.uint8)[:, None, None, None], labels)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_auxiliary_classifiers_speak_in_training_only() -> None:
    network = GoogLeNet(5)
    photos = torch.zeros(2, 3, CROP_PX, CROP_PX)
    with torch.inference_mode():
        assert [logits.shape for logits in network.eval()(photos)] == [(2, 5)]
        assert [logits.shape for logits in network.train()(photos)] == [(2, 5)] * 3


def test_the_widths_are_those_of_the_paper() -> None:
    network = GoogLeNet(1000)
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    trunk_weights = sum(module.weight.numel() for module in convolutions) - 128 * (512 + 528)  # less the auxiliary ones
    assert len(convolutions) == 57 + 2  # 3 in the stem, 6 in each of 9 blocks
    assert trunk_weights == pytest.approx(5.97e6, rel=0.01)  # the paper's table 1 adds up to 6.0 million without biases
    with torch.inference_mode():
        low = network.stem(torch.zeros(1, 3, CROP_PX, CROP_PX))
        middle = network.middle(low)
        assert (low.shape, middle.shape) == ((1, 512, 14, 14), (1, 528, 14, 14))
        assert network.top(middle).shape == (1, 1024, 7, 7)


def test_crops_are_windows_of_the_picture_mirrored_or_not() -> None:
    column = np.arange(SIDE_PX, dtype=np.uint8)
    picture = np.broadcast_to(column[None, :, None], (SIDE_PX, SIDE_PX, 3))
    crops = random_crops(np.stack([picture] * 20), np.random.default_rng(0))
    rows = np.rint((crops[:, 0, 0].numpy() + 1) * 127.5)
    steps = np.unique(np.diff(rows, axis=1), axis=1)
    assert sorted(set(steps.ravel().tolist())) == [-1, 1]
    assert len({float(row.min()) for row in rows}) > 5
    middle = np.rint((centre_crops(picture[None])[0, 0, 0].numpy() + 1) * 127.5)
    assert (middle[0], middle[-1]) == ((SIDE_PX - CROP_PX) // 2, (SIDE_PX - CROP_PX) // 2 + CROP_PX - 1)


def test_the_rate_rises_then_falls_to_almost_nothing() -> None:
    plan = Plan(steps=200, coarse=120)
    rates = [rate_at(step, plan) for step in range(200)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(plan.rate, rel=0.01)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[-1] < 0.01 * plan.rate


def run(folder: Path, stops: Sequence[int | None]) -> None:
    folder.mkdir()
    for stop in stops:
        train(pictures(), pictures(2), PLAN, folder, names=NAMES, save_every=9, watch_every=2, stop_after=stop)


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_with_the_weights_of_one_that_was_not(tmp_path: Path) -> None:
    run(tmp_path / "whole", [None])
    run(tmp_path / "stopped", [1, 2, None])
    whole, names = load_googlenet(tmp_path / "whole")
    stopped, _ = load_googlenet(tmp_path / "stopped")
    assert names == NAMES
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, stopped.state_dict()[name]), name
    curves = [(tmp_path / name / CURVE).read_text().splitlines() for name in ("whole", "stopped")]
    without_time = [[line.split(",")[:2] + line.split(",")[3:] for line in curve] for curve in curves]
    assert without_time[0] == without_time[1]
    assert [line[0] for line in without_time[0]] == ["step", "2", "4"]


@pytest.mark.slow
def test_training_learns_what_it_is_shown() -> None:
    training = Training(2, Plan(steps=10, coarse=10, batch=4, rate=0.02))
    losses = [training.step(pictures()).loss for _ in range(10)]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])


def test_a_checkpoint_of_another_plan_is_refused(tmp_path: Path) -> None:
    Training(2, PLAN).save(tmp_path / "checkpoint.npz")
    with pytest.raises(ConflictError, match="another folder"):
        Training(2, Plan(steps=9)).load(tmp_path / "checkpoint.npz")


def test_a_folder_without_a_finished_network_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"let .* finish"):
        load_googlenet(tmp_path)


def test_pictures_of_another_size_are_refused() -> None:
    with pytest.raises(ShapeError, match="256"):
        Pictures(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(2, np.int64))


@pytest.mark.slow
def test_the_command_trains_on_the_rows_that_may_be_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets").mkdir()
    draw_sets(tmp_path / "sets")
    monkeypatch.setattr(googlenet, "_TIMED", 2)
    out = tmp_path / "out"
    googlenet.main(["--data", str(tmp_path / "sets"), "--out", str(out), "--minutes", "0.001"])
    network, names = load_googlenet(out)
    assert len(names) == 14
    assert len(np.load(out / "pictures.npy", mmap_mode="r")) == 2 + 30 + 4 + 2  # fruit, clothes with a category, ABO
    assert predict(network, [np.zeros((30, 50, 3), np.uint8)]).shape == (1, 14)
