import heapq
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galleries import Drawn, build, draw, histograms, in_memory, plain_search, unit_rows, write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError, ShapeError
from sameitem.engine import index as engine_index
from sameitem.engine.certificate import certify
from sameitem.engine.files import describe_file
from sameitem.engine.index import HASHED_BYTES, Index, open_index
from sameitem.engine.lists import Effort
from sameitem.engine.manifest import FORMAT, MANIFEST
from sameitem.engine.members import EntryHit, Members

Cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 9999),
        "entries": st.integers(1, 40),
        "extra_members": st.integers(0, 40),
        "products": st.integers(1, 30),
    }
)


def searched(index: Index, query: np.ndarray, *, allowed: np.ndarray | None, **how: Any) -> list[EntryHit]:
    return index.search(query, allowed=None if allowed is None else index.sieve(allowed), **how)


@settings(deadline=None)
@given(
    case=Cases,
    k=st.integers(1, 45),
    share=st.sampled_from([None, 0.0, 0.3, 0.8]),
    one_per_product=st.booleans(),
    weight=st.sampled_from([0.0, 0.4]),
)
def test_exact_search_equals_loops_over_everything(
    case: dict[str, int], k: int, share: float | None, one_per_product: bool, weight: float
) -> None:
    generator = np.random.default_rng(case["seed"])
    index = in_memory(draw(**case))
    allowed = None if share is None else generator.random(len(index.members.image_id)) < share
    query, colour = unit_rows(generator, 1, 16)[0], histograms(generator, 1)[0] if weight else None
    how = {
        "k": k,
        "allowed": allowed,
        "one_per_product": one_per_product,
        "colour": colour,
        "colour_weight": weight,
    }
    found, expected = searched(index, query, exact=True, **how), plain_search(index, query, **how)
    assert [(hit.image_id, hit.member_row, hit.entry_row, hit.duplicates) for hit in found] == [
        (hit.image_id, hit.member_row, hit.entry_row, hit.duplicates) for hit in expected
    ]
    assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in expected], rel=1e-12)
    assert found == searched(index, query, exact=True, effort=Effort(1, 1), **how)
    assert found == searched(index, query, effort=Effort(99, case["entries"]), **how)


@settings(deadline=None)
@given(
    seed=st.integers(0, 9999),
    entries=st.integers(16, 200),
    dim=st.sampled_from([16, 50, 128, 333]),
    k=st.integers(1, 60),
    shards=st.integers(1, 16),
    by=st.sampled_from(["product", "row", "chance"]),
)
def test_the_answers_of_shards_merged_are_the_answer_of_the_whole_bit_for_bit(
    seed: int, entries: int, dim: int, k: int, shards: int, by: str
) -> None:
    drawn, generator = draw(seed, entries=entries, dim=dim), np.random.default_rng(seed)
    ids, product = drawn.members.entry_image_id, drawn.members.product
    shard = {"product": product, "row": np.arange(entries), "chance": generator.integers(shards, size=entries)}[by]
    query = unit_rows(generator, 1, dim)[0]
    answers = []
    for number in range(shards):
        rows = np.flatnonzero(shard % shards == number)
        if len(rows):
            members = Members(ids[rows], ids[rows], np.arange(len(rows)), product[rows])
            part = in_memory(Drawn(drawn.features[rows], drawn.colours[rows], members))
            answers.append([(hit.distance, hit.image_id) for hit in part.search(query, k=k, exact=True)])
    whole = [(hit.distance, hit.image_id) for hit in in_memory(drawn).search(query, k=k, exact=True)]
    assert list(heapq.merge(*answers))[:k] == whole


@pytest.fixture
def by_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    """Galleries of few entries are looked through by their lists, as large ones are."""
    monkeypatch.setattr(engine_index, "FEW", 0)
    monkeypatch.setattr(engine_index, "RANKED_SHARE", 0)


@pytest.mark.usefixtures("by_lists")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=Cases, k=st.integers(1, 20), candidates=st.integers(1, 10), masked=st.booleans())
def test_a_grouped_search_is_never_short_however_few_candidates_it_starts_with(
    case: dict[str, int], k: int, candidates: int, masked: bool
) -> None:
    generator = np.random.default_rng(case["seed"])
    index = in_memory(draw(**case), lists=min(case["entries"], 4))
    allowed = generator.random(len(index.members.image_id)) < (0.5 if masked else 1.0)
    query = unit_rows(generator, 1, 16)[0]
    hits = searched(index, query, k=k, allowed=allowed, effort=Effort(1, candidates), one_per_product=True)
    product = index.members.product
    shown = [int(product[hit.member_row]) for hit in hits]
    assert len(set(shown)) == len(shown) <= k
    if len(hits) < k:
        reached = {int(product[row]) for hit in hits for row in (hit.member_row, *hit.duplicates)}
        assert reached == set(product[allowed].tolist())


