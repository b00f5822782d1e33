"""All settings in one place; the only module that reads the environment and `sameitem.toml`.

Flag > environment (`SAMEITEM_ENGINE__RECALL=0.99`) > file > default. Only `apps` builds `Settings`; everyone else is
handed the part they need. Unknown keys are refused.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from sameitem.core.errors import InputError

FILE_NAME = "sameitem.toml"


class Part(BaseModel):
    """A group of settings: frozen, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class CatalogueSettings(Part):
    """Where products and images are kept."""

    url: str = Field(default="", description="database URL, postgresql+psycopg://...; empty = catalogue.db in the shop")
    taxonomy: str = Field(default="", description="taxonomy file (TOML); empty = the 14 top categories that ship")
    category_map: str = Field(default="", description="CSV file: shop's category text, top category id; empty = none")


class IntakeSettings(Part):
    """What a photo must be to come in, and what it becomes."""

    max_file_bytes: int = Field(default=20_000_000, ge=1_000, description="bytes a file may have")
    max_pixels: int = Field(default=50_000_000, ge=10_000, description="pixels a photo may have, read from its header")
    min_side_px: int = Field(default=32, ge=1, description="shortest side a photo must have")
    max_jpeg_scans: int = Field(default=100, ge=1, description="scans a progressive JPEG may have")
    stored_side_px: int = Field(default=1024, ge=224, le=8192, description="longest side of the stored copy")
    stored_quality: int = Field(default=90, ge=50, le=100, description="JPEG quality of the stored copy")
    deadline_s: float = Field(default=2.5, gt=0, le=60, description="seconds a photo may take to decode")
    memory_mb: int = Field(default=900, ge=128, description="memory of one decoding process, MiB")
    workers: int = Field(default=2, ge=1, le=64, description="decoding processes")


class ImportSettings(Part):
    """How catalogue files are read."""

    batch_rows: int = Field(default=64, ge=1, le=10_000, description="rows acknowledged in one transaction")
    fetch_workers: int = Field(default=8, ge=1, le=256, description="image downloads at once")
    fetch_timeout_s: float = Field(default=20.0, gt=0, description="seconds a download may take in all")
    fetch_retries: int = Field(default=2, ge=0, le=10, description="repeats after a failed download")
    allow_private_addresses: bool = Field(default=False, description="fetch images from loopback and private networks")


class SelectionSettings(Part):
    """Which catalogue images form the gallery."""

    where: str = Field(default="", description="filter expression a product must satisfy; empty = all")
    gallery_kinds: tuple[str, ...] = Field(default=("main", "sku"), description="image kinds always considered")
    extra_images: int = Field(default=10, ge=0, le=50, description="at most so many images of other kinds per product")
    extra_distance: float = Field(default=0.1, ge=0, le=4, description="an extra image must be this far from the rest")
    min_side_px: int = Field(default=64, ge=1, description="shortest side of a gallery image")
    min_sharpness: float = Field(default=8.0, ge=0, description="variance of the Laplacian of luma on the thumbnail")
    brightness: tuple[float, float] = Field(default=(12.0, 254.5), description="mean luma between, 0..255")
    min_contrast: float = Field(default=2.0, ge=0, description="standard deviation of luma")
    max_text_share: float = Field(default=0.5, ge=0, le=1, description="share of the area under text")
    max_collage_share: float = Field(default=0.7, ge=0, le=1, description="evidence of a collage, 0..1")
    hash_bits: int = Field(default=10, ge=0, le=64, description="differing bits of two hashes, at most")
    duplicate_distance: float = Field(default=0.35, ge=0, le=4, description="feature distance of duplicates, at most")
    duplicate_difference: float = Field(
        default=8.0, ge=0, le=255, description="local difference of duplicates, at most"
    )


class ModelSettings(Part):
    """Which model computes features, and how."""

    active: str = Field(default="base-2", description="model version until `models activate` was run")
    threads: int = Field(default=1, ge=1, le=256, description="threads of one ONNX session")
    batch: int = Field(default=16, ge=1, le=1024, description="crops per run of the session")


class EngineSettings(Part):
    """How the gallery is searched."""

    code: Literal["residual", "hamming"] = Field(
        default="residual", description="what is binarised: what a list's centre leaves of a feature, or the feature"
    )
    recall: float = Field(default=0.999, gt=0, le=1, description="recall at k a published index needs")
    k: int = Field(default=60, ge=1, le=1000, description="depth at which recall is certified")
    colour_weight: float = Field(default=0.0, ge=0, le=10, description="weight of the colour term in fine ranking")
    keep_versions: int = Field(default=3, ge=1, le=100, description="index versions kept for rollback")
    max_failed_share: float = Field(default=0.2, ge=0, le=1, description="share of images failing that stops a build")


