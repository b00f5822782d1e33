"""The operator's page (/admin) and the routes that only it needs: parse a request, call, format the answer.

Photos and searches of users are personal: answers are not stored by anybody (`Cache-Control: no-store`), and nothing
says who searched.
"""

import io
import itertools
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathField
from fastapi.staticfiles import StaticFiles
from PIL import Image

from sameitem.apps.answers import image_answer, product_answer
from sameitem.apps.guard import ENCODED_SLASH
from sameitem.apps.measures import Measures
from sameitem.apps.routes import Json, answer_bytes, answer_ok, operation_answer, request_id_of
from sameitem.apps.schemas import (
    AdminOperationsAnswer,
    BrowseAnswer,
    ClicksAnswer,
    DroppedAnswer,
    GroupsAnswer,
    InspectedProduct,
    LookedAgainAnswer,
    MissesAnswer,
    ModelDetailAnswer,
    OperationAnswer,
    OverviewAnswer,
    RolledBackAnswer,
    SetAsideAnswer,
    SlowAnswer,
)
from sameitem.clicks.figures import (
    FIRST_PAGE,
    DayCounts,
    LoggedSearch,
    MissKind,
    count_by_day,
    find_misses,
)
from sameitem.clicks.log import DAY_S
from sameitem.core.boxes import scale_box
from sameitem.core.errors import ConflictError, InputError, NotFoundError
from sameitem.core.filters import parse_filter, product_value
from sameitem.core.jobs import Job, State
from sameitem.core.photo_store import PhotoStore
from sameitem.core.records import Box, ContentHash, ImageId, Product, ProductId
from sameitem.features.model_folder import PAGE as CURVES
from sameitem.metrics.intervals import Interval, wilson_interval
from sameitem.pipeline.gallery import Gallery
from sameitem.pipeline.inspection import (
    AskedAgain,
    Group,
    ask_again,
    dropped_images,
    duplicate_groups,
    find_images,
    live_gallery,
)
from sameitem.pipeline.models import list_models, roll_back_model, show_model
from sameitem.pipeline.one_image import look_again, thumbnail
from sameitem.pipeline.online import Searcher
from sameitem.pipeline.shop import Shop

PAGE = Path(__file__).parent / "page" / "admin"
POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'; form-action 'self'; base-uri 'none'"
UNSTORED = {"Cache-Control": "no-store"}
NEWEST = 6  # operations of the overview
SCANNED = 20_000  # products that one page of a filter looks at
SLOW_MS = 500.0  # p99 from which the overview speaks of slow searches
OLD_DAYS = 7  # of an index with changes, from which the overview asks for a build
FULL_SHARE = 0.05  # of the disk that is free, below which the overview warns
FEW_SEARCHES = 100  # below which nothing is said about a day's clicks
_WHOLE_S = 10**11  # a "day" that holds all times

Clock = Callable[[], float]
Num = Annotated[int, Query(ge=1, le=100, description="rows of the page")]
Start = Annotated[int, Query(ge=0, le=10_000_000, description="rows before the page")]
Side = Annotated[int, Query(ge=32, le=1024, description="longest side, pixels")]


class AdminPage(StaticFiles):
    """The files of the page; no other page may frame it, so that nobody is led to click in it unawares."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """Return a file with the page's own policy."""
        response = super().file_response(*args, **kwargs)
        response.headers["Content-Security-Policy"] = POLICY
        return response


def add_admin(
    app: FastAPI,
    shop: Shop,
    searcher: Searcher,
    measures: Measures,
    wake_runner: Callable[[], None],
    *,
    clock: Clock = time.time,
) -> None:
    """Add the operator's page and its routes to the REST application.

    Args:
        app: gets them.
        shop: whose.
        searcher: answers its queries.
        measures: of this server.
        wake_runner: is called when a job was queued and some runner should take it.
        clock: seconds since 1970.
    """
    _add_overview(app, shop, searcher, measures, clock)
    _add_operations(app, shop, wake_runner)
    _add_gallery(app, shop, searcher, wake_runner)
    _add_models(app, shop)
    _add_traffic(app, shop, searcher, measures, clock)
    _add_products(app, shop, searcher)
    app.mount("/admin", AdminPage(directory=PAGE, html=True))