@pytest.mark.usefixtures("by_lists")
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 999),
    k=st.integers(1, 5),
    share=st.sampled_from([None, 0.7]),
    one_per_product=st.booleans(),
    weight=st.sampled_from([0.0, 0.4]),
)
def test_by_all_lists_and_nearly_all_candidates_the_answer_is_that_of_loops_over_everything(
    seed: int, k: int, share: float | None, one_per_product: bool, weight: float
) -> None:
    generator = np.random.default_rng(seed)
    index = in_memory(draw(seed, entries=120, extra_members=30, products=90), lists=4)
    allowed = None if share is None else generator.random(len(index.members.image_id)) < share
    query, colour = unit_rows(generator, 1, 16)[0], histograms(generator, 1)[0] if weight else None
    how = {"k": k, "allowed": allowed, "one_per_product": one_per_product, "colour": colour, "colour_weight": weight}
    nearly_all = Effort(4, (120 if allowed is None else index.sieve(allowed).entries) - 1)
    found, wanted = searched(index, query, effort=nearly_all, **how), plain_search(index, query, **how)
    assert [hit.image_id for hit in found] == [hit.image_id for hit in wanted]
    assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in wanted], rel=1e-12)


@pytest.fixture(scope="module")
def clustered() -> tuple[Index, np.ndarray]:
    """A certified gallery of 20,000 entries in 200 clusters, and the cluster of each."""
    generator = np.random.default_rng(1)
    cluster = generator.integers(200, size=20_000)
    features = unit_rows(generator, 200, 64)[cluster] + 0.6 * unit_rows(generator, 20_000, 64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    ids = np.arange(20_000)
    index = in_memory(Drawn(features, histograms(generator, 20_000), Members(ids, ids, ids, ids.astype(np.int32))))
    certificate = certify(index, lambda rows: features[rows], asked=0.999, k=60)
    return replace(index, manifest=replace(index.manifest, certificate=certificate)), cluster


@pytest.mark.slow
@pytest.mark.usefixtures("by_lists")
@pytest.mark.parametrize(
    "share", [0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 0.95, 1.0, "clusters of others", "a cluster of others"]
)
def test_filters_keep_the_recall(clustered: tuple[Index, np.ndarray], share: float | str) -> None:
    index, cluster = clustered
    generator = np.random.default_rng(2)
    queries = generator.choice(20_000, 40, replace=False)
    found, wanted = 0, 0
    for query in queries:
        if isinstance(share, float):
            allowed = generator.random(20_000) < share
            allowed[generator.integers(20_000)] = True
        else:  # nothing that is allowed lies near the query
            others = generator.choice(np.setdiff1d(np.arange(200), cluster[query]), 1 if share[0] == "a" else 20)
            allowed = np.isin(cluster, others)
        feature = index.rows[query].astype(np.float32)
        feature /= np.linalg.norm(feature)
        sieve = index.sieve(allowed)
        truth = {hit.entry_row for hit in index.search(feature, k=60, allowed=sieve, exact=True)}
        found += len(truth & {hit.entry_row for hit in index.search(feature, k=60, allowed=sieve)})
        wanted += len(truth)
    assert found >= 0.995 * wanted


def test_k_products_come_back_where_each_product_has_a_hundred_pictures_alike(tmp_path: Path) -> None:
    drawn = draw(1, entries=500)
    drawn.features[:] = np.repeat(unit_rows(np.random.default_rng(2), 5, 16), 100, axis=0)
    drawn.members.product[:] = np.repeat(np.arange(5), 100)
    index = build(tmp_path / "index", drawn)
    hits = index.search(drawn.features[0], k=5, effort=Effort(1, 1), one_per_product=True)
    assert sorted(int(index.members.product[hit.member_row]) for hit in hits) == [0, 1, 2, 3, 4]


@pytest.mark.usefixtures("by_lists")
def test_pictures_of_one_product_are_whole_where_pictures_are_asked_for() -> None:
    drawn = draw(1, entries=900)
    drawn.members.product[:] = 0
    index = in_memory(drawn, lists=6)
    query = unit_rows(np.random.default_rng(4), 1, 16)[0]
    assert len(index.search(query, k=100, effort=Effort(1, 20))) == 100
    assert len(index.search(query, k=100, effort=Effort(1, 20), one_per_product=True)) == 1


def test_a_query_of_another_kind_of_numbers_gets_the_same_answer() -> None:
    index = in_memory(draw(1, entries=90))
    query = index.rows[3].astype(np.float32)
    query /= np.linalg.norm(query)
    expected = index.search(query, k=9)
    assert index.search(query.astype(np.float64), k=9) == expected


def test_a_page_a_thousand_deep_is_whole_and_in_order(tmp_path: Path) -> None:
    index = build(tmp_path / "index", draw(3, entries=1500))
    hits = index.search(unit_rows(np.random.default_rng(4), 1, 16)[0], k=1000)
    assert len(hits) == 1000
    assert hits == sorted(hits)


def test_the_certificate_says_how_much_to_look_at_and_depth_doubles_it(tmp_path: Path) -> None:
    certified = build(tmp_path / "certified", draw(7, entries=9))
    assert certified.effort_for(60) == certified.effort_for(1) == Effort(3, 256, 0.1)
    assert certified.effort_for(61) == certified.effort_for(120) == Effort(6, 512, 0.1)
    assert certified.effort_for(1000) == Effort(96, 8192, 0.1)
    plain = build(tmp_path / "plain", draw(7, entries=9), sealed=False)
    assert plain.effort_for(1) == Effort(1, 9)


def test_the_fewer_are_allowed_the_more_lists_are_looked_through(tmp_path: Path) -> None:
    index = build(tmp_path / "index", draw(7, entries=9))
    probes = [index.effort_for(60, share=share).probes for share in (1.0, 0.5, 0.1, 0.01)]
    assert probes == sorted(set(probes))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"query": np.ones(15, np.float32)}, ShapeError),
        ({"query": np.ones(16, np.float32)}, InputError),
        ({"query": np.full(16, np.nan, np.float32)}, InputError),
        ({"k": 0}, InputError),
        ({"effort": Effort(1, 0)}, InputError),
        ({"effort": Effort(0, 1)}, InputError),
        ({"colour_weight": 0.5}, InputError),
        ({"colour_weight": -1.0}, InputError),
        ({"colour_weight": float("nan")}, InputError),
    ],
)
def test_a_search_that_makes_no_sense_is_refused(
    tmp_path: Path, wrong: dict[str, object], error: type[SameItemError]
) -> None:
    index = build(tmp_path / "index", draw(8, entries=9))
    asked = {"query": index.rows[0].astype(np.float32), "k": 3} | wrong
    with pytest.raises(error, match="need"):
        index.search(asked.pop("query"), **asked)


