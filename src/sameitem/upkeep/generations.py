"""Two generations of the model side by side: compare them on held-out queries, let the gate decide, switch."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sameitem.clicks.held_out import is_held_out
from sameitem.clicks.log import Session
from sameitem.core.errors import ConflictError, InputError, NotFoundError, RefusedError
from sameitem.core.jobs import Cancelled
from sameitem.core.records import ContentHash, ProductId
from sameitem.engine.manifest import read_manifest
from sameitem.engine.versions import current, switching
from sameitem.evaluation.compare import Comparison, compare, product_groups
from sameitem.evaluation.evaluate import LabelledQuery, evaluate, read_queries
from sameitem.evaluation.gate import judge, too_few
from sameitem.pipeline.generations import comparable_index, go_forward
from sameitem.pipeline.shop import Shop
from sameitem.pipeline.versions import clear_away

CLICK_QUERIES = 2_000  # newest held-out searches that are asked again

Build = Callable[[str], str]  # model version -> index version of it, put beside the live one
Hear = Callable[[str, float], None]  # what is done, percent of it


def compare_models(
    shop: Shop, before: str, after: str, *, queries: Path | None, build: Build, hear: Hear
) -> Comparison:
    """Ask the same queries of two model versions, each through an index of its own.

    Args:
        shop: their shop; the live index version stays what it is.
        before: a model version.
        after: another one.
        queries: labelled photos; None: the searches of the click log that training leaves out.
        build: is called for a model that has no index as fresh as the live one.
        hear: is told how far the searching is.

    Raises:
        NotFoundError: there is no such model version, or no such file.
        InputError: both are the same model, or there is no query to ask.
    """
    if before == after:
        raise InputError(f"need two model versions, got {before!r} twice; `sameitem models list` shows what there is")
    for model in (before, after):
        shop.model_folder(model)
    labelled = _labelled(shop, queries)
    if not labelled:
        raise InputError(
            "no search of the click log was held out and clicked, with its photo still there; give labelled photos "
            "with --queries FILE",
            field="queries",
        )
    one, other = (comparable_index(shop.index_root, model) or build(model) for model in (before, after))
    return compare_indexes(shop, one, other, labelled, hear)


def compare_indexes(shop: Shop, before: str, after: str, queries: list[LabelledQuery], hear: Hear) -> Comparison:
    """Ask the same queries of two index versions, each with the model that made it.

    Raises:
        NotFoundError: there is no such index version.
        InputError: no query could be compared.
    """

    def told(percent: float) -> Callable[[int, int], None]:
        return lambda done, total: hear("compare", percent + 50 * done / total)

    one = evaluate(shop, queries, version=before, tell=told(0.0))
    return compare(one, evaluate(shop, queries, version=after, tell=told(50.0)))


def activate(
    shop: Shop,
    version: str,
    *,
    force: bool,
    queries: Path | None,
    cursor: Mapping[str, Any],
    keep: Callable[[Mapping[str, Any]], None],
    build: Build,
    hear: Hear,
) -> dict[str, Any]:
    """Build an index of a model version beside the live one, ask the gate, and switch at once.

    Killed at any moment, it leaves one generation or the other live, whole; run again with the cursor it kept, it goes
    on where it was: features are cached, and neither a finished index nor the gate's word is made twice.

    Args:
        shop: its index answers all the while.
        version: of the model.
        force: switch whatever the gate says, also where the two cannot be compared.
        queries: labelled photos for the gate; None: the searches of the click log that training leaves out.
        cursor: what `keep` was given last, {} at the beginning.
        keep: stores how far this is.
        build: makes an index of a model version beside the live one.
        hear: is told how far the searching is.

    Returns:
        version, index, previous (model versions, newest first) and gate.

    Raises:
        NotFoundError: there is no such model version, or no such file.
        RefusedError: the gate said no; nothing was switched.
        ConflictError: the model is damaged; or the live index is, and `force` was not given.
    """
    shop.model_folder(version)
    shop.check_model(version)
    live = current(shop.index_root)
    if live is not None and _made_by(shop, live, force=force) == version:
        index, gate = live, cursor.get("gate")  # it is there already, perhaps by a run that was killed after the switch
    else:
        labelled = _labelled(shop, queries)
        if live is not None and not force and (reason := too_few_queries(shop, labelled)):
            raise _refused(version, [reason])  # before an index is built in vain
        index = comparable_index(shop.index_root, version) or build(version)
        gate = cursor.get("gate") if cursor.get("index") == index else None
        if gate is None:
            gate = _ask_gate(shop, live, index, labelled, force=force, hear=hear)
            keep({"index": index, "gate": gate})
        if not gate["passed"] and not force:
            raise _refused(version, gate["reasons"])
    generations = go_forward(shop.models_root, shop.index_root, index, start=shop.settings.model.active)
    clear_versions(shop)
    return {"version": version, "index": index, "previous": list(generations.previous), "gate": gate}


def clear_versions(shop: Shop) -> None:
    """Remove the index versions that nobody goes back to any more."""
    with switching(shop.index_root):
        clear_away(shop)


def _refused(version: str, reasons: Sequence[str]) -> RefusedError:
    return RefusedError(
        f"model {version} was not activated: {'; '.join(reasons)}. `sameitem models compare` shows all figures; "
        "--force activates it all the same"
    )


def _made_by(shop: Shop, live: str, *, force: bool) -> str | None:
    """Return the model of the live index; None where that is damaged and it shall be replaced all the same."""
    try:
        return read_manifest(shop.index_root / live).model_version
    except (ConflictError, NotFoundError):
        if force:
            return None
        raise


def too_few_queries(shop: Shop, labelled: Sequence[LabelledQuery]) -> str:
    """Return what to do about so few queries or products that they ask for; "" where they are enough."""
    return too_few(len(labelled), len(set(product_groups(labelled).tolist())), shop.settings.gate)


def _ask_gate(
    shop: Shop, live: str | None, index: str, labelled: list[LabelledQuery], *, force: bool, hear: Hear
) -> dict[str, Any]:
    """Return what the gate says, for the job's result."""
    if live is None:
        return {"passed": True, "reasons": [], "not_judged": [], "forced": False, "comparison": None}
    if reason := too_few_queries(shop, labelled):  # whatever they would say
        return {"passed": False, "reasons": [reason], "not_judged": [], "forced": force, "comparison": None}
    try:
        comparison = compare_indexes(shop, live, index, labelled, hear)
    except Cancelled:
        raise
    except (InputError, NotFoundError, ConflictError) as error:
        if not force:
            raise
        reason = f"the two could not be compared: {error}"
        return {"passed": False, "reasons": [reason], "not_judged": [], "forced": True, "comparison": None}
    judgement = judge(comparison, shop.settings.gate, needs_gain=False)
    forced = force and not judgement.passed
    return {**asdict(judgement), "forced": forced, "comparison": comparison.as_json()}


