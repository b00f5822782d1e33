import tomllib
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sameitem.catalog.taxonomy import Category, Taxonomy, alibaba_categories, alibaba_id, load_taxonomy
from sameitem.core.errors import InputError

SHIPPED = load_taxonomy()
TOPS = [
    *("tops", "bottoms", "dresses_ethnic", "outerwear", "shoes", "bags_wallets", "watches", "jewellery_accessories"),
    *("beauty", "furniture", "home_decor_lighting", "household_office", "packaged_food_drink", "fresh_food", "others"),
]


def words_of_the_file() -> Iterator[tuple[str, str]]:
    content = tomllib.loads(files("sameitem.catalog").joinpath("data/top14.toml").read_text(encoding="utf-8"))
    for top in content["top"]:
        for entry in [top, *top["leaves"].values()]:
            for text in [*entry.get("words", []), entry["name"], entry["name_zh"]]:
                yield text, top["id"]


Files = Callable[[str], Path]


@pytest.fixture
def file(tmp_path: Path) -> Files:
    def write(content: str) -> Path:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
        path.write_text(content, encoding="utf-8")
        return path

    return write


def test_fourteen_top_categories_and_others_ship_with_names_in_both_languages_and_leaves() -> None:
    assert [category.id for category in SHIPPED.top] == TOPS
    assert {leaf.parent for leaf in SHIPPED.leaves} == set(TOPS)
    assert all(category.name and category.name_zh for category in SHIPPED.top + SHIPPED.leaves)


@pytest.mark.parametrize("said_as", ["{}", "Sale > Brand X > {}", "{}/女"])
def test_every_word_of_the_file_names_its_top_category(said_as: str) -> None:
    expected = dict(words_of_the_file())
    assert {text: SHIPPED.top_of(said_as.format(text.upper())) for text in expected} == expected


@pytest.mark.parametrize(
    ("text", "top"),
    [
        ("Home > Lamps > Table Lamps", "home_decor_lighting"),
        ("Apparel & Accessories > Clothing > Shirts & Tops", "tops"),
        ("Apparel/Women/Dresses", "dresses_ethnic"),
        ("Clothing, Shoes & Jewelry > Women > Shoes", "shoes"),
        ("Women's Shoes", "shoes"),
        ("Dresses - Women", "dresses_ethnic"),
        ("women_shoes", "shoes"),
        ("MENS-JEANS", "bottoms"),
        ("Shoe racks", "furniture"),
        ("Coffee tables", "furniture"),
        ("Kitchen accessories", "household_office"),
        ("Sports & Outdoors > Watches", "watches"),
        ("Milk", "packaged_food_drink"),
        ("Dog food", "others"),
        ("Toys (wooden shoes)", "others"),
        ("女装-连衣裙", "dresses_ethnic"),
        ("家居 / 灯具 / 台灯", "home_decor_lighting"),
        ("鞋柜", "furniture"),
        ("茶几", "furniture"),
        ("面包", "fresh_food"),
        ("女士手提包", "bags_wallets"),
        ("Ｓｈｏｅｓ", "shoes"),
        ("tops", "tops"),
        ("t_shirts", "tops"),
    ],
)
def test_a_text_that_clearly_names_a_thing_goes_to_its_top_category(text: str, top: str) -> None:
    assert SHIPPED.top_of(text) == top


@pytest.mark.parametrize(
    "text",
    ["", "  ", ">", "Men", "Sale", "12345", "Shoes & bags", "Men > Shoes & bags", "Milk frother", "Cases for watches"],
)
def test_a_text_that_does_not_tell_stays_open(text: str) -> None:
    assert SHIPPED.top_of(text) == ""


@given(text=st.text(max_size=40))
def test_any_text_has_an_answer(text: str) -> None:
    assert SHIPPED.top_of(text) in {"", *TOPS}
    assert SHIPPED.leaf_of(text) == SHIPPED.leaf_of(f"  {text} ")


