import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from sameitem.catalog.store import Catalogue, Change, Counts, Listing, NewImage, SetAside, Written
from sameitem.core.database import open_database, write
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.records import Box, CatalogueImage, ContentHash, ImageId, ImageKind, Product, ProductId, Quality

QUALITY = Quality(
    sharpness=12.5, brightness=101.25, contrast=40.0, text_share=0.125, collage_share=0.0, subject_share=0.5
)
FULL = Product(
    product_id=ProductId("灯-1/ü 😀"),
    category="家居 > 灯具",
    title="Lamp 'x'; -- \"y\"\n",
    brand="Ümlaut",
    url="https://shop.example/lamp?a=1&b=%20",
    price=1299.1,
    currency="CNY",
    sales=2**63 - 1,
    conversion_rate=0.1,
    ctr=1e-300,
    rating=4.5,
    review_count=0,
    in_stock=False,
    seller_quality=-0.5,
    attributes={"colour": "赤", "watts": 9.0, "new": True, "size": "1"},
    expires_at="2027-01-31T00:00:00Z",
)


def product(product_id: str = "p", **values: object) -> Product:
    return replace(Product(ProductId(product_id)), **values)  # type: ignore[arg-type]


def image(name: str = "main", **values: object) -> NewImage:
    plain = NewImage(name, ImageKind.MAIN, ContentHash("a" * 64), 800, 600, QUALITY, 7)
    return replace(plain, **values)  # type: ignore[arg-type]


def put(engine: Engine, *listings: Listing) -> Written:
    with write(engine) as connection:
        return Catalogue(engine).upsert(connection, listings)


def kinds(engine: Engine, after: int = 0) -> list[tuple[str, str, bool]]:
    found = Catalogue(engine).changes_since(after)
    return [(change.product_id, change.kind, change.image_id is not None) for change in found]


def as_stored(new: NewImage, image_id: ImageId, product_id: ProductId) -> CatalogueImage:
    return CatalogueImage(
        image_id,
        product_id,
        new.name,
        new.kind,
        new.content_hash,
        new.width,
        new.height,
        new.quality,
        new.perceptual_hash,
        new.box,
        new.custom_content,
    )


# -- what is written comes back


def test_a_product_and_its_image_come_back_as_they_were_written(engine: Engine) -> None:
    new = image(
        "正面.jpg",
        kind=ImageKind.SKU,
        perceptual_hash=2**64 - 1,
        box=Box(1.5, 2.0, 3.25, 4.0),
        custom_content='{"sku": "红"}',
        source="a.jpg|12|34",
    )
    assert put(engine, Listing(FULL, (new,))) == Written(added=1, updated=0, unchanged=0)
    catalogue = Catalogue(engine)
    stored = catalogue.image(FULL.product_id, new.name)
    assert catalogue.product(FULL.product_id) == FULL
    assert stored == as_stored(new, stored.image_id, FULL.product_id)
    assert catalogue.images(FULL.product_id) == [stored]
    assert catalogue.listings([stored.image_id, ImageId(10**9)]) == {stored.image_id: (stored, FULL)}
    assert list(catalogue.scan()) == [[(stored, FULL)]]
    assert catalogue.sources(None, [FULL.product_id]) == {(FULL.product_id, new.name): new.source}
    assert catalogue.counts() == Counts(products=1, images=1)
    assert catalogue.hashes_in_use([new.content_hash, ContentHash("b" * 64)]) == {new.content_hash}


def test_a_product_that_says_nothing_comes_back_so(engine: Engine) -> None:
    put(engine, Listing(product()))
    assert Catalogue(engine).product(ProductId("p")) == product()


@pytest.mark.parametrize("perceptual_hash", [0, 1, 2**63 - 1, 2**63, 2**64 - 1])
def test_all_64_bits_of_a_perceptual_hash_come_back(engine: Engine, perceptual_hash: int) -> None:
    put(engine, Listing(product(), (image(perceptual_hash=perceptual_hash),)))
    assert Catalogue(engine).images(ProductId("p"))[0].perceptual_hash == perceptual_hash


def test_ids_of_512_characters_of_any_script_are_taken(engine: Engine) -> None:
    long = [chr(0x1F300 + i % 700) + chr(0x4E00 + i * 31 % 20000) for i in range(256)]
    product_id, name = ProductId("".join(long)), "".join(reversed(long))
    put(engine, Listing(Product(product_id), (image(name),)))
    assert Catalogue(engine).image(product_id, name).name == name


