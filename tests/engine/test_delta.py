"""What is added to an index is found as if it had been built with it, and a compaction changes no answer."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from galleries import CERTIFICATE, CREATED, Drawn, draw, in_memory, unit_rows, write
from sameitem.core.errors import InputError
from sameitem.engine import index as engine_index
from sameitem.engine.build import seal
from sameitem.engine.index import Index, open_index
from sameitem.engine.lists import Effort
from sameitem.engine.members import EntryHit, Members
from sameitem.engine.merge import write_merged

SLOW_FIXTURES = [HealthCheck.function_scoped_fixture]


def grown(drawn: Drawn, built: int, *, lists: int = 4, at_once: int = 5) -> Index:
    """An index of the first entries, each with one member, to which the others were added."""
    ids, product = drawn.members.entry_image_id, drawn.members.product
    entries = np.arange(built)
    first = Drawn(
        drawn.features[:built],
        drawn.colours[:built],
        Members(ids[:built], ids[:built], entries, product[:built]),
    )
    index = in_memory(first, lists=min(lists, built))
    for start in range(built, len(ids), at_once):
        part = slice(start, start + at_once)
        index.append(drawn.features[part], drawn.colours[part], image_ids=ids[part], products=product[part])
    return index


@pytest.fixture
def by_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_index, "FEW", 0)
    monkeypatch.setattr(engine_index, "RANKED_SHARE", 0)


@settings(deadline=None)
@given(
    seed=st.integers(0, 999),
    built=st.integers(1, 30),
    more=st.integers(0, 90),
    k=st.integers(1, 40),
    share=st.sampled_from([None, 0.3, 0.95]),
    one_per_product=st.booleans(),
    weight=st.sampled_from([0.0, 0.4]),
)
def test_an_exact_search_does_not_tell_what_was_added_from_what_was_built(
    seed: int, built: int, more: int, k: int, share: float | None, one_per_product: bool, weight: float
) -> None:
    drawn = draw(seed, entries=built + more, products=20)
    whole, index = in_memory(drawn), grown(drawn, built)
    generator = np.random.default_rng(seed)
    query, allowed = unit_rows(generator, 1, 16)[0], None if share is None else generator.random(built + more) < share
    how = {"k": k, "one_per_product": one_per_product, "colour": drawn.colours[0], "colour_weight": weight}
    found, expected = (
        some.search(query, exact=True, allowed=None if allowed is None else some.sieve(allowed), **how)
        for some in (index, whole)
    )
    assert found == expected
    assert index.members.products == whole.members.products
    assert len(index.members) == len(whole.members)


@pytest.mark.usefixtures("by_lists")
@settings(deadline=None, suppress_health_check=SLOW_FIXTURES)
@given(seed=st.integers(0, 999), share=st.sampled_from([None, 0.5, 0.95]), without=st.sampled_from([None, 3]))
def test_by_all_lists_what_was_added_is_found_among_the_others(
    seed: int, share: float | None, without: int | None
) -> None:
    drawn = draw(seed, entries=300, products=20)
    whole, index = in_memory(drawn, lists=4), grown(drawn, 200)
    generator = np.random.default_rng(seed)
    query, allowed = unit_rows(generator, 1, 16)[0], None if share is None else generator.random(300) < share
    found, expected = (
        some.search(
            query,
            k=20,
            allowed=None if allowed is None else some.sieve(allowed),
            without_product=without,
            effort=Effort(4, 299 if some is index else 300),
        )
        for some in (index, whole)
    )
    assert found == expected
    assert without not in {int(drawn.members.product[hit.member_row]) for hit in found}


@settings(deadline=None)
@given(seed=st.integers(0, 999), extra=st.integers(0, 20), late=st.integers(0, 40), turns=st.integers(1, 4))
def test_a_sieve_that_follows_changes_is_the_one_made_anew(seed: int, extra: int, late: int, turns: int) -> None:
    generator = np.random.default_rng(seed)
    index = in_memory(draw(seed, entries=15, extra_members=extra, products=6))
    mask = generator.random(15 + extra) < 0.5
    sieve = index.sieve(mask)
    for turn in range(turns):
        more = late // turns
        index.append(
            unit_rows(generator, more, 16),
            np.full((more, 24), 1 / 24, np.float32),
            image_ids=1000 + more * turn + np.arange(more),
            products=generator.integers(9, size=more).astype(np.int32),
        )
        mask = np.concatenate([mask, np.zeros(more, np.bool_)])
        rows = generator.permutation(len(mask))[: len(mask) // 2]
        rows = np.union1d(rows, np.arange(len(mask) - more, len(mask)))
        mask[rows] = generator.random(len(rows)) < 0.5
        sieve.update(rows, mask[rows])
        made = index.sieve(mask)
        assert (sieve.entries, sieve.products, sieve.share) == (made.entries, made.products, made.share)
        assert np.array_equal(sieve.mask, mask)
        assert np.array_equal(sieve.bits, made.bits)
        assert (sieve.list_bits & made.list_bits == made.list_bits).all()  # a list that lost all may still be looked at


def named(index: Index, hits: list[EntryHit]) -> list[tuple[float, int, list[int]]]:
    return [
        (hit.distance, hit.image_id, index.members.image_ids_of(np.array(hit.duplicates, np.int64)).tolist())
        for hit in hits
    ]


@pytest.mark.usefixtures("by_lists")
@settings(deadline=None, suppress_health_check=SLOW_FIXTURES, max_examples=30)
@given(
    seed=st.integers(0, 999),
    probes=st.integers(1, 6),
    candidates=st.integers(1, 40),
    slack=st.sampled_from([0.0, 0.1, np.inf]),
    gone=st.sampled_from([0.0, 0.05, 0.6]),
    code=st.sampled_from(["residual", "hamming"]),
)
def test_a_compaction_changes_no_answer(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    probes: int,
    candidates: int,
    slack: float,
    gone: float,
    code: str,
) -> None:
    folder, generator = tmp_path_factory.mktemp("compaction"), np.random.default_rng(seed)
    drawn, more = draw(seed, entries=800, extra_members=80, products=300), draw(seed + 1, entries=200)
    write(folder / "index", drawn, block=800, code=code)
    seal(folder / "index", certificate=CERTIFICATE)
    index = open_index(folder / "index")
    product = generator.integers(400, size=200).astype(np.int32)
    index.append(more.features, more.colours, image_ids=100_000 + np.arange(200), products=product)
    keep = generator.random(len(index.members)) >= gone
    merged = write_merged(folder / "merged", index, keep, version="20261126-143002-1a2b", created=CREATED, extra={})
    seal(folder / "merged", certificate=CERTIFICATE)
    after, sieve = open_index(folder / "merged", verify=True), index.sieve(keep)
    assert after.manifest.counts.entries == sieve.entries
    assert np.array_equal(after.members.image_id, index.members.image_ids_of(merged.members))
    assert np.array_equal(merged.products[after.members.product], index.members.products_of(merged.members))
    for query in unit_rows(generator, 5, 16):
        how = {"k": 9, "effort": Effort(probes, candidates, slack), "one_per_product": seed % 2 == 0}
        before = named(index, index.search(query, allowed=sieve, **how))
        if sieve.share >= engine_index.MOSTLY:  # else more effort is made than the certificate asks for
            assert before == named(after, after.search(query, **how))
        exactly = [
            named(some, some.search(query, k=9, exact=True, allowed=sieve if some is index else None))
            for some in (index, after)
        ]
        assert exactly[0] == exactly[1]


def test_a_compaction_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    index = in_memory(draw(1, entries=5))
    with pytest.raises(InputError, match="at least one image"):
        write_merged(tmp_path / "m", index, np.zeros(5, np.bool_), version="x", created=CREATED, extra={})
    assert not any(tmp_path.iterdir())


def test_features_that_an_index_cannot_hold_are_not_added() -> None:
    index = in_memory(draw(1, entries=5))
    with pytest.raises(InputError, match="length 1"):
        index.append(
            np.ones((1, 16), np.float32),
            np.full((1, 24), 1 / 24, np.float32),
            image_ids=np.array([77]),
            products=np.array([0], np.int32),
        )
    assert (len(index.members), len(index.delta)) == (5, 0)