@given(text=st.text(alphabet="aAbBß>/|- »鞋＞\u0130ﬁ", max_size=12))
def test_a_leaf_is_the_same_when_it_is_normalised_again(text: str) -> None:
    leaf = SHIPPED.leaf_of(text)
    assert SHIPPED.leaf_of(leaf) == leaf


@pytest.mark.parametrize(
    ("text", "leaf"),
    [
        ("Home > Odd Things", "home > odd things"),
        ("home>ODD  things", "home > odd things"),
        ("Home >> Odd Things >", "home > odd things"),
        ("Home » Odd Things", "home > odd things"),
        ("Home／Odd Things", "home > odd things"),
        ("Home|Odd Things", "home > odd things"),
        ("Home > Odd/Things", "home > odd/things"),
        ("女装-怪物", "女装 > 怪物"),
        ("T-Shirts", "t_shirts"),
        ("t恤", "t_shirts"),
        ("t_shirts", "t_shirts"),
        ("", ""),
        (" > ", ""),
    ],
)
def test_a_path_is_one_leaf_however_it_is_written(text: str, leaf: str) -> None:
    assert SHIPPED.leaf_of(text) == leaf


# -- the shop's own mapping


def test_the_shops_mapping_wins_and_holds_for_what_is_below(file: Files) -> None:
    rows = 'category,top\nGifts > Shoes,others\n"Gifts > Shoes > Real, wearable",shoes\n女装,tops\n\nX-1,lamps\n'
    taxonomy = load_taxonomy(None, file("\ufeff" + rows))
    assert taxonomy.top_of("gifts/shoes") == "others"
    assert taxonomy.top_of("Gifts > Shoes > Sneakers") == "others"
    assert taxonomy.top_of("Gifts > Shoes > Real, wearable") == "shoes"
    assert taxonomy.top_of("女装-连衣裙") == "tops"
    assert taxonomy.top_of("X-1") == "home_decor_lighting"
    assert taxonomy.top_of("Gifts") == ""
    assert taxonomy.top_of("Sneakers") == "shoes"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Gifts,others\nShoes,shoess\n", "row 2: 'shoess' is none of tops, bottoms"),
        ("Gifts,otherss\n", "row 1: 'otherss' is none of"),
        ("Gifts,others\nShoes\n", "row 2: need text,id"),
        ("Gifts,others\nShoes,shoes,x\n", "row 2: need text,id"),
        ("Gifts,others\n,shoes\n", "row 2: need text,id"),
        ("Gifts,others\nGIFTS,shoes\n", "row 2: 'GIFTS' goes to 'shoes' and to another above"),
    ],
)
def test_a_mapping_that_does_not_fit_is_refused_by_row(file: Files, content: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_taxonomy(None, file(content))


# -- the shop's own taxonomy

OWN = """
[[top]]
id = "screws"
name = "Screws"
words = ["bolt", "螺丝"]
[top.leaves]
m3 = { name = "M3 screws", name_zh = "M3螺丝" }
[[top]]
id = "nails"
name = "Nails"
name_zh = "钉子"
"""


def test_a_shop_can_bring_its_own_taxonomy(file: Files) -> None:
    taxonomy = load_taxonomy(file(OWN))
    assert taxonomy.top == (
        Category("screws", "Screws", "Screws", None),
        Category("nails", "Nails", "钉子", None),
        Category("others", "Others", "其他", None),
    )
    assert taxonomy.category("m3") == Category("m3", "M3 screws", "M3螺丝", "screws")
    assert taxonomy.category("shoes") is None
    texts = ["Steel bolts", "m3", "M3 screws", "钉子", "Shoes"]
    assert [taxonomy.top_of(text) for text in texts] == ["screws", "screws", "screws", "nails", ""]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("top = ", "is not TOML"),
        ("", r"need one or more \[\[top\]\] tables"),
        ("top = 3", r"need one or more \[\[top\]\] tables"),
        ("[[tops]]\nid = 'a'", r"need one or more \[\[top\]\] tables"),
        ("[[top]]\nname = 'A'", "top category 1: id: need a text, got None"),
        ("[[top]]\nid = 'A b'\nname = 'A'", "id 'A b': need 1 to 64 of a-z, 0-9 and _"),
        ("[[top]]\nid = 'a'", "category 'a': name: need a text"),
        ("[[top]]\nid = 'a'\nname = 'A'\ncolour = 'red'", "category 'a': need name, name_zh and words, got .'colour'"),
        ("[[top]]\nid = 'a'\nname = 'A'\nwords = 'x'", "category 'a': words: need a list of texts"),
        ("[[top]]\nid = 'a'\nname = 'A'\nwords = ['...']", "has no letter or digit"),
        ("[[top]]\nid = 'a'\nname = 'A'\nleaves = 3", "leaves: need a table"),
        ("[[top]]\nid = 'a'\nname = 'A'\nleaves = {b = 3}", "category 'b': need name, name_zh and words, got 3"),
        ("[[top]]\nid = 'a'\nname = 'A'\nleaves = {a = {name = 'B'}}", "id 'a' comes twice"),
        (OWN.replace('"nails"', '"screws"'), "id 'screws' comes twice"),
        (OWN + 'words = ["Bolts"]', "the word 'Bolts' names both 'screws' and 'nails'"),
    ],
)
def test_a_taxonomy_that_does_not_fit_is_refused_with_the_place(file: Files, content: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        load_taxonomy(file(content))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes("[[top]]\nid = 'é'".encode("latin-1"))
    for name, reason in (("none.toml", "cannot be read: No such file"), ("latin.toml", "is not UTF-8 at byte 14")):
        with pytest.raises(InputError, match=f"{name} {reason}"):
            load_taxonomy(tmp_path / name)
    with pytest.raises(InputError, match=r"none\.csv cannot be read: No such file"):
        load_taxonomy(None, tmp_path / "none.csv")


def test_a_mapping_that_a_chinese_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    rows = "类目,top\n女装,tops\n男鞋 > 运动鞋,shoes\n灯具与家居装饰,home_decor_lighting\n"
    (tmp_path / "map.csv").write_bytes(rows.encode("gb18030"))
    assert load_taxonomy(None, tmp_path / "map.csv").top_of("女装") == "tops"


def test_a_leaf_needs_its_top_category() -> None:
    with pytest.raises(InputError, match="leaf 'm3' is under 'screws', which is no top category"):
        Taxonomy([Category("m3", "M3", "M3", "screws")])


# -- Alibaba's ids


def test_the_categories_of_alibaba_cloud_image_search_are_known_by_their_public_ids() -> None:
    assert [category.id for category in alibaba_categories()] == [*range(10), 20, 21, 22, 88888888]


def test_every_category_of_ours_stands_under_exactly_one_of_alibabas() -> None:
    ours = [named for category in alibaba_categories() for named in category.ours]
    assert len(ours) == len(set(ours))
    assert set(TOPS) <= set(ours)
    assert all(SHIPPED.category(named) is not None for named in ours)


@pytest.mark.parametrize(
    ("top", "leaf", "expected"),
    [
        ("tops", "", 0),
        ("tops", "underwear", 21),
        ("bottoms", "skirts", 1),
        ("bottoms", "jeans", 2),
        ("watches", "", 5),
        ("packaged_food_drink", "drinks", 8),
        ("packaged_food_drink", "home > odd things", 6),
        ("others", "toys", 20),
        ("fresh_food", "", 88888888),
        ("", "", 88888888),
        ("screws", "m3", 88888888),
    ],
)
def test_our_categories_translate_to_alibabas_ids(top: str, leaf: str, expected: int) -> None:
    assert alibaba_id(top, leaf) == expected
