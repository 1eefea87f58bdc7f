"""What a page is made of, tables and pictures, and how it becomes one self-contained HTML file.

A Table holds raw values. Its CSV has all of them; the page shows the columns that its template names, rounded by kind,
so that the two cannot disagree. Pictures are data URIs. Text from data passes through Jinja2's autoescape or
Markup.format: a finding named <script> is text.
"""

from __future__ import annotations

import base64
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure
from PIL import Image

from cxr.report.figures.style import svg

MINUS = "\u2212"


class Estimate(NamedTuple):
    """A value with its interval. A NaN value is shown as 'n/a' with the reason, e.g. '3 positives'."""

    value: float
    low: float = math.nan
    high: float = math.nan
    why: str = ""


class Counted(NamedTuple):
    """A count and what it is a part of: shown with its share, in the CSV as key and key_of."""

    value: float
    total: float


@dataclass
class Table:
    """name: of the CSV file; rows: a dict per row, by CSV column; strong: first values of the rows in bold; empty: the
    CSV's columns without a row; standard: who labelled the images (cxr/report/sections/reference.py), where the page
    has to say so.
    """

    name: str
    rows: list[dict]
    strong: Sequence[str] = ()
    empty: Sequence[str] = ()
    standard: NamedTuple | None = None

    def frame(self) -> pd.DataFrame:
        """The table as in its CSV: an Estimate becomes the columns key, key_low, key_high, a Counted key, key_of."""
        columns: dict[str, list] = {}
        for key in dict.fromkeys(key for row in self.rows for key in row):
            values = [row.get(key) for row in self.rows]
            kind = next((type(v) for v in values if isinstance(v, Estimate | Counted)), None)
            if kind is None:
                columns[key] = values
                continue
            whole = [v if isinstance(v, kind) else kind(v, *[None] * (kind is Counted)) for v in values]
            columns[key] = [v.value for v in whole]
            if kind is Counted:
                columns[f"{key}_of"] = [v.total for v in whole]
            else:
                columns |= {f"{key}_low": [v.low for v in whole], f"{key}_high": [v.high for v in whole]}
        return pd.DataFrame(columns or {key: [] for key in self.empty})


