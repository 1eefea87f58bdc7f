"""What a report page is made of, tables and pictures, and how it becomes one self-contained HTML file.

A Table holds raw values; the page shows them rounded by their column's kind, the CSV holds them whole, so the two
cannot disagree. Pictures are data URIs. All that comes from data passes through Jinja2's autoescape or Markup.format: a
finding named <script> is text.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jinja2
import pandas as pd
from markupsafe import Markup
from PIL import Image

KINDS = ("text", "count", "share", "auc", "printed", "difference", "p", "number")
MINUS = "\u2212"


class Estimate(NamedTuple):
    """A value with its interval; a NaN value is shown as 'n/a' with the reason why (e.g. '3 positives')."""

    value: float
    low: float = math.nan
    high: float = math.nan
    why: str = ""


class Counted(NamedTuple):
    """A count and what it is a part of: shown with its share, in the CSV as key and key_of."""

    value: float
    total: float


class Column(NamedTuple):
    """key: of the row's value and of the CSV's column; head: on the page; kind: of KINDS; group: heads neighbours."""

    key: str
    head: str
    kind: str = "text"
    group: str = ""


@dataclass
class Table:
    """name: of the CSV file; rows: a dict per row by column key; strong: first column's values of bold rows."""

    name: str
    caption: str
    columns: list[Column]
    rows: list[dict]
    notes: Sequence[str] = ()
    strong: Sequence[str] = ()
    groups: list[tuple[str, int]] = field(init=False)

    def __post_init__(self) -> None:
        assert all(c.kind in KINDS for c in self.columns), self.columns
        self.groups = []
        for column in self.columns:
            if self.groups and self.groups[-1][0] == column.group:
                self.groups[-1] = (column.group, self.groups[-1][1] + 1)
            else:
                self.groups.append((column.group, 1))

    def frame(self) -> pd.DataFrame:
        """The table as CSV has it: an Estimate becomes the columns key, key_low, key_high, a Counted key, key_of."""
        columns: dict[str, list] = {}
        for c in self.columns:
            values = [row.get(c.key) for row in self.rows]
            kind = next((type(v) for v in values if isinstance(v, Estimate | Counted)), None)
            if kind is None:
                columns[c.key] = values
                continue
            whole = [v if isinstance(v, kind) else kind(v, *[None] * (kind is Counted)) for v in values]
            columns[c.key] = [v.value for v in whole]
            if kind is Counted:
                columns[f"{c.key}_of"] = [v.total for v in whole]
            else:
                columns |= {f"{c.key}_low": [v.low for v in whole], f"{c.key}_high": [v.high for v in whole]}
        return pd.DataFrame(columns)


@dataclass
class Matrix:
    """A confusion matrix: counts by [true][predicted]; a row's share is its class's accuracy (recall)."""

    title: str
    classes: Sequence[str]
    counts: Sequence[Sequence[int]]
    foot: str

    def shares(self) -> list[list[float]]:
        return [[v / sum(row) if sum(row) else 0.0 for v in row] for row in self.counts]


@dataclass
class Picture:
    """uri: a data URI; alt: what it shows, in words; width: share of the column in percent; xray: shown on black."""

    caption: str
    uri: str
    alt: str
    width: int = 100
    xray: bool = False
    rows: Sequence[str] = ()


def missing(value) -> bool:
    """None, NaN and pd.NA."""
    return value is None or (not isinstance(value, str) and bool(pd.isna(value)))


def number(value: float, kind: str, decimals: int | None = None) -> str:
    """One number as a column of this kind shows it: 12,345, 12.3 %, 0.812, +0.021, <0.001. decimals: of a "number"."""
    if kind == "number" and decimals is not None:
        text = f"{round(value, decimals) + 0.0:,.{decimals}f}"  # + 0.0: no minus before a zero
    elif kind == "count":
        text = f"{round(value):,}"
    elif kind == "share":
        text = f"{100 * value:.1f} %" if value == 0 or abs(value) >= 0.0005 else f"{100 * value:.2g} %"
    elif kind == "auc":
        text = f"{value:.3f}"
    elif kind == "printed":
        text = f"{value:.2f}"
    elif kind == "difference":
        text = f"{value:+.3f}"
    elif kind == "p":
        text = "<0.001" if value < 0.001 else f"{value:.3f}"
    else:
        text = f"{value:,.4g}"
    return text.replace("-", MINUS)


def carried(estimate: Estimate) -> int | None:
    """The decimals that a value with an interval carries: those of two digits of the interval's width."""
    width = math.nan if missing(estimate.low) or missing(estimate.high) else estimate.high - estimate.low
    return max(0, 1 - math.floor(math.log10(width))) if width > 0 else None


def interval(estimate: Estimate, kind: str) -> str:
    """'[0.780, 0.841]', or '' where there is none."""
    if missing(estimate.low) or missing(estimate.high):
        return ""
    bounds = [number(v, kind, carried(estimate)) for v in (estimate.low, estimate.high)]
    if kind == "share":
        bounds[0] = bounds[0].removesuffix(" %")
    return f"[{', '.join(bounds)}]"


def cell(value, kind: str) -> Markup:
    """A table cell's content, escaped."""
    if isinstance(value, Estimate):
        if missing(value.value):
            return Markup('<span class="na">n/a{}</span>').format(f" \u2014 {value.why}" if value.why else "")
        shown = Markup('<span class="v">{}</span>').format(number(value.value, kind, carried(value)))
        bounds = interval(value, kind)
        return shown + Markup(' <span class="ci">{}</span>').format(bounds) if bounds else shown
    if isinstance(value, Counted) and not missing(value.value):
        share = number(value.value / value.total, "share") if value.total else "\u2013"
        shown = number(value.value, "count")
        return Markup('<span class="v">{}</span> <span class="ci share">{}</span>').format(shown, share)
    if isinstance(value, Counted) or missing(value):
        return Markup('<span class="na">\u2013</span>')
    if kind == "text" or isinstance(value, str):
        return Markup("{}").format(value)
    return Markup("{}").format(number(value, kind))


def data_uri(data: bytes, kind: str) -> str:
    """kind: an image's media subtype: png, jpeg, svg+xml."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def xray_uri(image: Image.Image, longest: int) -> str:
    """An X-ray picture as a JPEG data URI, made smaller so that its longer side is at most `longest` pixels."""
    image = image.convert("L") if image.mode not in ("L", "RGB") else image
    if max(image.size) > longest:
        scale = longest / max(image.size)
        size = tuple(max(1, round(v * scale)) for v in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "JPEG", quality=88)
    return data_uri(data.getvalue(), "jpeg")


def render(context: dict) -> str:
    """The page as HTML. context: what cxr/template.html.j2 asks for; a name that it lacks is an error of ours."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "cell": cell, "interval": interval, "missing": missing}
    return environment.get_template("template.html.j2").render(context)
