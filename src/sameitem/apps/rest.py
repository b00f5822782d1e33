"""The REST interface (docs/reference/rest.md): parse a request, call, format the answer."""

import base64
import binascii
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as PathField
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from sameitem.apps.access import Access, AccessCheck, describe
from sameitem.apps.admin import add_admin
from sameitem.apps.answers import box_answer, image_answer, product_answer, search_answer, user_answer
from sameitem.apps.guard import ENCODED_SLASH, Guard, problem
from sameitem.apps.login import add_login
from sameitem.apps.loops import add_loops
from sameitem.apps.measures import Measures
from sameitem.apps.problems import meaning
from sameitem.apps.routes import Json
from sameitem.apps.routes import answer_bytes as _bytes
from sameitem.apps.routes import answer_ok as _ok
from sameitem.apps.routes import operation_answer as _operation
from sameitem.apps.routes import request_id_of as _request_id
from sameitem.apps.schemas import (
    ActivateBody,
    BoxBody,
    DeleteBody,
    Deleted,
    EventsAnswer,
    EventsBody,
    FilterBody,
    Health,
    ImageBody,
    ImageStored,
    IndexAnswer,
    ModelsAnswer,
    OperationAnswer,
    OperationsAnswer,
    Problem,
    ProductAnswer,
    ProductBody,
    ProductsAnswer,
    RankersAnswer,
    RollbackBody,
    SearchAnswerBody,
    SearchBody,
    TaxonomyAnswer,
    TrainBody,
    UserAnswer,
    UserErased,
)
from sameitem.catalog.fetch import Fetcher
from sameitem.catalog.store import Listing as NewListing
from sameitem.clicks.log import Event
from sameitem.core.database import write
from sameitem.core.errors import AccessError, InputError, NotFoundError, SameItemError, UnavailableError
from sameitem.core.filters import parse_filter, product_value
from sameitem.core.records import Box, ImageId, ImageKind, Product, ProductId
from sameitem.core.settings import ServeSettings
from sameitem.pipeline.models import check_new_version, list_models
from sameitem.pipeline.one_image import Understood, place_image, thumbnail
from sameitem.pipeline.online import Searcher, SearchRequest
from sameitem.pipeline.rankers import list_rankers, roll_back_ranker
from sameitem.pipeline.shop import Shop
from sameitem.pipeline.versions import show_versions, switch_version
from sameitem.upkeep.erasure import erase_user
from sameitem.upkeep.ranking import switch_ranker

PAGE = Path(__file__).parent / "page"
UPLOADS = "uploads"
MODEL_JOBS = ("train", "compare", "activate")
_log = logging.getLogger(__name__)
Model = TypeVar("Model", bound=BaseModel)
_NOT_BUILT = ("verify", "group_by_object", "text")
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "content": {"application/problem+json": {}}, "description": text}
    for status, text in {
        400: "malformed",
        401: "no key, or a wrong one",
        403: "the key may not, or not from there",
        404: "not found",
        409: "does not fit the present state",
        413: "too large",
        415: "not an image format we take",
        422: "fields wrong",
        429: "too many requests",
        503: "no index is ready",
    }.items()
}
_IMAGE_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/avif",
    "image/gif",
    "image/bmp",
    "image/tiff",
    "image/heic",
)


def create_app(
    shop: Shop, searcher: Searcher, *, wake_runner: Callable[[], None], settings: ServeSettings | None = None
) -> FastAPI:
    """Build the REST application and the search page around an opened shop.

    Args:
        shop: its parts are called from worker threads.
        searcher: answers its queries.
        wake_runner: is called when a job was queued and some runner should take it.
        settings: how the application is served; default: as the shop's settings say.
    """
    settings = settings or shop.settings.serve
    access = Access(lambda: shop.keys.valid(), settings)
    app = FastAPI(title="sameitem", version="1", docs_url=None, redoc_url=None, responses=_PROBLEMS)
    measures = Measures()
    _add_search(app, shop, searcher, measures)
    _add_product_images(app, shop, searcher)  # before the products: their paths are longer
    _add_products(app, shop)
    _add_events(app, shop)
    _add_users(app, shop)
    _add_operations(app, shop, wake_runner)
    _add_index(app, shop, wake_runner)
    _add_models(app, shop, wake_runner)
    add_loops(app, shop, queue=partial(_queued, shop, wake_runner))
    _add_rankers(app, shop)
    _add_health(app, searcher, measures)
    add_login(app, access, Json)
    add_admin(app, shop, searcher, measures, wake_runner)
    app.mount("/", StaticFiles(directory=PAGE, html=True))
    app.add_exception_handler(SameItemError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    _describe_access(app)
    app.add_middleware(AccessCheck, access=access, routes=app.routes)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Retry-After", "X-Request-Id"],
        )
    app.add_middleware(Guard, settings=settings, max_body_bytes=_max_body(shop), measures=measures)
    return app


