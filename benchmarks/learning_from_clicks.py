"""Measure whether clicks make a model better than the same training on the same pictures without clicks.

python benchmarks/learning_from_clicks.py prepare --work FOLDER --shop composed --set SET
python benchmarks/learning_from_clicks.py prepare --work FOLDER --shop grocery|eafit --data DATA --start MODEL --fold N
python benchmarks/learning_from_clicks.py train --work FOLDER --arm ARM --seed N
python benchmarks/learning_from_clicks.py evaluate --work FOLDER
python benchmarks/learning_from_clicks.py report --work FOLDER [FOLDER ...] --out FILE

`prepare` makes a shop with a start model, lets simulated shoppers search with photos of one half of the items, and
mines their clicks. An arm is a way to train from that start; all train the same steps on the same pictures. `evaluate`
searches with photos of the other half, whose items nobody ever clicked, among the catalogue images of both. A step
whose output is there is not done again; a training that was killed goes on. SET is what `benchmarks/composed_photos.py`
wrote; its true boxes are read by `evaluate` alone. Everything that this file measures is to be called simulated.
"""

import argparse
import csv
import datetime
import hashlib
import io
import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageFilter

from composed_photos import CLICKED, SIDE_PX, share_of
from sameitem.clicks.triplet_file import read_triplets, write_triplets
from sameitem.clicks.triplets import Distances, MiningRules, Picture, Tally, Triplet, mine
from sameitem.core.errors import InputError, NotFoundError
from sameitem.core.jobs import run_job
from sameitem.core.records import ContentHash, ImageId, Pixels, ProductId
from sameitem.core.settings import load_settings
from sameitem.features.detect import Detector
from sameitem.features.embed import Embedder
from sameitem.features.model_folder import EMBED, Graph, ModelFolder, read_model
from sameitem.features.preprocess import Fit, Layout, Preprocessing, to_square
from sameitem.features.subject import catalogue_subjects, user_subjects
from sameitem.learning.phases import Recipe
from sameitem.learning.real_sets import RealSets, Row
from sameitem.learning.triplet_set import is_validating
from sameitem.metrics.boxes import iou
from sameitem.metrics.intervals import Interval, paired_interval
from sameitem.pipeline.offline import build
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.mining import mine_shop
from sameitem.upkeep.shoppers import SEARCH, Errand, Fraud, Habits, Request, Send, in_process, simulate
from sameitem.upkeep.work import work_of

COMPOSED, SHOPS = "composed", ("composed", "grocery", "eafit")
HONEST, FRAUD = "honest", "fraud"  # click logs
START = "start-pca"
START_DIM, START_PX = 512, 160
LEAST_CLICKED = 3000  # sessions with a click that the composed shop needs
MOST_PASSES = 8  # searches with the same photo, at most
PROMOTED = 10  # products that frauds click
FRAUD_SEARCHES = 1.5  # as many searches as without frauds, so that about as many honest ones remain
NEGATIVES = 4  # of a picture in the control
NO_BOX = ", hard box off"  # at serving: centred views of the whole photo
CONFIG, LOG_FACTS = "config.json", "facts.json"
BATCH = 64
FOLLOW_S = 30.0  # seconds between two words on how far a training is

Flags = NDArray[np.float64]  # 0 or 1 per photo


@dataclass(frozen=True, slots=True)
class Arm:
    """A way to train: whose clicks, and what is different from `clicks`."""

    says: str
    log: str = HONEST
    source: str = "mined"  # or "unfiltered", "control"
    recipe: Mapping[str, object] = field(default_factory=dict)


ARMS = {
    "clicks": Arm("clicks"),
    "control": Arm("control: no clicks, positives are two edits of one picture", source="control"),
    "no-noise-filter": Arm("every click and every non-click that was seen is believed", source="unfiltered"),
    "no-shared-negatives": Arm("only a photo's own negatives", recipe={"shares_negatives": False}),
    "no-query-mean": Arm("mean over triplets, not over queries", recipe={"by_query": False}),
    "random-negatives": Arm("random negatives instead of unclicked ones", recipe={"random_negatives": True}),
    "no-detection": Arm("no detection branch, whole photos", recipe={"mask_steps": 0, "rounds": 0}),
    "fraud": Arm("with frauds in the log", log=FRAUD),
    "fraud-no-filter": Arm("with frauds in the log, every click believed", log=FRAUD, source="unfiltered"),
}
ABLATIONS = ("no-noise-filter", "no-shared-negatives", "no-query-mean", "random-negatives", "no-detection")


# ------------------------------------------------------------------------------------------- pictures of a shop


@dataclass(frozen=True, slots=True, eq=False)
class Collection:
    """What a shop lists and what its users photograph, by numbers of items; nothing here is a box."""

    gallery: Sequence[Pixels]
    gallery_items: NDArray[np.int64]  # (images,) ascending
    photos: Sequence[Pixels]
    photo_items: NDArray[np.int64]  # (photos,)
    is_clicked: NDArray[np.bool_]  # (photos,) users search with it before the training; the others measure

    def clicked(self) -> NDArray[np.int64]:
        """Return the photos that users search with."""
        return np.flatnonzero(self.is_clicked)

    def measured(self) -> NDArray[np.int64]:
        """Return the photos of items that no user ever clicked."""
        return np.flatnonzero(~self.is_clicked)


