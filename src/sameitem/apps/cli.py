"""The command line: parse, call, print. Heavy imports stand inside the commands, so that `--help` is quick."""

import json
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sameitem import __version__
from sameitem.apps.problems import EXIT_INTERRUPTED, EXIT_SET_ASIDE, meaning
from sameitem.core.errors import InputError, NotFoundError, SameItemError

if TYPE_CHECKING:
    from sameitem.apps.terminal import Terminal
    from sameitem.pipeline.shop import Shop

app = typer.Typer(
    name="sameitem",
    help="Photo search for shops that learns from its own clicks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
index_app = typer.Typer(help="Index versions: list, show, compact, roll back.", no_args_is_help=True)
models_app = typer.Typer(help="Model versions: list, show, import, compare, activate, roll back.", no_args_is_help=True)
rankers_app = typer.Typer(help="Rankers: list, compare, activate, roll back.", no_args_is_help=True)
train_app = typer.Typer(help="Train a new model version from the shop's own data.", no_args_is_help=True)
bench_app = typer.Typer(help="Speed and recall beside other systems.", no_args_is_help=True)
experiment_app = typer.Typer(help="Compare two rankers or models by what users click.", no_args_is_help=True)
clicks_app = typer.Typer(help="The click log: export, erase a user, delete what is old.", no_args_is_help=True)
config_app = typer.Typer(help="Settings of the shop.", no_args_is_help=True)
keys_app = typer.Typer(help="API keys: create, list, revoke.", no_args_is_help=True)
app.add_typer(index_app, name="index")
app.add_typer(models_app, name="models")
app.add_typer(rankers_app, name="rankers")
app.add_typer(train_app, name="train")
app.add_typer(bench_app, name="bench")
app.add_typer(keys_app, name="keys")
app.add_typer(experiment_app, name="experiment")
app.add_typer(clicks_app, name="clicks")
app.add_typer(config_app, name="config")

ShopOption = Annotated[
    Path | None, typer.Option("--shop", help="Folder of the shop; default $SAMEITEM_SHOP, else the current folder.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting for this call: engine.recall=0.99")
]


def _positive(number: float | None) -> float | None:
    if number is None or 0 < number < math.inf:
        return number
    raise typer.BadParameter(f"need a number above 0, got {number:g}")


QueriesOption = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Labelled photos as in `evaluate`; default: held-out searches of the click log."),
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Of everything drawn by chance.")]
NameOption = Annotated[str, typer.Option(help="Name of the new model version; default: its kind and the time.")]


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    try:
        status = app(standalone_mode=False)
    except SameItemError as error:
        _complain(str(error))
        sys.exit(meaning(error).exit_status)
    except typer.Abort:
        _complain("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        _complain("interrupted; run the same command again to go on")
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if not hasattr(error, "exit_code") or not hasattr(error, "show"):
            raise
        error.show()  # a usage error of typer's: its text names the option
        sys.exit(error.exit_code)
    sys.exit(status if isinstance(status, int) else 0)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    shop: ShopOption = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(f"sameitem {__version__}")
        raise typer.Exit
    context.obj = shop


# ---- a shop and its catalogue ----


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Make a new empty shop with a commented settings file."""
    from sameitem.core.settings import load_settings
    from sameitem.upkeep.founding import found_shop

    found_shop(folder)
    load_settings(folder)
    if as_json:
        _print_json({"shop": str(folder.resolve())})
    else:
        typer.echo(
            f"A new shop in {folder.resolve()}.\nNext: cd there, then `sameitem import FILE` and `sameitem build`."
        )


@app.command("import")
def import_(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="CSV, TSV, JSONL or Parquet file, or a folder of images.")],
    columns: Annotated[
        str, typer.Option(help="Our field = the file's column, separated by commas: title=name,price=cost")
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="Products that the source does not name are deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete them without asking, however many.")] = False,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Import products and images; can be interrupted and goes on where it was."""
    source = source.absolute()
    if not source.exists():
        raise NotFoundError(f"no file or folder {source}")
    arguments = {"source": str(source), "columns": _pairs(columns), "full": full, "uploaded": False}
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        result = _run_job(opened, "import", arguments, terminal, confirm=terminal.confirm(yes))
        if as_json:
            _print_json(result)
        else:
            terminal.show_import(result)
        if result["deletion_withheld"]:
            _complain(result["deletion_withheld"])
    return EXIT_SET_ASIDE if result["set_aside"] else 0


@app.command("import-clicks")
def import_clicks(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="FILE", help="Click log: Parquet or JSON lines.")],
    columns: Annotated[
        str, typer.Option(help="Our field = the file's column, separated by commas: photo=image,user=uid")
    ] = "",
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Import a click log of another system, so that learning works for traffic that never went through our server."""
    source = source.absolute()
    if not source.is_file():
        raise NotFoundError(f"no file {source}")
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        arguments = {"source": str(source), "columns": _pairs(columns)}
        result = _run_job(opened, "import-clicks", arguments, terminal)
        if as_json:
            _print_json(result)
        else:
            terminal.show_click_import(result)
    return EXIT_SET_ASIDE if result["set_aside"] else 0


@clicks_app.command("export")
def clicks_export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="To write: .jsonl or .parquet.")],
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC; default: everything.")
    ] = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Write the click log as a file that `import-clicks` reads; users are pseudonyms, photos content hashes."""
    from sameitem.clicks.export import export_clicks

    with _opened(context, shop, settings) as opened:
        begin = since.replace(tzinfo=UTC).timestamp() if since else 0.0
        done = export_clicks(file.absolute(), opened.clicks.sessions(since=begin))
        if as_json:
            _print_json({"file": str(done.file), "sessions": done.sessions, "events": done.events})
        else:
            typer.echo(f"{done.sessions:,} searches with {done.events:,} events: {done.file}")


@clicks_app.command("erase")
def clicks_erase(
    context: typer.Context,
    user: Annotated[str, typer.Argument(help="The user's id, as searches and events name it.")],
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Remove every trace of a user: searches, events, counts, photos, and what was made of them; servers may run on."""
    from sameitem.upkeep.erasure import erase_user

    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        erased = erase_user(opened, user)
        if as_json:
            _print_json(asdict(erased))
        else:
            terminal.show_erasure(erased)


@clicks_app.command("prune")
def clicks_prune(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """Delete searches, events and photos that are past their days; every build does so, too."""
    from sameitem.pipeline.retention import prune_shop

    with _opened(context, shop, settings) as opened:
        pruned = prune_shop(opened, time.time())
        if as_json:
            _print_json(asdict(pruned))
        else:
            typer.echo(
                f"Deleted {pruned.searches:,} searches, {pruned.events:,} events, {pruned.photos:,} photos of searches "
                f"and {pruned.catalogue_photos:,} photos that no image of the catalogue shows."
            )


@app.command()
def mine(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write; default triplets.parquet in the shop.")
    ] = None,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Turn the click log into triplets to train with: a photo, an image of the same item, one of another."""
    from sameitem.upkeep.mining import TRIPLETS

    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        file = (out or opened.folder / TRIPLETS).absolute()
        if file.is_dir() or not file.parent.is_dir():
            raise InputError(f"cannot write {file}: need a file's name in a folder that exists", field="out")
        result = _run_job(opened, "mine", {"out": str(file)}, terminal)
        if as_json:
            _print_json(result)
        else:
            terminal.show_mining(result)


@app.command()
def simulate(
    context: typer.Context,
    sessions: Annotated[int, typer.Option(min=1, help="How many searches.")],
    photos: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="What is searched with: image, product_id. Default: edited catalogue images."),
    ] = None,
    url: Annotated[str, typer.Option(help="A running server of this shop. Default: one of our own for the run.")] = "",
    key: Annotated[
        str,
        typer.Option(
            envvar="SAMEITEM_KEY",
            help="API key for --url, scopes search and events; better in $SAMEITEM_KEY: others see command lines.",
        ),
    ] = "",
    seed: SeedOption = 0,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Let simulated shoppers search and click: a test instrument for a shop without traffic; its log keeps it all."""
    from sameitem.apps.simulation import simulate_over_http

    if photos is not None and not photos.is_file():
        raise NotFoundError(f"no file {photos}")
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        report = simulate_over_http(opened, sessions, photos=photos, url=url, key=key, seed=seed, tell=terminal.tell)
        if as_json:
            _print_json(asdict(report))
        else:
            terminal.show_simulation(report)
    return EXIT_SET_ASIDE if report.set_aside else 0


@app.command()
def build(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """Select, compute features, fold near-duplicates, index, certify and publish."""
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        result = _run_job(opened, "build", {}, terminal)
        if as_json:
            _print_json(result)
        else:
            terminal.show_build(result)


# ---- searching ----


@app.command()
def search(
    context: typer.Context,
    photo: Annotated[Path, typer.Argument(metavar="PHOTO")],
    box: Annotated[str, typer.Option(metavar="L,T,R,B", help="The subject, pixels of the upright photo.")] = "",
    category: Annotated[str, typer.Option(metavar="ID", help="Search only this category.")] = "",
    filter_: Annotated[str, typer.Option("--filter", metavar="EXPR", help='price < 50 AND brand = "Lumo"')] = "",
    num: Annotated[int, typer.Option(min=1, max=100)] = 10,
    explain: Annotated[bool, typer.Option("--explain", help="Say how category and scores came about.")] = False,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Find the products that show the same item as a photo."""
    from sameitem.apps.answers import search_answer
    from sameitem.pipeline.online import Searcher, SearchRequest

    if not photo.is_file():
        raise NotFoundError(f"no file {photo}")
    with _opened(context, shop, settings) as opened:
        request = SearchRequest(
            photo=photo.read_bytes(),
            box=_box(box),
            categories=(category,) if category else (),
            filter=filter_,
            num=num,
            explain=explain,
        )
        answer = Searcher(opened).search(request)
        if as_json:
            _print_json(search_answer(answer, request_id=answer.search_id, fields=None, explain=explain))
        else:
            with _terminal(False) as terminal:
                terminal.show_answer(answer, explain=explain)


@app.command()
def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 = any free one.")] = None,
    shop: ShopOption = None,
    settings: SetOption = None,
) -> None:
    """Serve the API and the search page."""
    from sameitem.apps.server import serve as run

    flags = [
        *(settings or []),
        *([f"serve.host={host}"] if host else []),
        *([f"serve.port={port}"] if port is not None else []),
    ]
    with _opened(context, shop, flags) as opened:
        run(opened)