def _answer(request: Request, **values: Any) -> Json:
    return Json({"request_id": request_id_of(request), **values}, headers=UNSTORED)


# ---- overview ----


def _add_overview(app: FastAPI, shop: Shop, searcher: Searcher, measures: Measures, clock: Clock) -> None:
    @app.get("/v1/admin/overview", responses=answer_ok(OverviewAnswer))
    def overview(request: Request) -> Response:
        """Return how the shop is: the live index, the last 24 hours, the newest operations, what needs attention."""
        now = clock()
        span = partial(count_by_day, shop.database, span_s=_WHOLE_S)
        last, before = span(since=now - DAY_S, until=now), span(since=now - 2 * DAY_S, until=now - DAY_S)
        week = span(since=now - 8 * DAY_S, until=now - DAY_S)
        gallery, counts = live_gallery(searcher), shop.catalogue.counts()
        operations = shop.jobs.list(NEWEST)
        attention = [
            *_index_attention(gallery, now),
            *_job_attention(shop),
            *_traffic_attention(last, week),
            *_machine_attention(shop, measures),
        ]
        return _answer(
            request,
            index=None if gallery is None else _live(gallery),
            active_model=shop.active_model,
            products=counts.products,
            images=counts.images,
            last_day=_traffic(last),
            day_before=_traffic(before),
            latency=asdict(measures.latency()),
            operations=[_operation(job) for job in operations],
            attention=sorted(attention, key=lambda one: one["level"] != "problem"),
        )


def _live(gallery: Gallery) -> dict[str, Any]:
    certificate = gallery.index.manifest.certificate
    return {
        "version": gallery.version,
        "created": gallery.created,
        "model_version": gallery.model_version,
        "images": int(gallery.alive.sum()),
        "added": len(gallery.index.delta),
        "waiting": len(gallery.pending),
        "certificate": asdict(certificate) if certificate else None,
    }


def _attention(code: str, level: Literal["problem", "notice"], **values: str | float) -> dict[str, Any]:
    return {"code": code, "level": level, "values": values}


def _index_attention(gallery: Gallery | None, now: float) -> list[dict[str, Any]]:
    if gallery is None:
        return [_attention("no_index", "problem")]
    age = (now - datetime.fromisoformat(gallery.created).timestamp()) / DAY_S
    changed = gallery.count_changed()
    return [_attention("old_index", "notice", days=int(age), changed=changed)] if changed and age > OLD_DAYS else []


def _job_attention(shop: Shop) -> list[dict[str, Any]]:
    """Tell of the newest job of each kind that failed, or set something aside."""
    newest: dict[str, Job] = {}
    for job in shop.jobs.list(50):
        if job.is_finished:
            newest.setdefault(job.kind, job)
    failed = [
        _attention("failed_job", "problem", id=job.id, kind=job.kind, error=job.error)
        for job in newest.values()
        if job.state == "failed"
    ]
    aside = [
        _attention("set_aside", "notice", id=job.id, kind=job.kind, rows=job.counts["set_aside"])
        for job in newest.values()
        if job.counts.get("set_aside")
    ]
    return failed + aside


def _traffic_attention(last: Sequence[DayCounts], week: Sequence[DayCounts]) -> list[dict[str, Any]]:
    now, before = _traffic(last), _traffic(week)
    if now["searches"] < FEW_SEARCHES:
        return []
    if not now["clicked"]["count"]:
        return [_attention("no_clicks", "problem", searches=now["searches"])]
    if before["searches"] >= FEW_SEARCHES and now["clicked"]["high"] < before["clicked"]["low"]:
        return [_attention("fewer_clicks", "problem", now=now["clicked"]["share"], before=before["clicked"]["share"])]
    return []


