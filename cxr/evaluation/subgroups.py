"""Tables of the classifiers' numbers by sex, age band and view, and how each group differs from all other images.

AUC; false negative rate (fnr) at the one threshold set on validation; offset: mean calibrated probability minus share
of positives (above 0: the group's risk is overstated). A gap is the group's number minus that of the images outside the
group, with the interval over the same resampled patients. A group with too few positives or negatives has its counts
but no number, and no part in the means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr.cohort.describe import possible
from cxr.core.findings import FINDINGS, columns_of
from cxr.evaluation import intervals, metrics
from cxr.evaluation.classifiers import Settings, enough
from cxr.evaluation.metadata import views
from cxr.evaluation.names import GROUP_NUMBERS, frame
from cxr.evaluation.operating import Judged


def groups(rows: pd.DataFrame, bands: Sequence[int]) -> list[tuple[str, str, np.ndarray]]:
    """(attribute, group, mask N) of the groups that have an image; rows: of metadata.people; bands: the ages in
    years at which a new band starts."""
    edges = [-np.inf, *sorted(set(bands)), np.inf]
    age = possible(rows["age"].astype(np.float64))
    parts = [("all", "all", np.ones(len(rows), bool))]
    parts += [("sex", name, (rows["sex"] == code).to_numpy(bool)) for name, code in (("women", "F"), ("men", "M"))]
    parts += [("sex", "unknown", rows["sex"].isna().to_numpy())]
    for low, high in zip(edges, edges[1:], strict=False):
        if low == -np.inf:
            name = f"under {high:g}" if high < np.inf else "any age"
        else:
            name = f"{low:g} and over" if high == np.inf else f"{low:g} to {high - 1:g}"
        parts.append(("age", name, ((age >= low) & (age < high)).to_numpy()))
    parts += [("age", "unknown", age.isna().to_numpy())]
    view = views(rows)
    parts += [("view", name, (view == name).to_numpy(bool)) for name in ("AP", "PA", "lateral", "unknown")]
    return [group for group in parts if group[2].any()]


def _numbers(truth, score, probability, threshold, mask, draws, settings) -> dict[str, tuple]:
    """Number -> (value, B replicates) of one finding's images in the mask, auc -> intervals.Area; without numbers that
    can't be computed."""
    selected = mask & ~np.isnan(truth)
    truth, score = truth[selected], score[selected]
    if not enough(truth, settings):
        return {}
    drawn = metrics.Draws(draws.owner[selected], draws.counts)
    measured: dict[str, tuple] = {"auc": intervals.area(truth, score, drawn, settings.confidence)}
    if probability is None:
        return measured
    positive, missed, offset = truth == 1, score < threshold, probability[selected] - truth
    columns = np.stack([positive & missed, positive, offset, np.ones(len(truth))], axis=1)
    misses, positives, offsets, images = metrics.bootstrap_sums(columns, drawn)
    with np.errstate(invalid="ignore"):
        if not np.isnan(threshold):
            measured["fnr"] = float(missed[positive].mean()), misses / positives
        if not np.isnan(offset).any():
            measured["offset"] = float(offset.mean()), offsets / images
    return measured


def table(
    models: Mapping[str, pd.DataFrame],
    judged: Mapping[str, Judged],
    people: pd.DataFrame,
    settings: Settings,
) -> dict[str, pd.DataFrame]:
    """The tables subgroups and worst_gaps (cxr/evaluation/names.py), on test images; people: of the models' images
    (metadata.people).

    A model that is not in `judged` (the metadata baseline) has its AUC only. macro: the mean over the findings that
    have the number in this group, and its gap over those that have it outside as well; findings: of the AUC's mean.
    """
    rows, worst = [], []
    for model, predicted in models.items():
        selected = (predicted["split"] == "test").to_numpy()
        test = predicted[selected]
        owners = test["patient_id"].to_numpy()
        draws = metrics.draw_patients(owners, settings.replicates, settings.seed)
        truth, score = columns_of(test, "truth").astype(np.float64), columns_of(test, "score")
        calibrated = judged[model].probability["calibrated"] if model in judged else None
        limits = judged[model].threshold if model in judged else np.full(len(FINDINGS), np.nan)
        gaps: dict[str, list] = {finding: [] for finding in (*FINDINGS, "macro")}
        for attribute, name, mask in groups(people[selected].reset_index(drop=True), settings.age_bands):
            inside, outside = [], []
            head: dict = {"model": model, "attribute": attribute, "group": name}
            head["patients"] = len(np.unique(owners[mask].astype(str)))
            for k, finding in enumerate(FINDINGS):
                given = truth[:, k], score[:, k], calibrated if calibrated is None else calibrated[:, k], limits[k]
                inside.append(_numbers(*given, mask, draws, settings))
                outside.append({} if attribute == "all" else _numbers(*given, ~mask, draws, settings))
                row = head | {"finding": finding} | metrics.counts(truth[mask, k])
                rows.append(row | _means(inside[-1:], outside[-1:], settings))
                gaps[finding].append((attribute, name, _gaps(inside[-1:], outside[-1:], "auc")))
            row = head | {"finding": "macro", "n": int(mask.sum())}
            row["findings"] = sum("auc" in measured for measured in inside)
            rows.append(row | _means(inside, outside, settings))
            gaps["macro"].append((attribute, name, _gaps(inside, outside, "auc")))
        worst += [{"model": model, "finding": f, **_worst(of_groups, settings)} for f, of_groups in gaps.items()]
    return {"subgroups": frame("subgroups", rows), "worst_gaps": frame("worst_gaps", worst)}


