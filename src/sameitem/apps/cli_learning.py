"""The commands of what a shop learns: index and model versions, rankers, trainings, the loop, experiments."""

import math
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from sameitem.apps.cli_common import (
    JsonOption,
    SeedOption,
    SetOption,
    ShopOption,
    opened_shop,
    print_json,
    run_shop_job,
    terminal_of,
)
from sameitem.apps.problems import EXIT_SET_ASIDE
from sameitem.core.errors import InputError, NotFoundError

index_app = typer.Typer(help="Index versions: list, show, compact, roll back.", no_args_is_help=True)
models_app = typer.Typer(help="Model versions: list, show, import, compare, activate, roll back.", no_args_is_help=True)
rankers_app = typer.Typer(help="Rankers: list, compare, activate, roll back.", no_args_is_help=True)
train_app = typer.Typer(help="Train a new model version from the shop's own data.", no_args_is_help=True)
experiment_app = typer.Typer(help="Compare two rankers or models by what users click.", no_args_is_help=True)

QueriesOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Labelled photos as in `evaluate`; default: held-out searches of the click log."),
]
NameOption = Annotated[str, typer.Option(help="Name of the new model version; default: its kind and the time.")]


def _positive(number: float | None) -> float | None:
    if number is None or 0 < number < math.inf:
        return number
    raise typer.BadParameter(f"need a number above 0, got {number:g}")


# ---- index versions, models ----


@index_app.command("list")
def index_list(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """List the published index versions, newest first."""
    from sameitem.pipeline.versions import show_versions

    with opened_shop(context, shop, None) as opened, terminal_of(as_json) as terminal:
        shown = show_versions(opened)
        if as_json:
            print_json({"current": shown.current, "versions": shown.versions})
        else:
            terminal.show_versions(shown.versions)


@index_app.command("show")
def index_show(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="Default: the live one.")] = None,
    reason: Annotated[str | None, typer.Option(help="Every image that was dropped for this reason.")] = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one version: certificate, counts, and what its selection dropped and why."""
    from sameitem.engine.versions import current
    from sameitem.pipeline.versions import show_version

    with opened_shop(context, shop, None) as opened, terminal_of(as_json) as terminal:
        wanted = version or current(opened.index_root)
        if wanted is None:
            raise NotFoundError("no index version is published yet; run `sameitem build`")
        shown = show_version(opened, wanted, reason=reason, limit=sys.maxsize if reason else 5)
        if as_json:
            print_json({"versions": [shown]})
        else:
            terminal.show_version(shown)


@index_app.command("compact")
def index_compact(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """Write what was added and deleted since the last build into a new version; a server does so by itself."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        result = run_shop_job(opened, "compact", {}, terminal)
        if as_json:
            print_json(result)
        else:
            terminal.show_compaction(result)


