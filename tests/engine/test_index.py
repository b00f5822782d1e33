import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galleries import CERTIFICATE, build, draw, histograms, in_memory, plain_search, unit_rows, write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, SameItemError, ShapeError
from sameitem.engine.index import HASHED_BYTES, open_index
from sameitem.engine.manifest import FORMAT, MANIFEST

Cases = st.fixed_dictionaries(
    {
        "seed": st.integers(0, 9999),
        "entries": st.integers(1, 40),
        "extra_members": st.integers(0, 40),
        "products": st.integers(1, 30),
    }
)


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
    found, expected = index.search(query, exact=True, **how), plain_search(index, query, **how)
    assert [(hit.image_id, hit.member_row, hit.entry_row, hit.duplicates) for hit in found] == [
        (hit.image_id, hit.member_row, hit.entry_row, hit.duplicates) for hit in expected
    ]
    assert [hit.distance for hit in found] == pytest.approx([hit.distance for hit in expected], rel=1e-12)
    assert found == index.search(query, exact=True, candidates=1, **how)
    assert found == index.search(query, candidates=case["entries"], **how)


@settings(deadline=None)
@given(case=Cases, k=st.integers(1, 20), candidates=st.integers(1, 10), masked=st.booleans())
def test_a_grouped_search_is_never_short_however_few_candidates_it_starts_with(
    case: dict[str, int], k: int, candidates: int, masked: bool
) -> None:
    generator = np.random.default_rng(case["seed"])
    index = in_memory(draw(**case))
    allowed = generator.random(len(index.members.image_id)) < (0.5 if masked else 1.0)
    query = unit_rows(generator, 1, 16)[0]
    hits = index.search(query, k=k, allowed=allowed, candidates=candidates, one_per_product=True)
    product = index.members.product
    shown = [int(product[hit.member_row]) for hit in hits]
    assert len(set(shown)) == len(shown) <= k
    if len(hits) < k:
        reached = {int(product[row]) for hit in hits for row in (hit.member_row, *hit.duplicates)}
        assert reached == set(product[allowed].tolist())


def test_k_products_come_back_where_each_product_has_a_hundred_pictures_alike(tmp_path: Path) -> None:
    drawn = draw(1, entries=500)
    drawn.features[:] = np.repeat(unit_rows(np.random.default_rng(2), 5, 16), 100, axis=0)
    drawn.members.product[:] = np.repeat(np.arange(5), 100)
    index = build(tmp_path / "index", drawn)
    hits = index.search(drawn.features[0], k=5, candidates=1, one_per_product=True)
    assert sorted(int(index.members.product[hit.member_row]) for hit in hits) == [0, 1, 2, 3, 4]


def test_a_page_a_thousand_deep_is_whole_and_in_order(tmp_path: Path) -> None:
    index = build(tmp_path / "index", draw(3, entries=1500))
    hits = index.search(unit_rows(np.random.default_rng(4), 1, 16)[0], k=1000)
    assert len(hits) == 1000
    assert hits == sorted(hits)


def test_few_candidates_are_those_whose_codes_are_nearest(tmp_path: Path) -> None:
    index = build(tmp_path / "index", draw(5, entries=300), bits=64)
    query = unit_rows(np.random.default_rng(6), 1, 16)[0]
    bits = np.unpackbits(index.codes, axis=1).astype(int)
    own = (query @ index.rotation > 0).astype(int)
    nearest = sorted(range(300), key=lambda row: (int(np.abs(bits[row] - own).sum()), row))[:20]
    hits = index.search(query, k=20, candidates=20)
    assert sorted(hit.entry_row for hit in hits) == sorted(nearest)


def test_the_certificate_says_how_many_candidates_pass_and_depth_doubles_them(tmp_path: Path) -> None:
    certified = build(tmp_path / "certified", draw(7, entries=9))
    assert [certified.candidates_for(k) for k in (1, 60, 61, 120, 121, 1000)] == [256, 256, 512, 512, 1024, 8192]
    assert CERTIFICATE.candidates == 256
    plain = build(tmp_path / "plain", draw(7, entries=9), sealed=False)
    assert plain.candidates_for(1) == 9


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"query": np.ones(15, np.float32)}, ShapeError),
        ({"query": np.ones(16, np.float32)}, InputError),
        ({"query": np.full(16, np.nan, np.float32)}, InputError),
        ({"k": 0}, InputError),
        ({"candidates": 0}, InputError),
        ({"allowed": np.ones(8, np.bool_)}, ShapeError),
        ({"allowed": np.ones(9, np.int8)}, ShapeError),
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


def cut(folder: Path) -> None:
    (folder / "codes.npy").write_bytes((folder / "codes.npy").read_bytes()[:-1])


def flip(folder: Path) -> None:
    data = bytearray((folder / "member_product.npy").read_bytes())
    data[-1] ^= 1
    (folder / "member_product.npy").write_bytes(data)


def rewrite(folder: Path, **values: object) -> None:
    about = json.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_text(json.dumps(about | values))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "rows.npy").unlink(), "rows.npy is missing"),
        (cut, "codes.npy has .* bytes"),
        (flip, "member_product.npy has another content"),
        (lambda folder: rewrite(folder, format=FORMAT + 1), f"format {FORMAT + 1}"),
        (lambda folder: rewrite(folder, dim=17), "rotation.npy holds"),
        (lambda folder: rewrite(folder, counts=None), "manifest.json is damaged"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "manifest.json is damaged"),
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
    drawn = draw(10, entries=2000, dim=HASHED_BYTES // 3900)
    write(tmp_path / "index", drawn, bits=8)
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
