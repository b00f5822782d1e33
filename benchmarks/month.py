"""A simulated month of a shop that learns from its clicks, beside the same shop that does not.

python benchmarks/month.py --folder FOLDER --seed 1 --arm loop --out FOLDER/loop-1.json
python benchmarks/month_report.py FOLDER/none-1.json FOLDER/loop-1.json FOLDER/ranker-1.json ...

Every click is simulated. A world (`month_world.py`) is drawn once per seed, and a shop with a history of searches is
founded in it (a call without --arm does only that; let it end before arms run side by side). Each arm goes on from a
copy of that shop, with the same photos in the same order:

    none    the shop answers by the model that ships, ordered by looks, for thirty days
    loop    `sameitem loop` runs every evening
    ranker  only the order of the first hits is learned, every evening; the model stays

A day: new products come in and are built; shoppers search with the day's photos and click; in the evening the arm
learns; then photos that no shopper has searched with are searched with. What users like besides what they look for
(cheap, well sold, of some sellers) drifts from day to day. An arm that was killed goes on with the day it was in.
"""

import argparse
import csv
import hashlib
import io
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from month_world import CATALOGUE, GATE_QUERIES, PHOTOS, SHOPPER, TEST, Design, Photo, Plan, designs_of, draw_world
from sameitem.core.durable import write_whole
from sameitem.core.jobs import run_job
from sameitem.core.records import ProductId
from sameitem.core.settings import load_settings
from sameitem.engine.versions import current
from sameitem.evaluation.evaluate import LabelledQuery, evaluate
from sameitem.pipeline.shop import Shop
from sameitem.upkeep.founding import found_shop
from sameitem.upkeep.loop_ranking import LogRanking
from sameitem.upkeep.shoppers import EVENTS, Appeal, Errand, Habits, Request, in_process, simulate
from sameitem.upkeep.work import silent, work_of

ARMS = ("none", "loop", "ranker")
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "catalogue": {"url": ""},
    "intake": {"stored_side_px": 320, "workers": 1},
    "loop": {"least_new_clicks": 1, "detector_every": 0, "gate_queries": 150},
    "mining": {"local_check_rank": 0, "models": 1},
}
TASTES = ("price", "sales", "seller")
STRENGTH = 0.7  # of tastes: a product liked by one standard deviation is clicked e^0.7 times as often
DRIFT = 0.25  # of what all users like, per day
WALK_DAYS = 400  # drawn at once, so that the length of a month changes nothing
OWN = 0.5  # standard deviation of what one user likes more than others
APPEALS = (0.2, 1.3)  # least and most


