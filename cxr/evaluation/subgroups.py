"""The same numbers within women and men, age bands and views, and how each group differs from all the others.

AUC; the false negative rate at the threshold that validation set for everybody; the offset, mean calibrated
probability less share of positives (above 0: the group's risk is overstated). A gap is the group's number less that of
the images outside the group, with the interval of the same resampled patients. A group with too few positives or
negatives has its counts and no number, and leaves the means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr.cohort.describe import possible
from cxr.core.findings import FINDINGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings, enough
from cxr.evaluation.metadata import views
from cxr.evaluation.operating import Judged

NUMBERS = ("auc", "fnr", "offset")


def groups(rows: pd.DataFrame, bands: Sequence[int]) -> list[tuple[str, str, np.ndarray]]:
    """(attribute, group, mask N) of the groups that have an image; rows as cxr.floor.people gives them; bands: the
    ages in years at which a new band starts."""
    edges = [-np.inf, *sorted(set(bands)), np.inf]
    age = possible(rows["age"].astype(np.float64))
    found = [("all", "all", np.ones(len(rows), bool))]
    found += [("sex", name, (rows["sex"] == code).to_numpy(bool)) for name, code in (("women", "F"), ("men", "M"))]
    found += [("sex", "unknown", rows["sex"].isna().to_numpy())]
    for low, high in zip(edges, edges[1:], strict=False):
        if low == -np.inf:
            name = f"under {high:g}" if high < np.inf else "any age"
        else:
            name = f"{low:g} and over" if high == np.inf else f"{low:g} to {high - 1:g}"
        found.append(("age", name, ((age >= low) & (age < high)).to_numpy()))
    found += [("age", "unknown", age.isna().to_numpy())]
    view = views(rows)
    found += [("view", name, (view == name).to_numpy(bool)) for name in ("AP", "PA", "lateral", "unknown")]
    return [group for group in found if group[2].any()]


def _numbers(truth, score, probability, threshold, mask, draws, settings) -> dict[str, tuple[float, np.ndarray]]:
    """Number -> (value, B replicates) of one finding's images in the mask; without those that can't be told."""
    mine = mask & ~np.isnan(truth)
    truth, score = truth[mine], score[mine]
    if not enough(truth, settings):
        return {}
    drawn = metrics.Draws(draws.owner[mine], draws.counts)
    found = {"auc": (float(metrics.auc(truth[:, None], score[:, None])[0]), metrics.weighted_auc(truth, score, drawn))}
    if probability is None:
        return found
    positive, missed, over = truth == 1, score < threshold, probability[mine] - truth
    columns = np.stack([positive & missed, positive, over, np.ones(len(truth))], axis=1)
    misses, positives, sums, images = metrics.bootstrap_sums(columns, drawn)
    with np.errstate(invalid="ignore"):
        if not np.isnan(threshold):
            found["fnr"] = float(missed[positive].mean()), misses / positives
        if not np.isnan(over).any():
            found["offset"] = float(over.mean()), sums / images
    return found


def table(
    models: Mapping[str, pd.DataFrame],
    judged: Mapping[str, Judged],
    rows: pd.DataFrame,
    settings: Settings,
) -> pd.DataFrame:
    """model, finding (or macro), attribute, group, patients, n, positives, negatives, findings, then of each of NUMBERS
    its value, _low, _high, _gap, _gap_low, _gap_high, on test images; rows: the people of the models' images.

    A model without a place in `judged` (the floor) has its AUC only. macro: the mean over the findings that have the
    number in this group; its gap over those that have it outside, too. findings: of the AUC's mean.
    """
    lines = []
    for model, predicted in models.items():
        at = (predicted["split"] == "test").to_numpy()
        test, who = predicted[at], rows[at].reset_index(drop=True)
        owners = test["patient_id"].to_numpy()
        draws = metrics.draw_patients(owners, settings.replicates, settings.seed)
        truth, score = columns_of(test, "truth").astype(np.float64), columns_of(test, "score")
        calibrated = judged[model].probability["calibrated"] if model in judged else None
        limits = judged[model].threshold if model in judged else np.full(len(FINDINGS), np.nan)
        for attribute, name, mask in groups(who, settings.age_bands):
            inside, outside = [], []
            head = {"model": model, "attribute": attribute, "group": name}
            patients = len(np.unique(owners[mask].astype(str)))
            for k, finding in enumerate(FINDINGS):
                given = truth[:, k], score[:, k], calibrated if calibrated is None else calibrated[:, k], limits[k]
                inside.append(_numbers(*given, mask, draws, settings))
                outside.append({} if attribute == "all" else _numbers(*given, ~mask, draws, settings))
                mine = truth[mask, k]
                counts = {"n": int((~np.isnan(mine)).sum()), "positives": int((mine == 1).sum())}
                counts["negatives"] = counts["n"] - counts["positives"]
                counts |= {"finding": finding, "patients": patients}
                lines.append(head | counts | _line(inside[-1:], outside[-1:], settings))
            counts = {"finding": "macro", "patients": patients, "n": int(mask.sum())}
            counts["findings"] = sum("auc" in found for found in inside)
            lines.append(head | counts | _line(inside, outside, settings))
    whole = dict.fromkeys(("positives", "negatives", "findings"), "Int64")
    return pd.DataFrame(lines).astype(whole)


def _line(inside: Sequence[dict], outside: Sequence[dict], settings: Settings) -> dict:
    """The numbers of one line: means over the findings that have them."""
    line = {}
    for number in NUMBERS:
        parts = {"": [found[number] for found in inside if number in found]}
        parts["_gap"] = [
            tuple(a - b for a, b in zip(found[number], other[number], strict=True))
            for found, other in zip(inside, outside, strict=True)
            if number in found and number in other
        ]
        for kind, found in parts.items():
            value, low, high = np.nan, np.nan, np.nan
            if found:
                value = np.mean([v for v, _ in found])
                low, high, _ = metrics.interval(np.mean([b for _, b in found], axis=0), settings.confidence)
            line |= {f"{number}{kind}": value, f"{number}{kind}_low": low, f"{number}{kind}_high": high}
    return line


def adgm(
    runs: Mapping[tuple[int, int], pd.DataFrame],
    floors: Mapping[int, np.ndarray],
    rows: pd.DataFrame,
    settings: Settings,
) -> pd.DataFrame:
    """The ADGMs' AUC (one class against the rest, mean over the classes; last epoch) beside the metadata's: classes,
    labels (blank for the metadata, fitted on every training label), view (all, AP, PA), n, patients, auc, low, high.

    floors: number of classes -> the metadata's probabilities, N x K; rows: the people of the runs' images. AUC is blank
    where a class has too few images in the view.
    """
    lines = []
    scored = {(c, None): values for c, values in floors.items()}
    scored |= {(c, n): t[[f"prob_last.{i}" for i in range(c)]].to_numpy() for (c, n), t in runs.items()}
    labels = {c: t["label"].to_numpy(np.int64) for (c, _), t in runs.items()}
    owners = next(iter(runs.values()))["patient_id"].to_numpy() if runs else np.array([])
    for (classes, given), probability in scored.items():
        draws = metrics.draw_patients(owners, settings.replicates, settings.seed)
        for name in ("all", "AP", "PA"):
            mask = (views(rows) == name).to_numpy(bool) | (name == "all")
            truth = (labels[classes][mask, None] == np.arange(classes)).astype(np.float64)
            area, low, high = np.nan, np.nan, np.nan
            if all(enough(column, settings) for column in truth.T):
                area = metrics.auc(truth, probability[mask]).mean()
                drawn = metrics.Draws(draws.owner[mask], draws.counts)
                replicates = metrics.bootstrap_auc(truth, probability[mask], drawn).mean(axis=0)
                low, high, _ = metrics.interval(replicates, settings.confidence)
            lines.append(
                {"classes": classes, "labels": given, "view": name, "n": int(mask.sum()),
                 "patients": len(np.unique(owners[mask].astype(str))), "auc": area, "low": low, "high": high}
            )  # fmt: skip
    columns = ["classes", "labels", "view", "n", "patients", "auc", "low", "high"]
    return pd.DataFrame(lines, columns=columns).astype({"labels": "Int64"})
