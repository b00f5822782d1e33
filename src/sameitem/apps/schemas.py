"""Bodies of the REST interface: what requests must be (checked), and what answers are (documented, fuzzed)."""

from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sameitem.clicks.log import MAX_BATCH


def _in_utc(time: datetime) -> datetime:
    """Return a time in UTC; one without a zone is taken for UTC."""
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"need a time that lies in the years 1 to 9999 in UTC, got {time.isoformat()}") from error


Key = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Text = Annotated[str, StringConstraints(max_length=10_000)]
Rate = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Time = Annotated[datetime, AfterValidator(_in_utc)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Body(BaseModel):
    """A request body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class BoxBody(Body):
    """A rectangle of the upright photo."""

    left: Finite
    top: Finite
    right: Finite
    bottom: Finite
    unit: Literal["px", "rel"] = Field(default="px", description="pixels, or shares of the sides")


class SearchBody(Body):
    """One query as JSON; exactly one of image_base64, url and product_id + image_name."""

    image_base64: str | None = Field(default=None, description="the photo's bytes, base64")
    url: str | None = Field(default=None, max_length=4096, description="http(s) address of the photo")
    product_id: Key | None = Field(default=None, description="search with an image of the catalogue")
    image_name: Key | None = None
    category_id: str | None = Field(default=None, max_length=512, description="search only this category")
    categories: list[str] | None = Field(default=None, max_length=100, description="search only these categories")
    crop: bool = Field(default=True, description="find the subject; false: the whole photo is it")
    region: str | None = Field(default=None, description="x1,x2,y1,y2 in pixels, as Alibaba's callers send it")
    box: BoxBody | None = Field(default=None, description="the subject; wins over detection")
    num: int = Field(default=10, ge=1, le=100)
    start: int = Field(default=0, ge=0, le=999, description="start + num <= 1000")
    filter: str = Field(default="", max_length=4096, examples=['price < 50 AND brand IN ("Lumo", "Tarn")'])
    score_threshold: float = Field(
        default=0, ge=0, le=1, description="leave out results whose `score`, a probability, is lower"
    )
    distinct_product: bool = Field(default=True, description="one result per product")
    user_id: str = Field(default="", max_length=128, description="kept as a keyed hash only")
    session_id: str = Field(default="", max_length=128, description="kept as a keyed hash only")
    fields: list[str] | None = Field(default=None, max_length=50, description="fields of a result to return")
    rerank: bool = Field(default=True, description="order the first 60 by looks and quality; false: by looks alone")
    verify: bool | None = Field(default=None, description="not built yet: true is answered with 422")
    explain: bool = Field(default=False, description="say of the query and of each result how its score came about")
    group_by_object: bool | None = Field(default=None, description="not built yet: true is answered with 422")
    object_id: str | None = Field(
        default=None, max_length=16, description="search with this object of an earlier answer about the same photo"
    )
    text: str | None = Field(default=None, description="not built yet: answered with 422")


class BoxAnswer(BaseModel):
    """A rectangle of the upright photo, pixels."""

    left: float
    top: float
    right: float
    bottom: float
    unit: Literal["px"]


class CategoryAnswer(BaseModel):
    """A top category with its probability."""

    id: str
    name: str
    score: float


class ObjectAnswer(BaseModel):
    """An object that the model sees in the photo."""

    object_id: str = Field(description="to be sent back with the same photo")
    box: BoxAnswer
    category_id: str | None = Field(description="of what was searched with; null for the others")
    score: float = Field(description="how sure the model is, 0..1")


class VoterAnswer(BaseModel):
    """A labelled image that voted for the category."""

    image_id: int
    image_url: str
    category: str = Field(description="its leaf")
    share: float = Field(description="of all votes, 0..1")


class ExplainedQueryAnswer(BaseModel):
    """What led to the category and to what was searched."""

    box_source: Literal["caller", "detected", "whole_photo"]
    category_source: Literal["caller", "fused", "model", "knn", "none"]
    model: list[CategoryAnswer] = Field(description="what the model alone says, best first; empty: it knows none")
    vote: list[CategoryAnswer] = Field(description="what the most alike labelled images say; empty: there are none")
    searched_categories: list[str] = Field(description="what the search was limited to; empty = nothing")
    voters: list[VoterAnswer] = Field(description="the labelled images whose votes weigh most")


class QueryAnswer(BaseModel):
    """What was understood of the photo."""

    category_id: str
    category_source: Literal["caller", "fused", "model", "knn", "none"]
    categories: list[CategoryAnswer]
    searched_categories: list[str] = Field(description="what a large gallery's search was limited to; empty = nothing")
    box: BoxAnswer = Field(description="what was searched with")
    region: str
    box_source: Literal["caller", "detected", "whole_photo"]
    width: int
    height: int
    objects: list[ObjectAnswer] = Field(
        description="every object that the model sees, best first, also where a caller's box won over it; empty where "
        "the model finds none"
    )
    explain: ExplainedQueryAnswer | None = Field(description="null unless asked for")


class HeadAnswer(BaseModel):
    """How much was found and returned, and from which score on the shop speaks of a good match."""

    found: int
    returned: int
    good_match: float = Field(description="a probability, as every `score`")


class ListingAnswer(BaseModel):
    """A listing folded behind a result: nearly the same picture."""

    product_id: str
    image_name: str


class CurveAnswer(BaseModel):
    """What turns a lead into a probability: 1 / (1 + exp(-(intercept + slope * lead)))."""

    source: Literal["category", "common", "shipped"] = Field(
        description="fitted to this gallery's category, to the whole gallery, or what this release ships"
    )
    intercept: float
    slope: float


class EffectAnswer(BaseModel):
    """What one feature of the ranker does to a quality score."""

    feature: str
    value: float | None = Field(description="null: nobody said")
    effect: float = Field(description="change of the log odds against the usual value; above 0 it raises the score")


class ExplainedResultAnswer(BaseModel):
    """How a score came about, and its place."""

    squared_distance: float = Field(description="of the features of query and image, 0..4")
    cosine: float = Field(description="1 - squared_distance / 2")
    colour_distance: float | None = Field(description="1 - what their colours share; null where colours do not count")
    colour_weight: float = Field(description="setting engine.colour_weight")
    distance: float = Field(description="what results are ordered by: squared_distance + weight * colour_distance")
    rival_distance: float = Field(
        description="squared distance of the nearest other product that could be shown, whatever was filtered; that of "
        "unrelated images where none is nearer"
    )
    lead: float = Field(description="rival_distance - squared_distance; below 0: another product is nearer")
    curve: CurveAnswer
    probability: float = Field(description="of the same item; `score`")
    visual_rank: int = Field(description="where looks alone would have put it")
    quality: list[EffectAnswer] = Field(description="what the ranker went by, strongest first; empty without a ranker")


class ResultAnswer(BaseModel):
    """One line of an answer; `fields` may leave some out."""

    rank: int
    product_id: str
    image_name: str
    category_id: str
    score: float = Field(description="probability that it shows the same item, 0..1")
    visual_score: float = Field(description="cosine of the features, 0..1")
    quality_score: float | None = Field(description="of the ranker, 0..1; null beyond the first 60 or without one")
    same_item: float | None
    duplicates: int
    duplicate_products: list[ListingAnswer]
    price: float | None
    currency: str
    title: str
    brand: str
    url: str
    image_url: str
    attributes: dict[str, str | float | bool]
    custom_content: str
    explain: ExplainedResultAnswer | None = Field(description="null unless asked for")


class SearchAnswerBody(BaseModel):
    """The answer to a query."""

    request_id: str
    search_id: str
    index_version: str
    index_time: str
    model_version: str
    ranker_version: str = Field(description="what ordered the first 60; `looks`: looks alone")
    took_ms: dict[str, float]
    query: QueryAnswer
    head: HeadAnswer
    results: list[dict[str, Any]] = Field(description="ResultAnswer each, or the fields asked for")


class ProductBody(Body):
    """A product; a PUT replaces it whole."""

    category_id: str = Field(default="", max_length=512, description="the shop's own leaf path, or a category id")
    title: Text = ""
    brand: Text = ""
    url: str = Field(default="", max_length=4096)
    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    currency: str = Field(default="", max_length=16)
    sales: Count | None = None
    conversion_rate: Rate | None = None
    ctr: Rate | None = None
    rating: Finite | None = None
    review_count: Count | None = None
    in_stock: bool | None = None
    seller_quality: Finite | None = None
    attributes: dict[str, str | Finite | bool] = Field(default_factory=dict, max_length=200)
    expires_at: Time | None = Field(default=None, description="without a zone: UTC")


class ImageAnswer(BaseModel):
    """An image of a product."""

    name: str
    image_id: int
    kind: str
    width: int
    height: int
    image_url: str
    custom_content: str


class ProductAnswer(BaseModel):
    """A product with its images."""

    request_id: str
    product_id: str
    product: dict[str, Any]
    images: list[ImageAnswer]


class ImageBody(Body):
    """An image as JSON: its bytes in base64, or an address to fetch."""

    image_base64: str | None = None
    url: str | None = Field(default=None, max_length=4096)
    kind: Literal["main", "sku", "buyer", "detail", "other"] = "main"
    box: BoxBody | None = None
    region: str | None = None
    crop: bool = Field(default=True, description="find the subject; false: the whole picture is it")
    custom_content: str = Field(default="", max_length=4096)


class ImageStored(BaseModel):
    """What was understood of a stored image."""

    request_id: str
    product_id: str
    image_name: str
    image_id: int
    category_id: str
    category_source: str
    box: BoxAnswer
    boxes: list[BoxAnswer] = Field(description="what the model sees, best first; empty where it finds no objects")
    duplicate_of: ListingAnswer | None
    searchable: str = Field(description="when: 'after the next build'")


class Deleted(BaseModel):
    """How many products or images are searchable no more."""

    request_id: str
    deleted: int


class FilterBody(Body):
    """Which products."""

    filter: str = Field(max_length=4096, min_length=1)
    num: int = Field(default=100, ge=1, le=1000)
    start: int = Field(default=0, ge=0, le=10_000_000)


class DeleteBody(Body):
    """Which products to delete: a filter, or ids."""

    filter: str | None = Field(default=None, max_length=4096, min_length=1)
    product_ids: list[Key] | None = Field(default=None, max_length=10_000)


class ProductsAnswer(BaseModel):
    """Products that satisfy a filter."""

    request_id: str
    found: int
    products: list[dict[str, Any]]


class EventBody(Body):
    """Something a user did with a result."""

    event_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    search_id: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    type: Literal["impression", "click", "cart", "purchase", "dismiss"]
    product_id: Key
    image_name: str = Field(default="", max_length=512)
    rank: int | None = Field(default=None, ge=1, le=1000)
    user_id: str = Field(default="", max_length=128, description="kept as a keyed hash only; default who searched")
    ts: Time | None = Field(default=None, description="the caller's clock, UTC where it has no zone; default now")


class EventsBody(Body):
    """A batch of events; each is stored once, whatever is sent again."""

    events: list[EventBody] = Field(min_length=1, max_length=MAX_BATCH)


class RefusedEvent(BaseModel):
    """An event that was not stored."""

    index: int
    event_id: str
    reason: str


class EventsAnswer(BaseModel):
    """What became of a batch."""

    request_id: str
    stored: int
    repeated: int
    refused: list[RefusedEvent]


class UserAnswer(BaseModel):
    """Everything that is kept of a user."""

    request_id: str
    pseudonym: str = Field(description="under which the log keeps the user")
    searches: list[dict[str, Any]] = Field(description="with the lists that were shown, oldest first")
    events: list[dict[str, Any]] = Field(description="on these lists, and the user's on lists of others")


class UserErased(BaseModel):
    """What was kept of a user and is no more."""

    request_id: str
    searches: int
    events: int
    photos: int = Field(description="that nobody else searched with")
    triplets: int = Field(description="lines of files that were mined from the log")
    features: int = Field(description="of the photos")
    cancelled: list[str] = Field(description="operations that were learning meanwhile; start them again")


class OperationAnswer(BaseModel):
    """A long operation."""

    request_id: str
    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    percent: float
    done: int
    failed: int
    counts: dict[str, int]
    first_errors: list[str]
    error_file: str | None = Field(description="address of the file of everything that was set aside")
    error: str
    result: dict[str, Any]


class OperationsAnswer(BaseModel):
    """The newest operations."""

    request_id: str
    operations: list[dict[str, Any]]


class RollbackBody(Body):
    """Which index version to make the live one."""

    version: str = Field(min_length=1, max_length=64)


class IndexAnswer(BaseModel):
    """The index versions, newest first."""

    request_id: str
    current: str | None
    versions: list[dict[str, Any]]


class ActivateBody(Body):
    """Which model version to make the active one; the gate asks the held-out searches of the click log."""

    version: str = Field(min_length=1, max_length=64)
    force: bool = Field(default=False, description="switch whatever the gate says")


class TrainBody(Body):
    """What to train: the embedding from mined triplets, the category from the catalogue, a ranker from the clicks."""

    model: Literal["embedding", "category", "ranker"]
    minutes: float | None = Field(default=None, gt=0, le=100_000, description="stop the embedding's training after")
    detector: bool = Field(default=True, description="False: only the last block of the embedding learns, in a minute")
    seed: int = Field(default=0, ge=0, lt=2**32)
    name: str = Field(default="", max_length=64, description="of the new model version; empty = its kind and the time")


class ModelsAnswer(BaseModel):
    """The model versions: the one that ships first, then those of the shop."""

    request_id: str
    active: str
    versions: list[dict[str, Any]] = Field(description="a broken one has `error`")
    operations: list[dict[str, Any]] = Field(description="trainings, comparisons and activations that wait or run")


class LoopSummary(BaseModel):
    """What a loop did, in short."""

    id: str
    started: str
    seconds: float
    published: bool = Field(description="a new embedding or ranker went live")
    reason: str
    live: dict[str, str | None] = Field(description="index, model and ranker when it ended")
    traffic: dict[str, float | None] = Field(
        description="searches, clicked, click_through, low, high since the loop before"
    )
    warnings: list[str]
    report: str = Field(description="address of its page")


class LoopsAnswer(BaseModel):
    """The newest loops, newest first."""

    request_id: str
    loops: list[LoopSummary]


class LoopAnswer(LoopSummary):
    """Everything a loop says of itself."""

    request_id: str
    steps: list[dict[str, Any]] = Field(
        description="name, state (done, nothing to do, failed), reason, seconds, figures"
    )
    embedding: dict[str, Any] | None = Field(
        description="before, version, published, reason, metrics, gate, canary; null where none was trained"
    )
    ranker: dict[str, Any] | None
    marks: dict[str, Any] = Field(description="where the next loop goes on in the click log")


class RankersAnswer(BaseModel):
    """The rankers of the shop, newest first; `looks` is the order by looks alone."""

    request_id: str
    active: str
    versions: list[dict[str, Any]] = Field(description="a broken one has `error`")


class ShareAnswer(BaseModel):
    """How many of some searches, as a share with its 95 % interval; without a search 0 to 1."""

    count: int
    share: float
    low: float
    high: float


class TrafficAnswer(BaseModel):
    """Searches of a time, and how many of them led to something."""

    searches: int
    clicked: ShareAnswer = Field(description="searches with a click, cart or purchase")
    carts: ShareAnswer
    purchases: ShareAnswer


class DayAnswer(TrafficAnswer):
    """The searches of a day, UTC; what was done counts on the day of its search."""

    day: str = Field(description="such as 2026-11-26")


class CategoryTrafficAnswer(TrafficAnswer):
    """The searches in a category."""

    category_id: str = Field(description="that the photos were taken for; empty = none")


class ClicksAnswer(BaseModel):
    """The click log by day, oldest first, and by category, most searched first."""

    request_id: str
    total: TrafficAnswer
    days: list[DayAnswer]
    categories: list[CategoryTrafficAnswer]


class AttentionAnswer(BaseModel):
    """Something the operator should look at."""

    code: str
    level: Literal["problem", "notice"]
    values: dict[str, str | float] = Field(description="what the code's sentence names")


class LatencyAnswer(BaseModel):
    """Milliseconds that the last searches of this server took; null before the first."""

    searches: int
    p50: float | None
    p95: float | None
    p99: float | None


class AdminOperation(BaseModel):
    """A long operation with what was asked for. Times are ISO 8601, UTC."""

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    percent: float
    counts: dict[str, int]
    arguments: dict[str, Any]
    first_errors: list[str]
    error_file: str | None
    error: str
    result: dict[str, Any]
    created_at: str
    started_at: str | None
    finished_at: str | None
    can_rerun: bool = Field(description="false while it runs, and for an import whose uploaded file is gone")


class AdminOperationsAnswer(BaseModel):
    """Operations, newest first."""

    request_id: str
    operations: list[AdminOperation]
    more: bool = Field(description="there are older ones")


class LiveIndexAnswer(BaseModel):
    """What answers now."""

    version: str
    created: str
    model_version: str
    images: int = Field(description="listed images that can be found")
    added: int = Field(description="images added since the version was built")
    waiting: int = Field(description="images whose features are not known yet")
    certificate: dict[str, Any] | None


class OverviewAnswer(BaseModel):
    """How the shop is."""

    request_id: str
    index: LiveIndexAnswer | None = Field(description="null: nothing is published")
    active_model: str
    products: int
    images: int
    last_day: TrafficAnswer = Field(description="the last 24 hours")
    day_before: TrafficAnswer = Field(description="the 24 hours before")
    latency: LatencyAnswer
    operations: list[AdminOperation] = Field(description="the newest")
    attention: list[AttentionAnswer]


class SetAsideRow(BaseModel):
    """A row or picture that an import did not take."""

    line: int
    source: str
    reason: str
    detail: str


class SetAsideAnswer(BaseModel):
    """What an import set aside, in the order it was met."""

    request_id: str
    operation_id: str | None = Field(description="null: no import set anything aside")
    operations: list[AdminOperation] = Field(description="the newest imports that set something aside")
    reasons: dict[str, int] = Field(description="rows by reason, the most frequent first")
    found: int
    rows: list[SetAsideRow]


class PictureAnswer(BaseModel):
    """An image with the product it belongs to."""

    image_id: int
    product_id: str
    image_name: str
    detail: str = ""
    title: str = ""
    brand: str = ""
    image_url: str


class DroppedAnswer(BaseModel):
    """Images that an index version's selection dropped for a reason, or folded behind another."""

    request_id: str
    found: int
    images: list[PictureAnswer]


class GroupAnswer(BaseModel):
    """Images that show nearly the same picture; the first represents them."""

    size: int
    products: int
    members: list[PictureAnswer]


class GroupsAnswer(BaseModel):
    """The duplicate groups of the live gallery, the largest first."""

    request_id: str
    found: int
    groups: list[GroupAnswer]


class ModelDetailAnswer(BaseModel):
    """One model version with its card."""

    request_id: str
    version: str
    card: str = Field(description="Markdown; empty: it has none")
    curves: str | None = Field(description="address of the page of its training curves; null: it has none")


class RolledBackAnswer(BaseModel):
    """Which model is active now."""

    request_id: str
    version: str
    index: str
    previous: list[str]


class TimedSearchAnswer(BaseModel):
    """How one search went."""

    at: str
    total_ms: float
    stages_ms: dict[str, float]
    disk_reads: int
    found: int
    category_id: str
    index_version: str


class SlowAnswer(BaseModel):
    """The slowest of the last searches of this server, slowest first."""

    request_id: str
    latency: LatencyAnswer
    searches: list[TimedSearchAnswer]


class ShownAnswer(BaseModel):
    """A place of a list that was shown, or would be now."""

    rank: int
    product_id: str
    image_name: str
    image_url: str
    score: float
    acts: list[str] = Field(description="what the shopper did with it")


class MissAnswer(BaseModel):
    """A search that failed; nothing of who searched."""

    search_id: str
    at: str
    photo_hash: str
    photo_url: str | None = Field(description="null: the photo was not kept, or not so long")
    box: BoxBody | None = Field(description="what was searched with, shares of the sides")
    category_id: str
    index_version: str
    shown: list[ShownAnswer] = Field(description="the first places of the list")
    clicked: list[ShownAnswer] = Field(description="places with a click, however far down")
    now: list[ShownAnswer] | None = Field(description="what the live index answers; only of held-out searches")


class MissesAnswer(BaseModel):
    """Searches that failed, newest first."""

    request_id: str
    misses: list[MissAnswer]
    looked_at: int = Field(description="searches of the log that were looked at for these")
    asked: int = Field(description="held-out searches that the live index was asked again")
    next: int | None = Field(description="`before` of the next page; null: the log ends")


class BrowsedProduct(BaseModel):
    """A product with its first image."""

    product_id: str
    title: str
    brand: str
    category_id: str
    price: float | None
    currency: str
    image_url: str | None


class BrowseAnswer(BaseModel):
    """Products in the order of their ids."""

    request_id: str
    products: list[BrowsedProduct]
    looked_at: int = Field(description="products that were looked at for these")
    next: str | None = Field(description="`after` of the next page; null: there are no more")


class InspectedImage(ImageAnswer):
    """An image and what became of it in the live gallery."""

    place: Literal["gallery", "duplicate", "set_aside", "waiting", "unknown"]
    reason: str
    detail: str
    represented_by: ListingAnswer | None


class InspectedProduct(BaseModel):
    """A product with its images and where they are."""

    request_id: str
    product: dict[str, Any]
    images: list[InspectedImage]


class LookedAgainAnswer(BaseModel):
    """What the active model makes of a stored image; boxes are shares of its sides."""

    request_id: str
    image_id: int
    category_id: str
    category_source: str
    box: BoxBody
    objects: list[BoxBody] = Field(description="what the model sees, best first; empty where it finds no objects")
    duplicate_of: ListingAnswer | None


class TaxonomyAnswer(BaseModel):
    """The top categories."""

    request_id: str
    categories: list[dict[str, str]]


class Health(BaseModel):
    """Whether the server lives, or is ready."""

    status: str


class FieldProblem(BaseModel):
    """What is wrong with one field."""

    field: str
    reason: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[FieldProblem]
