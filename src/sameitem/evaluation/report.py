"""An evaluation for people: a table in the terminal, and one HTML file with pictures of hits and misses."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image, ImageOps
from rich.table import Table

from sameitem.core.records import ImageId, Pixels
from sameitem.evaluation.evaluate import DEPTHS, Evaluation, Figures, Outcome

SIDE = 132  # of a picture in the report, pixels
MISSES, HITS = 60, 20  # shown, worst first and best first
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b1f24; }
table { border-collapse: collapse; margin: 1rem 0 2rem; } th, td { padding: .3rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr + tr { border-top: 1px solid #d8dee4; }
.case { display: flex; gap: .6rem; align-items: flex-start; padding: .8rem 0; flex-wrap: wrap; }
.case + .case { border-top: 1px solid #d8dee4; }
figure { margin: 0; width: 132px; }
figure img { width: 132px; height: 132px; object-fit: contain; background: #f6f8fa; }
figcaption { font-size: 12px; overflow-wrap: anywhere; } .query img { outline: 2px solid #57606a; }
.right img { outline: 3px solid #1a7f37; } .right figcaption::before { content: "✓ "; } .note { color: #57606a; }
"""


def as_table(evaluation: Evaluation) -> Table:
    """Return recall of the whole and of each slice, with 95 % intervals."""
    table = Table("", "queries", *(f"recall@{k}" for k in DEPTHS), "mAP", "MRR", box=None)
    for name, figures in [("all", evaluation.whole), *evaluation.slices.items()]:
        table.add_row(name, f"{figures.queries:,}", *_recall_cells(figures), f"{figures.map:.3f}", f"{figures.mrr:.3f}")
    notes = []
    if evaluation.category_accuracy is not None:
        notes.append(f"category right {evaluation.category_accuracy:.3f} (ECE {evaluation.category_ece:.3f})")
    if evaluation.unknown:
        notes.append(f"{evaluation.unknown:,} queries left out: their product is not in the catalogue")
    if evaluation.failed:
        notes.append(f"{sum(evaluation.failed.values()):,} queries failed")
    notes.append(f"{evaluation.gallery:,} images in the gallery, query p50 {evaluation.ms['p50']:.0f} ms")
    table.caption = "; ".join(notes)
    return table


def write_html(evaluation: Evaluation, path: Path, picture_of: Callable[[ImageId], Pixels | None]) -> None:
    """Write the report as one file that needs nothing else.

    Args:
        evaluation: what was measured.
        path: file to write.
        picture_of: the stored photo of a gallery image, or None where it is gone.
    """
    misses = sorted((o for o in evaluation.outcomes if o.rank != 1), key=lambda o: -(o.rank or 10**6))
    hits = [outcome for outcome in evaluation.outcomes if outcome.rank == 1]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Evaluation of {_text(evaluation.index_version)}</title><style>{_STYLE}</style>",
        f"<h1>Evaluation</h1><p>Index {_text(evaluation.index_version)}, model {_text(evaluation.model_version)}, "
        f"{evaluation.gallery:,} images in the gallery.</p>",
        _html_table(evaluation),
        *(
            f"<p class=note>{count:,} queries failed: {_text(reason)}</p>"
            for reason, count in evaluation.failed.items()
        ),
        f"<p class=note>{evaluation.unknown:,} queries left out: their product is not in the catalogue.</p>",
        f"<h2>Not found first ({len(misses):,}; {min(MISSES, len(misses))} shown, worst first)</h2>",
        *(_case(outcome, picture_of) for outcome in misses[:MISSES]),
        f"<h2>Found first ({len(hits):,}; {min(HITS, len(hits))} shown)</h2>",
        *(_case(outcome, picture_of) for outcome in hits[:HITS]),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def contact_sheet(
    rows: Sequence[tuple[Pixels, Sequence[tuple[Pixels, bool]]]], *, side_px: int = 160, margin_px: int = 10
) -> Image.Image:
    """Return queries with their first hits, a row each; right ones are framed in green.

    Args:
        rows: query photo, and its hits with whether each is right.
        side_px: of each picture.
        margin_px: between pictures.
    """
    columns = 1 + max((len(hits) for _, hits in rows), default=0)
    step = side_px + margin_px
    sheet = Image.new("RGB", (columns * step + 3 * margin_px, len(rows) * step + margin_px), "#ffffff")
    for row, (query, hits) in enumerate(rows):
        top = margin_px + row * step
        sheet.paste(_square(query, side_px, frame="#57606a"), (margin_px, top))
        for column, (pixels, is_right) in enumerate(hits, start=1):
            frame = "#1a7f37" if is_right else "#d8dee4"
            sheet.paste(_square(pixels, side_px, frame=frame), (3 * margin_px + column * step, top))
    return sheet


def _html_table(evaluation: Evaluation) -> str:
    head = "".join(f"<th>recall@{k}" for k in DEPTHS)
    rows = [
        f"<tr><td>{_text(name)}<td>{figures.queries:,}{''.join(f'<td>{cell}' for cell in _recall_cells(figures))}"
        f"<td>{figures.map:.3f}<td>{figures.mrr:.3f}"
        for name, figures in [("all", evaluation.whole), *evaluation.slices.items()]
    ]
    return f"<table><tr><th><th>queries{head}<th>mAP<th>MRR{''.join(rows)}</table>"


def _recall_cells(figures: Figures) -> list[str]:
    if not figures.recall:
        return ["-"] * len(DEPTHS)
    return [f"{figures.recall[k].mean:.3f} [{figures.recall[k].low:.3f}, {figures.recall[k].high:.3f}]" for k in DEPTHS]


def _case(outcome: Outcome, picture_of: Callable[[ImageId], Pixels | None]) -> str:
    try:
        with Image.open(outcome.query.image) as photo:
            query = _uri(ImageOps.exif_transpose(photo).convert("RGB"))
    except OSError:
        query = ""
    rank = f"first right hit at {outcome.rank}" if outcome.rank else "not among the first 100"
    figures = [_figure("query", query, f"{outcome.query.product_id}: {rank}")]
    for place, (image_id, product_id, score) in enumerate(outcome.shown):
        pixels = picture_of(image_id)
        source = "" if pixels is None else _uri(Image.fromarray(pixels))
        name = "right" if outcome.relevant[place] else ""
        figures.append(_figure(name, source, f"{product_id} {score:.3f}"))
    return f"<div class=case>{''.join(figures)}</div>"


def _figure(name: str, source: str, caption: str) -> str:
    picture = f"<img src='{source}' alt='' loading=lazy>" if source else "<p>(picture missing)</p>"
    return f"<figure class='{name}'>{picture}<figcaption>{_text(caption)}</figcaption></figure>"


def _uri(picture: Image.Image) -> str:
    picture.thumbnail((SIDE, SIDE))
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=75)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()


def _square(pixels: Pixels, side_px: int, *, frame: str) -> Image.Image:
    inner = ImageOps.pad(Image.fromarray(pixels), (side_px - 6, side_px - 6), color="#ffffff")
    return ImageOps.expand(inner, 3, frame)


def _text(value: str) -> str:
    return html.escape(value, quote=True)
