import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from galleries import CERTIFICATE, CREATED, Drawn, draw, histograms, unit_rows, write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, ShapeError
from sameitem.engine.build import add_extra, seal, write_index
from sameitem.engine.files import ArrayWriter
from sameitem.engine.index import open_index
from sameitem.engine.lists import lists_for, make_lists
from sameitem.engine.members import Members


def test_what_was_written_is_what_is_read(tmp_path: Path) -> None:
    drawn = draw(1, entries=30, extra_members=12, products=9)
    write(tmp_path / "index", drawn)
    index = open_index(tmp_path / "index", verify=True)
    assert np.array_equal(index.rows, drawn.features.astype(np.float16))
    assert np.array_equal(index.colours, drawn.colours.astype(np.float16))
    made = make_lists(lambda rows: index.rows[rows].astype(np.float32), 30, lists=lists_for(30), seed=0)
    for name in ("signs", "centres", "starts", "list_of_row"):
        assert np.array_equal(getattr(index.lists, name), getattr(made, name))
    for stored, expected in zip(
        (*index.lists.codes, *index.lists.centre_codes), (*made.codes, *made.centre_codes), strict=True
    ):
        assert np.array_equal(stored, expected)
    for name in ("entry_image_id", "image_id", "entry", "product", "start", "representative"):
        assert np.array_equal(getattr(index.members, name), getattr(drawn.members, name))
    counts = index.manifest.counts
    assert (counts.entries, counts.members, counts.products) == (30, 42, int(drawn.members.product.max()) + 1)
    assert index.manifest.created == "2026-11-23T14:30:02+00:00"
    assert index.manifest.certificate is None


def test_an_index_of_hamming_codes_says_so_and_is_searched_as_such(tmp_path: Path) -> None:
    write(tmp_path / "index", draw(1, entries=30), code="hamming")
    index = open_index(tmp_path / "index")
    assert index.manifest.code == "hamming"
    assert index.lists.is_hamming
    assert set(index.lists.codes.slopes[np.isfinite(index.lists.codes.offsets)]) == {np.float32(-0.5)}


def test_a_gallery_is_written_without_ever_standing_in_memory(tmp_path: Path) -> None:
    rows, dim, blocks = 1024, 256, 128  # a block is 1 MB of features
    ids = np.arange(rows * blocks)
    members = Members(ids, ids, ids, ids.astype(np.int32))
    block = unit_rows(np.random.default_rng(1), rows, dim), histograms(np.random.default_rng(2), rows)
    tracemalloc.start()
    write_index(
        tmp_path / "index",
        ((block[0].copy(), block[1].copy()) for _ in range(blocks)),
        members=members,
        version="20261123-143002-1a2b",
        model_version="drawn-1",
        created=CREATED,
        dim=dim,
    )
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 60_000_000  # what k-means samples, which grows as the root of the gallery, twice


def test_the_documentation_names_every_file_and_every_key(tmp_path: Path) -> None:
    write(tmp_path / "index", draw(1, entries=5))
    seal(tmp_path / "index", certificate=CERTIFICATE)
    told = (Path(__file__).parents[2] / "docs" / "file-formats.md").read_text()
    manifest = json.loads((tmp_path / "index" / "manifest.json").read_bytes())
    names = [path.name for path in (tmp_path / "index").iterdir()]
    keys = [*manifest, *manifest["counts"], *manifest["certificate"]]
    assert [name for name in (*names, *keys) if f"`{name}`" not in told] == []


@pytest.mark.parametrize("block", [1, 7, 30, 99])
def test_the_size_of_the_blocks_changes_no_stored_row(tmp_path: Path, block: int) -> None:
    drawn = draw(2, entries=30)
    write(tmp_path / "index", drawn, block=block)
    assert np.array_equal(np.load(tmp_path / "index" / "rows.npy"), drawn.features.astype(np.float16))