class Decoded(Sequence[Pixels]):
    """Pictures of the real sets, decoded when they are asked for."""

    def __init__(self, sets: RealSets, rows: Sequence[Row]) -> None:
        self._sets, self._rows = sets, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Pixels: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Pixels]: ...
    def __getitem__(self, at: int | slice) -> Pixels | Sequence[Pixels]:
        if isinstance(at, slice):
            return Decoded(self._sets, self._rows[at])
        return self._sets.pixels(self._rows[at])


def collect(config: Mapping[str, Any]) -> Collection:
    """Return the pictures that a configuration names."""
    if config["shop"] == COMPOSED:
        return composed(Path(config["set"]), config["items"])
    return real(config["shop"], RealSets(Path(config["data"])), config["fold"])


def composed(folder: Path, items: int | None) -> Collection:
    """Read what `composed_photos` wrote, without its true boxes; `items` limits it to the first ones."""
    with (folder / "items.csv").open(newline="") as stream:
        halves = [row["half"] for row in csv.DictReader(stream)][:items]
    photo_items = np.load(folder / "photo_item.npy").astype(np.int64)
    kept = photo_items < len(halves)
    assert kept[: kept.sum()].all()  # photos lie in the order of their items
    return Collection(
        gallery=np.load(folder / "catalogue.npy", mmap_mode="r")[: len(halves)],
        gallery_items=np.arange(len(halves)),
        photos=np.load(folder / "photos.npy", mmap_mode="r")[: kept.sum()],
        photo_items=photo_items[kept],
        is_clicked=np.array([half == CLICKED for half in halves])[photo_items[kept]],
    )


def real(shop: str, sets: RealSets, fold: int) -> Collection:
    """Read real photos: users photograph the products of one half and click, those of the other half measure."""
    if shop == "grocery":  # identity is certain for packages only; everything else makes them harder to find
        photos = sets.select("grocery", lambda row: row.role == "query" and "Packages" in row.category)
        gallery = sets.select("grocery", lambda row: row.role == "catalogue")
        gallery += sets.select("abo", lambda row: row.split == "val")
    else:
        photos = sets.select("eafit_dev", lambda row: row.role == "query")
        gallery = sets.select("eafit_dev", lambda row: row.role == "catalogue")
    number = {name: at for at, name in enumerate(dict.fromkeys(row.product for row in (*photos, *gallery)))}
    gallery.sort(key=lambda row: number[row.product])
    is_clicked = in_half([row.product for row in photos], fold)
    return Collection(
        gallery=Decoded(sets, gallery),
        gallery_items=np.array([number[row.product] for row in gallery]),
        photos=Decoded(sets, photos),
        photo_items=np.array([number[row.product] for row in photos]),
        is_clicked=is_clicked,
    )