@app.command(hidden=True)
def runner(context: typer.Context, shop: ShopOption = None) -> None:
    """Run the waiting jobs to their end; the server starts this."""
    from sameitem.core.jobs import run_jobs
    from sameitem.upkeep.work import work_of

    with _opened(context, shop, None) as opened:
        run_jobs(opened.jobs, work_of(opened))


@app.command()
def demo(
    source: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="Your own photos: one sub-folder per product.")
    ] = None,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where the demo shop is made.")] = Path(
        "demo-shop"
    ),
    as_json: JsonOption = False,
) -> None:
    """Do the main job on a drawn shop, or on your own photos: import, build, search, report."""
    from sameitem.upkeep.demo import run_demo

    with _terminal(as_json) as terminal:
        report = run_demo(folder, source=source, tell=terminal.tell)
        if as_json:
            _print_json(report.as_json())
        else:
            terminal.show_demo(report)


@app.command()
def evaluate(
    context: typer.Context,
    queries: Annotated[Path, typer.Option(help="CSV: image, product_id and optionally category, box, slice.")],
    html: Annotated[Path | None, typer.Option(help="Write a report with pictures of hits and misses.")] = None,
    compare: Annotated[str, typer.Option(metavar="VERSION", help="Compare with this index version.")] = "",
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Measure recall, category and latency on labelled photos."""
    from sameitem.evaluation.compare import compare as compare_evaluations
    from sameitem.upkeep.measure import evaluate_shop, evaluate_version

    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        before = evaluate_version(opened, compare, queries, tell=terminal.tell) if compare else None
        evaluation = evaluate_shop(opened, queries, html=html, tell=terminal.tell)
        comparison = compare_evaluations(before, evaluation).as_json() if before else None
        if as_json:
            _print_json(evaluation.as_json() | ({"comparison": comparison} if comparison else {}))
        else:
            terminal.show_evaluation(evaluation, html)
            if comparison:
                terminal.show_comparison(comparison)
    return EXIT_SET_ASIDE if evaluation.failed or evaluation.unknown else 0


@bench_app.command("engine")
def bench_engine(
    rows: Annotated[int, typer.Option(min=1000, help="Vectors that are drawn.")] = 100_000,
    dim: Annotated[int, typer.Option(min=64, max=1024, help="Their width.")] = 512,
    recall: Annotated[float, typer.Option(min=0.5, max=1.0, help="Recall@10 that every engine must reach.")] = 0.99,
    queries: Annotated[int, typer.Option(min=100, help="Queries.")] = 1000,
    vectors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Your own features instead: .npy, (rows, dim) of unit length.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw recall against speed of every setting: .svg.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Time our engine beside those that are installed: faiss-cpu, hnswlib, lancedb, scann, usearch, zvec."""
    from sameitem.evaluation.engine_bench import bench, draw_vectors, read_vectors
    from sameitem.evaluation.engine_plot import write_plot

    with _terminal(as_json) as terminal:
        if plot and not plot.parent.is_dir():
            raise InputError(f"no folder {plot.parent} for the plot", field="plot")
        drawn = read_vectors(vectors, queries=queries) if vectors else draw_vectors(rows, dim, queries=queries)
        (result,) = bench(
            *drawn, asked=[recall], tell=lambda what: terminal.tell(what, 0.0, {}), fronts=plot is not None
        )
        if plot:
            write_plot(result, plot)
        if as_json:
            _print_json(result.as_json())
        else:
            terminal.show_bench(result)


# ---- index versions, models ----


@index_app.command("list")
def index_list(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """List the published index versions, newest first."""
    from sameitem.pipeline.versions import show_versions

    with _opened(context, shop, None) as opened, _terminal(as_json) as terminal:
        shown = show_versions(opened)
        if as_json:
            _print_json({"current": shown.current, "versions": shown.versions})
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

    with _opened(context, shop, None) as opened, _terminal(as_json) as terminal:
        wanted = version or current(opened.index_root)
        if wanted is None:
            raise NotFoundError("no index version is published yet; run `sameitem build`")
        shown = show_version(opened, wanted, reason=reason, limit=sys.maxsize if reason else 5)
        if as_json:
            _print_json({"versions": [shown]})
        else:
            terminal.show_version(shown)


@index_app.command("compact")
def index_compact(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """Write what was added and deleted since the last build into a new version; a server does so by itself."""
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        result = _run_job(opened, "compact", {}, terminal)
        if as_json:
            _print_json(result)
        else:
            terminal.show_compaction(result)


@index_app.command("rollback")
def index_rollback(context: typer.Context, version: str, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Make a published version the live one again; servers follow at their next query."""
    from sameitem.pipeline.versions import show_versions, switch_version

    with _opened(context, shop, None) as opened:
        switch_version(opened, version)
        if as_json:
            shown = show_versions(opened)
            _print_json({"current": shown.current, "versions": shown.versions})
        else:
            typer.echo(f"{version} is live.")


@models_app.command("list")
def models_list(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """List the model versions: the one that ships and those of the shop."""
    from sameitem.pipeline.models import list_models

    with _opened(context, shop, None) as opened, _terminal(as_json) as terminal:
        models = list_models(opened)
        if as_json:
            _print_json({"active": opened.active_model, "versions": models})
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

    with _opened(context, shop, None) as opened:
        shown = show_model(opened, version or opened.active_model)
        if as_json:
            _print_json({"versions": [shown]})
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
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        arguments = {"before": before, "after": after, "queries": _queries(queries)}
        result = _run_job(opened, "compare", arguments, terminal)
        if as_json:
            _print_json(result)
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
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        arguments = {"version": version, "force": force, "queries": _queries(queries)}
        result = _run_job(opened, "activate", arguments, terminal)
        if as_json:
            _print_json(result)
        else:
            terminal.show_activation(result)


@models_app.command("rollback")
def models_rollback(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Make the previous generation live again, at once; servers follow at their next query."""
    from sameitem.pipeline.models import roll_back_model

    with _opened(context, shop, None) as opened:
        result = roll_back_model(opened)
        if as_json:
            _print_json(result)
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

    with _opened(context, shop, None) as opened:
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
            _print_json(brought)
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

    with _opened(context, shop, None) as opened, _terminal(as_json) as terminal:
        versions = list_rankers(opened.rankers_root)
        if as_json:
            _print_json({"active": opened.active_ranker, "versions": versions})
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

    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        comparison = compare_rankers(opened, before, after)
        if as_json:
            _print_json({"before_version": before, "after_version": after, **comparison.as_json()})
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

    with _opened(context, shop, settings) as opened:
        generations = switch_ranker(opened, version, force=force)
        _say_ranker(asdict(generations), as_json)


@rankers_app.command("rollback")
def rankers_rollback(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """Order by the ranker before the active one again."""
    from sameitem.pipeline.rankers import roll_back_ranker

    with _opened(context, shop, None) as opened:
        _say_ranker(asdict(roll_back_ranker(opened.rankers_root)), as_json)


def _say_ranker(generations: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        _print_json(generations)
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
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        arguments = {"model": "ranker", "seed": seed, "name": name}
        result = _run_job(opened, "train", arguments, terminal)
        if as_json:
            _print_json(result)
        else:
            terminal.show_ranker_training(result)


def _train(
    context: typer.Context, shop: Path | None, settings: list[str] | None, as_json: bool, **arguments: Any
) -> None:
    with _opened(context, shop, settings) as opened:
        with _terminal(as_json) as terminal:
            result = _run_job(opened, "train", arguments, terminal, tell=terminal.tell_training)
        if as_json:
            _print_json(result)
        else:
            terminal.show_training(result, opened.active_model)


# ---- API keys ----


@keys_app.command("create")
def keys_create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Whom the key is for.")],
    scope: Annotated[
        list[str], typer.Option(help="What it opens: search, events, write or admin (all). Several: repeat it.")
    ],
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Make an API key; it is printed this once and cannot be had again."""
    with _opened(context, shop, settings) as opened:
        key, text = opened.keys.create(name, scope)
        if as_json:
            _print_json({"key": text, **asdict(key)})
        else:
            typer.echo(text)
            typer.echo(f"Key {key.id} opens {', '.join(key.scopes)}. Keep it: it is not shown again.", err=True)


@keys_app.command("list")
def keys_list(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """List the API keys that were made, without their secrets."""
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        made = opened.keys.list()
        if as_json:
            _print_json({"keys": [asdict(key) for key in made]})
        else:
            terminal.show_keys(made)


@keys_app.command("revoke")
def keys_revoke(
    context: typer.Context,
    key_id: Annotated[str, typer.Argument(metavar="ID", help="As `sameitem keys list` tells it.")],
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """End an API key for good; servers refuse it within a second."""
    with _opened(context, shop, settings) as opened:
        key = opened.keys.revoke(key_id)
        if as_json:
            _print_json(asdict(key))
        else:
            typer.echo(f"Key {key.id} ({key.name}) is revoked.")


@app.command()
def loop(
    context: typer.Context,
    seed: SeedOption = 0,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> int:
    """Learn from the clicks since the last loop: mine, train, gate, canary; publish what finds more."""
    with _opened(context, shop, settings) as opened, _terminal(as_json) as terminal:
        result = _run_job(opened, "loop", {"seed": seed}, terminal)
        if as_json:
            _print_json(result)
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

    with _opened(context, shop, None) as opened:
        rule = StopRule(alpha=alpha, power=power, worth=worth)
        started = start_experiment(opened, a, b, share=share, rule=rule, now=time.time())
        if as_json:
            _print_json(asdict(started) | {"most": plan(rule).most})
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

    with _opened(context, shop, None) as opened, _terminal(as_json) as terminal:
        shown = show_experiment(opened, now=time.time()).as_json()
        if as_json:
            _print_json(shown)
        else:
            terminal.show_experiment(shown)


@experiment_app.command("stop")
def experiment_stop(context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False) -> None:
    """End the running experiment; how it stood is kept. The active ranker stays what it is."""
    import time

    from sameitem.upkeep.experiments import stop_experiment

    with _opened(context, shop, None) as opened, _terminal(as_json) as terminal:
        shown = stop_experiment(opened, now=time.time()).as_json()
        if as_json:
            _print_json(shown)
        else:
            terminal.show_experiment(shown)
            typer.echo(f"Stopped; kept in experiments/{shown['id']}.json.")


# ---- settings ----


@config_app.command("show")
def config_show(
    context: typer.Context,
    sources: Annotated[bool, typer.Option("--sources", help="Tell where each value comes from.")] = False,
    shop: ShopOption = None,
    as_json: JsonOption = False,
    settings: SetOption = None,
) -> None:
    """Show every setting of the shop."""
    from sameitem.core.settings import flatten, load_settings

    found, origins = load_settings(_folder(context, shop), _flags(settings))
    values = flatten(found.model_dump(mode="json"))
    if as_json:
        _print_json({"settings": values, **({"sources": origins} if sources else {})})
        return
    width = max(map(len, values))
    for key, value in values.items():
        typer.echo(
            f"{key:<{width}}  {json.dumps(value, ensure_ascii=False)}" + (f"  ({origins[key]})" if sources else "")
        )


# ---- what commands share ----


@contextmanager
def _opened(context: typer.Context, shop: Path | None, settings: list[str] | None) -> Iterator["Shop"]:
    from sameitem.core.settings import load_settings
    from sameitem.pipeline.shop import Shop, is_shop

    folder = _folder(context, shop)
    if not is_shop(folder):
        raise NotFoundError(
            f"{folder} is no shop (it has no sameitem.toml); run `sameitem init` there, or give --shop DIR"
        )
    opened = Shop(folder, load_settings(folder, _flags(settings))[0])
    try:
        yield opened
    finally:
        opened.close()


def _folder(context: typer.Context, shop: Path | None) -> Path:
    return (shop or context.obj or Path(os.environ.get("SAMEITEM_SHOP") or ".")).absolute()


def _flags(settings: list[str] | None) -> dict[str, Any]:
    """Return `key=value` texts as nested settings; a value is JSON where it reads as such, else text."""
    nested: dict[str, Any] = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        part, dot, name = key.strip().partition(".")
        if not equals or not dot or not name:
            raise InputError(f"need --set part.name=value, got {text!r}; `sameitem config show` lists the names")
        try:
            nested.setdefault(part, {})[name] = json.loads(value)
        except json.JSONDecodeError:
            nested.setdefault(part, {})[name] = value
    return nested


def _terminal(as_json: bool) -> "Terminal":
    from sameitem.apps.terminal import Terminal

    return Terminal(quiet=as_json)


def _run_job(
    shop: "Shop", kind: str, arguments: Mapping[str, Any], terminal: "Terminal", **options: Any
) -> dict[str, Any]:
    """Run a job here, or follow it while another process runs it; an interrupted one of the same kind goes on."""
    from sameitem.core import errors
    from sameitem.core.jobs import run_job
    from sameitem.upkeep.work import work_of

    job = shop.jobs.unfinished(kind, arguments) or shop.jobs.submit(kind, arguments)
    work = work_of(shop, **{"tell": terminal.tell, **options})
    finished = run_job(shop.jobs, job.id, work, waiting=terminal.wait)
    if finished.state != "done":
        raised: type[SameItemError] = getattr(errors, str(finished.result.get("error_class")), InputError)
        raise raised(finished.error or f"the job was {finished.state}")
    return finished.result


def _queries(file: Path | None) -> str:
    """Return the absolute path of a file of labelled photos, "" where none is given."""
    if file is not None and not file.is_file():
        raise NotFoundError(f"no file {file}")
    return str(file.absolute()) if file else ""


def _pairs(text: str) -> dict[str, str]:
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"need --columns field=column,..., got {part!r}", field="columns")
        pairs[name.strip()] = value.strip()
    return pairs


def _box(text: str) -> Any:
    from sameitem.core.records import Box

    if not text:
        return None
    try:
        left, top, right, bottom = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"need --box L,T,R,B in pixels, got {text!r}", field="box") from error
    return Box(left, top, right, bottom)


def _three(text: str, field: str) -> tuple[float, float, float]:
    try:
        red, green, blue = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"need --{field} as three numbers R,G,B, got {text!r}", field=field) from error
    return red, green, blue


def _print_json(values: Mapping[str, Any]) -> None:
    typer.echo(json.dumps(values, ensure_ascii=False, indent=2, default=str))


def _complain(message: str) -> None:
    typer.echo(f"sameitem: {message}", err=True)


if __name__ == "__main__":
    main()
