"""Measure whether the gate keeps worse models out and lets better ones pass: planted ones, of known true worth.

python benchmarks/gate.py models --work FOLDER [--products N] [--photos N] [--seed N]
python benchmarks/gate.py report --work FOLDER --rankers FOLDER --out benchmarks/gate.md

`models` draws a shop, lets simulated shoppers search and click in it, and plants models made by perturbing `base-2`:
worse ones beside `base-2` itself, better ones (wholly or partly repaired) beside degraded ones. Each goes the way of a
loop's model: an index is built beside the live one, the gate asks the held-out searches, the canary asks what it asks.
The truth is measured on other photos of the same products, which neither shoppers nor gate ever saw. A variant that is
there already is not done again. Everything that this file measures is to be called simulated.

A photo's crops pass the trunk once and are kept: most variants differ from `base-2` only behind it, so that forty of
them take minutes; those that differ before it or in it compute their own.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from PIL import Image

from sameitem.clicks.held_out import is_held_out
from sameitem.core.jobs import run_job
from sameitem.core.photo_store import decode_stored
from sameitem.core.records import Pixels
from sameitem.core.settings import load_settings
from sameitem.engine.versions import current, make_live, remove
from sameitem.evaluation.compare import MAIN, Comparison, compare
from sameitem.evaluation.evaluate import Evaluation, Figures, LabelledQuery, Outcome, evaluate, read_queries
from sameitem.evaluation.gate import judge
from sameitem.features.detect import Detection, Detector
from sameitem.features.embed import Embedder, open_session
from sameitem.features.model_folder import EMBED, read_graph, read_model, read_weights, shipped_model
from sameitem.features.preprocess import Fit, Preprocessing, to_square
from sameitem.features.subject import catalogue_subjects, user_subjects
from sameitem.learning.weights import unpack
from sameitem.metrics.intervals import paired_interval
from sameitem.pipeline.offline import build
from sameitem.pipeline.online import MAX_PAGE
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.canary import ask_canary, draw_sample
from sameitem.upkeep.demo_shop import LEAVES
from sameitem.upkeep.drawing.canvas import Canvas, Sprite
from sameitem.upkeep.drawing.marks import brand_name
from sameitem.upkeep.drawing.photos import SLICES, snapshot, studio_photo
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.loop import gate_queries
from sameitem.upkeep.shoppers import Habits, in_process, photo_errands, simulate
from sameitem.upkeep.work import work_of

WAYS = 3  # colour ways of a shape: products that differ in nothing else
VIEWS = 2  # catalogue pictures of a product
SIDE_PX = 320  # longest side of every picture
CLUTTER = 24
SEARCHES = 2  # with each photo: some shoppers leave without a click
GOOD = "base-2"
LEAVES_SOLD = tuple(range(0, len(LEAVES), 3))
CANARY = 12  # photos and images that the canary asks of each variant
FLAGS = {"intake": {"deadline_s": 60.0}}

Pooled = Callable[[Sequence[Pixels]], NDArray[np.float32]]


# ---------------------------------------------------------------------------------------------- the drawn shop


@lru_cache(maxsize=64)
def sprite_of(seed: int, product: int) -> Sprite:
    """Draw a product: its shape, in its colour way."""
    shape, way = divmod(product, WAYS)
    leaf = LEAVES[LEAVES_SOLD[shape % len(LEAVES_SOLD)]]
    palettes = np.random.default_rng([seed, 1, shape]).permutation(len(leaf.palettes))
    look, canvas = np.random.default_rng([seed, 2, shape]), Canvas()
    leaf.draw(canvas, look, leaf.palettes[palettes[way % len(palettes)]], brand_name(look))
    return canvas.cut_out()


@lru_cache(maxsize=CLUTTER)
def thing_of(seed: int, number: int) -> Sprite:
    """Draw something that lies about in users' photos."""
    rng, canvas = np.random.default_rng([seed, 3, number]), Canvas()
    leaf = LEAVES[rng.integers(0, len(LEAVES))]
    leaf.draw(canvas, rng, leaf.palettes[rng.integers(0, len(leaf.palettes))], brand_name(rng))
    return canvas.cut_out()


def small(pixels: Pixels) -> Image.Image:
    """Return a picture as small as this shop keeps them."""
    image = Image.fromarray(pixels)
    image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return image


def user_photo(seed: int, product: int, number: int) -> Image.Image:
    """Photograph a product as a user does."""
    rng = np.random.default_rng([seed, 4, product, number])
    trouble = SLICES[rng.integers(0, len(SLICES))]
    clutter = partial(_clutter, seed)
    return small(snapshot(sprite_of(seed, product), rng, trouble=trouble, other_thing=clutter).pixels)


def _clutter(seed: int, rng: np.random.Generator) -> Sprite:
    return thing_of(seed, int(rng.integers(0, CLUTTER)))


