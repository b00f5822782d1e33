import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="the extra `train` is not installed")

from drawn_graphs import photos  # noqa: E402
from sameitem.core.errors import InputError  # noqa: E402
from sameitem.features.embed import Embedder  # noqa: E402
from sameitem.features.model_folder import EMBED, read_graph, read_model, shipped_model  # noqa: E402
from sameitem.learning.base_model import (  # noqa: E402
    FILE_BYTES,
    LEAST,
    PREPROCESSING,
    Pair,
    fit_projection,
    graph_embed,
    label_directions,
)
from sameitem.learning.network import SubjectPooling  # noqa: E402


def unit_rows(seed: int, *, count: int = 60, dim: int = 12) -> NDArray[np.float64]:
    rows = np.random.default_rng(seed).standard_normal((count, dim))
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True))


def slow_pooling(maps: NDArray[np.float64], *, centre_cells: float, contrast: float) -> NDArray[np.float64]:
    """The pooling of one picture (channels, 7, 7), cell by cell."""
    places = [(y, x) for y in range(7) for x in range(7)]
    border = np.mean([maps[:, y, x] for y, x in places if {y, x} & {0, 6}], axis=0)
    total, weights = np.zeros(len(maps)), 0.0
    for y, x in places:
        cell = maps[:, y, x]
        likeness = cell @ border / max(np.linalg.norm(cell) * np.linalg.norm(border), 1e-6)
        weight = np.exp(-((y - 3) ** 2 + (x - 3) ** 2) / (2 * centre_cells**2) - contrast * likeness)
        total, weights = total + weight * cell, weights + weight
    return np.asarray(total / weights)


@settings(max_examples=30, deadline=None)
@given(seed=integers(0, 999), centre_cells=floats(0.5, 5), contrast=floats(0, 5))
def test_pooling_agrees_with_the_loop_over_cells(seed: int, centre_cells: float, contrast: float) -> None:
    maps = np.random.default_rng(seed).uniform(0, 6, (2, 5, 7, 7)).astype(np.float32)
    maps[1, :, :2] = 0  # cells of nothing
    pooled = SubjectPooling(centre=centre_cells / 7, contrast=contrast)(torch.from_numpy(maps)).numpy()
    for row, picture in zip(pooled, maps.astype(np.float64), strict=True):
        assert row == pytest.approx(slow_pooling(picture, centre_cells=centre_cells, contrast=contrast), abs=1e-4)


@settings(max_examples=20, deadline=None)
@given(seed=integers(0, 999))
def test_a_projection_of_full_width_without_whitening_keeps_every_similarity(seed: int) -> None:
    rows = unit_rows(seed)
    projected = rows @ fit_projection([Pair(rows, unit_rows(seed + 1))], dim=12, whitening=0.0, ridge=0.1)
    assert projected @ projected.T == pytest.approx(rows @ rows.T, abs=1e-9)


def test_a_direction_in_which_pictures_of_one_item_differ_counts_less_after_fitting() -> None:
    one = unit_rows(0, count=400)
    noise = np.zeros_like(one)
    noise[:, 3] = np.random.default_rng(1).standard_normal(len(one))
    projection = fit_projection([Pair(one, one + noise)], dim=12, whitening=0.25, ridge=0.1)
    lengths = np.linalg.norm(projection, axis=1)
    assert lengths[3] < 0.6 * np.delete(lengths, 3).min()


def test_a_narrow_projection_keeps_the_directions_that_carry_most() -> None:
    rows = unit_rows(2)
    rows[:, :4] *= 10
    projection = fit_projection([Pair(rows, rows + 0.01 * unit_rows(3))], dim=4, whitening=0.0, ridge=0.1)
    assert np.linalg.norm(projection[:4]) > 0.99 * np.linalg.norm(projection)


@pytest.mark.slow
def test_the_shipped_folder_preprocesses_as_the_script_that_made_it() -> None:
    model = read_model(shipped_model())
    assert model.preprocessing == PREPROCESSING
    graph = read_graph(shipped_model(), model, EMBED)
    crops = photos(6)
    assert graph_embed(graph, output="feature", threads=1)(crops) == pytest.approx(
        Embedder(shipped_model()).embed(crops), abs=1e-5
    )


@pytest.mark.slow
def test_the_shipped_manifest_says_that_int8_is_near_float() -> None:
    model = read_model(shipped_model())
    assert all(model.metrics["int8"][name] >= least for name, least in LEAST.items())
    assert sum((shipped_model() / graph.file).stat().st_size for graph in model.graphs.values()) <= FILE_BYTES


def test_label_directions_are_those_in_which_the_labels_differ() -> None:
    generator = np.random.default_rng(3)
    labels = [f"label {number % 3}" for number in range(300)]
    features = generator.standard_normal((300, 8))
    features[:, 2] += 6 * (np.arange(300) % 3 == 1)
    features[:, 5] += 6 * (np.arange(300) % 3 == 2)
    found = label_directions(features, labels, count=2, ridge=0.1)
    energy = (found**2).sum(axis=1)
    assert energy[[2, 5]].sum() > 0.95 * energy.sum()
    assert ((features @ found) ** 2).sum(axis=1).mean() == pytest.approx(1)
    with pytest.raises(InputError, match="3 labels"):
        label_directions(features, labels, count=3, ridge=0.1)
