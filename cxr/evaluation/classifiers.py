"""The tables that say how good the models are, made from their predictions alone.

AUC per finding with a percentile interval from resampled patients, the same draws for every model; the mean over the
findings (macro) with the interval of the mean; final against the baseline of its policy by DeLong's test,
Holm-corrected over all findings, beside the patient bootstrap's interval of the difference; ROC curves. A finding with
too few positives or negatives has no AUC, keeps its row with its n, and is left out of the mean. The ADGM's are in
cxr/evaluation/adgm.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of, slug
from cxr.evaluation import metrics


class Settings(NamedTuple):
    """How the numbers are made.

    replicates: of the bootstrap; confidence: of every interval, 0 to 1; min_positives: an AUC needs as many positives
    and as many negatives; seed: of the patients' draws; sensitivity: that thresholds are set at on validation; scaling:
    of validation's logits, platt or temperature; bins: of a calibration error; age_bands: years at which a band starts;
    power: with which a difference called detectable would be found.
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


class Areas(NamedTuple):
    """One model's AUCs on one split.

    known 14: enough positives and negatives; area 14 and replicates 14 x B: NaN where not known.
    """

    known: np.ndarray
    area: np.ndarray
    replicates: np.ndarray


def enough(truth: np.ndarray, settings: Settings) -> np.ndarray:
    """Whether there are enough positives and negatives for an AUC: truth (1, 0, NaN) N or N x K -> bool, one or K."""
    return np.minimum((truth == 1).sum(axis=0), (truth == 0).sum(axis=0)) >= max(settings.min_positives, 1)


def model_areas(table: pd.DataFrame, draws: metrics.Draws, settings: Settings) -> Areas:
    truth, score = columns_of(table, "truth"), columns_of(table, "score")
    known = enough(truth, settings)
    area = np.full(len(SLUGS), np.nan)
    replicates = np.full((len(SLUGS), settings.replicates), np.nan)
    if known.any():
        area[known] = metrics.auc(truth[:, known], score[:, known])
        replicates[known] = metrics.bootstrap_auc(truth[:, known], score[:, known], draws)
    return Areas(known, area, replicates)


