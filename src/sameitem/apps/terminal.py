"""What people read in a terminal: results on stdout, progress on stderr."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sameitem.apps.curves_view import CurvesView
from sameitem.catalog.selection import Reason
from sameitem.core.jobs import Job

if TYPE_CHECKING:
    from sameitem.core.keys import Key
    from sameitem.evaluation.engine_bench import Bench
    from sameitem.evaluation.evaluate import Evaluation
    from sameitem.evaluation.orders import OrderComparison
    from sameitem.pipeline.online import CategoryScore, SearchAnswer
    from sameitem.upkeep.demo import DemoReport
    from sameitem.upkeep.erasure import Erased
    from sameitem.upkeep.shoppers import SimulationReport

_WIDTH = 160  # columns where stdout is a file or a pipe
_CHANGES = {"change": "recall@1", "recall@10": "recall@10", "MRR": "mrr"}  # columns of a comparison
_EVERY_S = 15.0  # how often progress is a line where there is no terminal


class Terminal:
    """Shows progress while a command runs: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        self._out = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
        self._err = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._err,
        )
        self._curves = CurvesView()
        self._live = Live(Group(self._bar, self._curves), console=self._err, transient=True)
        self._task = self._bar.add_task("", total=100, counts="")
        self._quiet = quiet
        self._told = ("", time.monotonic())

    def __enter__(self) -> Self:
        """Start the bar."""
        if self._err.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take the bar away."""
        self._live.stop()

    def tell(self, step: str, percent: float, counts: Mapping[str, float]) -> None:
        """Show how far a step is."""
        shown = {name: f"{n:,}" if isinstance(n, int) else f"{n:.3g}" for name, n in counts.items() if n}
        self._show(step, percent, "  ".join(f"{name} {number}" for name, number in shown.items()))

    def tell_training(self, phase: str, percent: float, figures: Mapping[str, float]) -> None:
        """Show how far a training is, and its figures as they come."""
        self._show(phase, percent, self._curves.note(phase, figures, brief=self._err.is_terminal))

    def _show(self, step: str, percent: float, text: str) -> None:
        self._bar.update(self._task, description=step, completed=percent, counts=text)
        last, at = self._told
        if not self._err.is_terminal and not self._quiet and (step != last or time.monotonic() - at > _EVERY_S):
            self._told = (step, time.monotonic())
            left = self._bar.tasks[0].time_remaining
            about = "" if left is None or not percent else f"  {_duration(left)} left"
            self._err.print(f"{step}: {percent:.0f} %  {text}".rstrip() + about)

    def wait(self, job: Job) -> None:
        """Show how far a job is that another process runs, or that waits for one."""
        self.tell(f"{job.kind} ({job.state}, another process is at work)", job.percent, job.counts)

    def confirm(self, yes: bool) -> Callable[[int, int], bool]:
        """Return the question that a full feed asks before it deletes."""

        def asked(count: int, total: int) -> bool:
            self._err.print(f"The feed leaves out {count:,} of {total:,} products; they are to be deleted.")
            if yes or 2 * count <= total:
                return True
            if not sys.stdin.isatty():
                return False
            self._live.stop()
            return input("That is more than half. Delete them? [y/N] ").strip().lower() in ("y", "yes")

        return asked

    def show_import(self, result: Mapping[str, Any]) -> None:
        """Print what an import did."""
        self._out.print(f"Read {result['read']:,} rows ({result['source']}).")
        self._out.print(
            f"Products: {result['added']:,} added, {result['updated']:,} updated, {result['unchanged']:,} unchanged, "
            f"{result['deleted']:,} deleted. Images taken: {result['images']:,}."
        )
        for title, counts in (("Set aside", result["reasons"]), ("Values left out", result["warnings"])):
            if counts:
                self._out.print(f"{title}:")
                for reason, count in counts.items():
                    self._out.print(f"  {count:>8,}  {reason}")
        if result["error_file"]:
            self._out.print(f"Every row and image that was set aside, with its reason: {result['error_file']}")

    def show_click_import(self, result: Mapping[str, Any]) -> None:
        """Print what an import of a click log did."""
        self._out.print(
            f"Searches: {result['sessions']:,}, of which {result['repeated']:,} were there already. "
            f"Events: {result['events']:,}."
        )
        for reason, count in result["reasons"].items():
            self._out.print(f"  {count:>8,}  set aside: {reason}")
        if result["error_file"]:
            self._out.print(f"Everything that was set aside, with its reason: {result['error_file']}")

    def show_erasure(self, erased: "Erased") -> None:
        """Print what was kept of a user."""
        self._out.print(
            f"Erased: {erased.searches:,} searches, {erased.events:,} events, {erased.photos:,} photos, "
            f"{erased.triplets:,} triplets, {erased.features:,} features."
        )
        for job in erased.cancelled:
            self._out.print(f"Cancelled, for it was learning meanwhile: job {job}. Start it again.")

    def show_mining(self, result: Mapping[str, Any]) -> None:
        """Print what was learned from the click log, and what was not and why."""
        self._out.print(
            f"{result['triplets']:,} triplets from {result['used']:,} of {result['sessions']:,} searches: "
            f"{result['used_clicks']:,} of {result['clicks']:,} clicks say what the same item is, "
            f"{result['used_non_clicks']:,} of {result['non_clicks']:,} other places what another is."
        )
        for title, name in (
            ("Searches left out", "dropped"),
            ("Clicks left out", "dropped_clicks"),
            ("Other places left out", "dropped_non_clicks"),
        ):
            counts = sorted(result[name].items(), key=lambda reason: -reason[1])
            if counts:
                self._out.print(f"{title}:")
            for reason, count in counts:
                self._out.print(f"  {count:>8,}  {reason}")
        self._out.print(f"Compared by {', '.join(result['models'])}. Written: {result['file']}")
        if result["triplets"]:
            self._out.print("Next: `sameitem train embedding`.")
        else:
            self._out.print("Nothing to train with yet: more searches with clicks are needed.")

    def show_simulation(self, report: "SimulationReport") -> None:
        """Print what simulated shoppers did."""
        self._out.print(
            f"Simulated: {report.sessions:,} searches of {report.users:,} simulated shoppers, {report.clicks:,} clicks "
            f"({report.right_clicks:,} on the item in the photo, {report.wrong_clicks:,} on another)."
        )
        self._out.print(
            f"Simulated: {report.without_click:,} searches ended without a click, {report.abandoned:,} of them without "
            f"a look at the list; {report.not_shown:,} lists did not show the item."
        )
        for reason, count in report.reasons.items():
            self._out.print(f"  {count:>8,}  set aside: {reason}", soft_wrap=True)
        self._out.print("They are in the click log now, under users simulated-...; next: `sameitem mine`.")

    def show_build(self, result: Mapping[str, Any]) -> None:
        """Print what a build published."""
        certificate = result["certificate"]
        self._out.print(f"Published index version {result['version']}: {result['images']:,} images.")
        self._out.print(
            f"Folded {result['duplicates']:,} near-duplicates; dropped {sum(result['dropped'].values()):,}: "
            + (", ".join(f"{count:,} {reason}" for reason, count in result["dropped"].items()) or "none")
            + "."
        )
        self._show_certificate(certificate)
        steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result["stages_s"].items())
        self._out.print(f"Took {sum(result['stages_s'].values()):.1f} s ({steps}); at most {result['peak_mb']:.0f} MB.")

    def show_compaction(self, result: Mapping[str, Any]) -> None:
        """Print what a compaction published."""
        if not result["added"] + result["removed"]:
            self._out.print(f"Nothing changed since index version {result['version']}, which stays.")
            return
        self._out.print(
            f"Published index version {result['version']}: {result['images']:,} images, {result['added']:,} more and "
            f"{result['removed']:,} fewer than before."
        )
        self._show_certificate(result["certificate"])

    def _show_certificate(self, certificate: Mapping[str, Any]) -> None:
        self._out.print(
            f"Recall@{certificate['k']} against a linear scan: {certificate['recall']:.4f} "
            f"[{certificate['low']:.4f}, {certificate['high']:.4f}] over {certificate['queries']:,} queries."
        )

    def show_answer(self, answer: "SearchAnswer", *, explain: bool = False) -> None:
        """Print the results of a query, and where asked how they came about."""
        name = answer.categories[0].name if answer.categories else "unknown"
        self._out.print(
            f"Category: {name} ({answer.category_source}). Box: {answer.box_source}. {answer.found:,} found."
        )
        table = Table("", "score", "product", "image", "title", "price", "same picture", box=None)
        for result in answer.results:
            product = result.product
            price = "" if product.price is None else f"{product.price:g} {product.currency}"
            folded = f"+{len(result.duplicates)}" if result.duplicates else ""
            score = f"{result.score:.1%}"
            title = product.title[:48]
            table.add_row(str(result.rank), score, product.product_id, result.image.name, title, price, folded)
        self._out.print(table)
        if explain:
            self._explain(answer)

    def _explain(self, answer: "SearchAnswer") -> None:
        def told(categories: Sequence["CategoryScore"]) -> str:
            return ", ".join(f"{one.name} {one.score:.0%}" for one in categories[:3] if one.score >= 0.005) or "nothing"

        where = {"caller": "given with the query", "detected": "found by the model", "whole_photo": "the whole photo"}
        searched = ", ".join(answer.searched_categories) or "all categories that were asked for"
        self._out.print(f"\nThe box searched with: {where[answer.box_source]}.")
        self._out.print(f"The category, by the model: {told(answer.model_categories)}.")
        self._out.print(f"              by the vote of the most alike labelled images: {told(answer.knn_categories)}.")
        self._out.print(f"              in the end ({answer.category_source}): {told(answer.categories)}.")
        for voter in answer.voters[:3]:
            self._out.print(f"              voted, {voter.share:.0%}: image {voter.image_id} ({voter.category})")
        self._out.print(f"Searched in: {searched}.\n")
        weight = answer.results[0].judgement.colour_weight if answer.results else 0.0
        colours = ("colours", "in all") if weight else ()
        table = Table(
            "", "cosine", "distance", *colours, "nearest other", "lead", "curve", "log odds", "score", box=None
        )
        for result in answer.results:
            why = result.judgement
            seen = (f"{why.colour_distance:.3f}", f"{why.distance:.3f}") if why.colour_distance is not None else ()
            odds = why.curve.intercept + why.curve.slope * why.lead
            sum_ = f"{why.curve.intercept:+.2f} {why.curve.slope:+.2f} x {why.lead:+.3f} = {odds:+.2f}"
            curve = result.category_id if why.curve_source == "category" else why.curve_source
            far = (f"{why.cosine:.3f}", f"{why.squared_distance:.3f}", *seen, f"{why.rival_distance:.3f}")
            table.add_row(str(result.rank), *far, f"{why.lead:+.3f}", curve, sum_, f"{why.score:.1%}")
        added = f", after {weight:g} times that of the colours was added" if weight else ""
        table.caption = (
            "Score: how probable it is that the result shows the same item. Distance: squared, of the features (0 "
            f"alike, 2 unrelated); looks order the list by it{added}. Nearest other: distance of the nearest other "
            "product. Lead: how much nearer the result is than that; a curve (its category's own, one common to the "
            "shop, or the shipped one) turns it into log odds, and those into the score, 1 / (1 + exp(-log odds))."
        )
        table.caption_justify = "left"
        self._out.print(table)
        if any(result.quality is not None for result in answer.results):
            self._explain_quality(answer)

    def _explain_quality(self, answer: "SearchAnswer") -> None:
        table = Table("", "by looks", "quality", "what raised (+) and lowered (-) it most", box=None)
        for result in answer.results:
            said = [
                f"{one.feature} {'unknown' if one.value is None else format(one.value, '.3g')} ({one.effect:+.2f})"
                for one in result.effects[:4]
            ]
            quality = "" if result.quality is None else f"{result.quality:.3f}"
            table.add_row(str(result.rank), str(result.visual_rank), quality, ", ".join(said))
        table.caption = (
            f"Ranker {answer.ranker_version}. Quality: its score, 0 to 1; in brackets how much a feature changes its "
            "log odds against the usual value. The list is in the order of looks and quality together "
            "(settings rerank.visual_share, rerank.similarity_floor)."
        )
        table.caption_justify = "left"
        self._out.print(table)

    def show_versions(self, versions: list[dict[str, Any]]) -> None:
        """Print the index versions."""
        if not versions:
            self._out.print("No index version is published yet; run `sameitem build`.")
            return
        table = Table("version", "", "created", "images", "products", "recall", "model", "MB", box=None)
        for version in versions:
            table.add_row(
                version["version"],
                "live" if version["live"] else "",
                version["created"],
                f"{version['images']:,}",
                f"{version['products']:,}",
                f"{version['certificate']['recall']:.4f}",
                version["model_version"],
                f"{version['bytes'] / 1e6:,.1f}",
            )
        self._out.print(table)

    def show_version(self, version: dict[str, Any]) -> None:
        """Print one index version and what its selection dropped."""
        self.show_versions([version])
        dropped = {**version["dropped"], "near_duplicate": version["duplicates"]}
        for reason, count in dropped.items():
            self._out.print(f"\n{reason}: {count:,}. {Reason(reason).explanation}")
            for row in version["examples"]:
                if row["reason"] == reason:
                    self._out.print(f"  {row['product_id']} / {row['image_name']}  {row['detail']}")

    def show_models(self, models: list[dict[str, Any]]) -> None:
        """Print the model versions."""
        table = Table("version", "", "kind", "dims", "index", "licence", "source", box=None)
        for model in models:
            state = ", ".join(name for name in ("active", "live") if model[name])
            about = (model["kind"], str(model["dim"] or ""), model["index"] or "", model["licence"])
            table.add_row(model["version"], state, *about, model["error"] or model["source"])
        self._out.print(table)

    def show_keys(self, keys: "Sequence[Key]") -> None:
        """Print the API keys."""
        if not keys:
            self._out.print("No API key was made yet; `sameitem keys create NAME --scope search` makes one.")
            return
        table = Table("id", "name", "scopes", "created", "revoked", box=None)
        for key in keys:
            revoked = "" if key.revoked_at is None else _moment(key.revoked_at)
            table.add_row(key.id, Text(key.name), ", ".join(key.scopes), _moment(key.created_at), revoked)
        self._out.print(table)

    def show_rankers(self, versions: list[dict[str, Any]]) -> None:
        """Print the rankers."""
        table = Table("version", "", "searches", "clicks", "until", "clicks a search, looks -> ranked", box=None)
        for one in versions:
            metrics = one.get("metrics", {})
            gain = f"{metrics['clicks_by_looks']} -> {metrics['clicks_ranked']}" if "clicks_ranked" in metrics else ""
            counts = [f"{one[name]:,}" if name in one else "" for name in ("searches", "clicks")]
            state = "active" if one["active"] else ""
            table.add_row(one["version"], state, *counts, one.get("until", "")[:16], one["error"] or gain)
        self._out.print(table)

    def show_orders(self, before: str, after: str, found: "OrderComparison") -> None:
        """Print how two orders compare."""
        delta = found.delta
        self._out.print(
            f"Clicks per search, estimated from {found.searches:,} searches of {found.users:,} users: "
            f"{found.before:.4f} by {before}, {found.after:.4f} by {after}.\n"
            f"Change {delta.mean:+.4f} [{delta.low:+.4f}, {delta.high:+.4f}]: {found.verdict}."
        )

    def show_ranker_training(self, result: Mapping[str, Any]) -> None:
        """Print what the training of a ranker made, and what to do with it."""
        self._out.print(f"Trained {result['version']} in {result['seconds']:,.0f} s. On the newest searches:")
        for name, value in result["metrics"].items():
            self._out.print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
        self._out.print(f"Next: `sameitem rankers activate {result['version']}`, which asks the gate.")

    def show_comparison(self, comparison: Mapping[str, Any]) -> None:
        """Print what changed from one generation to another."""
        before, after = comparison["before"], comparison["after"]
        self._out.print(f"Before: model {before['model_version']}, index {before['index_version']}.")
        self._out.print(f"After:  model {after['model_version']}, index {after['index_version']}.\n")
        table = Table("", "queries", "products", "recall@1", *_CHANGES, "won", "lost", "", box=None)
        for title, part in (("all", comparison), *comparison["slices"].items()):
            first = part["measures"]["recall@1"]
            changes = [_points(part["delta"][name]) for name in _CHANGES.values()]
            counts = [f"{part[name]:,}" for name in ("queries", "products", "wins", "losses")]
            both = f"{first['before']:.3f} -> {first['after']:.3f}"
            table.add_row(title, *counts[:2], both, *changes, *counts[2:], part["verdict"])
        table.caption = (
            "Changes in points, with bootstrap 95 % intervals over products. Won and lost: queries whose first hit "
            "became right, became wrong."
        )
        if comparison["left_out"]:
            table.caption += f"\nLeft out: {comparison['left_out']:,} whose product only one of the galleries has."
        if comparison["failed"]:
            table.caption += f"\nLeft out: {comparison['failed']:,} whose photo could not be used."
        table.caption_justify = "left"
        self._out.print(table)

    def show_activation(self, result: Mapping[str, Any]) -> None:
        """Print what an activation did, and what the gate said."""
        gate = result["gate"]
        if gate is not None and gate["comparison"] is not None:
            self.show_comparison(gate["comparison"])
        if gate is not None and gate["forced"]:
            self._out.print(f"The gate said no: {'; '.join(gate['reasons'])}. Forced.")
        if gate is not None and gate["not_judged"]:
            self._out.print(f"Not judged, of too few products: {', '.join(gate['not_judged'])}.")
        self._out.print(f"Model {result['version']} is active; its index {result['index']} is live.")
        if result["previous"]:
            self._out.print(f"Back to {result['previous'][0]}: `sameitem models rollback`.")

    def show_experiment(self, shown: Mapping[str, Any]) -> None:
        """Print how an experiment stands."""
        names = {side: shown[side] for side in ("a", "b")}
        said = {
            "a better": f"A ({names['a']}) is better",
            "b better": f"B ({names['b']}) is better",
            "go on": "not decided yet",
            "no difference worth finding": f"no difference of {100 * shown['rule']['worth']:g} points or more",
        }
        self._out.print(f"Experiment {shown['id']}: A is {names['a']}, B is {names['b']}.")
        self._out.print(f"Verdict: {said[shown['verdict']]}.")
        found = shown["preference"]
        self._out.print(
            f"Preference for B at the last look: {100 * found['mean']:+.1f} points, "
            f"interval {100 * found['low']:+.1f} to {100 * found['high']:+.1f} "
            f"(level {100 - 100 * shown['rule']['alpha']:g} % over all looks)."
        )
        self._out.print(
            f"Searches: {shown['searches']:,}; won by A {shown['a_wins']:,}, by B {shown['b_wins']:,}, by neither "
            f"{shown['ties']:,}. Decided {shown['decided']:,} of at most {shown['most']:,}."
        )
        if shown["waiting"]:
            self._out.print(f"Not counted yet: {shown['waiting']:,} searches of the last hour.")
        if shown["over_the_limit"]:
            self._out.print(f"Left out: {shown['over_the_limit']:,} searches of users who had decided enough others.")

    def show_training(self, result: Mapping[str, Any], active: str) -> None:
        """Print what a training made, and what to do with it."""
        made = f"Trained model {result['version']}" if result["version"] else f"Found nothing better than {active}"
        self._out.print(f"{made} in {result['seconds']:,.0f} s.")
        for name, value in result["metrics"].items():
            self._out.print(f"  {name}: {value:.4g}" if isinstance(value, float) else f"  {name}: {value}")
        if not result["version"]:
            return
        if result["curves"]:
            self._out.print(f"Curves: {result['curves']}")
        self._out.print(f"Next: `sameitem models compare {active} {result['version']}`, then")
        self._out.print(f"      `sameitem models activate {result['version']}`.")

    def show_loop(self, result: Mapping[str, Any]) -> None:
        """Print what a loop did, and why it published or not."""
        table = Table("step", "", "s", "", box=None)
        for step in result["steps"]:
            figures = step["figures"].items()
            said = step["reason"] or "  ".join(f"{name} {value}" for name, value in figures)
            table.add_row(step["name"], step["state"], f"{step['seconds']:,.1f}", said)
        self._out.print(table)
        gate = (result["embedding"] or {}).get("gate")
        if gate and gate["comparison"]:
            self._out.print()
            self.show_comparison(gate["comparison"])
        self._out.print(f"\n{'Published' if result['published'] else 'Nothing published'}: {result['reason']}.")
        for warning in result["warnings"]:
            self._out.print(f"Warning: {warning}")
        self._out.print(f"Page: {result['report']}")

    def show_demo(self, report: "DemoReport") -> None:
        """Print what the demo found, and what to do next."""
        self._out.print(f"\n{report.products:,} products, {report.images:,} images, {report.queries:,} {report.kind}.")
        self._out.print(
            f"The right product is first for {report.recall['1']:.1%} of them, and among the first ten for "
            f"{report.recall['10']:.1%}. A colour histogram alone: {report.histogram_recall:.1%} first."
        )
        self._out.print(f"Query p50 {report.query_ms['p50']:.0f} ms, p99 {report.query_ms['p99']:.0f} ms.")
        self._out.print(f"Build {report.build_s:.0f} s. Example results: {report.sheet}")
        self._out.print(f"\nOpen the search page:  {_program()} serve --shop {report.folder}")

    def show_bench(self, result: "Bench") -> None:
        """Print how engines compare."""
        table = Table(
            "engine", "recall@10", "recall@60", "batch", "single", "p50 ms", "p99 ms", "bytes", "built s", "settings",
            box=None,
        )  # fmt: skip
        for line in result.engines:
            batch = "-" if line.qps_cpu_batch is None else f"{line.qps_cpu_batch:,}"
            speed = (batch, f"{line.qps_cpu_single:,}", f"{line.p50_ms:.2f}", f"{line.p99_ms:.2f}")
            size = "?" if line.bytes_per_vector is None else f"{line.bytes_per_vector:.0f}"
            found = (f"{line.recall10:.4f}", f"{line.recall60:.4f}")
            table.add_row(line.name, *found, *speed, size, f"{line.build_cpu_s:.0f}", line.setting)
        table.caption = (
            f"{result.rows:,} vectors of {result.dim}. Batch, single: queries a second of processor time, each engine "
            f"with its cheapest settings at recall@10 >= {result.asked:g}. Bytes of memory a vector, exact rows aside."
        )
        table.caption_justify = "left"
        self._out.print(table)
        for name, best in result.short.items():
            self._out.print(f"{name} reaches recall@10 {best:.4f} at most.")
        if result.ratios:
            told = ", ".join(f"{name} {ratio:g}" for name, ratio in result.ratios.items())
            self._out.print(f"Times as many queries as each peer: {told}.")

    def show_evaluation(self, evaluation: "Evaluation", html: Path | None) -> None:
        """Print an evaluation's table."""
        from sameitem.evaluation.report import as_table

        self._out.print(as_table(evaluation))
        if html is not None:
            self._out.print(f"Report with pictures: {html}")


def _points(delta: Mapping[str, float]) -> str:
    return f"{100 * delta['mean']:+.1f} [{100 * delta['low']:+.1f}, {100 * delta['high']:+.1f}]"


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else "less than a minute"


def _program() -> str:
    """Return how this program was called, so that the line printed can be copied."""
    return sys.argv[0] if sys.argv[0].endswith("sameitem") else "sameitem"
