"""How good the final classifier is on other hospitals' patients, and what is lost on the way there.

The predictions are those of the stage external; nothing is fitted to the external labels but the recalibration. The
drop is the internal AUC less the external one. The two are of different patients, so its interval joins both intervals
(Zou and Donner 2008, Statistics in Medicine 27, 1693):

    low = d - sqrt((a - a_low)^2 + (b_high - b)^2),    high = d + sqrt((a_high - a)^2 + (b - b_low)^2)

for d = a - b. The mean's drop is over the findings that both have. The metadata baseline is fitted on the internal
training patients. Calibration is measured as given, and after a scaling fitted on the labels of `local_labels` images
of whole patients, drawn at random; both on the same remaining patients.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.files import read_json, read_table
from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import calibration, intervals, metadata, metrics, operating, pointing, precision
from cxr.evaluation.classifiers import Settings, enough, model_areas
from cxr.evaluation.formats import External
from cxr.evaluation.names import frame
from cxr.evaluation.operating import NUMBERS, Measured
from cxr.evaluation.ranked import share_interval

KINDS = ("score", "probability", "positive", "truth")
FORMS = ("given", "local")  # of a probability: as the predictor gives it, and scaled on local labels
RATES = ("sensitivity", "specificity")
NAMES = ("external", "external_calibration", "external_sets", "external_labels", "external_boxes")  # of the tables


class Outside(NamedTuple):
    """One external data set: who was scored, the predictions (cxr/external/score.py), and how heat maps point at boxes
    (cxr/external/pointing.py), None without boxes.
    """

    info: External
    table: pd.DataFrame
    points: pd.DataFrame | None = None


class Internal(NamedTuple):
    """What external numbers are compared with.

    test: the first final's predictions of test images; rates: its rows of the table operating, by finding;
    baseline: the metadata baseline, fitted on training patients.
    """

    test: pd.DataFrame
    rates: pd.DataFrame
    baseline: metadata.Baseline


def read(folder: Path) -> list[Outside]:
    """The predictions of every external data set below a folder, by name; none where it does not exist."""
    found = []
    wanted = ["image_id", "patient_id", *(f"{kind}.{slug}" for kind in KINDS for slug in SLUGS)]
    for file in sorted(folder.glob("*/external.json")):
        info = read_json(file, "external", External)
        points, keys = file.with_name("pointing.parquet"), ("finding", "image_id", "patient_id")
        drawn = read_table(points, "external", keys) if points.is_file() else None
        found.append(Outside(info, read_table(file.with_name("predictions.parquet"), "external", wanted), drawn))
    return found


def difference(first: intervals.Area, second: intervals.Area) -> tuple[float, float, float]:
    """(first less second, low, high) of two AUCs of different patients. The ends are NaN where one has none."""
    d = first.value - second.value
    below = math.hypot(first.value - first.low, second.high - second.value)
    above = math.hypot(first.high - first.value, second.value - second.low)
    return d, d - below, d + above


def tables(
    outside: list[Outside], internal: Internal, local_labels: int, settings: Settings
) -> dict[str, pd.DataFrame]:
    """The tables of NAMES (cxr/evaluation/names.py).

    In `external` the row macro holds means over the findings with a number on both sides.
    """
    draws = metrics.draw_patients(internal.test["patient_id"], settings.replicates, settings.seed)
    inside = model_areas(internal.test, draws, settings)
    scored, calibrated, sets, labels, boxes = [], [], [], [], []
    for info, table, points in outside:
        head = {"name": info.name}
        there = metrics.draw_patients(table["patient_id"], settings.replicates, settings.seed)
        scored += [head | row for row in _scored(info, table, there, inside, internal, settings)]
        calibrated += [head | row for row in _calibrated(table, local_labels, settings)]
        sets.append(info.model_dump(exclude={"labels", "notes", "weights_sha256"}) | {"notes": "; ".join(info.notes)})
        labels += [head | one.model_dump() for one in info.labels]
        boxes += [head | row for row in _pointed(info, points, settings)]
    parts = scored, calibrated, sets, labels, boxes
    return {name: frame(name, rows) for name, rows in zip(NAMES, parts, strict=True)}


def _pointed(info: External, points: pd.DataFrame | None, settings: Settings) -> list[dict]:
    """A row for each finding with enough images, method or floor, and measure (cxr/evaluation/pointing.py); random: the
    method's mean correlation with the maps of random weights.
    """
    rows: list[dict] = []
    if points is None:
        return rows
    methods = [name.removesuffix(".hit") for name in points if name.endswith(".hit")]
    floors = [name for name in methods if f"{name}.random" not in points]
    methods = [name for name in methods if name not in floors]
    for finding in FINDINGS:
        of = points[points["finding"] == finding]
        if len(of) < settings.min_positives:
            continue
        scored = pointing.table(of, methods, floors, settings.replicates, settings.confidence, settings.seed)
        head = {"finding": finding, "answer": _answer(info, finding)}
        for row in scored.to_dict("records"):
            random = of[f"{row['method']}.random"].mean() if row["method"] in methods else math.nan
            rows.append(head | {str(key): value for key, value in row.items()} | {"random": random})
    return rows


def _answer(info: External, finding: str) -> str:
    """same, near, or '' where no label means the finding."""
    answers = [one.answer for one in info.labels if one.finding == finding and one.answer != "not the same"]
    return "near" if "near" in answers else "same" if answers else ""


def _scored(info, table, draws, inside, internal: Internal, settings: Settings) -> list[dict]:
    """A row for each finding, then macro."""
    truth, score, called = (columns_of(table, kind).astype(np.float64) for kind in ("truth", "score", "positive"))
    floor = metadata.predict(internal.baseline, table)
    rows, pairs, floors = [], [], []
    for k, finding in enumerate(FINDINGS):
        known = ~np.isnan(truth[:, k])
        y, s, drawn = truth[known, k], score[known, k], metrics.Draws(draws.owner[known], draws.counts)
        row = {"finding": finding, "answer": _answer(info, finding), **metrics.counts(y)}
        row["patients"] = len(np.unique(drawn.owner))
        rows.append(row)
        if not enough(y, settings):
            continue
        there, flat = (intervals.area(y, values, drawn, settings.confidence) for values in (s, floor[known, k]))
        row |= {"auc": there.value, "low": there.low, "high": there.high, "floor": flat.value}
        row |= metrics.with_interval(
            "above", there.value - flat.value, there.replicates - flat.replicates, settings.confidence
        )
        row |= _precision(y, s, drawn, settings) | _rates(y, called[known, k], drawn, settings)
        row |= {f"internal_{rate}": internal.rates.at[finding, rate] for rate in RATES}
        if inside.known[k]:
            here = inside.finding(k)
            row |= _drop(here, there)
            pairs.append((here, there))
            floors.append(flat)
    return [*rows, _macro(rows, pairs, floors, settings)]


def _drop(here: intervals.Area, there: intervals.Area) -> dict[str, float]:
    drop = difference(here, there)
    names = ("internal", "internal_low", "internal_high", "drop", "drop_low", "drop_high")
    return dict(zip(names, (here.value, here.low, here.high, *drop), strict=True))


def _precision(truth: np.ndarray, scores: np.ndarray, draws: metrics.Draws, settings: Settings) -> dict[str, float]:
    """ap with its interval, and what a random order has: the share of positives, and a little more in few images."""
    value = precision.average_precision(truth, scores)
    replicates = precision.recentred(value, precision.bootstrap(truth, scores, draws))
    row = {"prevalence": float(truth.mean()), "chance": precision.chance(int(truth.sum()), len(truth))}
    return row | metrics.with_interval("ap", value, replicates, settings.confidence)


def _rates(truth: np.ndarray, called: np.ndarray, draws: metrics.Draws, settings: Settings) -> dict[str, float]:
    """sensitivity and specificity at the operating point that was carried over; nothing where there is none."""
    if np.isnan(called).any():
        return {}
    measured = operating.measure_rates(truth, called == 1, draws)
    row: dict[str, float] = {}
    for rate, members in zip(RATES, (truth == 1, truth == 0), strict=True):
        owner = draws.owner[members]
        row |= share_interval(rate, measured.value[rate], measured.replicates[rate], owner, settings.confidence)
    return row


def _macro(rows: list[dict], pairs: list, floors: list, settings: Settings) -> dict:
    """Means over the findings that have an AUC on both sides."""
    row: dict = {"finding": "macro", "findings": len(pairs)}
    if not pairs:
        return row
    means = []
    for areas in zip(*pairs, strict=True):
        replicates = np.mean([one.replicates for one in areas], axis=0)
        value = float(np.mean([one.value for one in areas]))
        means.append(intervals.Area(value, replicates, *intervals.mean_interval(areas)))
    here, there = means
    flat = float(np.mean([one.value for one in floors]))
    gain = there.replicates - np.mean([one.replicates for one in floors], axis=0)
    row |= {"auc": there.value, "low": there.low, "high": there.high, "floor": flat, **_drop(here, there)}
    row |= metrics.with_interval("above", there.value - flat, gain, settings.confidence)
    both = [one for one in rows if "drop" in one]
    for name in ("ap", "prevalence", "chance", *RATES, *(f"internal_{rate}" for rate in RATES)):
        values = [one[name] for one in both if name in one]
        if values and not np.isnan(values).any():
            row[name] = float(np.mean(values))
    return row


def local_patients(patients: pd.Series, wanted: int, seed: int) -> np.ndarray:
    """Which of N images are the local ones: those of patients in a random order, until they are `wanted` or more; never
    more than half of all images.
    """
    names = patients.astype(str).to_numpy()
    order = np.random.default_rng([seed, 1]).permutation(np.unique(names))
    counts = pd.Series(names).value_counts().loc[order].cumsum().to_numpy()
    enough_of = int(np.searchsorted(counts, wanted)) + 1
    at_most = int(np.searchsorted(counts, len(names) / 2, side="right"))
    return np.isin(names, order[: min(enough_of, at_most)])


def _calibrated(table: pd.DataFrame, wanted: int, settings: Settings) -> list[dict]:
    """A row for each finding, then macro, of the images that no scaling was fitted on."""
    local = local_patients(table["patient_id"], wanted, settings.seed)
    rest = table[~local]
    draws = metrics.draw_patients(rest["patient_id"], settings.replicates, settings.seed)
    truth, given = (columns_of(table, kind).astype(np.float64) for kind in ("truth", "probability"))
    counts, measured = [], []
    for k in range(len(FINDINGS)):
        y, p = truth[:, k], given[:, k]
        fitted, scored = ~np.isnan(y) & local, ~np.isnan(y) & ~local
        drawn = metrics.Draws(draws.owner[scored[~local]], draws.counts)
        mine = metrics.counts(y[fitted])
        counts.append(metrics.counts(y[scored]) | {"local_labels": mine["n"], "local_positives": mine["positives"]})
        measured.append(Measured({}, {}))
        if enough(y[scored], settings) and not np.isnan(p).any():
            forms = {"given": p[scored], "local": _scaled(y[fitted], p[fitted], p[scored], settings)}
            measured[-1] = operating.measure_errors(y[scored], forms, drawn, k, settings)[0]
    names = [f"{number}_{form}" for number in NUMBERS for form in FORMS]
    return operating.rows_with_mean(counts, measured, len(rest), names, settings)


def _scaled(truth: np.ndarray, given: np.ndarray, others: np.ndarray, settings: Settings) -> np.ndarray:
    """The probabilities `others` under a scaling fitted on local labels; NaN where these are too few."""
    if not enough(truth, settings):
        return np.full(len(others), np.nan)
    scaling = calibration.fit(calibration.logit(given), truth, settings.scaling)
    return calibration.sigmoid(calibration.apply(scaling, calibration.logit(others)))


def judge(
    outside: list[Outside],
    final: pd.DataFrame,
    rates: pd.DataFrame,
    people: pd.DataFrame,
    train: pd.DataFrame,
    local_labels: int,
    settings: Settings,
) -> dict[str, pd.DataFrame]:
    """The tables, also without an external data set, when they have no row.

    final: the first final's predictions; rates: evaluate's table operating; people: the training images' sex, age and
    view, in the order of train, the rows of the label table that the metadata baseline is fitted under.
    """
    if not outside:
        return {name: frame(name, []) for name in NAMES}
    baseline = metadata.fit(people, columns_of(train, "target"), columns_of(train, "weight"))
    rows = rates[rates["model"] == "final"].set_index("finding")
    internal = Internal(final[final["split"] == "test"].reset_index(drop=True), rows, baseline)
    return tables(outside, internal, local_labels, settings)