class CategorySettings(Part):
    """How a photo's category is found."""

    neighbours: int = Field(default=30, ge=1, le=1000, description="reference images that vote")
    sharpness: float = Field(default=8.0, ge=0, description="lambda of the vote's weight exp(-lambda d^2)")
    reference_per_leaf: int = Field(default=300, ge=1, description="labelled images per leaf in the reference set")
    alpha: float = Field(default=0.3, ge=0, le=1, description="share of the model's opinion beside the vote's")
    temperature: float = Field(default=0.67, gt=0, le=10, description="of model and vote together; below 1 = surer")
    routing_mass: float = Field(default=0.95, gt=0, le=1, description="probability the searched categories hold")
    routing_from_images: int = Field(default=10_000, ge=0, description="smaller galleries are searched whole")


class GateSettings(Part):
    """When a new model may go live."""

    tolerance: float = Field(default=0.01, ge=0, le=1, description="fall of recall@1 that the interval may reach")
    least_queries: int = Field(default=100, ge=1, description="held-out queries that a comparison needs")


class SearchSettings(Part):
    """What an answer looks like when the caller does not say."""

    num: int = Field(default=10, ge=1, le=100, description="results of a page")
    good_match: float = Field(
        default=0.4, ge=0, le=1, description="probability of the same item from which the page speaks of a good match"
    )
    photo_days: int = Field(default=90, ge=0, description="days a query photo is kept for learning; 0 = never stored")


class MiningSettings(Part):
    """Which clicks and non-clicks are believed. Rank r: as near as chance puts r images of the catalogue."""

    same_item_rank: float = Field(default=10.0, gt=0, description="a clicked image is believed up to this rank")
    other_item_rank: float = Field(default=1.0, gt=0, description="an unclicked image is believed from this rank on")
    local_check_rank: float = Field(
        default=200.0, ge=0, description="clicks from same_item_rank to here are compared by local features; 0: off"
    )
    models: int = Field(
        default=3,
        ge=1,
        le=3,
        description="models whose distances are fused: the base model, the active one, the one before; 1 = the base "
        "model alone, whose features of the log's photos are computed once and for all",
    )
    sessions_per_user: int = Field(default=50, ge=1, description="searches of one user that may teach")
    triplets_per_pair: int = Field(default=100, ge=1, le=65534, description="triplets of the same two products")


class ClickSettings(Part):
    """What is kept of searches and clicks, and what is believed."""

    keep_days: int = Field(default=400, ge=1, description="days searches and events are kept")
    late_days: int = Field(default=30, ge=1, description="days after its search that an event is still taken")
    events_per_user: int = Field(default=1000, ge=1, description="events of one user that are taken in 24 hours")


class RerankSettings(Part):
    """How the quality of products orders the first 60 hits."""

    similarity_floor: float = Field(
        default=0.8, ge=0, le=1, description="hits less alike than this share of the best never stand above the others"
    )
    visual_share: float = Field(
        default=0.75, ge=0, le=1, description="weight of looks beside the ranker's score; 1 = looks alone"
    )


class LoopSettings(Part):
    """The loop that learns from clicks: what it needs, how long it may take, what it keeps."""

    least_new_clicks: int = Field(
        default=100, ge=1, description="searches clicked since the last training; with fewer nothing is trained"
    )
    train_minutes: float = Field(default=60.0, gt=0, description="minutes the training of a model may take")
    detector_every: int = Field(
        default=7, ge=0, description="every so many trainings teach finding the subject too; 0 = none does"
    )
    gate_queries: int = Field(default=1000, ge=1, description="held-out searches, the newest, that the gate asks")
    queries: str = Field(default="", description="CSV of labelled photos that the gate asks besides; empty = none")
    keep_reports: int = Field(default=100, ge=1, description="reports of loops that are kept")
    keep_models: int = Field(
        default=3, ge=1, description="models of loops kept of those that were live, and of those that were refused"
    )