def _machine_attention(shop: Shop, measures: Measures) -> list[dict[str, Any]]:
    found = [
        _attention("broken_model", "problem", version=model["version"], error=model["error"])
        for model in list_models(shop)
        if model["error"]
    ]
    latency = measures.latency()
    if latency.p99 is not None and latency.searches >= FEW_SEARCHES and latency.p99 > SLOW_MS:
        found.append(_attention("slow", "notice", p99=latency.p99))
    disk = shutil.disk_usage(shop.folder)
    if disk.free < FULL_SHARE * disk.total:
        found.append(_attention("disk", "problem", gigabytes=round(disk.free / 1e9, 1)))
    return found


# ---- operations, and what imports set aside ----


def _add_operations(app: FastAPI, shop: Shop, wake_runner: Callable[[], None]) -> None:
    @app.get("/v1/admin/operations", responses=answer_ok(AdminOperationsAnswer))
    def list_operations(
        request: Request,
        state: Annotated[list[State] | None, Query(description="only these states")] = None,
        num: Num = 20,
        start: Start = 0,
    ) -> Response:
        """Return the operations with what was asked for, newest first."""
        found = shop.jobs.list(num + 1, start=start, states=state or ())
        return _answer(request, operations=[_operation(job) for job in found[:num]], more=len(found) > num)

    @app.post("/v1/admin/operations/{operation_id}:rerun", status_code=202, responses=answer_ok(OperationAnswer, 202))
    def rerun(request: Request, operation_id: str) -> Response:
        """Start a finished operation again with the same arguments; one that waits already is returned."""
        job = shop.jobs.get(operation_id)
        if not _can_rerun(job):
            raise ConflictError(
                f"operation {operation_id} is {job.state}; wait for its end"
                if not job.is_finished
                else "the uploaded file of this import is gone; send it to /v1/imports again"
            )
        again = shop.jobs.unfinished(job.kind, job.arguments) or shop.jobs.submit(job.kind, job.arguments)
        wake_runner()
        return Json(operation_answer(again, request_id_of(request)), status_code=202, headers=UNSTORED)

    @app.get("/v1/admin/set-aside", responses=answer_ok(SetAsideAnswer))
    def set_aside(
        request: Request,
        operation: Annotated[
            str | None, Query(max_length=64, description="default: the newest import that did")
        ] = None,
        reason: Annotated[str | None, Query(max_length=200)] = None,
        num: Num = 50,
        start: Start = 0,
    ) -> Response:
        """Return what an import set aside: line, source, reason and detail."""
        imports = [job for job in shop.jobs.list(100, kinds=["import"]) if job.counts.get("set_aside")]
        chosen = shop.jobs.get(operation).id if operation else next((job.id for job in imports), None)
        reasons = shop.catalogue.count_set_aside(chosen) if chosen else {}
        rows = shop.catalogue.list_set_aside(chosen, after=start, limit=num, reason=reason) if chosen else []
        return _answer(
            request,
            operation_id=chosen,
            operations=[_operation(job) for job in imports[:20]],
            reasons=reasons,
            found=sum(reasons.values()) if reason is None else reasons.get(reason, 0),
            rows=[asdict(row) for row in rows],
        )


def _can_rerun(job: Job) -> bool:
    return job.is_finished and not job.arguments.get("uploaded")


def _operation(job: Job) -> dict[str, Any]:
    common = operation_answer(job, "")
    kept = ("id", "kind", "state", "percent", "counts", "first_errors", "error_file", "error", "result")
    return {
        **{name: common[name] for name in kept},
        "arguments": job.arguments,
        "created_at": _iso(job.created_at),
        "started_at": None if job.started_at is None else _iso(job.started_at),
        "finished_at": None if job.finished_at is None else _iso(job.finished_at),
        "can_rerun": _can_rerun(job),
    }


# ---- the gallery: what was dropped, what is folded ----


