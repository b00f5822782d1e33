"""Measuring a shop on labelled photos."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sameitem.catalog.store import Listing
from sameitem.core.database import write
from sameitem.core.errors import ConflictError, InputError, NotFoundError, UnavailableError
from sameitem.core.records import Box, Product, ProductId
from sameitem.engine.versions import current
from sameitem.evaluation.evaluate import DEPTHS, Evaluation, LabelledQuery, evaluate, read_queries
from sameitem.pipeline.listings import DECISIONS, read_table
from sameitem.pipeline.online import MAX_PAGE, SearchAnswer, Searcher, SearchRequest
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.demo_shop import DemoShop
from shops import copied, import_source, open_shop, run


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    file = folder / "queries.csv"
    file.write_bytes(text.encode(encoding))
    return file


class TestReadingQueries:
    def test_gives_what_the_file_says_and_photos_beside_it(self, tmp_path: Path) -> None:
        file = written(
            tmp_path,
            'image,product_id,category,box,slice,note\na.jpg,P1,shoes,"1, 2.5,30,40",dim,x\n"sub/b, c.jpg", P2 ,,,,\n',
        )
        assert read_queries(file) == [
            LabelledQuery(tmp_path / "a.jpg", ProductId("P1"), "shoes", Box(1, 2.5, 30, 40), "dim"),
            LabelledQuery(tmp_path / "sub/b, c.jpg", ProductId("P2")),
        ]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_takes_what_spreadsheets_write(self, tmp_path: Path, encoding: str, end: str) -> None:
        file = written(tmp_path, f"product_id,image{end}杯子,写真.jpg{end}", encoding)
        assert read_queries(file) == [LabelledQuery(tmp_path / "写真.jpg", ProductId("杯子"))]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "need a header with the columns image and product_id, got an empty file"),
            ("image,product\na.jpg,1\n", "need a header with the columns image and product_id, got image, product"),
            ("image;product_id\na.jpg;1\n", "got image;product_id"),
            ("image,product_id\n", "queries.csv has no line below its header"),
            ("image,product_id\na.jpg,1\n,2\n", "line 3: need image and product_id, got '' and '2'"),
            ("image,product_id\na.jpg,1\nb.jpg\n", "line 3: need image and product_id, got 'b.jpg' and ''"),
            ("image,product_id\na\0.jpg,1\n", "line 2: need image and product_id"),
            ("image,product_id,box\na,1,1,2,3,4\n", "line 2: more cells than the header has; put a box into quotes"),
            ('image,product_id,box\na,1,\nb,2,"1,2,3"\n', "line 3: need a box left,top,right,bottom .* got '1,2,3'"),
            ('image,product_id,box\na,1,"1,2,3,wide"\n', "line 2: need a box"),
            ('image,product_id,box\na,1,"30,2,3,40"\n', "line 2: need a box"),
            ('image,product_id,box\na,1,"1,2,nan,40"\n', "line 2: need a box"),
            ('image,product_id,box\na,1,"1,2,inf,40"\n', "line 2: need a box"),
            (
                f"image,product_id\na.jpg,{'x' * 2_000}\n",
                "line 2: need a product_id of at most 512 characters, got 2,000",
            ),
        ],
    )
    def test_says_what_is_wrong_and_where(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_queries(written(tmp_path, text))

    @pytest.mark.parametrize("encoding", ["gbk", "utf-16"])
    def test_refuses_other_encodings(self, tmp_path: Path, encoding: str) -> None:
        with pytest.raises(InputError, match="not a CSV file in UTF-8"):
            read_queries(written(tmp_path, "image,product_id\n照片.jpg,1\n", encoding))

    def test_of_a_missing_file_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match=r"no file .*none\.csv"):
            read_queries(tmp_path / "none.csv")


@pytest.fixture(scope="module")
def queries(drawn: DemoShop) -> list[LabelledQuery]:
    return read_queries(drawn.queries)


@dataclass(frozen=True)
class Asked:
    """One query and what searching says when it is asked alone: the products that each place shows."""

    query: LabelledQuery
    first: SearchAnswer
    places: list[set[ProductId]]  # of the whole gallery, best first

    @property
    def ranks(self) -> list[int]:
        """Ranks of the right places, from 1."""
        return [rank for rank, shown in enumerate(self.places, start=1) if self.query.product_id in shown]


def ask(searcher: Searcher, query: LabelledQuery) -> Asked:
    request = SearchRequest(photo=query.image.read_bytes(), num=MAX_PAGE, distinct_product=False)
    first, second = (searcher.search(replace(request, start=start), record=False) for start in (0, MAX_PAGE))
    results = [*first.results, *second.results]
    assert len(results) == first.found
    return Asked(query, first, [{r.product.product_id, *(d.product_id for d in r.duplicates)} for r in results])


@pytest.fixture(scope="module")
def measured(
    built_folder: Path, queries: list[LabelledQuery], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Evaluation, list[Asked]]:
    """The evaluation of the drawn shop, and the same searches made one by one."""
    shop = open_shop(copied(built_folder, tmp_path_factory.mktemp("measured") / "shop"))
    searcher = Searcher(shop)
    asked = [ask(searcher, query) for query in queries]
    evaluation = evaluate(shop, queries)
    shop.close()
    return evaluation, asked


@pytest.mark.slow
class TestFigures:
    def test_agree_with_searching_one_by_one(self, measured: tuple[Evaluation, list[Asked]]) -> None:
        evaluation, asked = measured
        assert evaluation.whole.queries == len(asked)
        for depth in DEPTHS:
            share = sum(one.ranks[0] <= depth for one in asked) / len(asked)
            interval = evaluation.whole.recall[depth]
            assert interval.mean == pytest.approx(share)
            assert interval.low <= share <= interval.high
        assert [outcome.rank for outcome in evaluation.outcomes] == [one.ranks[0] for one in asked]
        assert evaluation.whole.mrr == pytest.approx(sum(1 / one.ranks[0] for one in asked) / len(asked))

    def test_count_every_picture_of_a_product_in_the_gallery(self, measured: tuple[Evaluation, list[Asked]]) -> None:
        evaluation, asked = measured
        assert [outcome.wanted for outcome in evaluation.outcomes] == [len(one.ranks) for one in asked]
        assert max(outcome.wanted for outcome in evaluation.outcomes) > 1
        total = 0.0
        for one in asked:
            total += sum(n / rank for n, rank in enumerate(one.ranks, start=1) if rank <= MAX_PAGE) / len(one.ranks)
        assert evaluation.whole.map == pytest.approx(total / len(asked))

    def test_count_near_duplicates_of_one_product_as_one_picture(self, tmp_path: Path, drawn: DemoShop) -> None:
        photo, other = (drawn.folder / f"images/p0000{n}-1.jpg" for n in (0, 1))
        again = tmp_path / "again.jpg"
        again.write_bytes(photo.read_bytes())
        feed = tmp_path / "feed.csv"
        feed.write_text(f"product_id,image,kind\na,{photo},main\na,{again},sku\nb,{other},main\n", encoding="utf-8")
        shop = open_shop(tmp_path / "shop")
        import_source(shop, feed)
        assert run(shop, "build")["duplicates"] == 1
        evaluation = evaluate(shop, [LabelledQuery(photo, ProductId("a"))])
        assert (evaluation.gallery, evaluation.outcomes[0].wanted, evaluation.whole.map) == (3, 1, 1.0)
        shop.close()

    def test_of_slices_are_those_of_their_queries_alone(self, measured: tuple[Evaluation, list[Asked]]) -> None:
        evaluation, _ = measured
        names = {outcome.query.slice for outcome in evaluation.outcomes}
        assert set(evaluation.slices) == names
        for name in names:
            ranks = [outcome.rank for outcome in evaluation.outcomes if outcome.query.slice == name]
            assert evaluation.slices[name].queries == len(ranks)
            assert evaluation.slices[name].recall[1].mean == pytest.approx(ranks.count(1) / len(ranks))

    def test_of_the_category_are_the_share_told_rightly(self, measured: tuple[Evaluation, list[Asked]]) -> None:
        evaluation, asked = measured
        right = [one.first.categories[0].id == one.query.category.split(" > ")[0] for one in asked]
        assert evaluation.category is not None
        assert evaluation.category.queries == 14
        assert evaluation.category.accuracy["fused"] == pytest.approx(sum(right) / 14)
        assert set(evaluation.category.accuracy) == {"model", "knn", "fused"}
        assert 0 <= evaluation.category.ece <= 1

    def test_are_written_under_the_keys_of_the_contract(self, measured: tuple[Evaluation, list[Asked]]) -> None:
        written = json.loads(json.dumps(measured[0].as_json(), allow_nan=False))
        contract = {
            "queries",
            "gallery",
            "recall",
            "recall_low",
            "recall_high",
            "map",
            "mrr",
            "category",
            "boxes",
            "slices",
        }
        assert contract <= set(written)
        for figures in (written, *written["slices"].values()):
            assert [list(figures[key]) for key in ("recall", "recall_low", "recall_high")] == [
                ["1", "5", "10", "60"]
            ] * 3
        assert set(written["category"]["accuracy"]) == {"model", "knn", "fused"}
        boxes = written["boxes"]
        assert boxes["queries"] == 14
        assert 0 <= boxes["iou70"] <= boxes["iou50"] <= 1
        assert 0 < boxes["mean_iou"] <= 1
        assert 0 <= written["category"]["accuracy"]["model"] <= 1

    def test_leave_the_category_open_where_no_query_is_labelled(self, shop: Shop, queries: list[LabelledQuery]) -> None:
        assert evaluate(shop, [replace(queries[0], category="")]).category is None


@pytest.mark.slow
class TestAQuery:
    def test_for_a_listing_folded_behind_another_product_is_found_there(self, shop: Shop) -> None:
        decided = read_table(shop.index_root / str(current(shop.index_root)) / DECISIONS)
        folded = [row for row in decided if row["status"] == "duplicate"]
        row = next(row for row in folded if not row["detail"].startswith(f"represented by {row['product_id']} "))
        photo = shop.photos.path(shop.catalogue.image(row["product_id"], row["image_name"]).content_hash)
        outcome = evaluate(shop, [LabelledQuery(photo, row["product_id"])]).outcomes[0]
        assert outcome.rank == 1
        assert outcome.shown[0].product_id != row["product_id"]

    def test_for_a_product_that_is_not_in_the_catalogue_is_left_out_and_counted(
        self, shop: Shop, queries: list[LabelledQuery]
    ) -> None:
        evaluation = evaluate(shop, [replace(queries[0], product_id=ProductId("nobody's")), queries[1]])
        assert (evaluation.unknown, evaluation.whole.queries) == (1, 1)
        assert evaluation.outcomes[0].query == queries[1]

    def test_for_a_product_that_is_not_in_the_gallery_is_missed_and_counted(
        self, shop: Shop, queries: list[LabelledQuery]
    ) -> None:
        with write(shop.database) as connection:
            shop.catalogue.upsert(connection, [Listing(Product(ProductId("no pictures")))])
        evaluation = evaluate(shop, [replace(queries[0], product_id=ProductId("no pictures"))])
        assert (evaluation.dropped, evaluation.unknown, evaluation.whole.queries) == (1, 0, 1)
        assert {interval.mean for interval in evaluation.whole.recall.values()} == {0.0}
        assert (evaluation.whole.map, evaluation.whole.mrr) == (0.0, 0.0)

    def test_whose_photo_cannot_be_used_is_left_out_and_counted_with_the_reason(
        self, shop: Shop, queries: list[LabelledQuery], tmp_path: Path
    ) -> None:
        (tmp_path / "text.jpg").write_text("no photo")
        bad = [replace(queries[0], image=tmp_path / name) for name in ("text.jpg", "gone.jpg", "gone-too.jpg", ".")]
        evaluation = evaluate(shop, [*bad, queries[1]])
        assert evaluation.whole.queries == 1
        assert evaluation.failed["the photo cannot be read: No such file or directory"] == 2
        assert evaluation.failed["the photo cannot be read: Is a directory"] == 1
        assert sum(evaluation.failed.values()) == 4
        assert not any(str(tmp_path) in reason for reason in evaluation.failed)

    def test_leaves_no_trace_in_what_the_shop_learns_from(self, shop: Shop, queries: list[LabelledQuery]) -> None:
        evaluate(shop, queries[:2])
        assert list(shop.clicks.sessions()) == []
        assert list(shop.query_photos.hashes()) == []


@pytest.mark.slow
class TestAnEvaluation:
    def test_of_no_measurable_query_says_why(self, shop: Shop, queries: list[LabelledQuery], tmp_path: Path) -> None:
        gone = replace(queries[0], image=tmp_path / "gone.jpg")
        unknown = replace(queries[0], product_id=ProductId("nobody's"))
        with pytest.raises(
            InputError,
            match="none of 3 queries could be measured; 2 times: the photo cannot be read: No such file or directory; "
            "1 of their products are not in the catalogue",
        ):
            evaluate(shop, [gone, gone, unknown])

    def test_stops_when_another_version_goes_live_meanwhile(self, shop: Shop, queries: list[LabelledQuery]) -> None:
        def publish_another(done: int, _total: int) -> None:
            if done == 1:
                run(shop, "build")

        with pytest.raises(ConflictError, match=r"went live while .* was measured; evaluate again"):
            evaluate(shop, queries[:2], tell=publish_another)

    def test_needs_a_published_index(self, tmp_path: Path) -> None:
        shop = open_shop(tmp_path / "shop")
        with pytest.raises(UnavailableError, match="no index version is published yet"):
            evaluate(shop, [LabelledQuery(tmp_path / "a.jpg", ProductId("a"))])
        shop.close()

    def test_tells_how_far_it_is(self, shop: Shop, queries: list[LabelledQuery]) -> None:
        told: list[tuple[int, int]] = []
        evaluate(shop, queries[:2], tell=lambda done, total: told.append((done, total)))
        assert told == [(0, 2), (1, 2), (2, 2)]