def test_keys_that_join_to_the_same_text_are_two_images(engine: Engine) -> None:
    put(engine, Listing(product("ab"), (image("c"),)), Listing(product("a"), (image("bc"),)))
    assert Catalogue(engine).counts() == Counts(products=2, images=2)


def test_times_of_expiry_are_kept_in_utc_so_that_they_compare_as_text(engine: Engine) -> None:
    given_times = {"a": "2027-01-31T08:00:00+08:00", "b": "2027-01-31", "c": "2027-01-31T00:00:00.75"}
    put(engine, *(Listing(product(name, expires_at=time)) for name, time in given_times.items()))
    stored = {Catalogue(engine).product(ProductId(name)).expires_at for name in given_times}
    assert stored == {"2027-01-31T00:00:00Z"}


# -- writing again


def test_writing_the_same_again_changes_nothing(engine: Engine) -> None:
    listing = Listing(FULL, (image(), image("second", box=Box(0, 0, 5, 5))))
    put(engine, listing)
    before = Catalogue(engine).snapshot_seq()
    assert put(engine, listing) == Written(added=0, updated=0, unchanged=1)
    assert Catalogue(engine).snapshot_seq() == before


def test_the_last_write_of_a_product_wins_and_images_not_named_stay(engine: Engine) -> None:
    put(engine, Listing(product(title="old", brand="b"), (image("1"), image("2"))))
    assert put(engine, Listing(product(title="new"), (image("2", width=10),))) == Written(0, 1, 0)
    catalogue = Catalogue(engine)
    assert catalogue.product(ProductId("p")) == product(title="new")
    assert [(i.name, i.width) for i in catalogue.images(ProductId("p"))] == [("1", 800), ("2", 10)]


def test_of_a_product_listed_twice_at_once_the_last_wins_and_the_images_add_up(engine: Engine) -> None:
    first = Listing(product(title="1"), (image("1"), image("2", width=1)))
    again = Listing(product(title="2"), (image("2", width=2), image("3")))
    assert put(engine, first, again) == Written(added=1, updated=0, unchanged=0)
    catalogue = Catalogue(engine)
    assert catalogue.product(ProductId("p")).title == "2"
    assert [(i.name, i.width) for i in catalogue.images(ProductId("p"))] == [("1", 800), ("2", 2), ("3", 800)]


def test_true_one_and_the_text_one_are_different_attributes(engine: Engine) -> None:
    for value in (True, 1.0, "1"):
        put(engine, Listing(product(attributes={"a": value})))
        stored = Catalogue(engine).product(ProductId("p")).attributes["a"]
        assert (stored, type(stored)) == (value, type(value))


# -- the change log


def test_each_change_is_logged_as_what_it_means_to_the_index(engine: Engine) -> None:
    put(engine, Listing(product("bare")), Listing(product(), (image("1"), image("2"))))
    assert kinds(engine) == [("bare", "attributes", False), ("p", "add", True), ("p", "add", True)]
    box = Box(0, 0, 9, 9)
    steps = [
        (Listing(product(title="t")), [("p", "attributes", False)]),
        (Listing(product(title="t"), (image("1", content_hash=ContentHash("b" * 64)),)), [("p", "photo", True)]),
        (Listing(product(title="t"), (image("2", box=box),)), [("p", "photo", True)]),
        (
            Listing(product(title="t"), (image("2", box=box, kind=ImageKind.SKU),)),
            [("p", "attributes", True)],
        ),
        (Listing(product(title="t"), (image("2", box=box, kind=ImageKind.SKU, source="s"),)), []),
    ]
    for listing, expected in steps:
        before = Catalogue(engine).snapshot_seq()
        put(engine, listing)
        assert kinds(engine, before) == expected


def test_deleting_a_product_logs_each_of_its_images(engine: Engine) -> None:
    put(engine, Listing(product("a"), (image("1"), image("2"))), Listing(product("b")), Listing(product("c")))
    catalogue = Catalogue(engine)
    ids = [stored.image_id for stored in catalogue.images(ProductId("a"))]
    before = catalogue.snapshot_seq()
    with write(engine) as connection:
        assert catalogue.delete_products(connection, [ProductId(name) for name in ("a", "b", "nobody", "a")]) == 2
    gone = [(change.image_id, change.product_id, change.kind) for change in catalogue.changes_since(before)]
    assert gone == [(ids[0], "a", "delete"), (ids[1], "a", "delete"), (None, "b", "delete")]
    assert catalogue.counts() == Counts(products=1, images=0)
    with pytest.raises(NotFoundError):
        catalogue.product(ProductId("a"))