def _add_gallery(app: FastAPI, shop: Shop, searcher: Searcher, wake_runner: Callable[[], None]) -> None:
    @app.post("/v1/index:compact", status_code=202, responses=answer_ok(OperationAnswer, 202))
    def compact_index(request: Request) -> Response:
        """Start to write the live version with its changes as a new one; one that waits already is returned."""
        job = shop.jobs.unfinished("compact", {}) or shop.jobs.submit("compact", {})
        wake_runner()
        return Json(operation_answer(job, request_id_of(request)), status_code=202, headers=UNSTORED)

    @app.get("/v1/admin/index/{version}/dropped", responses=answer_ok(DroppedAnswer))
    def dropped(
        request: Request,
        version: str,
        reason: Annotated[str, Query(max_length=64)],
        num: Num = 48,
        start: Start = 0,
    ) -> Response:
        """Return the images that a version's selection dropped for a reason, or folded behind another."""
        found, rows = dropped_images(shop, version, reason, start=start, limit=num)
        pictures = [_picture(row["image_id"], row["product_id"], row["image_name"], row["detail"]) for row in rows]
        return _answer(request, found=found, images=pictures)

    @app.get("/v1/admin/groups", responses=answer_ok(GroupsAnswer))
    def groups(request: Request, num: Num = 20, start: Start = 0) -> Response:
        """Return the groups of near-duplicates in the live gallery, the largest first."""
        found, page = duplicate_groups(searcher.gallery(), start=start, limit=num)
        return _answer(request, found=found, groups=[_group(group) for group in page])


def _group(group: Group) -> dict[str, Any]:
    members = [
        _picture(one.image_id, one.product.product_id, one.image_name, title=one.product.title, brand=one.product.brand)
        for one in group.members
    ]
    return {"size": group.size, "products": group.products, "members": members}


def _picture(
    image_id: int, product_id: str, image_name: str, detail: str = "", *, title: str = "", brand: str = ""
) -> dict[str, Any]:
    return {
        "image_id": image_id,
        "product_id": product_id,
        "image_name": image_name,
        "detail": detail,
        "title": title,
        "brand": brand,
        "image_url": f"/v1/images/{image_id}",
    }


# ---- models ----


def _add_models(app: FastAPI, shop: Shop) -> None:
    @app.get("/v1/admin/models/{version}", responses=answer_ok(ModelDetailAnswer))
    def get_model(request: Request, version: str) -> Response:
        """Return a model version's card, and where its training curves are."""
        card = show_model(shop, version)["card"]
        has_curves = (shop.model_folder(version) / CURVES).is_file()
        curves = f"/v1/admin/models/{version}/curves" if has_curves else None
        return _answer(request, version=version, card=card, curves=curves)

    @app.get("/v1/admin/models/{version}/curves", responses=answer_bytes("text/html"))
    def get_curves(version: str) -> Response:
        """Return the page of a training's curves."""
        path = shop.model_folder(version) / CURVES
        if not path.is_file():
            raise NotFoundError(f"model version {version!r} has no training curves")
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"}
        return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers={**UNSTORED, **policy})

    @app.post("/v1/models:rollback", responses=answer_ok(RolledBackAnswer))
    def roll_back(request: Request) -> Response:
        """Make the previous model generation the active one and its newest index version live, at once."""
        done = roll_back_model(shop)
        kept = {name: done[name] for name in ("version", "index", "previous")}
        return _answer(request, **kept)


# ---- clicks, slow searches, misses ----