def _labelled(shop: Shop, queries: Path | None) -> list[LabelledQuery]:
    return held_out_queries(shop) if queries is None else read_queries(queries)


def held_out_queries(shop: Shop) -> list[LabelledQuery]:
    """Return the newest held-out photos that were searched with and clicked for, and are still there.

    Right is what each search with the photo ended with. Users click on what they are shown, so that these queries lean
    towards the model that answered them: what it did not show cannot be clicked. A new model is therefore measured too
    low, not too high; labelled photos lean to nobody (docs/decisions/0017-what-the-loop-publishes.md).
    """
    chosen: OrderedDict[Path, dict[ProductId, None]] = OrderedDict()
    for session in shop.clicks.sessions():
        photo = session.search.photo_hash
        if is_held_out(photo or session.search.search_id) and photo and (products := _chosen(session)):
            path = shop.query_photos.path(ContentHash(photo))
            if path.is_file():
                chosen.setdefault(path, {}).update(dict.fromkeys(products))
                chosen.move_to_end(path)
                if len(chosen) > CLICK_QUERIES:
                    chosen.popitem(last=False)
    return [LabelledQuery(path, first, others=tuple(others)) for path, (first, *others) in chosen.items()]


def _chosen(session: Session) -> list[ProductId]:
    """Return what a search ended with: what was bought, else put in the cart, else clicked last, and not dismissed.

    Who goes on after a click has mostly not found it: the clicks before the last one speak for how alike the first hits
    looked, which is what the model that is live thinks.
    """
    dismissed = {event.product_id for event in session.events if event.type == "dismiss"}
    for kind in ("purchase", "cart", "click"):
        found = [event.product_id for event in session.events if event.type == kind]
        if chosen := [product_id for product_id in dict.fromkeys(found) if product_id not in dismissed]:
            return [next(one for one in reversed(found) if one in chosen)] if kind == "click" else chosen
    return []