@pytest.mark.parametrize("mask", [np.ones(8, np.bool_), np.ones(9, np.int8)])
def test_a_mask_of_another_shape_is_refused(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(ShapeError, match="need a mask"):
        build(tmp_path / "index", draw(8, entries=9)).sieve(mask)


def cut(folder: Path) -> None:
    (folder / "codes.npy").write_bytes((folder / "codes.npy").read_bytes()[:-1])


def flip(folder: Path) -> None:
    data = bytearray((folder / "member_product.npy").read_bytes())
    data[-1] ^= 1
    (folder / "member_product.npy").write_bytes(data)


def rewrite(folder: Path, **values: object) -> None:
    about = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(about | values))


def spoil(folder: Path, name: str, value: int) -> None:
    """Write a wrong number, and a manifest that agrees: as a fault of ours would."""
    array = np.load(folder / name)
    array.reshape(-1)[0] = value
    np.save(folder / name, array)
    agree(folder, name)


def turn(folder: Path) -> None:
    np.save(folder / "rows.npy", np.asfortranarray(np.load(folder / "rows.npy")))
    agree(folder, "rows.npy")


def agree(folder: Path, name: str) -> None:
    about = json.loads((folder / MANIFEST).read_bytes())
    about["files"][name] = asdict(describe_file(folder / name))
    (folder / MANIFEST).write_text(json.dumps(about))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "rows.npy").unlink(), "rows.npy is missing"),
        (cut, "codes.npy has .* bytes"),
        (flip, "member_product.npy has another content"),
        (lambda folder: rewrite(folder, format=FORMAT + 1), f"format {FORMAT + 1}"),
        (lambda folder: rewrite(folder, dim=70), "rotation.npy holds"),
        (lambda folder: rewrite(folder, lists=2), "list_start.npy holds"),
        (lambda folder: rewrite(folder, counts=None), "manifest.json is damaged"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json is damaged"),
        (lambda folder: spoil(folder, "code_row.npy", 9), "points beyond"),
        (lambda folder: spoil(folder, "entry_list.npy", 1), "points beyond"),
        (lambda folder: spoil(folder, "entry_list.npy", -1), "points beyond"),
        (lambda folder: spoil(folder, "list_start.npy", -1), "does not ascend from 0"),
        (turn, "rows.npy holds"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "format None"),
    ],
)
def test_a_damaged_index_is_refused_by_the_name_of_the_file(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    build(tmp_path / "index", draw(9, entries=9))
    damage(tmp_path / "index")
    with pytest.raises(ConflictError, match=reason):
        open_index(tmp_path / "index")


def test_verifying_finds_a_changed_byte_in_a_large_file(tmp_path: Path) -> None:
    drawn = draw(10, entries=HASHED_BYTES // 1900, dim=1000)
    write(tmp_path / "index", drawn)
    rows = tmp_path / "index" / "rows.npy"
    data = bytearray(rows.read_bytes())
    data[-1] ^= 1
    rows.write_bytes(data)
    open_index(tmp_path / "index")
    with pytest.raises(ConflictError, match=r"rows\.npy has another content"):
        open_index(tmp_path / "index", verify=True)


def test_a_folder_without_an_index_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no index version nothing"):
        open_index(tmp_path / "nothing")