class ServeSettings(Part):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8600, ge=0, le=65535, description="port to listen on; 0 = any free one")
    cors_origins: tuple[str, ...] = Field(default=(), description="origins of shop pages that may call the API")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="names besides loopback's that requests may be addressed to; empty = beyond loopback any",
    )
    require_keys: bool = Field(
        default=False, description="ask for API keys on loopback, too: needed where a reverse proxy opens it to others"
    )
    public_scopes: tuple[Literal["search", "events"], ...] = Field(
        default=(), description="what everybody may do without a key where keys are needed: a search page for shoppers"
    )
    requests_per_minute: int = Field(
        default=6000, ge=1, description="requests of one key, or of one address without a key, in a minute"
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=("127.0.0.1", "::1"), description="addresses whose X-Forwarded-For and X-Forwarded-Proto are believed"
    )
    read_deadline_s: float = Field(default=20.0, gt=0, description="seconds a request may take to arrive")


class Settings(BaseSettings):
    """Everything that can be set. Pass parts of it down, never the whole."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="SAMEITEM_", env_nested_delimiter="__")

    catalogue: CatalogueSettings = CatalogueSettings()
    intake: IntakeSettings = IntakeSettings()
    imports: ImportSettings = ImportSettings()
    selection: SelectionSettings = SelectionSettings()
    model: ModelSettings = ModelSettings()
    engine: EngineSettings = EngineSettings()
    category: CategorySettings = CategorySettings()
    gate: GateSettings = GateSettings()
    search: SearchSettings = SearchSettings()
    mining: MiningSettings = MiningSettings()
    clicks: ClickSettings = ClickSettings()
    rerank: RerankSettings = RerankSettings()
    loop: LoopSettings = LoopSettings()
    serve: ServeSettings = ServeSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take what `load_settings` collected; environment and file were merged there, where their origin is known."""
        return (init_settings,)


def load_settings(shop: Path, flags: Mapping[str, Any] | None = None) -> tuple[Settings, dict[str, str]]:
    """Return the settings of a shop and where each came from.

    Args:
        shop: folder that may hold `sameitem.toml`.
        flags: nested values given on the command line; they win over everything.

    Returns:
        The settings, and for each dotted key one of "flag", "environment", "file", "default".

    Raises:
        InputError: a file that is not TOML, an unknown key, or a value out of bounds; names key, value and origin.
    """
    layers = {"file": _read_file(shop / FILE_NAME), "environment": _read_environment(), "flag": dict(flags or {})}
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers.items():
        _merge(merged, layer, origins, origin, "")
    try:
        settings = Settings(**merged)
    except ValidationError as error:
        reasons = []
        for problem in error.errors():
            key = ".".join(str(part) for part in problem["loc"])
            origin = next((o for k, o in origins.items() if k == key or key.startswith(k + ".")), "settings")
            reasons.append(f"{key} ({origin}): {problem['msg']}, got {problem.get('input')!r}")
        known = "; see `sameitem config show` for every setting"
        raise InputError("settings: " + "; ".join(reasons) + known, field="settings") from error
    return settings, {key: origins.get(key, "default") for key in flatten(settings.model_dump())}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as dotted keys, in order."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        key = f"{prefix}{name}"
        flat.update(flatten(value, key + ".") if isinstance(value, Mapping) else {key: value})
    return flat


def commented_file() -> str:
    """Return the settings file of a new shop: every setting with its default, commented out and described."""
    lines = ["# Settings of this shop. Remove the # to change one; `sameitem config show --sources` tells all.", ""]
    for name, info in Settings.model_fields.items():
        part = info.annotation
        assert isinstance(part, type)
        assert issubclass(part, BaseModel)
        lines += [f"[{name}]  # {(part.__doc__ or '').strip()}"]
        for key, field in part.model_fields.items():
            lines += [f"# {key} = {_toml(field.default)}  # {field.description}"]
        lines.append("")
    return "\n".join(lines)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name} is not TOML: {error}; correct that line", field="settings") from error


def _read_environment() -> dict[str, Any]:
    source = EnvSettingsSource(Settings)
    try:
        values: dict[str, Any] = source()
    except ValueError as error:
        raise InputError(f"environment: {error}; lists are written as JSON", field="settings") from error
    return values


def _merge(into: dict[str, Any], layer: Mapping[str, Any], origins: dict[str, str], origin: str, prefix: str) -> None:
    for name, value in layer.items():
        if isinstance(value, Mapping):
            _merge(into.setdefault(name, {}), value, origins, origin, f"{prefix}{name}.")
        else:
            into[name] = value
            origins[f"{prefix}{name}"] = origin


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return str(value)