def write_csv(file: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write rows of the same columns."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def prepare(work: Path, *, products: int, photos: int, seed: int) -> None:
    """Draw the catalogue, photos that test, and photos to search with that are held out; found the shop."""
    shop_folder = work / "shop"
    if (work / "ready").is_file():
        return
    shutil.rmtree(work, ignore_errors=True)
    found_shop(shop_folder)
    drawn = work / "drawn"
    drawn.mkdir()
    feed, tests, searched = [], [], []
    shop = Shop(shop_folder, load_settings(shop_folder, FLAGS)[0])
    for product in range(products):
        leaf = LEAVES[LEAVES_SOLD[product // WAYS % len(LEAVES_SOLD)]]
        for view in range(VIEWS):
            rng = np.random.default_rng([seed, 5, product, view])
            picture = studio_photo(sprite_of(seed, product), rng, first=view == 0, may_mirror=False, shop="")
            name = f"p{product:04d}-{view}.jpg"
            small(picture).save(drawn / name, "JPEG", quality=90)
            kind = "main" if view == 0 else "sku"
            feed.append({"product_id": f"P{product:04d}", "image": name, "kind": kind, "category": leaf.category})
        for number in range(2 * photos):
            name, is_test = f"q{product:04d}-{number}.jpg", number < photos
            (drawn / name).write_bytes(_encoded(shop, user_photo(seed, product, number), held_out=not is_test))
            (tests if is_test else searched).append({"image": name, "product_id": f"P{product:04d}"})
    for name, rows in (("feed.csv", feed), ("tests.csv", tests), ("searched.csv", searched)):
        write_csv(drawn / name, rows)
    arguments = {"source": str((drawn / "feed.csv").absolute()), "columns": {}, "full": False, "uploaded": False}
    run_job(shop.jobs, shop.jobs.submit("import", arguments).id, work_of(shop))
    shop.close()
    (work / "ready").touch()


def _encoded(shop: Shop, image: Image.Image, *, held_out: bool) -> bytes:
    """Return a photo as JPEG; where it has to be held out, its edge is cut until chance says so."""
    for cut in range(200):
        out = io.BytesIO()
        image.crop((cut % 14, cut // 14, image.width, image.height)).save(out, "JPEG", quality=88)
        if not held_out or is_held_out(shop.intake.take(out.getvalue()).content_hash):
            return out.getvalue()
    raise AssertionError("no photo of 200 is held out")


# ------------------------------------------------------------------------------------------- planted models


class Trunk:
    """What `base-2` makes of crops before the projection, each computed once and kept on the disk."""

    def __init__(
        self, file: Path, graph: bytes, preprocessing: Preprocessing, spoil: Callable[[NDArray[np.float32]], Any]
    ) -> None:
        self._file, self._preprocessing, self._spoil = file, preprocessing, spoil
        self._session = open_session(graph, threads=1)
        self._known: dict[bytes, NDArray[np.float32]] = {}
        if file.is_file():
            with np.load(file) as kept:
                self._known = dict(zip(map(bytes, kept["keys"]), kept["rows"], strict=True))
        self._saved = len(self._known)

    def __call__(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Return a row for each crop."""
        keys = [hashlib.sha256(crop.tobytes() + str(crop.shape).encode()).digest() for crop in crops]
        for key, crop in zip(keys, crops, strict=True):
            if key not in self._known:
                square = np.ascontiguousarray(self._spoil(to_square(crop, self._preprocessing)), np.float32)
                (row,) = self._session.run(None, {"image": square[None]})
                self._known[key] = np.asarray(row, np.float32).reshape(-1)
        return np.stack([self._known[key] for key in keys])

    def save(self) -> None:
        """Write what is new."""
        if len(self._known) > self._saved:
            keys = np.frombuffer(b"".join(self._known), np.uint8).reshape(-1, 32)
            part = self._file.with_suffix(f".{os.getpid()}.npz")
            np.savez(part, keys=keys, rows=np.stack(list(self._known.values())))
            part.rename(self._file)
            self._saved = len(self._known)


class Planted(Embedder):
    """A model version: a trunk and a projection behind it."""

    def __init__(self, version: str, pooled: Pooled, projection: NDArray[np.float32]) -> None:
        self._version, self._dim = version, projection.shape[1]
        self._pooled, self._projection = pooled, projection

    def embed(self, crops: Sequence[Pixels]) -> NDArray[np.float32]:
        """Turn crops into unit features."""
        features = self._pooled(crops) @ self._projection
        return features / np.linalg.norm(features, axis=1, keepdims=True)


class KeptDetector(Detector):
    """The detector of `base-2`, which all planted models share; a photo is looked at once."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._kept: dict[bytes, Detection] = {}

    def detect(self, photos: Sequence[Pixels]) -> list[Detection]:
        """Find subjects."""
        keys = [hashlib.sha256(photo.tobytes()).digest() for photo in photos]
        for key, photo in zip(keys, photos, strict=True):
            if key not in self._kept:
                self._kept[key] = super().detect([photo])[0]
        return [self._kept[key] for key in keys]


@dataclass(frozen=True, slots=True)
class Variant:
    """A planted model, beside the one that is live then."""

    name: str
    kind: str
    live: str
    is_better: bool
    make: Callable[["Bench"], Planted] = field(repr=False, compare=False)
    stale: Callable[["Bench"], Planted] | None = field(default=None, repr=False, compare=False)  # what built its index
    is_cheap: bool = True  # it differs from `base-2` behind the trunk alone


class Bench:
    """The parts that variants are made of."""

    def __init__(self, work: Path, seed: int) -> None:
        folder = shipped_model()
        model = read_model(folder)
        self.work, self.seed, self._graph = work, seed, onnx.load_from_string(read_graph(folder, model, EMBED))
        self.preprocessing = model.preprocessing
        learned = unpack(read_weights(folder, model))
        self.good = learned.feature.projection.detach().numpy().astype(np.float32)
        self.detector = KeptDetector(folder)
        self._trunks: dict[str, Trunk] = {}

    def rng(self, *about: int) -> np.random.Generator:
        """Return chance of this run."""
        return np.random.default_rng([self.seed, 6, *about])

    def trunk(
        self,
        name: str = "plain",
        *,
        preprocessing: Preprocessing | None = None,
        spoil: Callable[[NDArray[np.float32]], Any] = lambda square: square,
        noise: float = 0.0,
    ) -> Trunk:
        """Return a trunk: that of `base-2`, fed otherwise, or with noise on its last weights."""
        if name not in self._trunks:
            graph = onnx.ModelProto()
            graph.CopyFrom(self._graph)
            last = next(node for node in graph.graph.node if node.op_type == "MatMul")
            pooled = last.input[0]
            if noise:
                _add_noise(graph, noise, self.rng(1))
            del graph.graph.output[:]
            graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(pooled))
            self._trunks[name] = Trunk(
                self.work / f"trunk-{name}.npz",
                graph.SerializeToString(),
                preprocessing or self.preprocessing,
                spoil,
            )
        return self._trunks[name]

    def save(self) -> None:
        """Keep what trunks computed."""
        for trunk in self._trunks.values():
            trunk.save()


def _add_noise(graph: onnx.ModelProto, share: float, rng: np.random.Generator) -> None:
    """Put noise on the int8 weights of the trunk's last convolution, in shares of their spread."""
    arrays = {one.name: one for one in graph.graph.initializer}
    convolutions = [node.input[0] for node in graph.graph.node if node.op_type == "DequantizeLinear"]
    name = next(name for name in reversed(convolutions) if name in arrays and len(arrays[name].dims) == 4)
    weights = onnx.numpy_helper.to_array(arrays[name]).astype(np.float32)
    noisy = weights + share * weights.std() * rng.standard_normal(weights.shape)
    made = onnx.numpy_helper.from_array(np.clip(np.round(noisy), -127, 127).astype(np.int8), name)
    arrays[name].CopyFrom(made)


def noise(bench: Bench, share: float, number: int = 0) -> NDArray[np.float32]:
    """Return the projection with noise, in shares of its spread."""
    drawn = bench.rng(2, number).standard_normal(bench.good.shape).astype(np.float32)
    return bench.good + np.float32(share * bench.good.std()) * drawn


def pruned(bench: Bench, kept: int) -> NDArray[np.float32]:
    """Return the projection with most of its outputs cut off."""
    columns = bench.rng(3).permutation(bench.good.shape[1])[:kept]
    made = np.zeros_like(bench.good)
    made[:, columns] = bench.good[:, columns]
    return made


def trained(bench: Bench, *, pairs: int | None, wrong: bool, steps: int, rate: float) -> NDArray[np.float32]:
    """Return the projection after a training on pairs of catalogue pictures of a product.

    Args:
        bench: its catalogue's pictures are used.
        pairs: how many pairs; None: all.
        wrong: the pairs are put together by chance.
        steps: of 32 pairs, each with the others' pictures as negatives.
        rate: of learning.
    """
    import torch

    photos, pictures = pooled_pairs(bench)
    rng = bench.rng(4)
    if wrong:
        pictures = pictures[rng.permutation(len(pictures))]
    rows = rng.permutation(len(photos))[:pairs]
    projection = torch.tensor(bench.good, requires_grad=True)
    optimiser = torch.optim.Adam([projection], lr=rate)
    for _ in range(steps):
        chosen = rng.choice(rows, min(32, len(rows)), replace=False)
        one, other = (
            torch.nn.functional.normalize(torch.from_numpy(part[chosen]) @ projection, dim=1)
            for part in (photos, pictures)
        )
        loss = torch.nn.functional.cross_entropy(one @ other.T / 0.07, torch.arange(len(chosen)))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return projection.detach().numpy()


def pooled_pairs(bench: Bench) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return what the trunk makes of the two catalogue pictures of each product: no photo of the gate teaches."""
    files = sorted((bench.work / "drawn").glob("p*.jpg"))
    pictures = bench.trunk()([np.asarray(Image.open(file).convert("RGB")) for file in files])
    return pictures[::VIEWS], pictures[1::VIEWS]


def bgr(square: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a graph's input with red and blue exchanged."""
    return square[::-1]


def coarse(square: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Return a graph's input at a fraction of its resolution."""
    channels, height, width = square.shape
    cells = square.reshape(channels, height // factor, factor, width // factor, factor).mean(axis=(2, 4))
    return cells.repeat(factor, axis=1).repeat(factor, axis=2)


def rotated(bench: Bench) -> NDArray[np.float32]:
    """Return the projection followed by a random rotation: other features, the same distances."""
    rotation, _ = np.linalg.qr(bench.rng(5).standard_normal((bench.good.shape[1],) * 2))
    return (bench.good @ rotation).astype(np.float32)


def once(make: Callable[[Bench], NDArray[np.float32]]) -> Callable[[Bench], NDArray[np.float32]]:
    """Return what makes a projection once for each bench: training takes its time."""
    return lru_cache(maxsize=1)(make)


DEGRADED: dict[str, Callable[[Bench], NDArray[np.float32]]] = {
    "pruned": lambda bench: pruned(bench, 24),
    "mistaught": once(lambda bench: trained(bench, pairs=None, wrong=True, steps=150, rate=1e-2)),
    "overtaught": once(lambda bench: trained(bench, pairs=24, wrong=False, steps=300, rate=2e-2)),
}


def behind(name: str, projection: Callable[[Bench], NDArray[np.float32]]) -> Callable[[Bench], Planted]:
    """Return what makes a model that differs from `base-2` behind the trunk."""
    return lambda bench: Planted(name, bench.trunk(), projection(bench))


def before(name: str, **trunk: Any) -> Callable[[Bench], Planted]:
    """Return what makes a model that differs from `base-2` before the projection."""
    return lambda bench: Planted(name, bench.trunk(name, **trunk), bench.good)


def repaired(live: str, share: float) -> Callable[[Bench], NDArray[np.float32]]:
    """Return what makes a degraded projection that is repaired by a share."""
    return lambda bench: (1 - share) * DEGRADED[live](bench) + share * bench.good


def variants() -> list[Variant]:
    """Return every planted model: 20 worse ones, 20 better ones, and some that are as good."""
    right = read_model(shipped_model()).preprocessing
    made: list[Variant] = []

    def worse(name: str, kind: str, make: Callable[[Bench], Planted], **about: Any) -> None:
        made.append(Variant(name, kind, GOOD, False, make, **about))

    for share in (2.0, 3.0):
        worse(f"noise-{share:g}", "noise on the projection", behind(f"noise-{share:g}", partial(noise, share=share)))
    for kept in (24, 48):
        worse(f"pruned-{kept}", "most outputs cut off", behind(f"pruned-{kept}", partial(pruned, kept=kept)))
    for name, steps, rate in (("wrong-labels-mild", 30, 3e-3), ("wrong-labels", 150, 1e-2)):
        how = partial(trained, pairs=None, wrong=True, steps=steps, rate=rate)
        worse(name, "taught with wrong labels", behind(name, how))
    for name, pairs, rate in (("over-trained-8", 8, 3e-2), ("over-trained-24", 24, 2e-2)):
        how = partial(trained, pairs=pairs, wrong=False, steps=300, rate=rate)
        worse(name, "over-trained on few pairs", behind(name, how))
    plain, stale = behind("", lambda bench: bench.good), "index of another model's features"
    worse("stale-rotated", stale, plain, stale=behind("stale-rotated", rotated))
    worse("stale-mistaught", stale, plain, stale=behind("stale-mistaught", DEGRADED["mistaught"]))
    broken = "broken preprocessing"
    worse("bgr", broken, before("bgr", spoil=bgr), is_cheap=False)
    worse("quarter-resolution", broken, before("quarter-resolution", spoil=partial(coarse, factor=4)), is_cheap=False)
    contrast = Preprocessing(**asdict(right) | {"std": (30.0,) * 3})
    worse("wrong-std", broken, before("wrong-std", preprocessing=contrast), is_cheap=False)
    worse("trunk-noise", "noise on the trunk", before("trunk-noise", noise=1.0), is_cheap=False)
    light = Preprocessing(**asdict(right) | {"mean": (230.0,) * 3})
    worse("wrong-mean", broken, before("wrong-mean", preprocessing=light), is_cheap=False)
    cropped = Preprocessing(**asdict(right) | {"fit": Fit.CROP})
    worse("stale-crop", stale, plain, stale=before("stale-crop", preprocessing=cropped), is_cheap=False)
    worse("half-resolution", broken, before("half-resolution", spoil=partial(coarse, factor=2)), is_cheap=False)
    for share in (1.2, 1.6, 2.5):
        worse(f"noise-{share:g}", "noise on the projection", behind(f"noise-{share:g}", partial(noise, share=share)))
    for live in DEGRADED:
        for share in (1.0, 0.4, 0.6, 0.8, 0.5, 0.3, 0.9)[: 6 if live == "overtaught" else 7]:
            name = f"{live}-repaired-{share:g}"
            made.append(Variant(name, "repaired", live, True, behind(name, repaired(live, share))))
    return made


def ties() -> list[Variant]:
    """Return models that are as good as the live one: nothing is gained by publishing them."""
    made = [Variant("rotated", "as good", GOOD, False, behind("rotated", rotated))]
    for number in range(3):
        name = f"noise-0.1-{number}"
        made.append(Variant(name, "as good", GOOD, False, behind(name, partial(noise, share=0.1, number=number))))
    return made


# ------------------------------------------------------------------------------------------------ the run


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What models are truly worth: exact nearest catalogue picture of photos that neither shoppers nor gate saw."""

    products: NDArray[np.str_]  # (pictures,)
    pictures: list[tuple[Pixels, ...]]  # views of each, as builds see them
    wanted: NDArray[np.str_]  # (photos,)
    photos: list[tuple[Pixels, ...]]  # views of each, as searches see them

    @classmethod
    def of(cls, shop: Shop, bench: Bench, tests: Sequence[LabelledQuery]) -> "Truth":
        """Cut the views out, once."""
        listed = [pair for batch in shop.catalogue.scan() for pair in batch]
        pictures = [shop.photos.pixels(image.content_hash) for image, _ in listed]
        photos = [decode_stored(shop.intake.take(query.image.read_bytes()).encoded) for query in tests]
        return cls(
            np.array([product.product_id for _, product in listed]),
            [subject.views for subject in catalogue_subjects(pictures, bench.detector)],
            np.array([query.product_id for query in tests]),
            [subject.views for subject in user_subjects(photos, bench.detector)],
        )

    def first(self, answers: Planted, built: Planted) -> NDArray[np.str_]:
        """Return the product of each photo's nearest picture; `built` made the index, `answers` the query."""
        near = answers.embed_views(self.photos) @ built.embed_views(self.pictures).T
        return self.products[near.argmax(axis=1)]

    def right(self, answers: Planted, built: Planted) -> NDArray[np.float64]:
        """Return for each photo whether its nearest picture is right."""
        return (self.first(answers, built) == self.wanted).astype(np.float64)

    def evaluated(self, queries: Sequence[LabelledQuery], answers: Planted, built: Planted) -> Evaluation:
        """Return what the photos find by exact distances, as `evaluate` says it of an index."""
        near = np.argsort(-(answers.embed_views(self.photos) @ built.embed_views(self.pictures).T), axis=1)
        outcomes = tuple(
            Outcome(query, np.isin(self.products[row[:MAX_PAGE]], list(query.products)), 1, (), "", 0.0, 0.0)
            for query, row in zip(queries, near, strict=True)
        )
        nothing = Figures(len(queries), {}, 0.0, 0.0)
        return Evaluation("", answers.version, len(near), nothing, {}, None, None, {}, 0, 0, {}, outcomes)


@dataclass(slots=True)
class Live:
    """A shop whose live index is one model's, with the clicks that its lists got."""

    shop: Shop
    index: str
    gate: list[LabelledQuery]
    before: Evaluation  # of these
    truth: Truth
    right: NDArray[np.float64]  # of the live model


def plant(shop: Shop, bench: Bench, version: str, model: Planted) -> None:
    """Let a shop use a planted model under a version's name."""
    model._version = version
    shop._embedders[version] = model
    shop._detectors[version] = bench.detector


def build_beside(shop: Shop, version: str) -> str:
    """Build the index of a planted model beside the live one."""
    now = datetime.datetime.now(datetime.UTC)
    return build(shop, tell=lambda _step, _share: None, now=now, beside=version).version


@contextmanager
def live_shop(work: Path, bench: Bench, name: str) -> Iterator[Live]:
    """Open a copy of the shop in which a model answers, and in which shoppers have searched and clicked."""
    folder = work / f"live-{name}"
    is_new = not (folder / "clicked").is_file()
    if is_new:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work / "shop", folder)
    shop = Shop(folder, load_settings(folder, FLAGS)[0])
    plant(shop, bench, GOOD, Planted(GOOD, bench.trunk(), bench.good))
    if name != GOOD:
        plant(shop, bench, name, Planted(name, bench.trunk(), DEGRADED[name](bench)))
    if is_new:
        make_live(shop.index_root, build_beside(shop, name))
        searched, rng = read_queries(work / "drawn" / "searched.csv"), bench.rng(7)
        report = simulate(
            photo_errands(searched, rng),
            in_process(shop),
            sessions=SEARCHES * len(searched),
            habits=Habits(),
            generator=rng,
            tell=lambda *_: None,
        )
        (folder / "clicked").write_text(json.dumps(asdict(report), default=str))
    index, queries = str(current(shop.index_root)), gate_queries(shop)
    truth = Truth.of(shop, bench, read_queries(work / "drawn" / "tests.csv"))
    model = shop._embedders[name]
    assert isinstance(model, Planted)
    yield Live(shop, index, queries, evaluate(shop, queries, version=index), truth, truth.right(model, model))
    shop.close()


def run_variant(bench: Bench, live: Live, variant: Variant) -> dict[str, Any]:
    """Let a planted model go the way of a loop's model, and measure what it is truly worth."""
    shop, begun = live.shop, time.monotonic()
    version = f"planted-{variant.name}"
    shutil.rmtree(shop.folder / "features" / version, ignore_errors=True)  # of a run that was killed
    built, answers = (variant.stale or variant.make)(bench), variant.make(bench)
    plant(shop, bench, version, built)
    index = build_beside(shop, version)
    plant(shop, bench, version, answers)
    asked = compare(live.before, evaluate(shop, live.gate, version=index))
    right, products = live.truth.right(answers, built), np.unique(live.truth.wanted, return_inverse=True)[1]
    truth = paired_interval(live.right, right, products.astype(np.int64), np.random.default_rng(4))
    judgement = judge(asked, shop.settings.gate, needs_gain=True)
    canary = ask_canary(
        shop, live.index, index, draw_sample(shop, index).part(CANARY), is_live=False, hear=lambda _percent: None
    )
    remove(shop.index_root, index)
    shutil.rmtree(shop.folder / "features" / version)
    del shop._embedders[version], shop._detectors[version], shop._caches[version]
    return {
        "name": variant.name,
        "kind": variant.kind,
        "live": variant.live,
        "is_better": variant.is_better,
        "truth": {"before": float(live.right.mean()), "after": float(right.mean()), **asdict(truth)},
        "gate": figures(asked),
        "passed": judgement.passed,
        "reasons": judgement.reasons,
        "canary_passed": canary.passed,
        "canary_reasons": canary.reasons,
        "self_found": canary.after.self_found,
        "seconds": round(time.monotonic() - begun, 1),
    }


def run_exact(work: Path, *, seed: int, names: Sequence[str]) -> None:
    """Ask the gate about every variant behind the trunk by exact distances, which takes no index and no search."""
    bench = Bench(work, seed)
    for name in names:
        folder = work / f"live-{name}"
        shop = Shop(folder, load_settings(folder, FLAGS)[0])
        queries = gate_queries(shop)
        truth = Truth.of(shop, bench, read_queries(work / "drawn" / "tests.csv"))
        asked = Truth.of(shop, bench, queries)
        gate = shop.settings.gate
        shop.close()
        live = Planted(name, bench.trunk(), bench.good if name == GOOD else DEGRADED[name](bench))
        before, right = asked.evaluated(queries, live, live), truth.right(live, live)
        products = np.unique(truth.wanted, return_inverse=True)[1].astype(np.int64)
        done = {}
        for variant in (one for one in (*variants(), *ties()) if one.live == name and one.is_cheap):
            built, answers = (variant.stale or variant.make)(bench), variant.make(bench)
            found = compare(before, asked.evaluated(queries, answers, built))
            after = truth.right(answers, built)
            change = paired_interval(right, after, products, np.random.default_rng(4))
            judgement = judge(found, gate, needs_gain=True)
            done[variant.name] = {
                "name": variant.name,
                "kind": variant.kind,
                "live": name,
                "is_better": variant.is_better,
                "truth": {"before": float(right.mean()), "after": float(after.mean()), **asdict(change)},
                "gate": figures(found),
                "passed": judgement.passed,
                "reasons": judgement.reasons,
            }
            print(variant.name, f"{100 * change.mean:+.1f}", _points(figures(found)), judgement.passed, flush=True)
        (work / f"exact-{name}.json").write_text(json.dumps(done, indent=1) + "\n")


def figures(comparison: Comparison) -> dict[str, float]:
    """Return the main measure of a comparison."""
    whole = comparison.whole
    main = whole.measures[MAIN]
    return {
        "queries": whole.queries,
        "products": whole.products,
        "before": main.before,
        "after": main.after,
        **asdict(main.delta),
    }


def run_models(
    work: Path,
    *,
    products: int,
    photos: int,
    seed: int,
    lives: Sequence[str] = (),
    most: int | None = None,
    only: Sequence[str] = (),
) -> None:
    """Run every variant that is not there already, or the first so many beside each of some live models."""
    prepare(work, products=products, photos=photos, seed=seed)
    bench = Bench(work, seed)
    for name in lives or (GOOD, *DEGRADED):
        file = work / f"results-{name}.json"
        done: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
        planted = variants()
        wanted = [variant for variant in (*planted[:10], *ties(), *planted[10:]) if variant.name not in done]
        mine = [variant for variant in wanted if variant.live == name and (not only or variant.name in only)][:most]
        if not mine:
            continue
        begun = time.monotonic()
        with live_shop(work, bench, name) as live:
            bench.save()
            recall = float(live.right.mean())
            print(
                f"live {name}: recall@1 {recall:.3f}, {len(live.gate)} held-out queries, "
                f"{time.monotonic() - begun:.0f} s",
                flush=True,
            )
            for variant in mine:
                found = done[variant.name] = run_variant(bench, live, variant)
                bench.save()
                file.write_text(json.dumps(done, indent=1))
                print(
                    f"  {variant.name}: true {100 * found['truth']['mean']:+.1f}, gate "
                    f"{100 * found['gate']['mean']:+.1f} [{100 * found['gate']['low']:+.1f}, "
                    f"{100 * found['gate']['high']:+.1f}] passed {found['passed']}, canary "
                    f"{found['canary_passed']}, {found['seconds']} s",
                    flush=True,
                )


# --------------------------------------------------------------------------------------------- the report


RULES: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "does not fall (`models activate`)": lambda gate: gate["low"] >= -0.01,
    "rises, interval above -1 point (the loop)": lambda gate: gate["low"] >= -0.01 and gate["mean"] > 0,
    "whole interval above 0": lambda gate: gate["low"] > 0,
}


def report(work: Path, rankers: Path, out: Path) -> None:
    """Write the figures of both runs as Markdown."""
    found: dict[str, dict[str, Any]] = {}
    for kind in ("exact", "results"):  # what went the whole way stands in place of what was asked exactly
        for live in (GOOD, *DEGRADED):
            if (file := work / f"{kind}-{live}.json").is_file():
                for name, figure in json.loads(file.read_text()).items():
                    found[name] = {"canary_passed": None, "how": "index" if kind == "results" else "exact", **figure}
    models = list(found.values())
    ranked = json.loads((rankers / "rankers.json").read_text())
    worse = [one for one in models if not one["is_better"] and one["kind"] != "as good"]
    better = [one for one in models if one["is_better"]]
    equal = [one for one in models if one["kind"] == "as good"]
    about = ranked["about"]
    lines = [
        "# Planted models and rankers before the gate",
        "",
        "All simulated. `python benchmarks/gate.py models --work FOLDER`, `python benchmarks/gate_rankers.py --work "
        f"FOLDER --searches {about['searches']}`, `python benchmarks/gate.py report`; {datetime.date.today()}, "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}.",
        "",
        "Planted models ask the gate on held-out photos that simulated shoppers searched with and clicked for in the "
        "*live* index's lists. Those marked *index* go the whole way of a loop's model: an index is built beside the "
        "live one and searched through the online pipeline, and the canary is asked; those marked *exact* are compared "
        "by exact distances (`gate.py exact`), which takes seconds. The truth is measured on other photos of the same "
        "products, with labels. Points of recall@1; brackets: 95 % intervals over products.",
        "",
        "| planted | the gate kept out | the gate let pass | the canary, where it was asked, kept out |",
        "|---|---|---|---|",
        *(
            f"| {title} | {sum(not one['passed'] for one in part)} of {len(part)} | "
            f"{sum(one['passed'] for one in part)} of {len(part)} | {_canaries(part)} |"
            for title, part in (
                ("worse models", worse),
                ("worse rankers", [one for one in ranked["rankers"] if not one["is_better"]]),
                ("better models", better),
                ("better rankers", [one for one in ranked["rankers"] if one["is_better"]]),
                ("models as good", equal),
            )
            if part
        ),
        "",
        *_rules(worse, better, equal),
        *_leaning(better),
        *_labels(work),
        "## Models",
        "",
        "| planted | what | beside | how | queries | live recall@1 | true change | the gate's | gate | canary |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(_model_line(one) for one in (*worse, *better, *equal)),
        "",
        "## Rankers",
        "",
        f"{about['products']} drawn products, lists of {about['length']}, {about['users']} users; each log has "
        f"{about['searches']:,} searches, the gate judges by the newest quarter of those that the live order answered. "
        "True: expected clicks per search on fresh lists, computed.",
        "",
        "| planted | what | beside | true change, % | the gate's, % | gate |",
        "|---|---|---|---|---|---|",
        *(_ranker_line(one) for one in ranked["rankers"]),
        "",
    ]
    out.write_text("\n".join(lines), encoding="utf-8")


def _canaries(part: Sequence[Mapping[str, Any]]) -> str:
    asked = [one["canary_passed"] for one in part if one.get("canary_passed") is not None]
    return f"{sum(not passed for passed in asked)} of {len(asked)}" if asked else "-"


def _rules(*parts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how many models of each kind other rules would let pass."""
    rows = [
        f"| {name} | " + " | ".join(f"{sum(rule(one['gate']) for one in part)} of {len(part)}" for part in parts) + " |"
        for name, rule in RULES.items()
    ]
    heads = ["What other rules would let pass (the gate alone, recall@1):", ""]
    return [*heads, "| recall@1 ... | worse | better | as good |", "|---|---|---|---|", *rows, ""]


def _leaning(better: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how much of a true gain the clicked searches show."""
    if len(better) < 2:
        return []
    truth, gate = (np.array([one[side]["mean"] for one in better]) for side in ("truth", "gate"))
    share = float((truth * gate).sum() / (truth**2).sum())
    return [
        f"Clicked searches show {share:.0%} of a true gain (least squares through 0 over the better models): users "
        "click what the live model showed them.",
        "",
    ]


def _labels(work: Path) -> list[str]:
    """Return what `gate_labels.py` measured."""
    file = work / "labels.json"
    if not file.is_file():
        return []
    rows = json.loads(file.read_text())
    rules = [name for name in rows[0] if name not in ("live", "name", "photos", "true")]
    lines = [
        f"| {row['name']} | {row['live']} | {100 * row['true']:+.1f} | "
        + " | ".join(f"{100 * row[rule]:+.1f}" for rule in rules)
        + " |"
        for row in rows
    ]
    return [
        "## What is taken for right",
        "",
        "`python benchmarks/gate_labels.py --work FOLDER`: changes of recall@1, points, on the photos that shoppers "
        "searched with: by what they show, and by what was clicked, where something was.",
        "",
        f"| planted | beside | by what they show | {' | '.join(rules)} |",
        f"|---|---|---|{'---|' * len(rules)}",
        *lines,
        "",
    ]


def _model_line(one: Mapping[str, Any]) -> str:
    truth, gate = one["truth"], one["gate"]
    word = "passes" if one["passed"] else "kept out"
    canary = {None: "-", True: "passes", False: "kept out"}[one["canary_passed"]]
    return (
        f"| {one['name']} | {one['kind']} | {one['live']} | {one['how']} | {gate['queries']} | {truth['before']:.3f} | "
        f"{_points(truth)} | {_points(gate)} | {word} | {canary} |"
    )


def _points(delta: Mapping[str, float]) -> str:
    return f"{100 * delta['mean']:+.1f} [{100 * delta['low']:+.1f}, {100 * delta['high']:+.1f}]"


def _ranker_line(one: Mapping[str, Any]) -> str:
    gate = {"mean": one["gate_change"], "low": one["gate_low"], "high": one["gate_high"]}
    word = "passes" if one["passed"] else "kept out"
    cells = (one["name"], one["kind"], one["live"], f"{100 * one['true_change']:+.1f}", _points(gate), word)
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    models = commands.add_parser("models")
    models.add_argument("--products", type=int, default=200)
    models.add_argument("--photos", type=int, default=2, help="of a product, to search with and to test, each")
    models.add_argument("--seed", type=int, default=1)
    models.add_argument("--work", type=Path, required=True)
    models.add_argument("--live", nargs="*", default=(), help="only beside these; default: all")
    models.add_argument("--most", type=int, help="only the first so many beside each")
    models.add_argument("--only", nargs="*", default=(), help="only the planted models of these names")
    exact = commands.add_parser("exact")
    exact.add_argument("--live", nargs="*", default=(GOOD, *DEGRADED))
    written = commands.add_parser("report")
    written.add_argument("--rankers", type=Path, required=True, help="folder of `gate_rankers.py`")
    written.add_argument("--out", type=Path, required=True)
    for command in (exact, written):
        command.add_argument("--work", type=Path, required=True)
        command.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.command == "exact":
        run_exact(options.work, seed=options.seed, names=options.live)
    elif options.command == "report":
        report(options.work, options.rankers, options.out)
    else:
        run_models(
            options.work,
            products=options.products,
            photos=options.photos,
            seed=options.seed,
            lives=options.live,
            most=options.most,
            only=options.only,
        )


if __name__ == "__main__":
    main()
