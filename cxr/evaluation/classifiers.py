"""Tables of how well the classifiers do, made from their predictions alone.

AUC per finding with a percentile interval over resampled patients, the same draws for every model; the mean over the
findings (macro) with the interval of the mean; final against the baseline of its policy by DeLong's test,
Holm-corrected over all findings, next to the patient bootstrap's interval of the difference; ROC curves. A finding with
too few positives or negatives has no AUC: its row keeps n, and the mean leaves it out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of, slug
from cxr.evaluation import metrics
from cxr.evaluation.names import frame


class Settings(NamedTuple):
    """Settings of the evaluation.

    replicates: of the bootstrap; confidence: of every interval, 0 to 1; min_positives: the fewest positives, and the
    fewest negatives, that an AUC needs; seed: of the draws of patients; sensitivity: on validation, at which thresholds
    are set; scaling: of logits, platt or temperature; bins: of a calibration error; age_bands: years at which a band
    starts; power: of a test, for the smallest detectable difference.
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
    """Whether there are enough positives and negatives for an AUC: truth (1, 0, NaN) N or N x K -> one bool or K."""
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
    """Mean over the known findings (axis 0), always over the same ones: NaN where one of them is NaN."""
    return values[known].mean(axis=0) if known.any() else np.full(values.shape[1:], np.nan)


def change(replicates: np.ndarray, settings: Settings) -> dict[str, float]:
    """The columns low, high and detectable of a difference, from its replicates (B)."""
    low, high, _ = metrics.interval(replicates, settings.confidence)
    return {
        "low": low, "high": high, "detectable": metrics.detectable(replicates, settings.confidence, settings.power),
    }  # fmt: skip


def judge(
    models: Mapping[str, pd.DataFrame], baseline: str, settings: Settings, floor: str | None = None
) -> dict[str, pd.DataFrame]:
    """The tables auc, compare and roc (cxr/evaluation/names.py) of models on the same images, and with `floor` the
    table floor.

    baseline: the model that 'final' is compared with; floor: the metadata baseline that both are compared with. auc is
    of test and validation patients, the others of test patients. missing: replicates that lacked a class and count in
    no interval; findings: number of findings that a mean is over.
    """
    final = models["final"]
    test = (final["split"] == "test").to_numpy()
    areas, rows, curves = {}, [], []
    for split in ("test", "valid"):
        selected = (final["split"] == split).to_numpy()
        if not selected.any():
            continue
        draws = metrics.draw_patients(final.loc[selected, "patient_id"], settings.replicates, settings.seed)
        for model, table in models.items():
            areas[model, split] = model_areas(table[selected], draws, settings)
            head = {"model": model, "split": split, "patients": len(draws.counts)}
            rows += [head | row for row in _auc_rows(table[selected], areas[model, split], settings)]
            if split == "test":
                curves += _curves(model, table[selected], areas[model, split].known)

    def compare(first: str, second: str) -> list[dict]:
        pair = models[first][test], models[second][test], areas[first, "test"], areas[second, "test"]
        return _compare(*pair, settings)

    names = {"first": "baseline", "second": "final"}
    tables = {
        "auc": frame("auc", rows),
        "compare": frame("compare", [_renamed(row, names) for row in compare(baseline, "final")]),
        "roc": pd.concat(curves, ignore_index=True) if curves else frame("roc", []),
    }
    if floor is not None:
        names = {"first": "floor", "second": "auc"}
        above = [_renamed(row, names) | {"model": m} for m in (baseline, "final") for row in compare(floor, m)]
        tables["floor"] = frame("floor", above)
    return tables


def _renamed(row: dict, names: Mapping[str, str]) -> dict:
    return {names.get(key, key): value for key, value in row.items()}


def _auc_rows(table: pd.DataFrame, areas: Areas, settings: Settings) -> list[dict]:
    truth = columns_of(table, "truth")
    rows = []
    for k, finding in enumerate(FINDINGS):
        low, high, missing = metrics.interval(areas.replicates[k], settings.confidence)
        row = {"finding": finding, "auc": areas.area[k], "low": low, "high": high, **metrics.counts(truth[:, k])}
        rows.append(row | {"missing": missing if areas.known[k] else None})
    low, high, missing = metrics.interval(mean_known(areas.replicates, areas.known), settings.confidence)
    row = {
        "finding": "macro",
        "n": len(table),
        "auc": float(mean_known(areas.area, areas.known)),
        "low": low,
        "high": high,
    }
    known = int(areas.known.sum())
    return [*rows, row | {"missing": missing if known else None, "findings": known}]


def _curves(model: str, table: pd.DataFrame, known: np.ndarray) -> list[pd.DataFrame]:
    curves = []
    for name, finding in zip(np.array(SLUGS)[known], np.array(FINDINGS)[known], strict=True):
        fpr, tpr = metrics.roc(table[f"truth.{name}"].to_numpy(), table[f"score.{name}"].to_numpy())
        curves.append(pd.DataFrame({"model": model, "finding": finding, "fpr": fpr, "tpr": tpr}))
    return curves


def _compare(before: pd.DataFrame, after: pd.DataFrame, first: Areas, second: Areas, settings: Settings) -> list[dict]:
    """Rows per finding and macro: finding, positives, first and second (AUCs), difference, low, high (bootstrap),
    detectable (in one test, before Holm), z, p (DeLong), p_holm.
    """
    truth, old, new = columns_of(before, "truth"), columns_of(before, "score"), columns_of(after, "score")
    rows = []
    for k, finding in enumerate(FINDINGS):
        test = metrics.Test(np.nan, np.nan, np.nan)
        if first.known[k]:
            test = metrics.delong_test(truth[:, k], old[:, k], new[:, k])
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
    """A row's numbers for metrics.json: rounded to four decimals, without blank ones."""
    return {name: round(float(row[name]), 4) for name in names if pd.notna(row[name])}


def without_empty(tree: dict) -> dict:
    tree = {key: without_empty(value) if isinstance(value, dict) else value for key, value in tree.items()}
    return {key: value for key, value in tree.items() if value != {}}
