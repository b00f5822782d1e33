"""Where the subject of a picture is when nobody gave a box."""

from pathlib import Path

import numpy as np
import pytest

from drawn_graphs import photo_of_a_thing, write_detecting
from sameitem.core.records import Box
from sameitem.features.colour import has_plain_backdrop
from sameitem.features.detect import Detector
from sameitem.features.embed import Embedder
from sameitem.features.subject import (
    CENTRED,
    catalogue_subjects,
    centred_views,
    detected_part,
    part_of,
    scaled,
    user_subjects,
    whole,
)

THING = (120, 90, 240, 210)
BUSY = photo_of_a_thing(THING)
PLAIN = photo_of_a_thing(THING, backdrop=np.full((300, 400, 3), 240, np.uint8))


@pytest.fixture
def detector(tmp_path: Path) -> Detector:
    write_detecting(tmp_path / "drawn", views=(1.0, 1.5, 0.0))
    return Detector(tmp_path / "drawn")


def test_a_plain_backdrop_is_one_colour_around_the_thing_even_where_the_thing_is_cut_off() -> None:
    assert has_plain_backdrop(PLAIN)
    assert has_plain_backdrop(photo_of_a_thing((150, 100, 250, 300), backdrop=np.full((300, 400, 3), 240, np.uint8)))
    assert not has_plain_backdrop(BUSY)


def test_a_catalogue_image_on_a_plain_backdrop_is_taken_whole_and_a_busy_one_cut_out(detector: Detector) -> None:
    plain, busy, again = catalogue_subjects([PLAIN, BUSY, PLAIN], detector)
    assert plain.box == again.box == whole(PLAIN)
    assert [view.shape for view in plain.views] == [PLAIN.shape]
    assert busy.box == detector.detect([BUSY])[0].boxes[0]
    assert len(busy.views) == 3


def test_without_a_detector_a_catalogue_image_is_taken_whole() -> None:
    assert [subject.box for subject in catalogue_subjects([PLAIN, BUSY], None)] == [whole(PLAIN), whole(BUSY)]


def test_a_photo_of_a_user_is_cut_out_on_every_backdrop(detector: Detector) -> None:
    plain, busy = user_subjects([PLAIN, BUSY], detector)
    assert [subject.box for subject in (plain, busy)] == [d.boxes[0] for d in detector.detect([PLAIN, BUSY])]


def test_views_are_scaled_around_the_centre_cut_at_the_edge_and_whole_for_zero() -> None:
    subject = detected_part(BUSY, Box(100, 100, 200, 200), (1.0, 1.5, 4.0, 0.0))
    assert np.array_equal(subject.pixels, BUSY[100:200, 100:200])
    assert np.array_equal(subject.views[0], subject.pixels)
    assert np.array_equal(subject.views[1], BUSY[75:225, 75:225])
    assert np.array_equal(subject.views[2], BUSY[:, :350])
    assert np.array_equal(subject.views[3], BUSY)


def test_scaling_keeps_the_centre() -> None:
    assert scaled(Box(10, 20, 30, 60), 2.0) == Box(0, 0, 40, 80)


def test_a_photo_whose_subject_nobody_knows_is_seen_in_centred_views() -> None:
    subject = centred_views(BUSY)
    assert len(subject.views) == len(CENTRED)
    assert np.array_equal(subject.views[0], BUSY)
    assert np.array_equal(subject.views[1], BUSY[30:270, 40:360])


def test_the_feature_of_several_views_is_the_mean_of_their_unit_features(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn")
    embedder = Embedder(tmp_path / "drawn")
    views = [BUSY, BUSY[:100], PLAIN[50:]]
    mean = embedder.embed(views).astype(np.float64).mean(axis=0)
    together = embedder.embed_views([views, [PLAIN]])
    assert together[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)
    assert together[1] == pytest.approx(embedder.embed([PLAIN])[0], abs=1e-6)
    assert embedder.embed_views([]).shape == (0, embedder.dim)


def test_a_view_that_stands_there_twice_counts_twice(tmp_path: Path) -> None:
    write_detecting(tmp_path / "drawn")
    embedder = Embedder(tmp_path / "drawn")
    once = embedder.embed([BUSY, BUSY[:100]]).astype(np.float64)
    mean = (2 * once[0] + once[1]) / 3
    assert embedder.embed_views([[BUSY, BUSY, BUSY[:100]]])[0] == pytest.approx(mean / np.linalg.norm(mean), abs=1e-6)


def test_a_given_part_is_one_view_of_itself() -> None:
    subject = part_of(BUSY, Box(10, 20, 50, 80))
    assert np.array_equal(subject.pixels, BUSY[20:80, 10:50])
    assert len(subject.views) == 1