def _gaps(inside: Sequence[dict], outside: Sequence[dict], number: str) -> list[tuple[float, np.ndarray]]:
    """The group less the others in one number, for each finding that has it on both sides: (value, B replicates)."""
    return [
        (own[number][0] - other[number][0], own[number][1] - other[number][1])
        for own, other in zip(inside, outside, strict=True)
        if number in own and number in other
    ]


def _worst(gaps: Sequence[tuple[str, str, list]], settings: Settings) -> dict:
    """The lowest of the groups' mean gaps, and what it would be if no group had one.

    gaps: (attribute, group, a gap for each finding). Without gaps the replicates less their own means are what patients
    make of them; the lowest of a replicate's gaps is one lowest gap under no gap. expected: its mean; expected_low: the
    end below which a share 1 - confidence of them lies; p: the share that is as low as the one seen, with 1 added to
    both counts.
    """
    means = [(a, g, *(np.mean(part, axis=0) for part in zip(*each, strict=True))) for a, g, each in gaps if each]
    if not means:
        return {"groups": 0}
    attribute, group, value, own = min(means, key=lambda gap: gap[2])
    replicates = np.stack([drawn for *_, drawn in means])
    replicates = replicates[:, ~np.isnan(replicates).any(axis=0)]
    row = {"groups": len(means), "attribute": attribute, "group": group}
    row |= metrics.with_interval("gap", float(value), own, settings.confidence)
    if not replicates.shape[1]:
        return row
    lowest = (replicates - replicates.mean(axis=1, keepdims=True)).min(axis=0)
    row |= {"expected": float(lowest.mean()), "expected_low": float(np.quantile(lowest, 1 - settings.confidence))}
    return row | {"p": float((1 + (lowest <= value).sum()) / (1 + len(lowest)))}


def _means(inside: Sequence[dict], outside: Sequence[dict], settings: Settings) -> dict:
    """The numbers of one row, and their gaps: means over the findings that have them."""
    row: dict[str, float] = {}
    for number in GROUP_NUMBERS:
        own = [measured[number] for measured in inside if number in measured]
        for name, pairs in ((number, own), (f"{number}_gap", _gaps(inside, outside, number))):
            if pairs:
                replicates = np.mean([pair[1] for pair in pairs], axis=0)
                value = float(np.mean([pair[0] for pair in pairs]))
                row |= metrics.with_interval(name, value, replicates, settings.confidence)
            if own and name == "auc":
                row |= dict(zip(("auc_low", "auc_high"), intervals.mean_interval(own), strict=True))
    return row


def adgm(
    runs: Mapping[tuple[int, int], pd.DataFrame],
    metadata: Mapping[int, np.ndarray],
    people: pd.DataFrame,
    settings: Settings,
) -> pd.DataFrame:
    """The table adgm_floor: AUC of the ADGMs' last epoch (one class against the rest, mean over the classes) next to
    the metadata baseline's, by view (all, AP, PA).

    runs: (classes, labels) -> predictions; metadata: classes -> probabilities, N x K; people: of the runs' images.
    labels is blank for the metadata baseline, which is fitted on every training label; AUC is blank where a class has
    too few images in the view.
    """
    rows = []
    scored: dict[tuple, np.ndarray] = {(classes, None): values for classes, values in metadata.items()}
    scored |= {(c, n): t[[f"prob_last.{i}" for i in range(c)]].to_numpy() for (c, n), t in runs.items()}
    label = {classes: t["label"].to_numpy(np.int64) for (classes, _), t in runs.items()}
    owners = next(iter(runs.values()))["patient_id"].to_numpy() if runs else np.array([])
    for (classes, labels), probability in scored.items():
        draws = metrics.draw_patients(owners, settings.replicates, settings.seed)
        for name in ("all", "AP", "PA"):
            mask = (views(people) == name).to_numpy(bool) | (name == "all")
            truth = (label[classes][mask, None] == np.arange(classes)).astype(np.float64)
            row: dict = {"classes": classes, "labels": labels, "view": name, "n": int(mask.sum())}
            row["patients"] = len(np.unique(owners[mask].astype(str)))
            if all(enough(column, settings) for column in truth.T):
                drawn = metrics.Draws(draws.owner[mask], draws.counts)
                pairs = zip(truth.T, probability[mask].T, strict=True)
                each = [intervals.area(t, p, drawn, settings.confidence) for t, p in pairs]
                low, high = intervals.mean_interval(each)
                row |= {"auc": float(np.mean([one.value for one in each])), "low": low, "high": high}
            rows.append(row)
    return frame("adgm_floor", rows)