def in_half(products: Sequence[str], fold: int) -> NDArray[np.bool_]:
    """Say of each photo whether its product is in a half: two halves of equal size, in an order drawn by hash."""
    order = sorted(set(products), key=share_of)
    half = set(order[: len(order) // 2] if fold == 0 else order[len(order) // 2 :])
    return np.array([product in half for product in products])


def as_file(pixels: Pixels) -> bytes:
    """Return a picture as a user or a shop would send it, nothing of it lost."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", compress_level=1)
    return out.getvalue()


def edited(pixels: Pixels, generator: np.random.Generator) -> Pixels:
    """Edit a picture as any trainer would: crop, flip, colour, blur. Both arms edit alike."""
    picture = Image.fromarray(pixels)
    share = generator.uniform(0.75, 1)
    left, top = (generator.uniform(0, 1 - share) * side for side in picture.size)
    picture = picture.crop((left, top, left + share * picture.width, top + share * picture.height))
    if generator.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        picture = change(picture).enhance(generator.uniform(0.7, 1.3))
    if generator.random() < 0.5:
        picture = picture.filter(ImageFilter.GaussianBlur(generator.uniform(0.3, 1.5)))
    return np.asarray(picture)


# --------------------------------------------------------------------------- prepare: shop, shoppers, triplets


def prepare(config: dict[str, Any], work: Path) -> None:
    """Make the shop, its click logs and every triplet file; what is there already stays."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / CONFIG).is_file():
        (work / CONFIG).write_text(json.dumps(config, indent=1) + "\n")
    if read_json(work / CONFIG) != config:
        raise InputError(f"{work} was prepared as {read_json(work / CONFIG)}; give another --work")
    pictures = collect(config)
    start = start_model(config, pictures, work / "start")
    made(work / "built", lambda draft: make_shop(draft, pictures, start))
    for name in (HONEST, FRAUD) if config["fraud"] else (HONEST,):
        made(work / name, lambda draft, name=name: shop_with_clicks(draft, work / "built", pictures, config, name))
        with opened(work / name, start.name) as shop:
            mine_both(shop, work, name, start.name)
        if name == HONEST and not (work / f"control-{HONEST}.parquet").is_file():
            mined = list(read_triplets(work / f"mined-{HONEST}.parquet"))
            write_triplets(work / f"control-{HONEST}.parquet", control(mined, seed=config["seed"]), Tally())
            print("the honest log is ready for training", flush=True)
    print(json.dumps(read_json(work / HONEST / LOG_FACTS), indent=1))


def made(folder: Path, make: Callable[[Path], None]) -> None:
    """Make a folder that appears under its name when it is whole; nothing happens where it is there."""
    if not folder.exists():
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        began = time.monotonic()
        make(draft)
        draft.rename(folder)
        print(f"{folder.name}: {time.monotonic() - began:.0f} s", flush=True)


@contextmanager
def opened(folder: Path, model: str) -> Iterator[Shop]:
    """Open a shop with its active model, and close it."""
    shop = Shop(folder, load_settings(folder, {"model": {"active": model}})[0])
    try:
        yield shop
    finally:
        shop.close()


def start_model(config: Mapping[str, Any], pictures: Collection, parent: Path) -> Path:
    """Return the folder of the start model: the one that was given, else ImageNet features with a PCA head."""
    folder = parent / config["start_version"]
    if config["start"]:
        made(folder, lambda draft: shutil.copytree(config["start"], draft) and None)
    elif not folder.exists():
        parent.mkdir(exist_ok=True)
        write_start(folder, pictures)
    return folder


def write_start(out: Path, pictures: Collection) -> None:
    """Write ImageNet Lite0, average pooling and the principal directions of the shop's own catalogue images."""
    import torch

    from sameitem.learning.network import FeatureBranch, SubjectPooling
    from sameitem.learning.train import write_learned
    from sameitem.learning.trunk import CHANNELS, MEAN, PACKAGE, SPREAD, folded_trunk
    from sameitem.learning.weights import Learned

    preprocessing = Preprocessing(START_PX, Fit.PAD, 255, (MEAN,) * 3, (SPREAD,) * 3, Layout.NCHW)
    pooling = SubjectPooling(centre=float("inf"), contrast=0.0)
    raw = FeatureBranch(folded_trunk(), pooling, np.eye(CHANNELS, dtype=np.float32)).eval()
    rows = []
    with torch.inference_mode():
        for part in parts(len(pictures.gallery)):
            squares = [to_square(np.asarray(pictures.gallery[at]), preprocessing) for at in part]
            rows.append(raw(torch.from_numpy(np.stack(squares))).numpy())
    features = np.concatenate(rows)
    _, _, axes = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    dim = min(START_DIM, len(axes) // 8 * 8)
    origin = ModelFolder(
        version=out.name,
        kind="base",
        dim=dim,
        graphs={EMBED: Graph("embed.onnx", "0" * 64, "image", "feature")},
        preprocessing=preprocessing,
        licence="Apache-2.0",
        source=PACKAGE,
        metrics={},
    )
    write_learned(
        out,
        Learned(FeatureBranch(folded_trunk(), pooling, axes[:dim].T).eval(), None, None),
        origin=origin,
        kind="base",
        source=f"{PACKAGE}, PCA of {len(features)} catalogue images",
        samples=[np.asarray(pictures.photos[int(at)]) for at in pictures.clicked()[:60]]
        + [np.asarray(pictures.gallery[at]) for at in range(min(60, len(pictures.gallery)))],
        metrics={},
        card="The start of an experiment.\n",
    )


def make_shop(folder: Path, pictures: Collection, start: Path) -> None:
    """Found a shop, import the catalogue images, and publish an index made with the start model."""
    found_shop(folder)
    (folder / "models").mkdir()
    shutil.copytree(start, folder / "models" / start.name)
    feed = folder / "feed"
    feed.mkdir()
    with (feed / "feed.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["product_id", "image", "kind"])
        for at, item in enumerate(pictures.gallery_items):
            (feed / f"{at}.png").write_bytes(as_file(np.asarray(pictures.gallery[at])))
            writer.writerow([product_of(int(item)), f"{at}.png", "sku"])
    with opened(folder, start.name) as shop:
        arguments = {"source": str(feed / "feed.csv"), "columns": {}, "full": False, "uploaded": False}
        run_job(shop.jobs, shop.jobs.submit("import", arguments).id, work_of(shop))
        report = build(shop, tell=lambda _step, _share: None, now=datetime.datetime.now(datetime.UTC))
    shutil.rmtree(feed)
    facts = {"images": report.images, "entries": report.entries, "dropped": dict(report.dropped)}
    (folder / LOG_FACTS).write_text(json.dumps(facts))


def product_of(item: int) -> ProductId:
    """Return the product id of an item."""
    return ProductId(f"item-{item}")


def shop_with_clicks(draft: Path, built: Path, pictures: Collection, config: Mapping[str, Any], log: str) -> None:
    """Copy the shop and let shoppers search with the clicked half's photos; note what each search wanted."""
    shutil.copytree(built, draft)
    generator = np.random.default_rng([config["seed"], log == FRAUD])
    rows = pictures.clicked()
    fraud, each = None, len(rows)
    if log == FRAUD:
        items = generator.choice(np.unique(pictures.gallery_items), PROMOTED, replace=False)
        fraud, each = Fraud(frozenset(product_of(int(item)) for item in items)), int(FRAUD_SEARCHES * len(rows))
    with opened(draft, config["start_version"]) as shop:
        wanted: dict[str, str] = {}
        send = Noting(in_process(shop), wanted, pictures)
        reports = []
        while len(reports) < config["passes"] or (
            config["shop"] == COMPOSED
            and sum(report.sessions - report.without_click for report in reports) < config["least_clicked"]
            and len(reports) < MOST_PASSES
        ):
            report = simulate(
                errands(pictures, rows, generator, send),
                send,
                sessions=each,
                habits=Habits(list_length=60),
                generator=generator,
                fraud=fraud,
                tell=lambda _what, _percent, _counts: None,
            )
            reports.append(report)
            print(f"{log}, pass {len(reports)}: {report.sessions - report.without_click} with a click", flush=True)
    totals = {
        name: sum(asdict(report)[name] for report in reports)
        for name, value in asdict(reports[0]).items()
        if type(value) is int
    }
    facts = read_json(draft / LOG_FACTS) | totals | {"passes": len(reports), "photos": len(rows)}
    (draft / LOG_FACTS).write_text(json.dumps(facts))
    (draft / "wanted.json").write_text(json.dumps(wanted))


class Noting:
    """Sends on, and notes which product each search wanted; read only to say how many clicks are right."""

    def __init__(self, send: Send, wanted: dict[str, str], pictures: Collection) -> None:
        self._send, self._wanted = send, wanted
        self.now: ProductId = product_of(int(pictures.photo_items[0]))

    def __call__(self, request: Request) -> Mapping[str, Any]:
        """Send a request."""
        answer = self._send(request)
        if request.path == SEARCH:
            self._wanted[answer["search_id"]] = self.now
        return answer


def errands(
    pictures: Collection, rows: NDArray[np.int64], generator: np.random.Generator, notes: Noting
) -> Iterator[Errand]:
    """Yield the photos for ever, each once in a random order before any comes again."""
    while True:
        for row in generator.permutation(rows):
            notes.now = product_of(int(pictures.photo_items[row]))
            yield Errand(as_file(np.asarray(pictures.photos[int(row)])), frozenset({notes.now}))


def mine_both(shop: Shop, work: Path, log: str, model: str) -> None:
    """Write the triplets of a log as mining believes them, and as they are; say how many are right."""
    facts_file = shop.folder / LOG_FACTS
    mined, unfiltered = work / f"mined-{log}.parquet", work / f"unfiltered-{log}.parquet"
    if not mined.is_file():
        began = time.monotonic()
        report = mine_shop(shop, mined, versions=[model], hear=lambda _percent, _counts: None).as_json()
        kept = ("triplets", "used", "dropped", "used_clicks", "dropped_clicks", "used_non_clicks", "dropped_non_clicks")
        facts = {name: report[name] for name in kept} | rightness(shop, read_triplets(mined))
        facts["mining_s"] = round(time.monotonic() - began)
        facts_file.write_text(json.dumps(read_json(facts_file) | {"mined": facts}))
    if not unfiltered.is_file():
        believe_all(shop, unfiltered)
        facts = rightness(shop, read_triplets(unfiltered))
        facts_file.write_text(json.dumps(read_json(facts_file) | {"unfiltered": facts}))


def believe_all(shop: Shop, out: Path) -> None:
    """Write the triplets of a log without any filter: clicked is the same item, seen and unclicked another."""
    listed = {
        image.image_id: Picture(image.content_hash, image.box) for batch in shop.catalogue.scan() for image, _ in batch
    }

    def near(anchors: Sequence[Picture], others: Sequence[Picture], /) -> NDArray[np.float64]:
        return np.zeros((len(anchors), len(others)))

    def pictures_of(image_ids: Sequence[ImageId]) -> Mapping[ImageId, Picture]:
        return {image_id: listed[image_id] for image_id in image_ids}

    unlimited = 65534
    rules = MiningRules(0, 0, clicked_share=1.0, sessions_per_user=unlimited, triplets_per_pair=unlimited)
    tally = Tally()
    triplets = mine(
        shop.clicks.sessions(),
        Distances(near, near, near),
        pictures_of=pictures_of,
        rules=rules,
        tally=tally,
    )
    write_triplets(out, triplets, tally)


def rightness(shop: Shop, triplets: Iterable[Triplet]) -> dict[str, float]:
    """Return how many photos and triplets there are, and how much of their weight tells the truth."""
    wanted = read_json(shop.folder / "wanted.json")
    product = {image.image_id: image.product_id for batch in shop.catalogue.scan() for image, _ in batch}
    total = positive = negative = count = 0.0
    photos, products = set(), set()
    for triplet in triplets:
        item = wanted[triplet.search_id]
        count, total = count + 1, total + triplet.weight
        positive += triplet.weight * (product[triplet.positive_id] == item)
        negative += triplet.weight * (product[triplet.negative_id] != item)
        photos.add(triplet.photo.content_hash)
        products.add(item)
    whole = max(total, 1e-9)
    return {
        "file_triplets": count,
        "file_photos": len(photos),
        "file_products": len(products),
        "right_positives": round(positive / whole, 4),
        "right_negatives": round(negative / whole, 4),
    }


def control(mined: Iterable[Triplet], *, seed: int) -> Iterator[Triplet]:
    """Yield the control's triplets: the same photos and catalogue images, each with another edit of itself.

    Nothing of a click is left: not which image belongs to which photo, nor what was seen beside it.
    """
    pictures: dict[ContentHash, None] = {}
    for triplet in mined:
        pictures |= dict.fromkeys((triplet.photo.content_hash, triplet.positive, triplet.negative))
    names = sorted(pictures)
    generator = np.random.default_rng([seed, 11])
    for at, name in enumerate(names):
        others = [int(other) for other in generator.integers(len(names), size=NEGATIVES) if other != at]
        for other in others:
            yield Triplet(
                photo=Picture(ContentHash(f"{name}-a")),
                positive_id=ImageId(at + 1),
                positive=ContentHash(f"{name}-b"),
                negative_id=ImageId(other + 1),
                negative=ContentHash(f"{names[other]}-b"),
                search_id="",
                user="",
                weight=1 / len(others),
            )


# -------------------------------------------------------------------------------------------------------- train


def triplet_file(work: Path, arm: Arm) -> Path:
    """Return the triplets of an arm."""
    return work / f"{arm.source}-{arm.log}.parquet"


def training_pixels(
    stored: Callable[[ContentHash], Pixels], edits: frozenset[str], seed: int
) -> Callable[[ContentHash], Pixels]:
    """Return what gives an arm its pictures: photos of users edited once, "-a" and "-b" two edits of any picture.

    Args:
        stored: pixels by content hash.
        edits: content hashes of the users' photos.
        seed: of the run; the edit depends on it and on the name alone.
    """

    def pixels(name: ContentHash) -> Pixels:
        content, _, side = name.partition("-")
        whole = stored(ContentHash(content))
        if not side and content not in edits:
            return whole
        digest = hashlib.sha256(f"{seed} {content} {side or 'a'}".encode()).digest()
        return edited(whole, np.random.default_rng(int.from_bytes(digest[:8])))

    return pixels


def teaching_pairs(file: Path) -> int:
    """Return how many pairs of a triplet file teach."""
    pairs = {(triplet.photo.content_hash, triplet.positive) for triplet in read_triplets(file)}
    validate = {photo for photo, image in pairs if is_validating(image)}
    return sum(photo not in validate for photo, _ in pairs)


def steps_of(recipe: Recipe) -> int:
    """Return how many steps a recipe takes."""
    searches = recipe.rounds * (-(-recipe.searched // 32) + 1 + recipe.fit_steps)
    return recipe.mask_steps + searches + recipe.feature_steps


def train(work: Path, name: str, seed: int, recipe: Recipe) -> None:
    """Train an arm and write its model folder `models/ARM-SEED` and what it took; goes on where it was killed."""
    from sameitem.learning.train import train_embedding

    arm, config = ARMS[name], read_json(work / CONFIG)
    out = work / "models" / f"{name}-{seed}"
    run = work / "runs" / f"{name}-{seed}"
    both = [triplet_file(work, arm), work / f"control-{HONEST}.parquet", work / f"mined-{HONEST}.parquet"]
    if read_model(work / "start" / config["start_version"]).detect is not None:
        recipe = replace(recipe, mask_steps=0)  # as `recipe_for` does: the start finds subjects already
    recipe = replace(recipe, searched=min(recipe.searched, *map(teaching_pairs, both)), **arm.recipe)
    if not out.exists():
        run.mkdir(parents=True, exist_ok=True)
        with opened(work / arm.log, config["start_version"]) as shop:
            stores = (shop.query_photos, shop.photos)

            def stored(content: ContentHash) -> Pixels:
                return next(store for store in stores if store.has(content)).pixels(content)

            train_embedding(
                triplets=triplet_file(work, arm),
                start=work / "start" / config["start_version"],
                out=out,
                photo=training_pixels(stored, frozenset(shop.query_photos.hashes()), seed),
                checkpoint=run,
                minutes=None,
                seed=seed,
                tell=follower(f"{name}-{seed}"),
                recipe=recipe,
            )
    facts = {"arm": name, "seed": seed, "steps": steps_of(recipe), "recipe": asdict(recipe)}
    facts["metrics"] = dict(read_model(out).metrics)
    (work / f"run-{name}-{seed}.json").write_text(json.dumps(facts, indent=1) + "\n")
    shutil.rmtree(run, ignore_errors=True)  # a gigabyte of squares
    print(f"{name}-{seed}: {facts['steps']} steps, {facts['metrics']}", flush=True)


def follower(name: str) -> Callable[[str, float, Mapping[str, float]], None]:
    """Return what prints how far a training is, now and then."""
    last = [0.0]

    def tell(phase: str, percent: float, numbers: Mapping[str, float]) -> None:
        if time.monotonic() - last[0] > FOLLOW_S:
            last[0] = time.monotonic()
            told = ", ".join(f"{key} {value:.3f}" for key, value in numbers.items())
            print(f"{name} {phase} {percent:.0f} %: {told}", flush=True)

    return tell


# ----------------------------------------------------------------------------------------------------- evaluate


def evaluate(work: Path, *, again: bool = False) -> None:
    """Search with the measured photos by every model of the work folder that was not measured yet."""
    config = read_json(work / CONFIG)
    pictures = collect(config)
    (work / "figures").mkdir(exist_ok=True)
    models = {"start": work / "start" / config["start_version"]}
    models |= {folder.name: folder for folder in sorted((work / "models").glob("[!.]*"))}
    for name, folder in models.items():
        out = work / "figures" / f"{name}.npz"
        if again or not out.is_file():
            found = measure(folder, pictures)
            if config["shop"] == COMPOSED and "boxes" in found:
                truth = np.load(Path(config["set"]) / "truth" / "boxes.npy")[pictures.measured()] * SIDE_PX
                found["overlap"] = iou(found.pop("boxes"), truth)
            found.pop("boxes", None)
            np.savez(out, **found)
            told = {key: round(float(values.mean()), 4) for key, values in found.items() if key != "items"}
            print(f"{name}: {told}", flush=True)


def measure(folder: Path, pictures: Collection) -> dict[str, NDArray[Any]]:
    """Return of each measured photo whether its item is found, by the model's own box and by the whole photo."""
    embedder = Embedder(folder)
    detector = Detector(folder) if read_model(folder).detect is not None else None
    rows = pictures.measured()
    items = pictures.photo_items[rows]
    found: dict[str, NDArray[Any]] = {"items": items}
    boxes: list[tuple[float, float, float, float]] = []
    for prefix, finder in (("", detector), ("whole_", None)):
        if prefix and detector is None:
            break
        shown, asked = [], []
        for part in parts(len(pictures.gallery)):
            subjects = catalogue_subjects([np.asarray(pictures.gallery[at]) for at in part], finder)
            shown.append(embedder.embed_views([subject.views for subject in subjects]))
        for part in parts(len(rows)):
            subjects = user_subjects([np.asarray(pictures.photos[int(rows[at])]) for at in part], finder)
            asked.append(embedder.embed_views([subject.views for subject in subjects]))
            if finder is not None:
                boxes += [(s.box.left, s.box.top, s.box.right, s.box.bottom) for s in subjects]
        ranks = ranks_of(np.concatenate(asked), np.concatenate(shown), items, pictures.gallery_items)
        found |= {f"{prefix}first": (ranks < 1).astype(np.float64), f"{prefix}ten": (ranks < 10).astype(np.float64)}
    if boxes:
        found["boxes"] = np.array(boxes)
    return found


def ranks_of(
    asked: NDArray[np.float32], shown: NDArray[np.float32], items: NDArray[np.int64], shown_items: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return how many images of other products come before the first of the item, one image a product counting."""
    ranks = np.empty(len(asked), np.int64)
    for row, feature in enumerate(asked):
        order = np.argsort(-(shown @ feature), kind="stable")
        in_order = shown_items[order]
        before = in_order[: int(np.argmax(in_order == items[row]))]
        ranks[row] = len(np.unique(before))
    return ranks


def parts(count: int) -> Iterator[range]:
    """Yield ranges that cover `count` rows."""
    return (range(start, min(start + BATCH, count)) for start in range(0, count, BATCH))


# ------------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """One arm of a shop over its seeds (rows) and measured photos (columns), folds beside each other."""

    seeds: tuple[int, ...]  # none of the start, which is one row
    items: NDArray[np.int64]  # (photos,)
    figures: Mapping[str, NDArray[np.float64]]  # (seeds, photos) by name

    def interval(self, name: str) -> Interval:
        """Return the mean over seeds and photos; products are drawn as a whole."""
        mean = self.figures[name].mean(axis=0)
        return paired_interval(np.zeros_like(mean), mean, self.items, np.random.default_rng(0))

    def without_box(self) -> "Measured":
        """Return the same models, the whole photo being what is searched with."""
        return replace(self, figures={"first": self.figures["whole_first"], "ten": self.figures["whole_ten"]})

    def gain(self, before: "Measured", name: str = "first") -> Interval:
        """Return the mean difference to another arm, paired by photo, over the seeds that both have."""
        shared = [seed for seed in self.seeds if seed in before.seeds]
        ours, theirs = (
            arm.figures[name][[arm.seeds.index(seed) for seed in shared] or slice(None)].mean(axis=0)
            for arm in (self, before)
        )
        return paired_interval(theirs, ours, self.items, np.random.default_rng(0))

    def gain_of_seed(self, before: "Measured", seed: int) -> float:
        """Return the difference of Recall@1 to another arm of one seed."""
        ours, theirs = (arm.figures["first"][arm.seeds.index(seed)].mean() for arm in (self, before))
        return float(ours - theirs)


def gather(works: Sequence[Path]) -> dict[str, Measured]:
    """Return the measured arms of one shop; its folds are joined, and an arm that lacks one of them is left out."""
    names = {file.stem for file in (works[0] / "figures").glob("*.npz")}
    for work in works[1:]:
        names &= {file.stem for file in (work / "figures").glob("*.npz")}
    seeds: dict[str, list[tuple[int, str]]] = {}
    for name in sorted(names):
        arm, _, seed = ("start", "", "0") if name == "start" else name.rpartition("-")
        seeds.setdefault(arm, []).append((int(seed), name))
    found: dict[str, Measured] = {}
    for arm, runs in seeds.items():
        loaded = [[dict(np.load(work / "figures" / f"{name}.npz")) for work in works] for _, name in sorted(runs)]
        keys = set(loaded[0][0]) - {"items"}
        found[arm] = Measured(
            seeds=() if arm == "start" else tuple(seed for seed, _ in sorted(runs)),
            items=np.concatenate([part["items"] for part in loaded[0]]),
            figures={key: np.stack([np.concatenate([fold[key] for fold in run]) for run in loaded]) for key in keys},
        )
    return found


def cell(interval: Interval, *, signed: bool = False) -> str:
    """Format a mean and its interval."""
    sign = "+" if signed else ""
    return f"{interval.mean:{sign}.3f} ({interval.low:{sign}.3f} to {interval.high:{sign}.3f})"


def recall_rows(arms: Mapping[str, Measured], names: Iterable[str]) -> list[str]:
    """Format an arm a row: recall by its own box and by the whole photo, and how well the box fits."""
    lines = [
        "| arm | seeds | Recall@1 | Recall@10 | Recall@1, hard box off | box: mean IoU | box: IoU >= 0.5 |",
        "|---" * 7 + "|",
    ]
    for name in names:
        if name not in arms:
            continue
        arm = arms[name]
        cells = [cell(arm.interval(key)) if key in arm.figures else "-" for key in ("first", "ten", "whole_first")]
        overlap = arm.figures.get("overlap")
        boxes = ["-", "-"] if overlap is None else [f"{overlap.mean():.3f}", f"{(overlap >= 0.5).mean():.3f}"]
        lines.append(f"| {name} | {len(arm.seeds) or '-'} | {' | '.join([*cells, *boxes])} |")
    return lines


def gain_rows(arms: Mapping[str, Measured]) -> list[str]:
    """Format what the clicks gain, paired by photo, and what each ablation changes."""
    lines = ["| difference of Recall@1 | mean (95 % interval over items) | by seed |", "|---" * 3 + "|"]
    arms = dict(arms)
    arms |= {f"{name}{NO_BOX}": arm.without_box() for name, arm in arms.items() if "whole_first" in arm.figures}
    pairs = [("clicks", "control"), ("clicks", f"control{NO_BOX}"), ("clicks", "start"), ("control", "start")]
    pairs += [(name, "clicks") for name in (*ABLATIONS, f"clicks{NO_BOX}", "fraud", "fraud-no-filter")]
    for after, before in pairs:
        if after in arms and before in arms:
            shared = [seed for seed in arms[after].seeds if seed in arms[before].seeds]
            by_seed = ", ".join(f"{arms[after].gain_of_seed(arms[before], seed):+.3f}" for seed in shared)
            gain = cell(arms[after].gain(arms[before]), signed=True)
            lines.append(f"| {after} - {before} | {gain} | {by_seed or '-'} |")
    return lines


def log_rows(works: Sequence[Path]) -> list[str]:
    """Format what the simulated shoppers did and what mining made of it."""
    names = ["sessions", "with a click", "wanted item in the list", "clicks", "of these right", "by frauds"]
    names += ["photos that teach", "products", "triplets", "right positives", "the same, unfiltered"]
    lines = [f"| log (simulated) | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for work in works:
        for log in (HONEST, FRAUD):
            if not (work / log / LOG_FACTS).is_file():
                continue
            facts = read_json(work / log / LOG_FACTS)
            mined, honest = facts["mined"], facts["sessions"] - facts["fraud_sessions"]
            cells = [facts["sessions"], facts["sessions"] - facts["without_click"]]
            cells += [f"{1 - facts['not_shown'] / max(1, honest):.3f}", facts["clicks"], facts["right_clicks"]]
            cells += [facts["fraud_clicks"], mined["file_photos"], mined["file_products"], mined["triplets"]]
            cells += [mined["right_positives"], facts["unfiltered"]["right_positives"]]
            lines.append(f"| {work.name}, {log} | {' | '.join(map(str, cells))} |")
    return lines


def run_rows(works: Sequence[Path]) -> list[str]:
    """Format what each training took."""
    lines = ["| training | steps | minutes | photos | pairs |", "|---" * 5 + "|"]
    for work in works:
        for file in sorted(work.glob("run-*.json")):
            run = read_json(file)
            metrics = run["metrics"]
            name = f"{work.name}: {run['arm']}, seed {run['seed']}"
            minutes = f"{60 * metrics['hours']:.1f}"
            lines.append(f"| {name} | {run['steps']} | {minutes} | {metrics['photos']} | {metrics['pairs']} |")
    return lines


def report(works: Sequence[Path], out: Path) -> None:
    """Write the tables of all work folders, and the same as JSON beside."""
    shops: dict[str, list[Path]] = {}
    for work in works:
        shops.setdefault(read_json(work / CONFIG)["shop"], []).append(work)
    lines = [
        "# Learning from clicks (simulated)",
        "",
        f"`python benchmarks/learning_from_clicks.py`, {datetime.date.today()}, {platform.machine()}, "
        f"{os.cpu_count()} cores, Python {platform.python_version()}. Every click of this page is simulated. Measured "
        "are photos of items that nobody clicked, among the catalogue images of all. 95 % bootstrap intervals over "
        "items, seeds averaged first.",
        "",
    ]
    content: dict[str, Any] = {}
    for shop, folders in shops.items():
        arms = gather(folders)
        photos = len(next(iter(arms.values())).items)
        lines += [f"## Shop {shop}: {photos} photos measured", "", *log_rows(folders), ""]
        lines += [*recall_rows(arms, ("start", *ARMS)), "", *gain_rows(arms), "", *run_rows(folders), ""]
        content[shop] = {
            name: {
                "seeds": arm.seeds,
                **{key: asdict(arm.interval(key)) for key in arm.figures},
                "each_seed": {key: values.mean(axis=1).tolist() for key, values in arm.figures.items()},
                "gain_on_control": asdict(arm.gain(arms["control"])) if "control" in arms else None,
            }
            for name, arm in arms.items()
        }
        content[shop]["logs"] = [read_json(work / HONEST / LOG_FACTS) for work in folders]
    lines += [f"- **{name}**: {arm.says}" for name, arm in ARMS.items()]
    out.write_text("\n".join(lines) + "\n")
    out.with_suffix(".json").write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")
    print("\n".join(lines))


def read_json(file: Path) -> Any:
    """Read a JSON file of the work folder."""
    if not file.is_file():
        raise NotFoundError(f"no {file}; run `prepare` first")
    return json.loads(file.read_text())


def main() -> None:
    """Do one step of the experiment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    steps = {name: commands.add_parser(name) for name in ("prepare", "train", "evaluate", "report")}
    for name, step in steps.items():
        step.add_argument("--work", type=Path, required=True, nargs="+" if name == "report" else None)
    add = steps["prepare"].add_argument
    add("--shop", choices=SHOPS, default=COMPOSED)
    add("--set", type=Path, help="folder that benchmarks/composed_photos.py wrote; for the composed shop")
    add("--data", type=Path, help="folder of the real photographs; for the other shops")
    add("--start", type=Path, help="model folder with weights to start from; left out: ImageNet with a PCA head")
    add("--fold", type=int, choices=(0, 1), default=0, help="half of the products that is clicked; real shops only")
    add("--items", type=int, help="only the first so many items of the composed set, for a try")
    add("--passes", type=int, default=3, help="searches with each photo, at least")
    add("--least-clicked", type=int, default=LEAST_CLICKED, help="sessions with a click; more passes until then")
    add("--fraud", action="store_true", help="also make a log with frauds")
    add("--seed", type=int, default=0)
    add = steps["train"].add_argument
    add("--arm", choices=ARMS, required=True)
    add("--seed", type=int, default=0)
    add("--threads", type=int, default=1)
    defaults = {"mask_steps": 80, "rounds": 3, "searched": 1500, "fit_steps": 200, "judge_steps": 100}
    defaults |= {"feature_steps": 150, "feature_px": START_PX, "rows": Recipe().rows}
    for name, value in defaults.items():
        add(f"--{name.replace('_', '-')}", type=int, default=value)
    steps["evaluate"].add_argument("--again", action="store_true", help="also models that were measured already")
    steps["report"].add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    if options.command == "prepare":
        kept = ("shop", "fold", "items", "passes", "least_clicked", "fraud", "seed")
        config = {name: getattr(options, name) for name in kept}
        config |= {name: str(path) if (path := getattr(options, name)) else "" for name in ("set", "data", "start")}
        config["start_version"] = read_model(options.start).version if options.start else START
        prepare(config, options.work)
    elif options.command == "train":
        import torch

        torch.set_num_threads(options.threads)
        train(options.work, options.arm, options.seed, Recipe(**{name: getattr(options, name) for name in defaults}))
    elif options.command == "evaluate":
        evaluate(options.work, again=options.again)
    else:
        report(options.work, options.out)


if __name__ == "__main__":
    main()
