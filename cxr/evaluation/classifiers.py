"""Tables of how well the classifiers do, made from their predictions alone.

A model is trained once for each seed of `repeats`. Its AUC is the mean over these trainings, with an interval over
patients (cxr/evaluation/intervals.py) and the standard deviation over trainings; the mean over the findings (macro) has
the interval of the mean. final is compared with the baseline of its policy, paired by seed, over
patients and trainings together (cxr/evaluation/repeated.py), Holm-corrected over all findings. One training of each has
no p. ROC curves are of the first training. A finding with too few positives or negatives has no AUC: its row keeps n,
and the mean leaves it out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of, slug
from cxr.evaluation import intervals, metrics, repeated
from cxr.evaluation.names import DIFFERENCE, frame


class Settings(NamedTuple):
    """Settings of the evaluation.

    replicates: of the bootstrap; confidence: of every interval, 0 to 1; min_positives: the fewest positives, and the
    fewest negatives, that an AUC needs; seed: of the draws of patients; sensitivity: on validation, at which thresholds
    are set; scaling: of logits, platt or temperature; bins: of a calibration error; age_bands: years at which a band
    starts; power: of a test, for the smallest detectable difference; study_scores: max or mean of a study's images;
    thresholds: probabilities at which the net benefit is given, 0 to 1.
    """

    replicates: int = 1000
    confidence: float = 0.95
    min_positives: int = 10
    seed: int = 0
    sensitivity: float = 0.9
    scaling: str = "platt"
    bins: int = 10
    age_bands: tuple[int, ...] = (40, 60, 80)
    power: float = 0.8
    study_scores: str = "max"
    thresholds: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3)


class Areas(NamedTuple):
    """One model's AUCs on one split.

    known 14: enough positives and negatives; area 14, replicates 14 x B and ends 14 x 2, of the intervals: NaN where
    not known.
    """

    known: np.ndarray
    area: np.ndarray
    replicates: np.ndarray
    ends: np.ndarray

    def finding(self, k: int) -> intervals.Area:
        """The finding's AUC with its interval."""
        return intervals.Area(self.area[k], self.replicates[k], *self.ends[k])


def enough(truth: np.ndarray, settings: Settings) -> np.ndarray:
    """Whether there are enough positives and negatives for an AUC: truth (1, 0, NaN) N or N x K -> one bool or K."""
    return np.minimum((truth == 1).sum(axis=0), (truth == 0).sum(axis=0)) >= max(settings.min_positives, 1)


def model_areas(table: pd.DataFrame, draws: metrics.Draws, settings: Settings) -> Areas:
    truth, score = columns_of(table, "truth"), columns_of(table, "score")
    known = enough(truth, settings)
    area = np.full(len(SLUGS), np.nan)
    replicates, ends = np.full((len(SLUGS), settings.replicates), np.nan), np.full((len(SLUGS), 2), np.nan)
    for k in np.flatnonzero(known):
        certain = ~np.isnan(truth[:, k])
        drawn = metrics.Draws(draws.owner[certain], draws.counts)
        one = intervals.area(truth[certain, k], score[certain, k], drawn, settings.confidence)
        area[k], replicates[k], ends[k] = one.value, one.replicates, (one.low, one.high)
    return Areas(known, area, replicates, ends)


