"""predictions.html: a card for each X-ray, with its probabilities beside those of the test images, and heat maps.

The picture is decoded once more for the card, and for no more images than there are cards. A picture whose header says
that text is burned into it is left out, and its heat maps with it.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from cxr.core.files import atomic
from cxr.core.findings import FINDINGS, SLUGS
from cxr.data.picture import Picture
from cxr.predict import heat
from cxr.predict.formats import LEVELS
from cxr.predict.header import read
from cxr.predict.model import Predictor
from cxr.predict.source import Source
from cxr.report import page

LONGEST = 320  # pixels of a picture's longer side
NONE = "No Finding"  # an absence has no place


class Bar(NamedTuple):
    """One finding of an X-ray. value: its probability; population: the test images' 5, 25, 50, 75 and 95 % quantiles;
    above: share of the test images below the value. All are shares of 1. positive: yes, no or None.
    """

    name: str
    value: float
    population: tuple[float, ...]
    above: float
    positive: str | None


class Card(NamedTuple):
    """One X-ray. picture: None where it can't be shown; row: of predictions.csv; heats: of what is positive; more:
    number of positive findings without a heat map because the card has enough of them.
    """

    row: dict
    picture: page.Picture | None
    bars: list[Bar]
    heats: list[heat.Heat]
    more: int


def population(models: Sequence[Predictor]) -> np.ndarray:
    """14 x (LEVELS + 1) quantiles of the calibrated probability on test images, a mean over the models; NaN for a
    finding without.
    """
    result = np.full((len(models), len(SLUGS), LEVELS + 1), np.nan)
    for m, model in enumerate(models):
        for k, slug in enumerate(SLUGS):
            if levels := model.calibration.findings[slug].quantiles:
                result[m, k] = levels
    return result.mean(axis=0)


def bars(row: dict, quantiles: np.ndarray) -> list[Bar]:
    """The findings that have a probability, the most conspicuous first: those far above the test images."""
    result = []
    for slug, name, levels in zip(SLUGS, FINDINGS, quantiles, strict=True):
        value = row.get(f"probability.{slug}")
        if value is None or np.isnan(levels).any():
            continue
        above = float(np.interp(value, levels, np.linspace(0, 1, LEVELS + 1), left=0, right=1))
        five = tuple(float(levels[round(q * LEVELS)]) for q in (0.05, 0.25, 0.5, 0.75, 0.95))
        result.append(Bar(name, value, five, above, row.get(f"positive.{slug}")))
    return sorted(result, key=lambda bar: -bar.above)


def picture(source: Source, number: int, at_least: int) -> Picture | None:
    """A file of the source; None where it can't be decoded, or text is burned into it. at_least: pixels of a side."""
    from cxr.data.decode import decode

    name = source.names[number]
    try:
        data = source.tree.read(name)
        if read(io.BytesIO(data), b"").burned:
            return None
        return decode(data, name, at_least)
    except (ValueError, OSError):
        return None


def positive(found: Sequence[Bar]) -> list[tuple[int, str]]:
    """Place and name of the findings with a yes that have a place in the body, in the order of the bars."""
    return [(FINDINGS.index(bar.name), bar.name) for bar in found if bar.positive == "yes" and bar.name != NONE]


def card(row: dict, source: Source, quantiles: np.ndarray, explainer: heat.Explainer | None) -> Card:
    """The card of a row as published."""
    sizes = [model.size for model in explainer.models] if explainer else []
    xray, found = picture(source, row["number"], max([LONGEST, *sizes])), bars(row, quantiles)
    heats = heat.heats(explainer, xray, positive(found)) if explainer and xray else []
    small = page.xray(Image.fromarray(xray.pixels), LONGEST) if xray else None
    return Card(row, small, found, heats, len(positive(found)) - len(heats) if heats else 0)


def write_page(
    file: Path,
    rows: Iterable[dict],
    models: Sequence[Predictor],
    source: Source,
    counts,
    worth: pd.DataFrame,
    most: int,
    explained: tuple[heat.Explainer | None, str | None],
) -> None:
    """Write the page. rows: as published; counts: of the run; worth: findings.csv; most: cards; explained: what
    makes heat maps, and why it can't.
    """
    quantiles = population(models)
    explainer, no_heat = explained
    shown = [card(row, source, quantiles, explainer) for row in itertools.islice(rows, most)]
    first = models[0].calibration
    table = [
        {
            "model": row["model"], "finding": row["finding"], "positives": row["test_positives"],
            **{rate: page.Estimate(row[rate], row[f"{rate}_low"], row[f"{rate}_high"], row["status"])
               for rate in ("sensitivity", "specificity")},
        }
        for row in worth.to_dict("records")
    ]  # fmt: skip
    context = {
        "cards": shown,
        "counts": counts,
        "models": [model.name for model in models],
        "phantom": any(model.calibration.data == "phantom" for model in models),
        "calibration": first,
        "worth": page.Table("findings", table),
        "left_out": source.left_out,
        "names": dict(zip(SLUGS, FINDINGS, strict=True)),
        "heat": explainer,
        "no_heat": no_heat,
    }
    with atomic(file) as temporary:
        temporary.write_text(page.render(context, "predict/page.html.j2"), encoding="utf-8")