def test_an_image_can_be_deleted_once(engine: Engine) -> None:
    put(engine, Listing(product(), (image("1"), image("2"))))
    catalogue = Catalogue(engine)
    with write(engine) as connection:
        assert catalogue.delete_image(connection, ProductId("p"), "1")
        assert not catalogue.delete_image(connection, ProductId("p"), "1")
    assert [stored.name for stored in catalogue.images(ProductId("p"))] == ["2"]


def test_an_image_id_is_never_given_twice(engine: Engine) -> None:
    given_ids = set()
    for _ in range(3):
        put(engine, Listing(product(), (image(),)))
        given_ids.add(Catalogue(engine).image(ProductId("p"), "main").image_id)
        with write(engine) as connection:
            Catalogue(engine).delete_products(connection, [ProductId("p")])
    assert len(given_ids) == 3


def test_changes_come_in_order_and_in_parts(engine: Engine) -> None:
    put(engine, *(Listing(product(f"{number:02}")) for number in range(10)))
    catalogue = Catalogue(engine)
    everything = catalogue.changes_since(0)
    parts: list[Change] = []
    while part := catalogue.changes_since(parts[-1].seq if parts else 0, limit=3):
        parts += part
    assert parts == everything
    assert [change.seq for change in everything] == sorted({change.seq for change in everything})


# -- what cannot be stored


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (Product(ProductId("")), "product_id"),
        (Product(ProductId("  ")), "product_id"),
        (Product(ProductId("x" * 513)), "product_id"),
        (Product(ProductId("a\0b")), "product_id"),
        (product(title="\ud800"), "title"),
        (product(brand="a\0"), "brand"),
        (product(title="x" * 20_001), "title"),
        (product(price=float("nan")), "price"),
        (product(price=10**400), "price"),
        (product(rating=float("-inf")), "rating"),
        (product(price=True), "price"),
        (product(sales=2**63), "sales"),
        (product(sales=1.5), "sales"),
        (product(in_stock=1), "in_stock"),
        (product(attributes={"a": None}), "attributes.a"),
        (product(attributes={"a": [1]}), "attributes.a"),
        (product(attributes={"a": float("inf")}), "attributes.a"),
        (product(attributes={"": "a"}), "attributes."),
        (product(attributes={"a": "\0"}), "attributes.a"),
        (product(attributes={str(number): "" for number in range(501)}), "attributes"),
        (product(expires_at="tomorrow"), "expires_at"),
        (product(expires_at="0001-01-01T00:00:00+14:00"), "expires_at"),
    ],
)
def test_a_product_that_cannot_be_stored_is_refused_by_field(engine: Engine, bad: Product, field: str) -> None:
    with pytest.raises(InputError) as caught:
        put(engine, Listing(product("good")), Listing(bad))
    assert caught.value.field == field
    assert Catalogue(engine).counts() == Counts(products=0, images=0)


@pytest.mark.parametrize(
    "bad",
    [
        image(""),
        image("n" * 513),
        image("a\0"),
        image(custom_content="\udfff"),
        image(box=Box(5, 0, 5, 9)),
        image(box=Box(0, 0, float("nan"), 9)),
        image(perceptual_hash=2**64),
        image(perceptual_hash=-1),
    ],
)
def test_an_image_that_cannot_be_stored_is_refused(engine: Engine, bad: NewImage) -> None:
    with pytest.raises(InputError):
        put(engine, Listing(product(), (image("good"), bad)))
    assert Catalogue(engine).counts() == Counts(products=0, images=0)


@pytest.mark.parametrize("unknown", ["nobody", "", "a\0b", "\ud800", "x" * 5000])
def test_an_unknown_id_is_not_found_whatever_it_holds(engine: Engine, unknown: str) -> None:
    put(engine, Listing(product(), (image(),)))
    catalogue = Catalogue(engine)
    with pytest.raises(NotFoundError):
        catalogue.product(ProductId(unknown))
    with pytest.raises(NotFoundError):
        catalogue.image(ProductId("p"), unknown)
    assert catalogue.images(ProductId(unknown)) == []
    assert catalogue.sources(None, [ProductId(unknown)]) == {}
    with write(engine) as connection:
        assert catalogue.delete_products(connection, [ProductId(unknown)]) == 0
        assert not catalogue.delete_image(connection, ProductId(unknown), "main")


