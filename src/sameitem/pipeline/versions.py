"""Index versions as people see them: list, show, go back."""

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from sameitem.core.errors import NotFoundError
from sameitem.engine.manifest import Manifest, read_manifest
from sameitem.engine.versions import current, list_versions, prune
from sameitem.pipeline.experiment import running
from sameitem.pipeline.generations import go_back, kept_for_rollback, manifest_if_readable, newest_index
from sameitem.pipeline.listings import DECISIONS, read_table
from sameitem.pipeline.shop import Shop


@dataclass(frozen=True, slots=True)
class Versions:
    """The published index versions, newest first."""

    current: str | None
    versions: list[dict[str, Any]]


def clear_away(shop: Shop) -> None:
    """Remove the index versions that nobody needs any more, in a block of `switching`.

    The newest stay, and the live one, the one to go back to, and those that a running experiment searches in.
    """
    stays = kept_for_rollback(shop.models_root, shop.index_root, start=shop.settings.model.active)
    experiment = running(shop.experiments_root, "model")
    compared = () if experiment is None else (experiment.a, experiment.b)
    stays |= {name for model in compared if (name := newest_index(shop.index_root, model)) is not None}
    prune(shop.index_root, keep=shop.settings.engine.keep_versions, besides=stays)


def show_versions(shop: Shop) -> Versions:
    """Return every published version with size, certificate and selection report; unreadable ones are passed over."""
    live, names = current(shop.index_root), reversed(list_versions(shop.index_root))
    readable = [manifest for name in names if (manifest := manifest_if_readable(shop.index_root / name))]
    return Versions(live, [_shown(manifest, live) for manifest in readable])


def show_version(shop: Shop, version: str, *, reason: str | None = None, limit: int = 20) -> dict[str, Any]:
    """Return one version, and the images that its selection dropped: of one reason, or a few of each.

    Raises:
        NotFoundError: there is no such version, or nothing was dropped for that reason.
    """
    _check_there(shop, version)
    shown = _shown(read_manifest(shop.index_root / version), current(shop.index_root))
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
        ConflictError: it is damaged, or its model is missing or damaged; nothing was switched.
    """
    _check_there(shop, version)
    shop.check_model(read_manifest(shop.index_root / version).model_version)
    go_back(shop.models_root, shop.index_root, version, start=shop.settings.model.active)


def _check_there(shop: Shop, version: str) -> None:
    versions = list_versions(shop.index_root)
    if version not in versions:
        raise NotFoundError(f"no index version {version!r}; there are: {', '.join(versions) or 'none'}")


def _shown(manifest: Manifest, live: str | None) -> dict[str, Any]:
    size = sum(file.bytes for file in manifest.files.values())
    return {
        "version": manifest.version,
        "live": manifest.version == live,
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
