"""Compaction: what the live index version was told since it was built becomes a version of its own, and goes live.

It costs what copying costs, not what a build does: features, lists and the category reference stay. It is a small build
for everyone else: certified, published at once, and whoever is killed at it leaves the live version as it was.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from sameitem.catalog.selection import Decision, Reason, Status
from sameitem.core.errors import ConflictError, UnavailableError
from sameitem.engine.build import seal
from sameitem.engine.certificate import certify
from sameitem.engine.index import open_index
from sameitem.engine.lists import Effort
from sameitem.engine.manifest import Certificate
from sameitem.engine.merge import Merged, write_merged
from sameitem.engine.versions import current, new_version, publish, remove, start_build, switching
from sameitem.pipeline.following import refresh, take_in_all
from sameitem.pipeline.gallery import REFERENCE, Gallery
from sameitem.pipeline.listings import (
    DECISIONS,
    MEMBERS,
    PRODUCTS,
    read_table,
    write_decisions,
    write_members,
    write_products,
)
from sameitem.pipeline.shop import Shop

COMPACTED = "compacted_from"  # in a manifest's extra: the version that a build wrote
LEAST_CHANGED, LEAST_SHARE = 1000, 0.05  # members that changed, from which on a compaction pays

Tell = Callable[[str, float], None]  # name of the step, share of it that is done


@dataclass(frozen=True, slots=True)
class CompactionReport:
    """What a compaction published; the version that was live before where there was nothing to do."""

    version: str
    images: int
    entries: int
    added: int  # images that the version before did not have
    removed: int  # images that it had
    certificate: dict[str, Any]


def is_due(gallery: Gallery) -> bool:
    """Return whether so much of a gallery changed since it was built that a compaction pays."""
    changed = gallery.count_changed()
    return changed >= LEAST_CHANGED and changed >= LEAST_SHARE * len(gallery.index.members.image_id)


def compact(shop: Shop, *, tell: Tell, now: datetime) -> CompactionReport:
    """Write what the live version became by now as a new version, certify it and make it the live one.

    Pictures whose features nobody has computed yet go on waiting for those who follow the new version.

    Args:
        shop: whose live version.
        tell: is told how far each step is; may raise to stop, which then leaves nothing behind.
        now: products that expired before are not added.

    Raises:
        UnavailableError: nothing is published.
        RefusedError: the new version misses the recall asked for; the live version stays.
        ConflictError: another version was published meanwhile; that one stays.
    """
    live = current(shop.index_root)
    if live is None:
        raise UnavailableError("no index version is published yet; run `sameitem build`")
    tell("follow", 0.0)
    gallery = Gallery.open(shop.index_root / live, shop.taxonomy)
    refresh(gallery, shop.catalogue)
    with ThreadPoolExecutor(2) as pool:
        take_in_all(shop, gallery, pool, now)
    index, manifest = gallery.index, gallery.index.manifest
    before, built = manifest.certificate, len(index.members.image_id)
    assert before is not None
    added, removed = int(gallery.alive[built:].sum()), int((~gallery.alive[:built]).sum())
    if gallery.count_changed() == 0:
        return _report(live, manifest.counts.members, manifest.counts.entries, 0, 0, before)
    version = new_version(now)
    folder = start_build(shop.index_root, version)
    try:
        tell("index", 0.0)
        decisions = _decisions(shop.index_root / live, gallery)
        reasons = Counter(d.reason.value for d in decisions if d.status is Status.SET_ASIDE and d.reason)
        waiting = min(gallery.pending.values(), default=gallery.seq + 1)
        extra = {
            **manifest.extra,
            "seq": min(gallery.seq, waiting - 1),
            "dropped": dict(sorted(reasons.items())),
            "duplicates": sum(decision.status is Status.DUPLICATE for decision in decisions),
            COMPACTED: manifest.extra.get(COMPACTED, live),
        }
        merged = write_merged(folder, index, gallery.alive, version=version, created=now, extra=extra)
        tables = _write_tables(folder, shop.index_root / live, gallery, merged, decisions)
        tell("certificate", 0.0)
        opened = open_index(folder)
        effort = Effort(before.probes, before.candidates, float("inf") if before.slack is None else before.slack)
        certificate = certify(
            opened,
            lambda entries: opened.rows[entries].astype(np.float32),
            asked=shop.settings.engine.recall,
            k=min(shop.settings.engine.k, len(opened.rows)),
            first=effort,
        )
        counts = seal(folder, certificate=certificate, files=tables).counts
        tell("publish", 0.0)
        with switching(shop.index_root):
            if current(shop.index_root) != live:
                raise ConflictError(f"another index version went live while {live} was compacted; nothing was switched")
            publish(shop.index_root, folder)
            if COMPACTED in manifest.extra:  # nobody goes back to it: the version of the build is kept for that
                remove(shop.index_root, live)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(version, counts.members, counts.entries, added, removed, certificate)


def _report(
    version: str, images: int, entries: int, added: int, removed: int, certificate: Certificate
) -> CompactionReport:
    return CompactionReport(version, images, entries, added, removed, asdict(certificate))


def _write_tables(folder: Path, before: Path, gallery: Gallery, merged: Merged, decisions: list[Decision]) -> list[str]:
    """Write the tables beside an index version, copy the reference set, and return their names."""
    ids, tops = gallery.index.members.image_ids_of(merged.members).tolist(), gallery.top_ids()
    listed = (
        (image_id, gallery.member_names[row], tops[row])
        for image_id, row in zip(ids, merged.members.tolist(), strict=True)
    )
    write_members(folder / MEMBERS, listed)
    write_products(folder / PRODUCTS, (gallery.products.rows[row] for row in merged.products))
    write_decisions(folder / DECISIONS, decisions)
    tables = [MEMBERS, PRODUCTS, DECISIONS]
    if (before / REFERENCE).is_dir():
        shutil.copytree(before / REFERENCE, folder / REFERENCE)
        tables += [f"{REFERENCE}/{file.name}" for file in sorted((before / REFERENCE).iterdir())]
    return tables


def _decisions(before: Path, gallery: Gallery) -> list[Decision]:
    """Return what became of every image: as the version before says, but for those that changed."""
    members, built = gallery.index.members, len(gallery.index.members.image_id)
    rows = np.arange(built, len(members))
    late = members.image_ids_of(rows).tolist()
    gone = members.image_id[~gallery.alive[:built]].tolist()
    anew = {*late, *gone, *gallery.left_out}
    kept = [
        Decision(
            image_id=row["image_id"],
            product_id=row["product_id"],
            name=row["image_name"],
            status=Status(row["status"]),
            reason=Reason(row["reason"]) if row["reason"] else None,
            detail=row["detail"],
        )
        for row in read_table(before / DECISIONS)
        if row["image_id"] not in anew
    ]
    added = [
        Decision(image_id, gallery.product_id(row), gallery.member_names[row], Status.GALLERY)
        for row, image_id in zip(rows.tolist(), late, strict=True)
        if gallery.alive[row]
    ]
    return [*kept, *added, *gallery.left_out.values()]