# -- reading while others write


def test_a_scan_sees_one_moment_however_long_it_takes(engine: Engine) -> None:
    put(engine, *(Listing(product(f"{number}"), (image(),)) for number in range(5)))
    catalogue = Catalogue(engine)
    with catalogue.snapshot() as snapshot:
        batches = snapshot.batches(2)
        seen = next(batches)
        put(engine, Listing(product("new"), (image(),)), Listing(product("4", title="changed"), (image(width=1),)))
        with write(engine) as connection:
            catalogue.delete_products(connection, [ProductId("3")])
        seen += [pair for batch in batches for pair in batch]
        assert snapshot.seq == 5
    assert [(stored.product_id, stored.width, sold.title) for stored, sold in seen] == [
        (str(number), 800, "") for number in range(5)
    ]
    assert [stored.product_id for batch in catalogue.scan(1) for stored, _ in batch] == ["0", "1", "2", "4", "new"]


@pytest.mark.slow
def test_a_reader_of_the_log_misses_nothing_while_four_write(engine: Engine) -> None:
    def write_some(writer: int) -> None:
        own = open_database(engine.url.render_as_string(hide_password=False))
        for number in range(40):
            put(own, Listing(product(f"{writer}-{number}"), (image("1"), image("2"))))
        own.dispose()

    writers = [threading.Thread(target=write_some, args=(writer,)) for writer in range(4)]
    for thread in writers:
        thread.start()
    catalogue = Catalogue(engine)
    seen: list[Change] = []
    while True:
        finished = not any(thread.is_alive() for thread in writers)
        found = catalogue.changes_since(seen[-1].seq if seen else 0)
        seen += found
        if finished and not found:
            break
    assert seen == catalogue.changes_since(0)
    assert len(seen) == 4 * 40 * 2


# -- imports


def test_a_batch_is_written_in_a_handful_of_statements(engine: Engine) -> None:
    statements: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda _c, _cur, statement, *_: statements.append(statement))
    listings = [Listing(product(f"{number}"), (image("1"), image("2"))) for number in range(64)]
    changed = [Listing(product(f"{number}", title="t"), (image("1", width=1),)) for number in range(64)]
    for batch in (listings, listings, changed):
        statements.clear()
        put(engine, *batch)
        assert len([sql for sql in statements if sql.startswith(("SELECT", "INSERT", "UPDATE"))]) <= 8


def test_what_a_job_set_aside_comes_back_in_order(engine: Engine) -> None:
    catalogue = Catalogue(engine)
    rows = [SetAside(line, "a.csv", "no id", f"row {line}") for line in (3, 1, 2)]
    with write(engine) as connection:
        catalogue.set_aside(connection, "job", rows)
        catalogue.set_aside(connection, "other", [SetAside(9, "", "", "")])
        catalogue.set_aside(connection, "job", [SetAside(4, "a\0", "\ud800", "")])
    assert catalogue.list_set_aside("job") == [*rows, SetAside(4, "a�", "?", "")]
    assert catalogue.list_set_aside("job", after=1, limit=2) == rows[1:3]
    assert catalogue.list_set_aside("job", reason="?") == [SetAside(4, "a�", "?", "")]
    assert catalogue.list_set_aside("job", reason="no id", after=2) == rows[2:]
    assert list(catalogue.count_set_aside("job").items()) == [("no id", 3), ("?", 1)]
    assert catalogue.count_set_aside("\0") == {}


def test_products_go_on_behind_an_id_and_name_their_first_image(engine: Engine) -> None:
    catalogue = Catalogue(engine)
    put(
        engine,
        Listing(product("b"), (image("2"), image("1"))),
        Listing(product("a")),
        Listing(product("c"), (image(),)),
    )
    assert [one.product_id for one in catalogue.products(after="a")] == ["b", "c"]
    assert [one.product_id for one in catalogue.products()] == ["a", "b", "c"]
    first = catalogue.first_images([ProductId("a"), ProductId("b"), ProductId("gone\0")])
    assert first == {"b": catalogue.image(ProductId("b"), "2").image_id}


