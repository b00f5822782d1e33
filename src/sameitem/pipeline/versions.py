"""Index versions as people see them: list, show, go back."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sameitem.core.errors import NotFoundError
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current, list_versions
from sameitem.pipeline.generations import go_back
from sameitem.pipeline.listings import DECISIONS, read_table
from sameitem.pipeline.shop import Shop


@dataclass(frozen=True, slots=True)
class Versions:
    """The published index versions, newest first."""

    current: str | None
    versions: list[dict[str, Any]]


def show_versions(shop: Shop) -> Versions:
    """Return every published version with size, certificate and selection report."""
    live = current(shop.index_root)
    return Versions(live, [_shown(shop, version, live) for version in reversed(list_versions(shop.index_root))])


def show_version(shop: Shop, version: str, *, reason: str | None = None, limit: int = 20) -> dict[str, Any]:
    """Return one version, and the images that its selection dropped: of one reason, or a few of each.

    Raises:
        NotFoundError: there is no such version, or nothing was dropped for that reason.
    """
    if version not in list_versions(shop.index_root):
        known = ", ".join(list_versions(shop.index_root)) or "none"
        raise NotFoundError(f"no index version {version!r}; there are: {known}")
    shown = _shown(shop, version, current(shop.index_root))
    rows = [row for row in read_table(shop.index_root / version / DECISIONS) if row["reason"]]
    if reason is not None:
        rows = [row for row in rows if row["reason"] == reason]
        if not rows:
            known = ", ".join(sorted(shown["dropped"])) or "none"
            raise NotFoundError(f"no image was dropped for {reason!r}; reasons: {known}")
    seen: Counter[str] = Counter()
    examples = []
    for row in rows:
        seen[row["reason"]] += 1
        if seen[row["reason"]] <= limit:
            examples.append(row)
    return {**shown, "examples": examples}


def switch_version(shop: Shop, version: str) -> None:
    """Make a version the live one again and its model the active one; servers follow by their next query.

    Raises:
        NotFoundError: there is no such version.
    """
    go_back(shop.models_root, shop.index_root, version, start=shop.settings.model.active)


def _shown(shop: Shop, version: str, live: str | None) -> dict[str, Any]:
    manifest = read_manifest(shop.index_root / version)
    size = sum(file.bytes for file in manifest.files.values())
    return {
        "version": version,
        "live": version == live,
        "created": manifest.created,
        "model_version": manifest.model_version,
        "images": manifest.counts.members,
        "entries": manifest.counts.entries,
        "products": manifest.counts.products,
        "bytes": size,
        "certificate": asdict(manifest.certificate) if manifest.certificate else None,
        "dropped": manifest.extra["dropped"],
        "duplicates": manifest.extra["duplicates"],
    }