def damaged(field: str, value: float) -> Drawn:
    drawn = draw(3, entries=20)
    getattr(drawn, field)[13] = value
    return drawn


@pytest.mark.parametrize(
    ("drawn", "error", "reason"),
    [
        (damaged("features", np.nan), InputError, "entry 13"),
        (damaged("features", 0.5), InputError, "entry 13"),
        (damaged("colours", 1.0), InputError, "entry 13"),
        (damaged("colours", np.nan), InputError, "entry 13"),
        (replace(draw(3, entries=20), features=draw(3, entries=20).features[:19]), ShapeError, "need"),
        (replace(draw(3, entries=20), members=draw(3, entries=19).members), ShapeError, "more rows"),
        (replace(draw(3, entries=20), members=draw(3, entries=21).members), ShapeError, "need 21 rows"),
    ],
)
def test_what_cannot_be_searched_is_refused_and_leaves_no_index(
    tmp_path: Path, drawn: Drawn, error: type[InputError], reason: str
) -> None:
    with pytest.raises(error, match=reason):
        write(tmp_path / "index", drawn)
    assert not (tmp_path / "index").exists()


def test_a_build_after_a_killed_one_starts_afresh(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        write(tmp_path / "index", damaged("features", np.nan))
    write(tmp_path / "index", draw(3, entries=20))
    assert open_index(tmp_path / "index", verify=True).manifest.counts.entries == 20


def test_an_empty_gallery_is_refused(tmp_path: Path) -> None:
    none = np.zeros(0, np.int64)
    with pytest.raises(InputError, match="at least one image"):
        write_index(
            tmp_path / "index",
            [],
            members=Members(none, none, none, none.astype(np.int32)),
            version="20261123-143002-1a2b",
            model_version="drawn-1",
            created=CREATED,
            dim=16,
        )


def test_an_index_is_never_written_over_another(tmp_path: Path) -> None:
    write(tmp_path / "index", draw(3, entries=20))
    with pytest.raises(ConflictError, match="exists already"):
        write(tmp_path / "index", draw(3, entries=20))


def test_sealing_adds_the_certificate_and_guards_files_put_beside(tmp_path: Path) -> None:
    write(tmp_path / "index", draw(4, entries=5))
    (tmp_path / "index" / "more").mkdir()
    (tmp_path / "index" / "more" / "names.txt").write_text("a")
    seal(tmp_path / "index", certificate=CERTIFICATE, files=["more/names.txt"])
    assert open_index(tmp_path / "index").manifest.certificate == CERTIFICATE
    (tmp_path / "index" / "more" / "names.txt").write_text("b")
    with pytest.raises(ConflictError, match=r"more/names\.txt has another content"):
        open_index(tmp_path / "index")


def test_extras_join_those_that_are_there(tmp_path: Path) -> None:
    write(tmp_path / "index", draw(4, entries=5))
    before = seal(tmp_path / "index", certificate=CERTIFICATE)
    add_extra(tmp_path / "index", {"seq": 1, "told": "one"})
    manifest = add_extra(tmp_path / "index", {"told": "other"})
    assert manifest == replace(before, extra={**before.extra, "seq": 1, "told": "other"})
    assert open_index(tmp_path / "index").manifest == manifest


def test_only_a_built_index_can_be_sealed(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        seal(tmp_path / "index", certificate=CERTIFICATE)


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, 5), max_size=6), width=st.integers(1, 5))
def test_an_array_written_in_blocks_is_what_numpy_would_save(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], width: int
) -> None:
    folder = tmp_path_factory.mktemp("arrays")
    array = np.random.default_rng(1).random((sum(rows), width)).astype(np.float32)
    np.save(folder / "whole.npy", array)
    with ArrayWriter(folder / "blocks.npy", np.float32, array.shape) as writer:
        for block in np.split(array, np.cumsum(rows)[:-1]):
            writer.append(block)
        writer.finish()
    assert (folder / "blocks.npy").read_bytes() == (folder / "whole.npy").read_bytes()