def _describe_access(app: FastAPI) -> None:
    """Let the OpenAPI document say which key each route needs."""
    plain = app.openapi

    def with_keys() -> dict[str, Any]:
        return app.openapi_schema if app.openapi_schema is not None else describe(plain(), app.routes)

    app.openapi = with_keys  # type: ignore[method-assign]


# ---- search ----


def _add_search(app: FastAPI, shop: Shop, searcher: Searcher, measures: Measures) -> None:
    @app.post("/v1/search", openapi_extra=_body_of(SearchBody, "image"), responses=_ok(SearchAnswerBody))
    async def search(request: Request) -> Response:
        """Find the products that show the same item as a photo, best first."""
        body, photo = await _read(request, SearchBody, "image")
        return await run_in_threadpool(answer, request, body, photo)

    def answer(request: Request, body: SearchBody, photo: bytes | None) -> Response:
        for name in _NOT_BUILT:
            if getattr(body, name) not in (None, False):
                raise InputError(f"{name} is not built yet in this release; leave it out", field=name)
        found = searcher.search(_search_request(shop, body, photo))
        measures.searched(found)
        request_id = _request_id(request)
        return Json(search_answer(found, request_id=request_id, fields=body.fields, explain=body.explain))

    @app.get("/v1/images/{image_id}", responses=_bytes("image/jpeg"))
    def image(
        image_id: Annotated[int, PathField(ge=1, le=2**63 - 1)], side: Annotated[int, Query(ge=32, le=1024)] = 1024
    ) -> Response:
        """Return an image of the catalogue as JPEG, its longest side at most `side` pixels."""
        listing = shop.catalogue.listings([ImageId(image_id)])
        if not listing:
            raise NotFoundError(f"no image {image_id} in the catalogue")
        content_hash = listing[ImageId(image_id)][0].content_hash
        encoded = thumbnail(shop.photos, content_hash, side_px=side)
        return Response(encoded, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=600"})

    @app.get("/v1/taxonomy", responses=_ok(TaxonomyAnswer))
    def taxonomy(request: Request) -> Response:
        """Return the top categories with their names in English and Chinese."""
        categories = [{"id": c.id, "name": c.name, "name_zh": c.name_zh} for c in shop.taxonomy.top]
        return Json({"request_id": _request_id(request), "categories": categories})


def _search_request(shop: Shop, body: SearchBody, photo: bytes | None) -> SearchRequest:
    image_of = None
    if body.product_id is not None:
        name = body.image_name or next(
            (image.name for image in shop.catalogue.images(ProductId(body.product_id))), None
        )
        if name is None:
            shop.catalogue.product(ProductId(body.product_id))
            raise NotFoundError(f"product {body.product_id!r} has no image to search with")
        image_of = (ProductId(body.product_id), name)
    elif body.image_name is not None:
        raise InputError("image_name needs the product_id it belongs to", field="image_name")
    given = {
        "image": photo is not None,
        "image_base64": body.image_base64 is not None,
        "url": body.url is not None,
        "product_id": image_of is not None,
    }
    if sum(given.values()) != 1:
        sent = ", ".join(name for name, there in given.items() if there) or "none"
        raise InputError(f"need exactly one of {', '.join(given)}; got {sent}", field="image")
    box, relative = _box(body.box, body.region)
    categories = [*([body.category_id] if body.category_id else []), *(body.categories or [])]
    return SearchRequest(
        photo=photo if photo is not None else _photo_bytes(shop, body.image_base64, body.url),
        image_of=image_of,
        box=box,
        box_is_relative=relative,
        object_id=body.object_id or "",
        crop=body.crop,
        categories=tuple(dict.fromkeys(categories)),
        filter=body.filter,
        num=body.num,
        start=body.start,
        score_threshold=body.score_threshold,
        distinct_product=body.distinct_product,
        rerank=body.rerank,
        user_id=body.user_id,
        session_id=body.session_id,
        explain=body.explain,
    )


# ---- products ----


def _add_products(app: FastAPI, shop: Shop) -> None:
    @app.post("/v1/products:filter", responses=_ok(ProductsAnswer))
    def filter_products(request: Request, body: FilterBody) -> Response:
        """Return the products that satisfy a filter, in the order of their ids."""
        found = _matching(shop, body.filter)
        page = [product_answer(product) for product in found[body.start : body.start + body.num]]
        return Json({"request_id": _request_id(request), "found": len(found), "products": page})

    @app.post("/v1/products:delete", responses=_ok(Deleted))
    def delete_products(request: Request, body: DeleteBody) -> Response:
        """Delete the products that satisfy a filter, or have these ids; searchable no more when this returns."""
        if (body.filter is None) == (body.product_ids is None):
            raise InputError("need either a filter or product_ids", field="filter")
        if body.filter is not None:
            chosen = [product.product_id for product in _matching(shop, body.filter)]
        else:
            chosen = [ProductId(product_id) for product_id in body.product_ids or ()]
        with write(shop.database) as connection:
            deleted = shop.catalogue.delete_products(connection, chosen)
        return Json({"request_id": _request_id(request), "deleted": deleted})

    @app.put("/v1/products/{product_id}", responses=_ok(ProductAnswer))
    def put_product(request: Request, product_id: str, body: ProductBody) -> Response:
        """Store a product, replacing what was known of it; its images stay."""
        values = body.model_dump(exclude={"category_id", "expires_at"})
        expires = body.expires_at.isoformat() if body.expires_at else ""
        product = Product(product_id=_id(product_id), category=body.category_id, expires_at=expires, **values)
        with write(shop.database) as connection:
            shop.catalogue.upsert(connection, [NewListing(product)])
        return Json(_product_answer(shop, _id(product_id), _request_id(request)))

    @app.get("/v1/products/{product_id}", responses=_ok(ProductAnswer))
    def get_product(request: Request, product_id: str) -> Response:
        """Return a product with its images."""
        return Json(_product_answer(shop, _id(product_id), _request_id(request)))

    @app.delete("/v1/products/{product_id}", responses=_ok(Deleted))
    def delete_product(request: Request, product_id: str) -> Response:
        """Delete a product and its images; searchable no more when this returns."""
        shop.catalogue.product(_id(product_id))
        with write(shop.database) as connection:
            deleted = shop.catalogue.delete_products(connection, [_id(product_id)])
        return Json({"request_id": _request_id(request), "deleted": deleted})


def _add_product_images(app: FastAPI, shop: Shop, searcher: Searcher) -> None:
    @app.put(
        "/v1/products/{product_id}/images/{name:path}",
        openapi_extra=_body_of(ImageBody, "image"),
        responses=_ok(ImageStored),
    )
    async def put_image(request: Request, product_id: str, name: str) -> Response:
        """Store an image of a product: its bytes (multipart `image` or the raw body) or an address to fetch."""
        body, photo = await _read(request, ImageBody, "image")
        return await run_in_threadpool(store_image, request, _id(product_id), name, body, photo)

    def store_image(
        request: Request, product_id: ProductId, name: str, body: ImageBody, photo: bytes | None
    ) -> Response:
        if [photo, body.image_base64, body.url].count(None) != 2:
            raise InputError("need exactly one of image (or a raw body), image_base64, url", field="image")
        data = photo if photo is not None else _photo_bytes(shop, body.image_base64, body.url)
        assert data is not None
        box, relative = _box(body.box, body.region)
        if box is None and not body.crop:
            box, relative = Box(0.0, 0.0, 1.0, 1.0), True
        stored = place_image(
            shop,
            searcher,
            product_id,
            name,
            data,
            kind=ImageKind(body.kind),
            box=box,
            box_is_relative=relative,
            custom_content=body.custom_content,
        )
        return Json(_stored(stored, _request_id(request)))

    @app.delete("/v1/products/{product_id}/images/{name:path}", responses=_ok(Deleted))
    def delete_image(request: Request, product_id: str, name: str) -> Response:
        """Delete one image; searchable no more when this returns."""
        with write(shop.database) as connection:
            there = shop.catalogue.delete_image(connection, _id(product_id), name)
        if not there:
            raise NotFoundError(f"product {_id(product_id)!r} has no image {name!r}")
        return Json({"request_id": _request_id(request), "deleted": 1})


def _id(path_part: str) -> ProductId:
    """Return the product id of a path: the guard keeps a slash that was sent as %2F apart from those of the path."""
    return ProductId(path_part.replace(ENCODED_SLASH, "/"))


def _matching(shop: Shop, text: str) -> list[Product]:
    wanted = parse_filter(text)
    return [product for product in shop.catalogue.products() if wanted.matches(partial(product_value, product))]


def _product_answer(shop: Shop, product_id: ProductId, request_id: str) -> dict[str, Any]:
    product = shop.catalogue.product(product_id)
    images = [image_answer(image) for image in shop.catalogue.images(product_id)]
    return {"request_id": request_id, "product_id": product_id, "product": product_answer(product), "images": images}


def _stored(stored: Understood, request_id: str) -> dict[str, Any]:
    return {
        "request_id": request_id,
        "product_id": stored.image.product_id,
        "image_name": stored.image.name,
        "image_id": stored.image.image_id,
        "category_id": stored.category_id,
        "category_source": stored.category_source,
        "box": box_answer(stored.box),
        "boxes": [box_answer(found.box) for found in stored.objects],
        "duplicate_of": asdict(stored.duplicate_of) if stored.duplicate_of else None,
        "searchable": "after the next build",
    }


# ---- events ----


def _add_events(app: FastAPI, shop: Shop) -> None:
    @app.post("/v1/events", responses=_ok(EventsAnswer))
    def events(request: Request, body: EventsBody) -> Response:
        """Store what users did with results; an event sent again is stored once."""
        batch = [
            Event(
                event_id=event.event_id,
                search_id=event.search_id,
                type=event.type,
                product_id=ProductId(event.product_id),
                image_name=event.image_name,
                rank=event.rank,
                user_id=event.user_id,
                ts=event.ts.timestamp() if event.ts else None,
            )
            for event in body.events
        ]
        return Json({"request_id": _request_id(request), **asdict(shop.clicks.take_events(batch))})


# ---- users ----


def _add_users(app: FastAPI, shop: Shop) -> None:
    @app.get("/v1/users/{user_id}", responses=_ok(UserAnswer))
    def get_user(request: Request, user_id: str) -> Response:
        """Return everything that is kept of a user: their searches, and events on them and of theirs."""
        return Json(user_answer(shop, _id(user_id), request_id=_request_id(request)))

    @app.delete("/v1/users/{user_id}", responses=_ok(UserErased))
    def erase(request: Request, user_id: str) -> Response:
        """Remove every trace of a user from the database and the shop's files; may take a minute."""
        return Json({"request_id": _request_id(request), **asdict(erase_user(shop, _id(user_id)))})


# ---- operations ----


def _add_operations(app: FastAPI, shop: Shop, wake_runner: Callable[[], None]) -> None:
    @app.post("/v1/imports", status_code=202, openapi_extra=_upload_body(), responses=_ok(OperationAnswer, 202))
    async def start_import(
        request: Request,
        name: Annotated[str, Query(max_length=200, description="file name; its ending says what it is")] = "upload.csv",
        full: Annotated[bool, Query(description="products that the file does not name are deleted")] = False,
    ) -> Response:
        """Take a CSV, TSV, JSONL or Parquet file of any length as the raw body and import it as an operation."""
        suffix = Path(name).suffix.lower()
        if suffix not in (".csv", ".tsv", ".txt", ".jsonl", ".ndjson", ".parquet"):
            raise InputError(
                f"need a name that ends in .csv, .tsv, .txt, .jsonl or .parquet, got {name!r}", field="name"
            )
        folder = shop.folder / UPLOADS
        folder.mkdir(exist_ok=True)
        path = folder / f"{secrets.token_hex(8)}{suffix}"
        with path.open("xb") as file:
            async for chunk in request.stream():
                await run_in_threadpool(file.write, chunk)
        if path.stat().st_size == 0:
            path.unlink()
            raise InputError("the request body is empty; send the file as the raw body", field="body")
        arguments = {"source": str(path.relative_to(shop.folder)), "columns": {}, "full": full, "uploaded": True}
        job = await run_in_threadpool(shop.jobs.submit, "import", arguments)
        wake_runner()
        return Json(_operation(job, _request_id(request)), status_code=202)

    @app.get("/v1/operations", responses=_ok(OperationsAnswer))
    def list_operations(request: Request, num: Annotated[int, Query(ge=1, le=1000)] = 50) -> Response:
        """Return the newest operations."""
        request_id = _request_id(request)
        operations = [_operation(job, request_id) for job in shop.jobs.list(num)]
        return Json({"request_id": request_id, "operations": operations})

    @app.get("/v1/operations/{operation_id}", responses=_ok(OperationAnswer))
    def get_operation(request: Request, operation_id: str) -> Response:
        """Return how far an operation is, and what came of it."""
        return Json(_operation(shop.jobs.get(operation_id), _request_id(request)))

    @app.post("/v1/operations/{operation_id}:cancel", responses=_ok(OperationAnswer))
    def cancel_operation(request: Request, operation_id: str) -> Response:
        """Cancel an operation: at once while it waits, else at its next step."""
        return Json(_operation(shop.jobs.request_cancel(operation_id), _request_id(request)))

    @app.get("/v1/operations/{operation_id}/errors", responses=_bytes("text/csv"))
    def get_errors(operation_id: str) -> Response:
        """Return everything an import set aside, as CSV: line, product, image, reason, detail."""
        job = shop.jobs.get(operation_id)
        path = shop.folder / job.error_file
        if not job.error_file or not path.is_file():
            raise NotFoundError(f"operation {operation_id!r} has no error file")
        return Response(path.read_bytes(), media_type="text/csv; charset=utf-8")


# ---- index ----


def _add_index(app: FastAPI, shop: Shop, wake_runner: Callable[[], None]) -> None:
    @app.get("/v1/index", responses=_ok(IndexAnswer))
    def get_index(request: Request) -> Response:
        """Return the index versions with their recall certificates and selection reports, newest first."""
        shown = show_versions(shop)
        return Json({"request_id": _request_id(request), "current": shown.current, "versions": shown.versions})

    @app.post("/v1/index:build", status_code=202, responses=_ok(OperationAnswer, 202))
    def build_index(request: Request) -> Response:
        """Start a build, which publishes when its recall certificate holds; one that waits already is returned."""
        job = shop.jobs.unfinished("build", {}) or shop.jobs.submit("build", {})
        wake_runner()
        return Json(_operation(job, _request_id(request)), status_code=202)

    @app.post("/v1/index:rollback", responses=_ok(IndexAnswer))
    def rollback_index(request: Request, body: RollbackBody) -> Response:
        """Make a published version the live one again."""
        switch_version(shop, body.version)
        return get_index(request)


# ---- models ----


def _add_models(app: FastAPI, shop: Shop, wake_runner: Callable[[], None]) -> None:
    @app.get("/v1/models", responses=_ok(ModelsAnswer))
    def get_models(request: Request) -> Response:
        """Return the model versions with their metrics; the active one is what builds use, the live one answers."""
        request_id = _request_id(request)
        return Json(
            {
                "request_id": request_id,
                "active": shop.active_model,
                "versions": list_models(shop),
                "operations": [_operation(job, request_id) for job in shop.jobs.pending(MODEL_JOBS)],
            }
        )

    @app.post("/v1/models:train", status_code=202, responses=_ok(OperationAnswer, 202))
    def train_model(request: Request, body: TrainBody) -> Response:
        """Start a training, which makes a new model version; one of the same fields that waits already is returned."""
        if body.name:
            check_new_version(body.name)
        return _queued(shop, wake_runner, request, "train", {**body.model_dump(), "triplets": ""})

    @app.post("/v1/models:activate", status_code=202, responses=_ok(OperationAnswer, 202))
    def activate_model(request: Request, body: ActivateBody) -> Response:
        """Build an index of a model version beside the live one, ask the gate, and switch at once."""
        shop.model_folder(body.version)
        return _queued(shop, wake_runner, request, "activate", {**body.model_dump(), "queries": ""})


def _queued(
    shop: Shop, wake_runner: Callable[[], None], request: Request, kind: str, arguments: dict[str, Any]
) -> Response:
    """Queue a job, where none of the same kind and arguments waits or runs, and answer with the operation."""
    job = shop.jobs.unfinished(kind, arguments) or shop.jobs.submit(kind, arguments)
    wake_runner()
    return Json(_operation(job, _request_id(request)), status_code=202)


# ---- rankers ----


def _add_rankers(app: FastAPI, shop: Shop) -> None:
    @app.get("/v1/rankers", responses=_ok(RankersAnswer))
    def get_rankers(request: Request) -> Response:
        """Return the rankers with their metrics; the active one orders the first results."""
        versions = list_rankers(shop.rankers_root)
        return Json({"request_id": _request_id(request), "active": shop.active_ranker, "versions": versions})

    @app.post("/v1/rankers:activate", responses=_ok(RankersAnswer))
    def activate_ranker(request: Request, body: ActivateBody) -> Response:
        """Ask the gate, and order by another ranker from the next search on; `looks` is by looks alone."""
        switch_ranker(shop, body.version, force=body.force)
        return get_rankers(request)

    @app.post("/v1/rankers:rollback", responses=_ok(RankersAnswer))
    def rollback_ranker(request: Request) -> Response:
        """Order by the ranker before the active one again."""
        roll_back_ranker(shop.rankers_root)
        return get_rankers(request)


# ---- health ----


def _add_health(app: FastAPI, searcher: Searcher, measures: Measures) -> None:
    @app.get("/healthz", responses=_ok(Health))
    def live() -> Response:
        """Tell that the server lives."""
        return Json({"status": "ok"})

    @app.get("/readyz", responses=_ok(Health))
    def ready() -> Response:
        """Tell whether model and index are loaded."""
        searcher.models(searcher.gallery())
        return Json({"status": "ready"})

    @app.get("/metrics", responses=_bytes("text/plain"))
    def metrics() -> Response:
        """Return what Prometheus reads."""
        try:
            measures.gallery(searcher.gallery())
        except UnavailableError:
            measures.gallery(None)
        return Response(measures.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


# ---- what routes share ----


async def _read(request: Request, model: type[Model], file_field: str) -> tuple[Model, bytes | None]:
    """Return a request's fields and picture: JSON, a multipart form with a file, or the raw bytes of an image.

    Fields of a raw body come from the query string; so may those of a form. A box in a form or query is JSON text.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    fields: dict[str, Any] = _fields(request.query_params.multi_items())
    photo: bytes | None = None
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=100) as form:
            for name, value in form.multi_items():
                if isinstance(value, UploadFile):
                    if name != file_field:
                        raise InputError(
                            f"need the picture in the field {file_field!r}, got a file in {name!r}", field=name
                        )
                    photo = await value.read()
            fields |= _fields([(name, value) for name, value in form.multi_items() if isinstance(value, str)])
    elif kind == "application/json":
        try:
            sent = orjson.loads(await request.body())
        except orjson.JSONDecodeError as error:
            raise HTTPException(400, f"the body is not JSON: {error}") from error
        if not isinstance(sent, dict):
            raise InputError(f"need a JSON object, got {type(sent).__name__}", field="body")
        fields |= sent
    else:
        photo = await request.body()
        if not photo:
            raise InputError(
                "the request has no body; send multipart/form-data with a file, application/json, or an image's bytes",
                field=file_field,
            )
    try:
        return model.model_validate(fields), photo
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error


def _fields(items: list[tuple[str, str]]) -> dict[str, Any]:
    """Return form or query fields as JSON would have them: objects and lists parsed, repeated names as lists."""
    fields: dict[str, Any] = {}
    for name, value in items:
        parsed: Any = value
        if name in ("box", "categories", "fields") and value[:1] in ("{", "["):
            try:
                parsed = json.loads(value)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InputError(f"{name} is not JSON: {error}", field=name) from error
        elif name in ("categories", "fields"):
            parsed = [*fields.get(name, []), *[part.strip() for part in value.split(",") if part.strip()]]
        fields[name] = parsed
    return fields


def _photo_bytes(shop: Shop, encoded: str | None, url: str | None) -> bytes | None:
    if encoded is not None:
        try:
            return base64.b64decode(
                encoded.partition(",")[2] if encoded.startswith("data:") else encoded, validate=True
            )
        except (binascii.Error, ValueError) as error:
            raise InputError(f"image_base64 is not base64: {error}", field="image_base64") from error
    if url is not None:
        imports = shop.settings.imports
        with Fetcher(imports, max_bytes=shop.settings.intake.max_file_bytes) as fetcher:
            try:
                return fetcher.fetch(url)
            except (NotFoundError, AccessError) as error:
                raise InputError(f"the photo could not be fetched: {error}", field="url") from error
    return None


def _box(box: BoxBody | None, region: str | None) -> tuple[Box | None, bool]:
    if box is not None and region is not None:
        raise InputError("need either box or region, got both", field="region")
    if region is not None:
        try:
            left, right, top, bottom = (float(part) for part in region.split(","))
        except ValueError as error:
            raise InputError(f"need region as x1,x2,y1,y2 in pixels, got {region[:80]!r}", field="region") from error
        return Box(left, top, right, bottom), False
    if box is None:
        return None, False
    return Box(box.left, box.top, box.right, box.bottom), box.unit == "rel"


def _max_body(shop: Shop) -> int:
    """Return how long a body may be: a photo in base64, and its other fields; imports are streamed without a limit."""
    return shop.settings.intake.max_file_bytes * 4 // 3 + 100_000


def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SameItemError)
    what = meaning(error)
    field = getattr(error, "field", None)
    errors = [{"field": field, "reason": str(error)}] if field else []
    return problem(request.scope, what.status, what.code, what.title, str(error), errors)


def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    malformed = [problem for problem in error.errors() if problem["type"] == "json_invalid"]
    if malformed:
        return problem(request.scope, 400, "malformed", "Malformed", "the body is not JSON", [])
    errors = [
        {
            "field": ".".join(str(part) for part in found["loc"] if part not in ("body", "query", "path")),
            "reason": found["msg"],
        }
        for found in error.errors()
    ]
    detail = "; ".join(f"{found['field'] or 'body'}: {found['reason']}" for found in errors[:5])
    return problem(request.scope, 422, "invalid", "Fields wrong", detail, errors)


def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {400: "malformed", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    detail = error.detail if error.status_code != 404 else f"no route {request.url.path}; see /openapi.json"
    code = codes.get(error.status_code, "error")
    response = problem(request.scope, error.status_code, code, code.replace("_", " ").capitalize(), detail, [])
    response.headers.update(error.headers or {})
    return response


def _body_of(model: type[BaseModel], file_field: str) -> dict[str, Any]:
    """Document a body that may be JSON, a form with a file, or raw bytes: FastAPI describes only one of them itself."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    schema["properties"].update({name: _inlined(part) for name, part in schema["properties"].items()})
    form = {**schema, "properties": {file_field: {"type": "string", "format": "binary"}, **schema["properties"]}}
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}, "application/json": {"schema": schema}}
    for media_type in _IMAGE_TYPES:
        content[media_type] = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(part: dict[str, Any]) -> dict[str, Any]:
    """Return a property with the box's schema written out, which FastAPI would not register by itself."""
    text = json.dumps(part)
    box = BoxBody.model_json_schema()
    return json.loads(text.replace('{"$ref": "#/components/schemas/BoxBody"}', json.dumps(box)))  # type: ignore[no-any-return]


def _upload_body() -> dict[str, Any]:
    types = ("text/csv", "text/tab-separated-values", "application/jsonl", "application/vnd.apache.parquet")
    schema = {"schema": {"type": "string", "format": "binary"}}
    return {"requestBody": {"required": True, "content": dict.fromkeys((*types, "application/octet-stream"), schema)}}