def mean_known(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Mean over the known findings (axis 0), NaN where one of them is: it is always a mean over the same findings."""
    return values[known].mean(axis=0) if known.any() else np.full(values.shape[1:], np.nan)


def judge(
    models: Mapping[str, pd.DataFrame], baseline: str, settings: Settings, floor: str | None = None
) -> dict[str, pd.DataFrame]:
    """The tables auc, compare and roc of the models on the same images; `baseline` is the model that 'final' is
    compared with, `floor` the one of metadata alone that both are compared with in a table of that name, by model.

    auc: model, finding (or macro), split, n, positives, negatives, auc, low, high, patients, missing (replicates that
    lacked a class, left out of the interval), findings (that the mean is over). compare and roc: test split. n counts
    images, masked ones left out.
    """
    any_model = models["final"]
    areas, rows, curves, patients = {}, [], [], {}
    for split in ("test", "valid"):
        at = (any_model["split"] == split).to_numpy()
        if not at.any():
            continue
        owners = any_model.loc[at, "patient_id"]
        draws, patients[split] = metrics.draw_patients(owners, settings.replicates, settings.seed), owners.nunique()
        for model, table in models.items():
            areas[model, split] = model_areas(table[at], draws, settings)
            rows += _auc_rows(model, split, table[at], areas[model, split], patients[split], settings)
            if split == "test":
                curves += _curves(model, table[at], areas[model, split].known)
    test = (any_model["split"] == "test").to_numpy()
    before, after = models[baseline][test], models["final"][test]
    compare = _compare(before, after, areas[baseline, "test"], areas["final", "test"], settings)
    roc = pd.concat(curves, ignore_index=True) if curves else pd.DataFrame(columns=["model", "finding", "fpr", "tpr"])
    counts = dict.fromkeys(("positives", "negatives", "missing", "findings"), "Int64")
    tables = {"auc": pd.DataFrame(rows).astype(counts), "compare": compare, "roc": roc}
    if floor is not None:
        above = []
        for name in (baseline, "final"):
            areas_of = areas[floor, "test"], areas[name, "test"]
            found = _compare(models[floor][test], models[name][test], *areas_of, settings)
            above.append(found.rename(columns={"baseline": "floor", "final": "auc"}).assign(model=name))
        tables["floor"] = pd.concat(above, ignore_index=True)
    return tables


def _auc_rows(
    model: str, split: str, table: pd.DataFrame, areas: Areas, patients: int, settings: Settings
) -> list[dict]:
    truth = columns_of(table, "truth")
    rows = []
    for k, finding in enumerate(FINDINGS):
        low, high, missing = metrics.interval(areas.replicates[k], settings.confidence)
        positives, negatives = int((truth[:, k] == 1).sum()), int((truth[:, k] == 0).sum())
        rows.append(
            {"model": model, "finding": finding, "split": split, "n": positives + negatives, "positives": positives,
             "negatives": negatives, "auc": areas.area[k], "low": low, "high": high, "patients": patients,
             "missing": missing if areas.known[k] else None, "findings": None}
        )  # fmt: skip
    low, high, missing = metrics.interval(mean_known(areas.replicates, areas.known), settings.confidence)
    rows.append(
        {"model": model, "finding": "macro", "split": split, "n": len(table), "positives": None, "negatives": None,
         "auc": float(mean_known(areas.area, areas.known)), "low": low, "high": high, "patients": patients,
         "missing": missing if areas.known.any() else None, "findings": int(areas.known.sum())}
    )  # fmt: skip
    return rows


def _curves(model: str, table: pd.DataFrame, known: np.ndarray) -> list[pd.DataFrame]:
    curves = []
    for name, finding in zip(np.array(SLUGS)[known], np.array(FINDINGS)[known], strict=True):
        fpr, tpr = metrics.roc(table[f"truth.{name}"].to_numpy(), table[f"score.{name}"].to_numpy())
        curves.append(pd.DataFrame({"model": model, "finding": finding, "fpr": fpr, "tpr": tpr}))
    return curves


def _compare(
    before: pd.DataFrame, after: pd.DataFrame, first: Areas, second: Areas, settings: Settings
) -> pd.DataFrame:
    """finding (or macro), positives, baseline, final, difference, low, high (bootstrap), detectable, z, p (DeLong),
    p_holm. detectable: the smallest difference that this test set could have shown, of one test, before Holm.
    """
    truth, old, new = columns_of(before, "truth"), columns_of(before, "score"), columns_of(after, "score")
    rows = []
    for k, finding in enumerate(FINDINGS):
        test = metrics.Test(np.nan, np.nan, np.nan)
        if first.known[k]:
            test = metrics.delong_test(truth[:, k], old[:, k], new[:, k])
        gain = second.replicates[k] - first.replicates[k]
        low, high, _ = metrics.interval(gain, settings.confidence)
        least = metrics.detectable(gain, settings.confidence, settings.power)
        rows.append(
            {"finding": finding, "positives": int((truth[:, k] == 1).sum()), "baseline": first.area[k],
             "final": second.area[k], "difference": test.difference, "low": low, "high": high, "detectable": least,
             "z": test.z, "p": test.p}
        )  # fmt: skip
    ours, theirs = mean_known(second.area, second.known), mean_known(first.area, first.known)
    gain = mean_known(second.replicates, second.known) - mean_known(first.replicates, first.known)
    low, high, _ = metrics.interval(gain, settings.confidence)
    rows.append(
        {"finding": "macro", "positives": None, "baseline": float(theirs), "final": float(ours),
         "difference": float(ours - theirs), "low": low, "high": high,
         "detectable": metrics.detectable(gain, settings.confidence, settings.power), "z": np.nan, "p": np.nan}
    )  # fmt: skip
    table = pd.DataFrame(rows).astype({"positives": "Int64"})
    table["p_holm"] = metrics.holm(table["p"].to_numpy())
    return table


def summary(tables: Mapping[str, pd.DataFrame], policies: Sequence[str], policy: str, findings: Sequence[str]) -> dict:
    """The few numbers to compare experiments by, rounded to four decimals, on test patients; what has no value is
    absent.

    test: images, patients and findings that the mean is over. baseline.<policy> and final: macro_auc, and under the
    final's policy each of the findings. gain: final less baseline, and the least that could have been shown.
    """
    auc = tables["auc"].query("split == 'test'").set_index(["model", "finding"])
    compare = tables["compare"].set_index("finding")
    named = {"macro_auc": "macro"} | {slug(name): name for name in findings}
    parts, gains = ("auc", "low", "high"), ("difference", "low", "high", "detectable", "p_holm")

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
    """A row's numbers for metrics.json: rounded, without the blank ones."""
    return {name: round(float(row[name]), 4) for name in names if pd.notna(row[name])}


def without_empty(tree: dict) -> dict:
    tree = {key: without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in tree.items() if value != {}}
