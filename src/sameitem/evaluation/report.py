"""An evaluation for people: a table in the terminal, one HTML file with pictures, and a contact sheet."""

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps
from rich.table import Table

from sameitem.core.boxes import scale_box
from sameitem.core.errors import InputError
from sameitem.core.records import ImageId, Pixels
from sameitem.evaluation.evaluate import DEPTHS, Evaluation, Figures, Outcome
from sameitem.pipeline.online import MAX_PAGE

PictureOf = Callable[[ImageId], Pixels | None]  # a gallery image's stored photo, None where it is gone
PhotoOf = Callable[[Path], Pixels | None]  # a query's photo, None where it cannot be read

SIDE = 150  # of a picture in the report, pixels
MISSES, HITS = 60, 20  # shown, worst first and best first
GREEN, RED, GREY, PALE, INK = "#1a7f37", "#cf222e", "#57606a", "#d8dee4", "#1b1f24"
_OPINIONS = {"model": "model", "knn": "kNN vote", "fused": "fused"}
_STYLE = f"""
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 66rem; padding: 0 1rem; color: {INK}; }}
h2 {{ margin: 2.5rem 0 .5rem; }} .note {{ color: {GREY}; margin: .2rem 0; }}
.wide {{ overflow-x: auto; }} table {{ border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }}
th, td {{ padding: .35rem .8rem; text-align: right; white-space: nowrap; border-bottom: 1px solid {PALE}; }}
th {{ font-weight: 600; }} td small {{ color: {GREY}; margin-left: .3rem; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
.case {{ display: flex; gap: 1rem .7rem; padding: 1rem 0; flex-wrap: wrap; border-top: 1px solid {PALE}; }}
figure {{ margin: 0; width: {SIDE}px; }} figcaption {{ font-size: 13px; line-height: 1.35; overflow-wrap: anywhere; }}
figure img, .missing {{ display: block; box-sizing: border-box; width: {SIDE}px; height: {SIDE}px; margin-bottom: .3rem;
  object-fit: contain; background: #f6f8fa; border: 1px solid {PALE}; border-radius: 4px; }}
.missing {{ padding: 4rem 0; text-align: center; font-size: 13px; color: {GREY}; }}
@media (min-width: 66rem) {{ .query {{ margin-right: 1rem; }} }} .query img {{ border: 2px solid {GREY}; }}
.right img, .right .missing {{ border: 3px solid {GREEN}; }}
.right b::after {{ content: " \\2713"; color: {GREEN}; }}
"""


@dataclass(frozen=True, slots=True)
class SheetRow:
    """A query and what was found, for the contact sheet."""

    photo: Pixels
    caption: str
    hits: Sequence[tuple[Pixels, bool]]  # best first: picture, and whether it is right


def as_table(evaluation: Evaluation) -> Table:
    """Return recall of the whole and of each slice, with 95 % intervals."""
    table = Table("", "queries", *(f"recall@{k}" for k in DEPTHS), "mAP", "MRR", box=None)
    for name, figures in _lines(evaluation):
        table.add_row(name, f"{figures.queries:,}", *_recall_cells(figures), f"{figures.map:.3f}", f"{figures.mrr:.3f}")
    table.caption = "\n".join(_notes(evaluation))
    table.caption_justify = "left"
    return table