def test_products_that_a_full_feed_does_not_name_are_absent(engine: Engine) -> None:
    catalogue = Catalogue(engine)
    put(engine, *(Listing(product(name)) for name in ("a", "b", "c", "d", "é")))
    with write(engine) as connection:
        catalogue.begin_feed(connection, "job")
        catalogue.mark_seen(connection, "job", [ProductId("b"), ProductId("b"), ProductId("unknown")])
    put(engine, Listing(product("d", title="written by someone else")), Listing(product("new")))
    with write(engine) as connection:
        catalogue.begin_feed(connection, "job")  # resumed
        catalogue.mark_seen(connection, "job", [ProductId("b")])
    assert list(catalogue.absent_products("job")) == ["a", "c", "é"]
    with write(engine) as connection:
        assert catalogue.delete_products(connection, catalogue.absent_products("job")) == 3
        catalogue.end_feed(connection, "job")
    assert catalogue.counts().products == 3


def test_a_feed_longer_than_one_question_is_compared_whole(engine: Engine) -> None:
    catalogue = Catalogue(engine)
    names = [f"{number:05}" for number in range(2500)]
    put(engine, *(Listing(product(name)) for name in names))
    with write(engine) as connection:
        catalogue.begin_feed(connection, "job")
        catalogue.mark_seen(connection, "job", (ProductId(name) for name in names[::2]))
    assert list(catalogue.absent_products("job")) == names[1::2]


def test_without_a_feed_nothing_is_called_absent(engine: Engine) -> None:
    put(engine, Listing(product()))
    with pytest.raises(NotFoundError, match="has begun no full feed"):
        next(Catalogue(engine).absent_products("never begun"))


# -- any sequence of writes, against a dictionary

names = st.sampled_from(["a", "b", "c"])
pictures = st.builds(
    image,
    names,
    width=st.integers(1, 2),
    content_hash=st.sampled_from([ContentHash("a" * 64), ContentHash("b" * 64)]),
)
steps = st.one_of(
    st.lists(
        st.builds(
            Listing,
            st.builds(product, names, title=st.sampled_from(["", "t"])),
            st.lists(pictures, max_size=3).map(tuple),
        ),
        max_size=4,
    ),
    names.map(ProductId),
    st.tuples(names.map(ProductId), names),
)

Model = dict[ProductId, tuple[Product, dict[str, NewImage]]]


def apply_to_model(model: Model, step: object) -> None:
    match step:
        case list():
            for listing in step:
                held = model.get(listing.product.product_id, (None, {}))[1]
                model[listing.product.product_id] = (listing.product, held | {one.name: one for one in listing.images})
        case str():
            model.pop(ProductId(step), None)
        case (product_id, name):
            model.get(product_id, (None, {}))[1].pop(name, None)


def apply_to_catalogue(engine: Engine, step: object) -> None:
    catalogue = Catalogue(engine)
    with write(engine) as connection:
        match step:
            case list():
                catalogue.upsert(connection, step)
            case str():
                catalogue.delete_products(connection, [ProductId(step)])
            case (product_id, name):
                catalogue.delete_image(connection, product_id, name)


def mirror_of(changes: Iterable[Change], live: set[ImageId]) -> set[ImageId]:
    """Return which images there are after changes, by the log alone."""
    for change in changes:
        if change.kind == "add":
            assert change.image_id is not None
            assert change.image_id not in live
            live.add(change.image_id)
        elif change.image_id is not None:
            assert change.image_id in live
            if change.kind == "delete":
                live.remove(change.image_id)
    return live


def everything(catalogue: Catalogue) -> Iterator[tuple[CatalogueImage, Product]]:
    return (pair for batch in catalogue.scan(2) for pair in batch)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(steps, max_size=6))
def test_any_writes_leave_what_a_dictionary_would_hold_and_a_log_that_tells_it(
    engine: Engine, steps: list[object]
) -> None:
    catalogue = Catalogue(engine)
    apply_to_catalogue(engine, [])
    with write(engine) as connection:
        catalogue.delete_products(connection, [ProductId(name) for name in ("a", "b", "c")])
    model: Model = {}
    begin = catalogue.snapshot_seq()
    for step in steps:
        apply_to_catalogue(engine, step)
        apply_to_model(model, step)
    stored = {
        (one.product_id, one.name): (replace(one, image_id=ImageId(0)), sold) for one, sold in everything(catalogue)
    }
    expected = {
        (product_id, name): (as_stored(new, ImageId(0), product_id), sold)
        for product_id, (sold, held) in model.items()
        for name, new in held.items()
    }
    assert stored == expected
    assert catalogue.counts() == Counts(len(model), len(expected))
    assert all(catalogue.product(product_id) == sold for product_id, (sold, _) in model.items())
    assert mirror_of(catalogue.changes_since(begin), set()) == {one.image_id for one, _ in everything(catalogue)}