def mean_known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the known findings (axis 0), always over the same ones: NaN where one of them is NaN."""
    return values[known].mean(axis=0) if known.any() else np.full(values.shape[1:], np.nan)


def change(replicates: np.ndarray, settings: Settings) -> dict[str, float]:
    """The columns low, high and detectable of a difference, from its replicates (B)."""
    low, high, _ = metrics.interval(replicates, settings.confidence)
    return {
        "low": low, "high": high, "detectable": metrics.detectable(replicates, settings.confidence, settings.power),
    }  # fmt: skip


Models = Mapping[str, Sequence[pd.DataFrame]]  # name -> one table of predictions for each training


def judge(models: Models, baseline: str, settings: Settings, floor: str | None = None) -> dict[str, pd.DataFrame]:
    """The tables auc, compare, ensemble and roc (cxr/evaluation/names.py) of models on the same images; with `floor`
    also floor, which is of first trainings, and above_metadata, the macro AUC of all trainings less the baseline's.

    baseline: the model that 'final' is compared with; floor: the metadata baseline that both are compared with. auc is
    of test and validation patients, the others of test patients. missing: replicates that lacked a class and count in
    no interval; findings: number of findings that a mean is over.
    """
    final = models["final"][0]
    test = (final["split"] == "test").to_numpy()
    areas: dict[tuple[str, str], list[Areas]] = {}
    rows, curves = [], []
    draws: dict[str, metrics.Draws] = {}
    for split in ("test", "valid"):
        selected = (final["split"] == split).to_numpy()
        if not selected.any():
            continue
        draws[split] = metrics.draw_patients(final.loc[selected, "patient_id"], settings.replicates, settings.seed)
        for model, trainings in models.items():
            areas[model, split] = [model_areas(table[selected], draws[split], settings) for table in trainings]
            head = {"model": model, "split": split, "patients": len(draws[split].counts)}
            rows += [head | row for row in auc_rows(trainings[0][selected], areas[model, split], settings)]
            if split == "test":
                curves += _curves(model, trainings[0][selected], areas[model, split][0].known)

    pairs = differences(final[test], areas[baseline, "test"], areas["final", "test"], settings)
    names = {"first": "baseline", "second": "final"}
    together = [
        {"model": model, **row}
        for model in (baseline, "final")
        for row in ensemble([table[test] for table in models[model]], areas[model, "test"], draws["test"], settings)
    ]
    tables = {
        "ensemble": frame("ensemble", together),
        "auc": frame("auc", rows),
        "compare": frame("compare", [renamed(row, names) for row in pairs]),
        "roc": pd.concat(curves, ignore_index=True) if curves else frame("roc", []),
    }
    if floor is not None:
        patients = np.unique(final.loc[test, "patient_id"].astype(str), return_inverse=True)[1]
        names, first = {"first": "floor", "second": "auc"}, {m: models[m][0][test] for m in (floor, baseline, "final")}
        above = []
        for model in (baseline, "final"):
            pair = first[floor], first[model], areas[floor, "test"][0], areas[model, "test"][0]
            above += [renamed(row, names) | {"model": model} for row in _compare(*pair, patients, settings)]
        tables["floor"] = frame("floor", above)
        means = []
        for model in (baseline, "final"):
            trainings = areas[model, "test"]
            *_, macro = differences(final[test], areas[floor, "test"][:1] * len(trainings), trainings, settings)
            means.append(macro | {"model": model})
        metrics.add_holm(means)
        tables["above_metadata"] = frame("above_metadata", means)
    return tables


def differences(test: pd.DataFrame, first: Sequence[Areas], second: Sequence[Areas], settings: Settings) -> list[dict]:
    """Rows per finding and macro of the second model less the first, paired by training: finding, positives, first and
    second (mean AUCs), trainings, DIFFERENCE and p_holm over the findings. test: predictions with the truth.
    """
    truth, known = columns_of(test, "truth"), first[0].known
    pairs = list(zip(first, second, strict=False))

    def row(name: str, values: Callable[[np.ndarray], np.ndarray]) -> dict:
        area = [[float(values(one.area)) for one in pair] for pair in pairs]
        gain = np.array([values(b.replicates) - values(a.replicates) for a, b in pairs])
        before, after = np.mean(area, axis=0)
        both = repeated.difference(np.diff(area, axis=1)[:, 0], gain, settings.confidence, settings.power)
        return {"finding": name, "first": before, "second": after, "trainings": len(pairs)} | both

    rows = []
    for k, finding in enumerate(FINDINGS):
        rows.append(row(finding, itemgetter(k)) | {"positives": int((truth[:, k] == 1).sum())})
    metrics.add_holm(rows)
    return [*rows, row("macro", lambda values: mean_known(values, known))]


def ensemble(
    trainings: Sequence[pd.DataFrame], members: Sequence[Areas], draws: metrics.Draws, settings: Settings
) -> list[dict]:
    """Rows per finding and macro: the AUC of the mean score of all trainings, the mean AUC of its members, and the
    difference over patients. No row for one training.

    trainings: predictions of the same test images; members: their AUCs.
    """
    if len(trainings) < 2:
        return []
    scores = {f"score.{slug}": np.mean([table[f"score.{slug}"] for table in trainings], axis=0) for slug in SLUGS}
    whole = model_areas(trainings[0].assign(**scores), draws, settings)
    area, replicates = (np.mean([getattr(one, name) for one in members], axis=0) for name in ("area", "replicates"))
    rows = []
    for k, finding in enumerate((*FINDINGS, "macro")):
        pick = itemgetter(k) if k < len(FINDINGS) else lambda values: mean_known(values, whole.known)
        auc, mean = float(pick(whole.area)), float(pick(area))
        row = {"finding": finding, "trainings": len(trainings), "members": mean, "auc": auc, "difference": auc - mean}
        rows.append(row | change(pick(whole.replicates) - pick(replicates), settings))
    return rows


def renamed(row: dict, names: Mapping[str, str]) -> dict:
    return {names.get(key, key): value for key, value in row.items()}


def auc_rows(table: pd.DataFrame, trainings: Sequence[Areas], settings: Settings) -> list[dict]:
    """A row for each finding and macro: mean AUC over the trainings, interval, counts."""
    truth, known = columns_of(table, "truth"), trainings[0].known
    area = np.array([one.area for one in trainings])
    replicates = np.mean([one.replicates for one in trainings], axis=0)
    rows = []
    for k, finding in enumerate(FINDINGS):
        low, high = intervals.mean_interval([one.finding(k) for one in trainings])
        row = {"finding": finding, "auc": area[:, k].mean(), "low": low, "high": high, **metrics.counts(truth[:, k])}
        row |= {"trainings": len(trainings), "sd": repeated.spread(area[:, k])}
        rows.append(row | {"missing": int(np.isnan(replicates[k]).sum()) if known[k] else None})
    low, high = intervals.mean_interval([one.finding(int(k)) for one in trainings for k in np.flatnonzero(known)])
    missing = int(np.isnan(mean_known(replicates, known)).sum())
    means = mean_known(area.T, known)
    row = {"finding": "macro", "n": len(table), "auc": float(means.mean()), "low": low, "high": high}
    row |= {"trainings": len(trainings), "sd": repeated.spread(means)}
    count = int(known.sum())
    return [*rows, row | {"missing": missing if count else None, "findings": count}]


def _curves(model: str, table: pd.DataFrame, known: np.ndarray) -> list[pd.DataFrame]:
    curves = []
    for name, finding in zip(np.array(SLUGS)[known], np.array(FINDINGS)[known], strict=True):
        fpr, tpr = metrics.roc(table[f"truth.{name}"].to_numpy(), table[f"score.{name}"].to_numpy())
        curves.append(pd.DataFrame({"model": model, "finding": finding, "fpr": fpr, "tpr": tpr}))
    return curves


def _compare(
    before: pd.DataFrame, after: pd.DataFrame, first: Areas, second: Areas, patients: np.ndarray, settings: Settings
) -> list[dict]:
    """Rows per finding and macro: finding, positives, first and second (AUCs), difference, low, high (bootstrap),
    detectable (in one test, before Holm), z, p (metrics.delong_test), p_holm. patients: each image's, as numbers.
    """
    truth, old, new = columns_of(before, "truth"), columns_of(before, "score"), columns_of(after, "score")
    rows = []
    for k, finding in enumerate(FINDINGS):
        test = metrics.Test(np.nan, np.nan, np.nan)
        if first.known[k]:
            test = metrics.delong_test(truth[:, k], old[:, k], new[:, k], patients)
        row = {"finding": finding, "positives": int((truth[:, k] == 1).sum())} | test._asdict()
        row |= {"first": first.area[k], "second": second.area[k]}
        rows.append(row | change(second.replicates[k] - first.replicates[k], settings))
    metrics.add_holm(rows)
    areas = {
        "first": float(mean_known(first.area, first.known)),
        "second": float(mean_known(second.area, second.known)),
    }
    gain = mean_known(second.replicates, second.known) - mean_known(first.replicates, first.known)
    macro = {"finding": "macro", **areas, "difference": areas["second"] - areas["first"], **change(gain, settings)}
    return [*rows, macro]


def summary(tables: Mapping[str, pd.DataFrame], policies: Sequence[str], policy: str, findings: Sequence[str]) -> dict:
    """The numbers of metrics.json that compare experiments, on test patients; blank ones are left out.

    test: number of images, of patients, and of findings in the mean. baseline.<policy> and final: macro_auc, and under
    the final's policy each of the findings. gain: final minus baseline, and the smallest detectable difference.
    """
    auc = tables["auc"].query("split == 'test'").set_index(["model", "finding"])
    compare = tables["compare"].set_index("finding")
    named = {"macro_auc": "macro"} | {slug(name): name for name in findings}
    parts, gains = ("auc", "low", "high", "sd"), (*DIFFERENCE, "p_holm")

    def model(name: str, keys: Mapping[str, str]) -> dict:
        return {key: numbers(auc.loc[(name, finding)], parts) for key, finding in keys.items()}

    macro = auc.loc[("final", "macro")]
    result = {
        "test": {"images": int(macro["n"]), "patients": int(macro["patients"]), "findings": int(macro["findings"])},
        "baseline": {p: model(p, named if p == policy else {"macro_auc": "macro"}) for p in policies},
        "final": model("final", named),
        "gain": {key: numbers(compare.loc[name], gains) for key, name in named.items()},
    }
    return without_empty(result)


def numbers(row, names: Sequence[str]) -> dict[str, float]:
    """A row's numbers for metrics.json: rounded to four decimals, without blank ones."""
    return {name: round(float(row[name]), 4) for name in names if pd.notna(row[name])}


def without_empty(tree: dict) -> dict:
    tree = {key: without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in tree.items() if value != {}}