def write_html(evaluation: Evaluation, path: Path, *, picture_of: PictureOf, photo_of: PhotoOf) -> None:
    """Write the report as one file that needs nothing else.

    Args:
        evaluation: what was measured.
        path: file to write.
        picture_of: gallery pictures.
        photo_of: query photos.

    Raises:
        InputError: the file cannot be written.
    """
    misses = sorted((o for o in evaluation.outcomes if o.rank != 1), key=lambda o: -(o.rank or MAX_PAGE + 1))
    hits = sorted((o for o in evaluation.outcomes if o.rank == 1), key=lambda o: -o.shown[0].score)
    parts = [
        "<!doctype html>",
        "<html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Evaluation of {_text(evaluation.index_version)}</title><style>{_STYLE}</style>",
        "<h1>Evaluation</h1>",
        f"<p>Index {_text(evaluation.index_version)}, model {_text(evaluation.model_version)}.</p>",
        _html_table(evaluation),
        *(f"<p class=note>{_text(note)}</p>" for note in _notes(evaluation)),
        *(["<p class=note>Boxes: labelled in green, detected in red.</p>"] if evaluation.boxes else []),
        *_cases("Not found first", misses, MISSES, "worst first", picture_of, photo_of),
        *_cases("Found first", hits, HITS, "most alike first", picture_of, photo_of),
    ]
    try:
        path.write_text("\n".join(parts), encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot write the report {path}: {error.strerror}", field="html") from error


def contact_sheet(rows: Sequence[SheetRow], *, side_px: int = 168) -> Image.Image:
    """Return queries with their first hits, a row each; right hits are framed in green.

    Args:
        rows: from top to bottom.
        side_px: of each picture.
    """
    gap, gutter, text_px = side_px // 14, side_px // 4, side_px // 10
    label_px = text_px + gap
    columns = max((len(row.hits) for row in rows), default=0)
    left = gap + side_px + gutter  # of the hits
    sheet = Image.new(
        "RGB", (left + columns * (side_px + gap), gap + label_px + len(rows) * (side_px + label_px)), "white"
    )
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(text_px)
    draw.text((gap, gap), "photo", INK, font)
    draw.text((left, gap), "found, best first (green: the right product)", INK, font)
    for number, row in enumerate(rows):
        top = gap + label_px + number * (side_px + label_px)
        sheet.paste(_framed(row.photo, side_px, GREY, 1, around=PALE), (gap, top))
        draw.text((gap, top + side_px + 2), row.caption, GREY, font)
        for place, (pixels, is_right) in enumerate(row.hits):
            picture = _framed(pixels, side_px, GREEN, 4) if is_right else _framed(pixels, side_px, PALE, 1)
            sheet.paste(picture, (left + place * (side_px + gap), top))
    return sheet


def _lines(evaluation: Evaluation) -> list[tuple[str, Figures]]:
    return [("all", evaluation.whole), *evaluation.slices.items()]


def _recall_cells(figures: Figures) -> list[str]:
    return [f"{i.mean:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in (figures.recall[k] for k in DEPTHS)]


def _notes(evaluation: Evaluation) -> list[str]:
    """Return what the figures rest on, and what is not in them."""
    notes = [
        f"{evaluation.gallery:,} images in the gallery; a query takes {evaluation.ms['p50']:.0f} ms (p50), "
        f"{evaluation.ms['p99']:.0f} ms (p99). Brackets: bootstrap 95 % intervals, which say little where a few "
        "queries all agree."
    ]
    if (category := evaluation.category) is not None:
        told = ", ".join(f"{_OPINIONS[source]} {share:.3f}" for source, share in category.accuracy.items())
        notes.append(f"Category right, of {category.queries:,} queries: {told} (calibration error {category.ece:.3f}).")
    if (boxes := evaluation.boxes) is not None:
        notes.append(
            f"Boxes found, of {boxes.queries:,} labelled queries: mean IoU {boxes.mean_iou:.3f}, at least 0.5 for "
            f"{boxes.iou50:.3f}, at least 0.7 for {boxes.iou70:.3f}."
        )
    if evaluation.dropped:
        notes.append(f"Counted as missed: {evaluation.dropped:,} whose product selection dropped.")
    if evaluation.unknown:
        notes.append(f"Left out: {evaluation.unknown:,} whose product is not in the catalogue.")
    notes += [f"Left out: {count:,}; {reason}" for reason, count in evaluation.failed.items()]
    return notes


def _html_table(evaluation: Evaluation) -> str:
    head = "".join(f"<th>recall@{k}" for k in DEPTHS)
    rows = [
        f"<tr><td>{_text(name)}<td>{figures.queries:,}{''.join(f'<td>{cell}' for cell in _html_cells(figures))}"
        f"<td>{figures.map:.3f}<td>{figures.mrr:.3f}"
        for name, figures in _lines(evaluation)
    ]
    return f"<div class=wide><table><tr><th><th>queries{head}<th>mAP<th>MRR{''.join(rows)}</table></div>"


def _html_cells(figures: Figures) -> list[str]:
    mean_and_interval = (cell.split(" ", 1) for cell in _recall_cells(figures))
    return [f"{mean}<small>{interval}</small>" for mean, interval in mean_and_interval]


def _cases(
    title: str, outcomes: Sequence[Outcome], limit: int, order: str, picture_of: PictureOf, photo_of: PhotoOf
) -> list[str]:
    if not outcomes:
        return []
    shown = f"{len(outcomes):,}" if len(outcomes) <= limit else f"{limit} of {len(outcomes):,}"
    heading = f"<h2>{title}</h2><p class=note>{shown}, {order}</p>"
    return [heading, *(_case(outcome, picture_of, photo_of) for outcome in outcomes[:limit])]


def _case(outcome: Outcome, picture_of: PictureOf, photo_of: PhotoOf) -> str:
    query = outcome.query
    if outcome.rank:
        verdict = f"found at {outcome.rank}"
    elif outcome.wanted:
        verdict = f"not among the first {MAX_PAGE}"
    else:
        verdict = "dropped by selection"
    about = " · ".join(part for part in (query.slice, query.image.name) if part)
    figures = [_figure("query", _with_boxes(photo_of(query.image), outcome), query.product_id, verdict, about)]
    for place, hit in enumerate(outcome.shown):
        name = "right" if outcome.relevant[place] else "wrong"
        figures.append(_figure(name, picture_of(hit.image_id), hit.product_id, f"score {hit.score:.3f}"))
    return f"<div class=case>{''.join(figures)}</div>"


def _with_boxes(photo: Pixels | None, outcome: Outcome) -> Pixels | None:
    """Return the photo with the detected box drawn on it, and the labelled one in green."""
    if photo is None or (outcome.box is None and outcome.true_box is None):
        return photo
    picture = Image.fromarray(photo)
    picture.thumbnail((2 * SIDE, 2 * SIDE))
    draw = ImageDraw.Draw(picture)
    for box, colour in ((outcome.true_box, GREEN), (outcome.box, RED)):
        if box is not None:
            placed = scale_box(box, picture.width - 1, picture.height - 1)
            draw.rectangle((placed.left, placed.top, placed.right, placed.bottom), outline=colour, width=3)
    return np.asarray(picture)


def _figure(name: str, pixels: Pixels | None, title: str, *lines: str) -> str:
    picture = "<div class=missing>picture missing</div>" if pixels is None else _img(pixels, alt=title)
    caption = "".join(f"<br>{_text(line)}" for line in lines)
    return f"<figure class={name}>{picture}<figcaption><b>{_text(title)}</b>{caption}</figcaption></figure>"


def _img(pixels: Pixels, *, alt: str) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail((2 * SIDE, 2 * SIDE))  # sharp on dense screens
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=70)
    return f"<img src='data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}' alt='{_text(alt)}'>"


def _framed(pixels: Pixels, side_px: int, colour: str, width_px: int, *, around: str = "white") -> Image.Image:
    inner = side_px - 2 * width_px
    return ImageOps.expand(ImageOps.pad(Image.fromarray(pixels), (inner, inner), color=around), width_px, colour)


def _text(value: str) -> str:
    return html.escape(value, quote=True)