@dataclass(frozen=True, slots=True)
class World:
    """What was drawn."""

    folder: Path
    plan: Plan
    designs: Sequence[Design]
    photos: Sequence[Photo]
    rows: Sequence[Mapping[str, str]]  # of the catalogue

    def feed(self, day: int) -> Path:
        """Write the catalogue's rows of a day."""
        rows = [
            {k: v for k, v in row.items() if k not in ("design", "day")} for row in self.rows if row["day"] == str(day)
        ]
        content = io.StringIO(newline="")
        writer = csv.DictWriter(content, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
        file = self.folder / f"feed-{day:02d}.csv"
        write_whole(file, content.getvalue().encode())  # other arms read it at the same time
        return file

    def errands(self, day: int) -> Iterator[Errand]:
        """Yield the shoppers' photos of a day."""
        for photo in self.photos:
            if photo.use == SHOPPER and photo.day == day:
                wanted = frozenset(ProductId(name) for name in self.designs[photo.design].products)
                yield Errand((self.folder / photo.image).read_bytes(), wanted)

    def tests(self, day: int) -> list[tuple[LabelledQuery, bool]]:
        """Return the photos that test on a day, each with whether shoppers look for what it shows."""
        found = []
        for photo in self.photos:
            if photo.use == TEST and photo.day <= day:
                design = self.designs[photo.design]
                first, *others = (ProductId(name) for name in design.products)
                found.append((LabelledQuery(self.folder / photo.image, first, others=tuple(others)), design.is_wanted))
        return found

    def appeal(self, day: int) -> Appeal:
        """Return how much a day's users like products."""
        facts: dict[str, tuple[str, float, float, str]] = {}
        for row in self.rows:
            facts[row["product_id"]] = (
                row["category"], np.log(float(row["price"])), np.log1p(int(row["sales"])), row["brand"]
            )  # fmt: skip
        prices = defaultdict(list)
        for category, price, _, _ in facts.values():
            prices[category].append(price)
        about = {category: (np.mean(values), np.std(values)) for category, values in prices.items()}
        sales = np.array([fact[2] for fact in facts.values()])
        walk = np.random.default_rng([self.plan.seed, 20]).standard_normal((WALK_DAYS, len(TASTES)))
        brands = sorted({fact[3] for fact in facts.values()})
        liked_brand = dict(
            zip(brands, np.random.default_rng([self.plan.seed, 21]).standard_normal(len(brands)), strict=True)
        )
        common = np.array([0.6, 0.6, 0.6]) + DRIFT * walk[: day + 1].sum(0)
        looks = {
            name: np.array(
                [
                    -(price - about[category][0]) / about[category][1],
                    (sold - sales.mean()) / sales.std(),
                    liked_brand[brand],
                ]
            )
            for name, (category, price, sold, brand) in facts.items()
        }

        def appeal(user: str, products: Sequence[ProductId]) -> Sequence[float]:
            own = np.random.default_rng(int.from_bytes(hashlib.sha256(user.encode()).digest()[:8]))
            taste = common + OWN * own.standard_normal(len(TASTES))
            taste = taste / np.linalg.norm(taste)
            return [float(np.clip(np.exp(STRENGTH * taste @ looks[name]), *APPEALS)) for name in products]

        return appeal


def read_world(folder: Path, plan: Plan, *, workers: int) -> World:
    """Draw a world where it is not there, and read it."""
    draw_world(
        folder,
        plan,
        workers=workers,
        tell=lambda done, total: _say(f"drawn {done} of {total}") if done % 50 == 0 else None,
    )
    with (folder / PHOTOS).open(newline="") as stream:
        photos = [Photo(r["image"], int(r["design"]), int(r["day"]), r["use"]) for r in csv.DictReader(stream)]
    with (folder / CATALOGUE).open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return World(folder, plan, designs_of(plan), photos, rows)


@dataclass(slots=True)
class Sessions:
    """What shoppers of a day did, search by search."""

    right: list[int] = field(default_factory=list)  # clicks on what was wanted
    clicks: list[int] = field(default_factory=list)


def shop_a_day(shop: Shop, world: World, day: int) -> Sessions:
    """Let the shoppers of a day search and click."""
    done, send = Sessions(), in_process(shop)
    current_errand: list[Errand] = []

    def errands() -> Iterator[Errand]:
        for errand in world.errands(day):
            current_errand[:] = [errand]
            yield errand

    def counting(request: Request) -> Mapping[str, Any]:
        if request.path == EVENTS:
            clicked = {e["product_id"] for e in request.fields["events"] if e["type"] == "click"}
            done.clicks[-1] = len(clicked)
            done.right[-1] = len(clicked & current_errand[0].wanted)
        else:
            done.right.append(0)
            done.clicks.append(0)
        return send(request)

    count = sum(photo.use == SHOPPER and photo.day == day for photo in world.photos)
    generator = np.random.default_rng([world.plan.seed, 30, day])
    simulate(
        errands(),
        counting,
        sessions=count,
        habits=Habits(),
        generator=generator,
        appeal=world.appeal(day),
        tell=silent,
    )
    return done


def run(shop: Shop, kind: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Run a job to its end."""
    job = shop.jobs.unfinished(kind, arguments) or shop.jobs.submit(kind, arguments)
    finished = run_job(shop.jobs, job.id, work_of(shop))
    if finished.state != "done":
        raise RuntimeError(f"{kind}: {finished.error}")
    return finished.result


def take_in(shop: Shop, world: World, day: int) -> None:
    """Import the products of a day and build."""
    source = str(world.feed(day).absolute())
    run(shop, "import", {"source": source, "columns": {}, "full": False, "uploaded": False})
    run(shop, "build", {})


def measured(shop: Shop, world: World, day: int, version: str | None = None) -> dict[str, Any]:
    """Return which of the photos that test find what they show first."""
    tests = world.tests(day)
    found = evaluate(shop, [query for query, _ in tests], version=version)
    assert len(found.outcomes) == len(tests)
    return {
        "model": found.model_version,
        "right": "".join(str(int(outcome.relevant[0])) for outcome in found.outcomes),
        "looked_for": "".join(str(int(wanted)) for _, wanted in tests),
    }


def learn_by_loop(shop: Shop, day: int) -> dict[str, Any]:
    """Run the loop of an evening."""
    return run(shop, "loop", {"seed": day})


def learn_ranker(shop: Shop, day: int) -> dict[str, Any]:
    """Train a ranker of an evening, and let it order the hits where its gate lets it."""
    ranking, name = LogRanking(), f"day-{day:02d}"
    metrics = ranking.train(shop, name=name, seed=day, hear=lambda _percent: None)
    judgement = ranking.gate(shop, name)
    if judgement.passed:
        ranking.activate(shop, name)
    return {"published": judgement.passed, "reason": "; ".join(judgement.reasons), "metrics": dict(metrics)}


LEARN: Mapping[str, Callable[[Shop, int], dict[str, Any]] | None] = {
    "none": None,
    "loop": learn_by_loop,
    "ranker": learn_ranker,
}


def founded(folder: Path, world: World) -> Path:
    """Return the folder of the shop as it is before the first day; made when it is not there."""
    if not folder.is_dir():
        draft = folder.with_name(f".{folder.name}")
        shutil.rmtree(draft, ignore_errors=True)
        found_shop(draft)
        shop = open_shop(draft, world)
        take_in(shop, world, 0)
        shop_a_day(shop, world, 0)
        shop.close()
        draft.rename(folder)
    return folder


def open_shop(folder: Path, world: World) -> Shop:
    """Open a shop with the settings of this experiment."""
    loop = {**SETTINGS["loop"], "queries": str((world.folder / GATE_QUERIES).absolute())}
    return Shop(folder, load_settings(folder, {**SETTINGS, "loop": loop})[0])


def run_arm(arm: str, world: World, folder: Path, out: Path) -> None:
    """Go through the days that are still to come."""
    shop_folder = folder / f"{arm}-{world.plan.seed}"
    days: list[dict[str, Any]] = json.loads(out.read_text())["days"] if out.is_file() else []
    if not days:
        shutil.rmtree(shop_folder, ignore_errors=True)
        shutil.copytree(founded(folder / f"shop-{world.plan.seed}", world), shop_folder)
    shop = open_shop(shop_folder, world)
    for day in range(len(days) + 1, world.plan.days + 1):
        days.append(live_a_day(arm, shop, world, day))
        last = days[-1]
        out.write_text(json.dumps({"arm": arm, "seed": world.plan.seed, "days": days}, indent=1))
        right = np.array(list(last["evening"]["right"]), int)
        wanted = np.array(list(last["evening"]["looked_for"]), int)
        _say(
            f"{arm} {world.plan.seed} day {day}: recall {right.mean():.3f} (never looked for "
            f"{right[wanted == 0].mean():.3f}), right {np.mean(np.array(last['right']) > 0):.3f}, clicks "
            f"{np.mean(last['clicks']):.2f}, {last['learned'].get('reason', '')[:200]} {last['seconds']}"
        )
    shop.close()


def live_a_day(arm: str, shop: Shop, world: World, day: int) -> dict[str, Any]:
    """Return what happened on a day."""
    seconds: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begun, worked = time.monotonic(), time.process_time()
        result = work()
        seconds[name], seconds[f"{name} cpu"] = (
            round(time.monotonic() - begun, 1),
            round(time.process_time() - worked, 1),
        )
        return result

    timed("catalogue", lambda: take_in(shop, world, day))
    sessions = timed("shoppers", lambda: shop_a_day(shop, world, day))
    before = current(shop.index_root)
    learn = LEARN[arm]
    learned = timed("learn", lambda: learn(shop, day)) if learn else {}
    evening = timed("measure", lambda: measured(shop, world, day))
    is_new = current(shop.index_root) != before
    morning = timed("measure again", lambda: measured(shop, world, day, before)) if is_new else evening
    return {
        "day": day,
        "right": sessions.right,
        "clicks": sessions.clicks,
        "learned": learned,
        "morning": morning,
        "evening": evening,
        "seconds": seconds,
    }


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> None:
    """Run an arm; without one, draw the world and found the shop that all arms begin with."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="of world and shops")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arm", choices=ARMS, help="needs --out")
    parser.add_argument("--days", type=int, default=30)
    parser.add_argument("--sessions", type=int, default=120, help="a day")
    parser.add_argument("--workers", type=int, default=2, help="processes that draw")
    parser.add_argument("--out", type=Path, help="JSON file, written after every day")
    given = parser.parse_args()
    if given.arm and given.out is None:
        parser.error("--arm needs --out FILE")
    plan = Plan(given.seed, days=given.days, a_day=given.sessions)
    world = read_world(given.folder / f"world-{given.seed}", plan, workers=given.workers)
    if given.arm is None:
        founded(given.folder / f"shop-{given.seed}", world)
        return
    run_arm(given.arm, world, given.folder, given.out)


if __name__ == "__main__":
    main()