@index_app.command("rollback")
def index_rollback(context: typer.Context, version: str, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Make a published version the live one again; servers follow at their next query."""
    from sameitem.pipeline.versions import show_versions, switch_version

    with opened_shop(context, shop, None) as opened:
        switch_version(opened, version)
        if as_json:
            shown = show_versions(opened)
            print_json({"current": shown.current, "versions": shown.versions})
        else:
            typer.echo(f"{version} is live.")


@models_app.command("list")
def models_list(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """List the model versions: the one that ships and those of the shop."""
    from sameitem.pipeline.models import list_models

    with opened_shop(context, shop, None) as opened, terminal_of(as_json) as terminal:
        models = list_models(opened)
        if as_json:
            print_json({"active": opened.active_model, "versions": models})
        else:
            terminal.show_models(models)


@models_app.command("show")
def models_show(
    context: typer.Context,
    version: Annotated[str | None, typer.Argument(help="Default: the active one.")] = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one model version: dims, licence, metrics and its card."""
    from sameitem.pipeline.models import show_model

    with opened_shop(context, shop, None) as opened:
        shown = show_model(opened, version or opened.active_model)
        if as_json:
            print_json({"versions": [shown]})
        else:
            typer.echo(shown["card"] or f"{shown['version']} has no card.")


@models_app.command("compare")
def models_compare(
    context: typer.Context,
    before: Annotated[str, typer.Argument(metavar="A", help="A model version.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    queries: QueriesOption = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Ask the same held-out queries of two generations; an index that is missing is built beside the live one."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        arguments = {"before": before, "after": after, "queries": _queries(queries)}
        result = run_shop_job(opened, "compare", arguments, terminal)
        if as_json:
            print_json(result)
        else:
            terminal.show_comparison(result)
    return EXIT_SET_ASIDE if result["failed"] else 0


@models_app.command("activate")
def models_activate(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="V", help="A model version.")],
    force: Annotated[bool, typer.Option("--force", help="Switch whatever the gate says.")] = False,
    queries: QueriesOption = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Build an index of a model version beside the live one, ask the gate, and switch at once."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        arguments = {"version": version, "force": force, "queries": _queries(queries)}
        result = run_shop_job(opened, "activate", arguments, terminal)
        if as_json:
            print_json(result)
        else:
            terminal.show_activation(result)


@models_app.command("rollback")
def models_rollback(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Make the previous generation live again, at once; servers follow at their next query."""
    from sameitem.pipeline.models import roll_back_model

    with opened_shop(context, shop, None) as opened:
        result = roll_back_model(opened)
        if as_json:
            print_json(result)
        else:
            typer.echo(
                f"Model {result['version']} is active; its index {result['index']} of {result['created']} is live.\n"
                "Products listed since then are found after the next `sameitem build`."
            )


@models_app.command("import")
def models_import(
    context: typer.Context,
    graph: Annotated[Path, typer.Argument(metavar="FILE.onnx")],
    name: Annotated[str, typer.Option(help="Name of the new model version.")] = "",
    side: Annotated[int, typer.Option(help="Side of the input square, pixels.", min=32, max=1024)] = 224,
    fit: Annotated[str, typer.Option(help="pad, stretch or crop")] = "pad",
    mean: Annotated[str, typer.Option(help="Of R, G, B on the scale 0..255.")] = "123.675,116.28,103.53",
    std: Annotated[str, typer.Option(help="Of R, G, B on the scale 0..255.")] = "58.395,57.12,57.375",
    output: Annotated[str, typer.Option(help="Name of the graph's output, where it has several.")] = "",
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "",
    shop: ShopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring any embedding graph of 128-1024 dims as a model version; checked on sample photos."""
    from sameitem.pipeline.models import bring_model

    with opened_shop(context, shop, None) as opened:
        brought = bring_model(
            opened,
            graph,
            name=name or graph.stem,
            side_px=side,
            fit=fit,
            mean=_three(mean, "mean"),
            std=_three(std, "std"),
            output=output or None,
            licence=licence,
        )
        if as_json:
            print_json(brought)
        else:
            typer.echo(
                f"Model {brought['version']}: {brought['dim']} dims, {brought['ms_per_photo']:.1f} ms a photo.\n"
                f"Use it: `sameitem models activate {brought['version']}`."
            )


# ---- rankers ----


@rankers_app.command("list")
def rankers_list(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """List the rankers of the shop, newest first."""
    from sameitem.pipeline.rankers import list_rankers

    with opened_shop(context, shop, None) as opened, terminal_of(as_json) as terminal:
        versions = list_rankers(opened.rankers_root)
        if as_json:
            print_json({"active": opened.active_ranker, "versions": versions})
        else:
            terminal.show_rankers(versions)


@rankers_app.command("compare")
def rankers_compare(
    context: typer.Context,
    before: Annotated[str, typer.Argument(metavar="A", help="A ranker, or looks.")],
    after: Annotated[str, typer.Argument(metavar="B", help="Another one.")],
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Estimate from the newest clicks, which neither learned from, how many each order would get."""
    from sameitem.upkeep.ranking import compare_rankers

    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        comparison = compare_rankers(opened, before, after)
        if as_json:
            print_json({"before_version": before, "after_version": after, **comparison.as_json()})
        else:
            terminal.show_orders(before, after, comparison)


@rankers_app.command("activate")
def rankers_activate(
    context: typer.Context,
    version: Annotated[str, typer.Argument(metavar="V", help="A ranker; looks = by looks alone.")],
    force: Annotated[bool, typer.Option("--force", help="Switch whatever the gate says.")] = False,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Ask the gate, and order by this ranker from the next search on."""
    from sameitem.upkeep.ranking import switch_ranker

    with opened_shop(context, shop, settings) as opened:
        generations = switch_ranker(opened, version, force=force)
        _say_ranker(asdict(generations), as_json)


@rankers_app.command("rollback")
def rankers_rollback(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Order by the ranker before the active one again."""
    from sameitem.pipeline.rankers import roll_back_ranker

    with opened_shop(context, shop, None) as opened:
        _say_ranker(asdict(roll_back_ranker(opened.rankers_root)), as_json)


def _say_ranker(generations: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(generations)
    else:
        typer.echo(f"{generations['version']} orders the first results from the next search on.")


# ---- training ----


@train_app.command("embedding")
def train_embedding(
    context: typer.Context,
    triplets: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What `sameitem mine` wrote; default triplets.parquet.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(callback=_positive, help="Stop after so many; default: when it is done.")
    ] = None,
    feature_only: Annotated[
        bool, typer.Option("--feature-only", help="Train the feature's last block only, in a minute; the rest stays.")
    ] = False,
    seed: SeedOption = 0,
    name: NameOption = "",
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Train box and feature from triplets of the click log, starting from the active model; goes on after a kill."""
    if triplets is not None and not triplets.is_file():
        raise NotFoundError(f"no file {triplets}; run `sameitem mine` first")
    given = str(triplets.absolute()) if triplets else ""
    asked = {"triplets": given, "minutes": minutes, "seed": seed, "name": name, "detector": not feature_only}
    _train(context, shop, settings, as_json, model="embedding", **asked)


@train_app.command("category")
def train_category(
    context: typer.Context,
    seed: SeedOption = 0,
    name: NameOption = "",
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Train the category from the catalogue's labelled images, starting from the active model."""
    _train(context, shop, settings, as_json, model="category", triplets="", minutes=None, seed=seed, name=name)


@train_app.command("ranker")
def train_ranker(
    context: typer.Context,
    seed: SeedOption = 0,
    name: NameOption = "",
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Train the order of the first results from the click log's older searches; the newer ones judge it."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        arguments = {"model": "ranker", "seed": seed, "name": name}
        result = run_shop_job(opened, "train", arguments, terminal)
        if as_json:
            print_json(result)
        else:
            terminal.show_ranker_training(result)


def _train(
    context: typer.Context, shop: Path | None, settings: list[str] | None, as_json: bool, **arguments: Any
) -> None:
    with opened_shop(context, shop, settings) as opened:
        with terminal_of(as_json) as terminal:
            result = run_shop_job(opened, "train", arguments, terminal, tell=terminal.tell_training)
        if as_json:
            print_json(result)
        else:
            terminal.show_training(result, opened.active_model)


# ---- the loop ----


def loop(
    context: typer.Context,
    seed: SeedOption = 0,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Learn from the clicks since the last loop: mine, train, gate, canary; publish what finds more."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        result = run_shop_job(opened, "loop", {"seed": seed}, terminal)
        if as_json:
            print_json(result)
        else:
            terminal.show_loop(result)
    return EXIT_SET_ASIDE if result["warnings"] else 0


# ---- experiments ----

ComparedArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="A ranker, or `looks`: looks alone; or a model version.")
]


@experiment_app.command("start")
def experiment_start(
    context: typer.Context,
    a: ComparedArgument,
    b: ComparedArgument,
    share: Annotated[float, typer.Option(help="Of users whose searches take part, above 0, up to 1.")] = 1.0,
    worth: Annotated[
        float, typer.Option(help="Smallest preference worth finding: wins of B - wins of A, share of decided searches.")
    ] = 0.02,
    alpha: Annotated[float, typer.Option(help="Chance that one of two equal rankers is called better.")] = 0.05,
    power: Annotated[float, typer.Option(help="Chance that a preference worth finding is found.")] = 0.9,
    shop: ShopOption = None,
    as_json: JsonOption = False,
) -> None:
    """Mix what two rankers or models would show in every list of some users; their clicks say which is better."""
    import time

    from sameitem.metrics.sequential import StopRule, plan
    from sameitem.upkeep.experiments import start_experiment

    with opened_shop(context, shop, None) as opened:
        rule = StopRule(alpha=alpha, power=power, worth=worth)
        started = start_experiment(opened, a, b, share=share, rule=rule, now=time.time())
        if as_json:
            print_json(asdict(started) | {"most": plan(rule).most})
        else:
            typer.echo(
                f"Experiment {started.id} is running: A is {a}, B is {b}.\n"
                f"It is decided after at most {plan(rule).most:,} searches in which one of both gets more clicks: "
                "`sameitem experiment show`."
            )


@experiment_app.command("show")
def experiment_show(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Show how the running experiment stands, and whether it is decided."""
    import time

    from sameitem.upkeep.experiments import show_experiment

    with opened_shop(context, shop, None) as opened, terminal_of(as_json) as terminal:
        shown = show_experiment(opened, now=time.time()).as_json()
        if as_json:
            print_json(shown)
        else:
            terminal.show_experiment(shown)


@experiment_app.command("stop")
def experiment_stop(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """End the running experiment; how it stood is kept. The active ranker stays what it is."""
    import time

    from sameitem.upkeep.experiments import stop_experiment

    with opened_shop(context, shop, None) as opened, terminal_of(as_json) as terminal:
        shown = stop_experiment(opened, now=time.time()).as_json()
        if as_json:
            print_json(shown)
        else:
            terminal.show_experiment(shown)
            typer.echo(f"Stopped; kept in experiments/{shown['id']}.json.")


# ---- what is read from options ----


def _queries(file: Path | None) -> str:
    """Return the absolute path of a file of labelled photos, "" where none is given."""
    if file is not None and not file.is_file():
        raise NotFoundError(f"no file {file}")
    return str(file.absolute()) if file else ""


def _three(text: str, field: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"need --{field} as three numbers R,G,B, got {text!r}", field=field) from error
    return red, green, blue
