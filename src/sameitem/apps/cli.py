"""The command line: parse, call, print. Heavy imports stand inside the commands, so that `--help` is quick.

Here: a shop, its catalogue, searching, keys, settings. What a shop learns is in `cli_learning.py`.
"""

import json
import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from sameitem import __version__
from sameitem.apps.cli_common import (
    JsonOption,
    SeedOption,
    SetOption,
    ShopOption,
    complain,
    flags_of,
    folder_of,
    opened_shop,
    print_json,
    run_shop_job,
    terminal_of,
)
from sameitem.apps.cli_learning import experiment_app, index_app, loop, models_app, rankers_app, train_app
from sameitem.apps.problems import EXIT_INTERRUPTED, EXIT_SET_ASIDE, meaning
from sameitem.core.errors import InputError, NotFoundError, SameItemError

app = typer.Typer(
    name="sameitem",
    help="Photo search for shops that learns from its own clicks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench_app = typer.Typer(help="Speed and recall beside other systems.", no_args_is_help=True)
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


def main() -> None:
    """Run the command line; errors become one line on stderr and an exit code."""
    try:
        status = app(standalone_mode=False)
    except SameItemError as error:
        complain(str(error))
        sys.exit(meaning(error).exit_status)
    except typer.Abort:
        complain("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        complain("interrupted; run the same command again to go on")
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
        print_json({"shop": str(folder.resolve())})
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
    arguments = {"source": str(source), "columns": _columns(columns), "full": full, "uploaded": False}
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        result = run_shop_job(opened, "import", arguments, terminal, confirm=terminal.confirm(yes))
        if as_json:
            print_json(result)
        else:
            terminal.show_import(result)
        if result["deletion_withheld"]:
            complain(result["deletion_withheld"])
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
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        arguments = {"source": str(source), "columns": _columns(columns)}
        result = run_shop_job(opened, "import-clicks", arguments, terminal)
        if as_json:
            print_json(result)
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

    with opened_shop(context, shop, settings) as opened:
        begin = since.replace(tzinfo=UTC).timestamp() if since else 0.0
        done = export_clicks(file.absolute(), opened.clicks.sessions(since=begin))
        if as_json:
            print_json({"file": str(done.file), "sessions": done.sessions, "events": done.events})
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

    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        erased = erase_user(opened, user)
        if as_json:
            print_json(asdict(erased))
        else:
            terminal.show_erasure(erased)


@clicks_app.command("prune")
def clicks_prune(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """Delete searches, events and photos that are past their days; every build does so, too."""
    from sameitem.pipeline.retention import prune_shop

    with opened_shop(context, shop, settings) as opened:
        pruned = prune_shop(opened, time.time())
        if as_json:
            print_json(asdict(pruned))
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

    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        file = (out or opened.folder / TRIPLETS).absolute()
        if file.is_dir() or not file.parent.is_dir():
            raise InputError(f"cannot write {file}: need a file's name in a folder that exists", field="out")
        result = run_shop_job(opened, "mine", {"out": str(file)}, terminal)
        if as_json:
            print_json(result)
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
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        report = simulate_over_http(opened, sessions, photos=photos, url=url, key=key, seed=seed, tell=terminal.tell)
        if as_json:
            print_json(asdict(report))
        else:
            terminal.show_simulation(report)
    return EXIT_SET_ASIDE if report.set_aside else 0


@app.command()
def build(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """Select, compute features, fold near-duplicates, index, certify and publish."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        result = run_shop_job(opened, "build", {}, terminal)
        if as_json:
            print_json(result)
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
    with opened_shop(context, shop, settings) as opened:
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
            print_json(search_answer(answer, request_id=answer.search_id, fields=None, explain=explain))
        else:
            with terminal_of(False) as terminal:
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
    with opened_shop(context, shop, flags) as opened:
        run(opened)


@app.command(hidden=True)
def runner(context: typer.Context, shop: ShopOption = None) -> None:
    """Run the waiting jobs to their end; the server starts this."""
    from sameitem.core.jobs import run_jobs
    from sameitem.upkeep.work import work_of

    with opened_shop(context, shop, None) as opened:
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

    with terminal_of(as_json) as terminal:
        report = run_demo(folder, source=source, tell=terminal.tell)
        if as_json:
            print_json(report.as_json())
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

    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        before = evaluate_version(opened, compare, queries, tell=terminal.tell) if compare else None
        evaluation = evaluate_shop(opened, queries, html=html, tell=terminal.tell)
        comparison = compare_evaluations(before, evaluation).as_json() if before else None
        if as_json:
            print_json(evaluation.as_json() | ({"comparison": comparison} if comparison else {}))
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

    with terminal_of(as_json) as terminal:
        if plot and not plot.parent.is_dir():
            raise InputError(f"no folder {plot.parent} for the plot", field="plot")
        drawn = read_vectors(vectors, queries=queries) if vectors else draw_vectors(rows, dim, queries=queries)
        (result,) = bench(
            *drawn, asked=[recall], tell=lambda what: terminal.tell(what, 0.0, {}), fronts=plot is not None
        )
        if plot:
            write_plot(result, plot)
        if as_json:
            print_json(result.as_json())
        else:
            terminal.show_bench(result)


app.command()(loop)


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
    with opened_shop(context, shop, settings) as opened:
        key, text = opened.keys.create(name, scope)
        if as_json:
            print_json({"key": text, **asdict(key)})
        else:
            typer.echo(text)
            typer.echo(f"Key {key.id} opens {', '.join(key.scopes)}. Keep it: it is not shown again.", err=True)


@keys_app.command("list")
def keys_list(
    context: typer.Context, shop: ShopOption = None, as_json: JsonOption = False, settings: SetOption = None
) -> None:
    """List the API keys that were made, without their secrets."""
    with opened_shop(context, shop, settings) as opened, terminal_of(as_json) as terminal:
        made = opened.keys.list()
        if as_json:
            print_json({"keys": [asdict(key) for key in made]})
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
    with opened_shop(context, shop, settings) as opened:
        key = opened.keys.revoke(key_id)
        if as_json:
            print_json(asdict(key))
        else:
            typer.echo(f"Key {key.id} ({key.name}) is revoked.")


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

    found, origins = load_settings(folder_of(context, shop), flags_of(settings))
    values = flatten(found.model_dump(mode="json"))
    if as_json:
        print_json({"settings": values, **({"sources": origins} if sources else {})})
        return
    width = max(map(len, values))
    for key, value in values.items():
        typer.echo(
            f"{key:<{width}}  {json.dumps(value, ensure_ascii=False)}" + (f"  ({origins[key]})" if sources else "")
        )


# ---- what is read from options ----


def _columns(text: str) -> dict[str, str]:
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


if __name__ == "__main__":
    main()