def _add_traffic(app: FastAPI, shop: Shop, searcher: Searcher, measures: Measures, clock: Clock) -> None:
    @app.get("/v1/admin/clicks", responses=answer_ok(ClicksAnswer))
    def clicks(
        request: Request, days: Annotated[int, Query(ge=1, le=400, description="today among them")] = 30
    ) -> Response:
        """Return searches and what they led to, by day (UTC) and by category, with 95 % intervals."""
        today = int(clock() // DAY_S)
        counted = count_by_day(shop.database, since=float((today - days + 1) * DAY_S), until=float((today + 1) * DAY_S))
        by_day, by_category = defaultdict(list), defaultdict(list)
        for one in counted:
            by_day[one.day].append(one)
            by_category[one.category_id].append(one)
        categories = [{"category_id": name, **_traffic(parts)} for name, parts in by_category.items()]
        return _answer(
            request,
            total=_traffic(counted),
            days=[
                {"day": _iso(day * DAY_S)[:10], **_traffic(by_day[day])} for day in range(today - days + 1, today + 1)
            ],
            categories=sorted(categories, key=lambda one: (-one["searches"], one["category_id"])),
        )

    @app.get("/v1/admin/slow", responses=answer_ok(SlowAnswer))
    def slow(request: Request, num: Num = 50) -> Response:
        """Return the slowest of the last searches of this server, with milliseconds per stage."""
        searches = [{**asdict(one), "at": _iso(one.at)} for one in measures.slowest(num)]
        return _answer(request, latency=asdict(measures.latency()), searches=searches)

    @app.get("/v1/admin/misses", responses=answer_ok(MissesAnswer))
    def misses(
        request: Request,
        kind: Annotated[MissKind, Query(description="nothing clicked; nothing of the first page; held out")],
        before: Annotated[int | None, Query(ge=0, le=2**53, description="`next` of the page before")] = None,
        num: Annotated[int, Query(ge=1, le=50, description="rows of the page, or held-out searches to ask")] = 20,
    ) -> Response:
        """Return the newest searches that failed: with what was shown, and their photos where they are kept.

        Held-out searches are asked again, and returned where the live index does not find what was clicked.
        """
        found = find_misses(shop.database, kind, before=before, limit=num)
        again = ask_again(shop, searcher, found.searches) if kind == "held_out" else []
        rows = [_miss(shop, one) for one in found.searches] if kind != "held_out" else _missed(shop, again)
        return _answer(request, misses=rows, looked_at=found.scanned, asked=len(again), next=found.next)

    @app.get("/v1/admin/photos/{photo_hash}", responses=answer_bytes("image/jpeg"))
    def photo(photo_hash: str, side: Side = 1024) -> Response:
        """Return a photo that was searched with, its longest side at most `side` pixels."""
        store = _store_of(shop, photo_hash)
        if store is None:
            raise NotFoundError("this photo was not kept, or not so long (search.photo_days)")
        encoded = thumbnail(store, ContentHash(photo_hash), side_px=side)
        return Response(encoded, media_type="image/jpeg", headers=UNSTORED)


def _traffic(counts: Iterable[DayCounts]) -> dict[str, Any]:
    parts = list(counts)
    searches = sum(one.searches for one in parts)

    def share(count: int) -> dict[str, Any]:
        found = wilson_interval(count, searches) if searches else Interval(0.0, 0.0, 1.0)  # nothing is known
        shares = {"share": found.mean, "low": found.low, "high": found.high}
        return {"count": count, **{name: round(value, 6) for name, value in shares.items()}}

    return {
        "searches": searches,
        "clicked": share(sum(one.clicked for one in parts)),
        "carts": share(sum(one.carts for one in parts)),
        "purchases": share(sum(one.purchases for one in parts)),
    }


def _missed(shop: Shop, again: Sequence[AskedAgain]) -> list[dict[str, Any]]:
    rows = []
    for one in (one for one in again if one.rank is None):
        now = [
            _shown(result.rank, result.product.product_id, result.image.name, result.image.image_id, result.score, ())
            for result in one.results
        ]
        rows.append({**_miss(shop, one.search), "now": now})
    return rows


def _miss(shop: Shop, search: LoggedSearch) -> dict[str, Any]:
    store = _store_of(shop, search.photo_hash)
    acts = defaultdict(list)
    for act in search.acts:
        acts[act.product_id, act.rank].append(act.type)
    places = [
        _shown(one.rank, one.product_id, one.image_name, one.image_id, one.score, acts[one.product_id, one.rank])
        for one in search.shown
    ]
    return {
        "search_id": search.search_id,
        "at": _iso(search.at),
        "photo_hash": search.photo_hash,
        "photo_url": f"/v1/admin/photos/{search.photo_hash}" if store else None,
        "box": _shares(search.box, _size(store, search.photo_hash)) if store and search.box else None,
        "category_id": search.category_id,
        "index_version": search.index_version,
        "shown": places[:FIRST_PAGE],
        "clicked": [place for place in places if place["acts"]],
        "now": None,
    }


def _shown(
    rank: int, product_id: str, image_name: str, image_id: int, score: float, acts: Sequence[str]
) -> dict[str, Any]:
    return {
        "rank": rank,
        "product_id": product_id,
        "image_name": image_name,
        "image_url": f"/v1/images/{image_id}",
        "score": round(score, 6),
        "acts": sorted(set(acts)),
    }


def _store_of(shop: Shop, photo_hash: str) -> PhotoStore | None:
    """Return where a photo that was searched with is: among users' photos, or the catalogue's; None = nowhere."""
    try:
        stores = (shop.query_photos, shop.photos)
        return next((store for store in stores if store.has(ContentHash(photo_hash))), None)
    except InputError:  # no content hash: an imported log's, or none
        return None


def _size(store: PhotoStore, photo_hash: str) -> tuple[int, int] | None:
    try:
        with Image.open(io.BytesIO(store.read(ContentHash(photo_hash))), formats=["JPEG"]) as picture:
            return picture.size
    except (NotFoundError, OSError, SyntaxError):  # deleted meanwhile, or damaged
        return None


def _shares(box: Box, size: tuple[int, int] | None) -> dict[str, Any] | None:
    if size is None:
        return None
    sides = asdict(scale_box(box, 1 / size[0], 1 / size[1]))
    return {**{name: round(min(1.0, max(0.0, side)), 6) for name, side in sides.items()}, "unit": "rel"}


# ---- products ----


def _add_products(app: FastAPI, shop: Shop, searcher: Searcher) -> None:
    @app.get("/v1/admin/products", responses=answer_ok(BrowseAnswer))
    def browse(
        request: Request,
        filter: Annotated[str, Query(max_length=4096, description="filter expression; empty = all")] = "",
        after: Annotated[str, Query(max_length=512, description="`next` of the page before")] = "",
        num: Num = 24,
    ) -> Response:
        """Return products with their first image, in the order of their ids; a rare filter may need several calls."""
        wanted = parse_filter(filter) if filter.strip() else None
        chosen: list[Product] = []
        looked_at, last, ended = 0, after, True
        for product in itertools.islice(shop.catalogue.products(after=after), SCANNED):
            looked_at, last = looked_at + 1, product.product_id
            if wanted is None or wanted.matches(partial(product_value, product)):
                chosen.append(product)
            if len(chosen) == num:
                ended = False
                break
        ended = ended and looked_at < SCANNED
        first = shop.catalogue.first_images([product.product_id for product in chosen])
        return _answer(
            request,
            products=[_browsed(product, first) for product in chosen],
            looked_at=looked_at,
            next=None if ended else last,
        )

    @app.get("/v1/admin/products/{product_id}", responses=answer_ok(InspectedProduct))
    def inspect(request: Request, product_id: str) -> Response:
        """Return a product with its images, and whether each can be found or why not."""
        wanted = ProductId(product_id.replace(ENCODED_SLASH, "/"))
        product, images = shop.catalogue.product(wanted), shop.catalogue.images(wanted)
        rows = [
            image_answer(image) | asdict(where)
            for image, where in zip(images, find_images(shop, live_gallery(searcher), images), strict=True)
        ]
        return _answer(request, product=product_answer(product), images=rows)

    @app.post("/v1/admin/images/{image_id}:look-again", responses=answer_ok(LookedAgainAnswer))
    def look(request: Request, image_id: Annotated[int, PathField(ge=1, le=2**63 - 1)]) -> Response:
        """Find the subject of a stored image anew with the active model, and keep its feature for the next build."""
        found = look_again(shop, searcher, ImageId(image_id))
        size = (found.image.width, found.image.height)
        return _answer(
            request,
            image_id=image_id,
            category_id=found.category_id,
            category_source=found.category_source,
            box=_shares(found.box, size),
            objects=[_shares(one.box, size) for one in found.objects],
            duplicate_of=asdict(found.duplicate_of) if found.duplicate_of else None,
        )


def _browsed(product: Product, first: Mapping[ProductId, ImageId]) -> dict[str, Any]:
    image_id = first.get(product.product_id)
    return {
        "product_id": product.product_id,
        "title": product.title,
        "brand": product.brand,
        "category_id": product.category,
        "price": product.price,
        "currency": product.currency,
        "image_url": None if image_id is None else f"/v1/images/{image_id}",
    }


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