@dataclass
class Matrix:
    """A confusion matrix: counts by [true][predicted]. A row's share is the accuracy of its class (recall)."""

    classes: Sequence[str]
    counts: Sequence[Sequence[int]]

    @property
    def n(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def accuracy(self) -> float:
        return sum(row[k] for k, row in enumerate(self.counts)) / self.n

    def shares(self) -> list[list[float]]:
        """The counts as shares of their row, 0 in an empty row."""
        return [[v / sum(row) if sum(row) else 0.0 for v in row] for row in self.counts]


@dataclass
class Picture:
    """uri: a data URI; width: share of the column in percent; xray: on black; figure: what a plot was drawn from;
    standard: as of a Table.
    """

    uri: str
    width: int = 100
    xray: bool = False
    figure: Figure | None = None
    standard: NamedTuple | None = None


def plot(figure: Figure, width: int = 100) -> Picture:
    """A figure as a picture of the page. width: share of the column in percent."""
    return Picture(data_uri(svg(figure), "svg+xml"), min(100, width), figure=figure)


def xray(image: Image.Image, longest: int, width: int = 100) -> Picture:
    """An X-ray as a JPEG picture on black. longest: most pixels of its longer side; it is never enlarged."""
    image = image.convert("L") if image.mode not in ("L", "RGB") else image
    if max(image.size) > longest:
        scale = longest / max(image.size)
        size = tuple(max(1, round(v * scale)) for v in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return Picture(data_uri(data.getvalue(), "jpeg"), min(100, width), xray=True)


def data_uri(data: bytes, kind: str) -> str:
    """kind: an image's media subtype: png, jpeg, svg+xml."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def missing(value) -> bool:
    """Whether a value is None, NaN or pd.NA."""
    return value is None or (not isinstance(value, str) and bool(pd.isna(value)))


def number(value: float, kind: str, decimals: int | None = None) -> str:
    """One number as a column of this kind shows it: 12,345, 12.3 %, 0.812, +0.021, <0.001.

    kind: count, share, auc, printed (a paper's), difference, p or number; decimals: of a "number".
    """
    if kind == "number" and decimals is not None:
        text = f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: no minus before a zero
    elif kind == "share":
        text = f"{100 * value:.1f} %" if value == 0 or abs(value) >= 0.0005 else f"{100 * value:.2g} %"
    elif kind == "p":
        text = "<0.001" if value < 0.001 else f"{value:.3f}"
    else:
        value = round(value) if kind == "count" else value
        form = {"count": ",", "auc": ".3f", "printed": ".2f", "difference": "+.3f", "number": ",.4g"}[kind]
        text = f"{value:{form}}"
    return text.replace("-", MINUS)


def decimals_of(estimate: Estimate) -> int | None:
    """The decimals that a value with an interval carries: those of two digits of the interval's width."""
    width = math.nan if missing(estimate.low) or missing(estimate.high) else estimate.high - estimate.low
    return max(0, 1 - math.floor(math.log10(width))) if width > 0 else None


def interval(estimate: Estimate, kind: str) -> str:
    """'[0.780, 0.841]', or '' without an interval."""
    if missing(estimate.low) or missing(estimate.high):
        return ""
    bounds = [number(v, kind, decimals_of(estimate)) for v in (estimate.low, estimate.high)]
    if kind == "share":
        bounds[0] = bounds[0].removesuffix(" %")
    return f"[{', '.join(bounds)}]"


def cell(value, kind: str) -> Markup:
    """A table cell's content, escaped. kind: as for `number`, text, or bounds: the interval of a difference alone."""
    if kind == "bounds":
        return cell((value and interval(value, "difference")) or None, "text")
    if isinstance(value, Estimate):
        if missing(value.value):
            return Markup('<span class="na">n/a{}</span>').format(f" \u2014 {value.why}" if value.why else "")
        text = Markup('<span class="v">{}</span>').format(number(value.value, kind, decimals_of(value)))
        bounds = interval(value, kind)
        return text + Markup(' <span class="ci">{}</span>').format(bounds) if bounds else text
    if isinstance(value, Counted) and not missing(value.value):
        share = number(value.value / value.total, "share") if value.total else "\u2013"
        count = number(value.value, "count")
        return Markup('<span class="v">{}</span> <span class="ci share">{}</span>').format(count, share)
    if isinstance(value, Counted) or missing(value):
        return Markup('<span class="na">\u2013</span>')
    return Markup("{}").format(value if kind == "text" or isinstance(value, str) else number(value, kind))


def plain(value, kind: str) -> str:
    """A table cell's content without markup."""
    return cell(value, kind).striptags()


def _environment(**options) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        lstrip_blocks=True,
        **options,
    )
    environment.filters |= {"number": number, "cell": cell, "interval": interval, "missing": missing, "plain": plain}
    return environment


def render(context: dict, template: str = "page.html.j2") -> str:
    """A page as HTML. context: what the template (in templates/) asks for; a name that it lacks is our own error."""
    return _environment().get_template(template).render(context).lstrip()


def write(path: Path, context: dict, template: str) -> None:
    """Write a page as `render` makes it, piece by piece: what the context yields one by one is never held together."""
    with open(path, "w", encoding="utf-8") as file:
        start = True
        for piece in _environment().get_template(template).generate(context):
            piece = piece.lstrip() if start else piece
            start = start and not piece
            file.write(piece)


def text(template: str, context: dict) -> str:
    """A document in Markdown. template: its name below templates; text from data is escaped as in HTML."""
    whole = _environment(trim_blocks=True).get_template(template).render(context)
    return re.sub(r"\n{3,}", "\n\n", whole).strip() + "\n"
