"""Does the policy for uncertain labels matter? Every policy's model against the one under final.policy, and a mix that
takes each finding from the policy that did best on validation. All on the same test patients and one truth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings, enough, numbers, without_empty

BEST_OF = "best_of"


def best_of(models: Mapping[str, pd.DataFrame], final_policy: str, settings: Settings) -> tuple[pd.DataFrame, ...]:
    """(predictions, choice): of each finding the scores of the policy with the highest AUC on validation.

    models: policy -> predictions of the same images in the same order. Of equal ones, and for a finding with too few
    positives or negatives on validation, final_policy. Test labels are not looked at. choice: finding, positives,
    negatives (on validation), policy, then auc.<policy>, NaN where nothing could be judged.
    """
    mix, rows = models[final_policy].copy(), []
    order = [final_policy, *(p for p in models if p != final_policy)]
    valid = {p: models[p][models[p]["split"] == "valid"] for p in order}
    truth = columns_of(valid[final_policy], "truth")
    known = enough(truth, settings)
    areas = {p: np.where(known, metrics.auc(truth, columns_of(valid[p], "score")), np.nan) for p in order}
    for k, (finding, slug) in enumerate(zip(FINDINGS, SLUGS, strict=True)):
        policy = max(order, key=lambda p: areas[p][k]) if known[k] else final_policy  # of equal ones, the first
        mix[f"score.{slug}"] = models[policy][f"score.{slug}"]
        counts = {"positives": int((truth[:, k] == 1).sum()), "negatives": int((truth[:, k] == 0).sum())}
        found = {f"auc.{p}": areas[p][k] for p in models}
        rows.append({"finding": finding, **counts, "policy": policy, **found})
    return mix, pd.DataFrame(rows)


def against(models: Mapping[str, pd.DataFrame], final_policy: str, settings: Settings) -> pd.DataFrame:
    """Every other model less final_policy's, on test: policy, finding (or macro), positives, findings (of the mean),
    patients, reference, auc, difference, low, high (bootstrap over patients, the same draws for all), detectable, p,
    p_holm.

    p of a finding: DeLong's, Holm over all findings of all policies. p of the mean: normal, with the bootstrap's
    standard error, Holm over the policies.
    """
    at = (models[final_policy]["split"] == "test").to_numpy()
    test = {name: table[at] for name, table in models.items()}
    truth = columns_of(test[final_policy], "truth")
    known = enough(truth, settings)
    draws = metrics.draw_patients(test[final_policy]["patient_id"], settings.replicates, settings.seed)
    score = {name: columns_of(table, "score")[:, known] for name, table in test.items()}
    truth = truth[:, known]
    area = {name: metrics.auc(truth, one) for name, one in score.items()}
    replicates = {name: metrics.bootstrap_auc(truth, one, draws) for name, one in score.items()}

    def line(policy: str, finding: str, mine: float, theirs: float, gain: np.ndarray, p: float) -> dict:
        low, high, _ = metrics.interval(gain, settings.confidence)
        return {
            "policy": policy, "finding": finding, "positives": None, "findings": None, "patients": len(draws.counts),
            "reference": theirs, "auc": mine, "difference": mine - theirs, "low": low, "high": high,
            "detectable": metrics.detectable(gain, settings.confidence, settings.power), "p": p,
        }  # fmt: skip

    rows = []
    for policy in (name for name in models if name != final_policy):
        mine, theirs, gains = area[policy], area[final_policy], replicates[policy] - replicates[final_policy]
        for k, finding in enumerate(np.array(FINDINGS)[known]):
            p = metrics.delong_test(truth[:, k], score[final_policy][:, k], score[policy][:, k]).p
            counts = {"positives": int((truth[:, k] == 1).sum())}
            rows.append(line(policy, finding, mine[k], theirs[k], gains[k], p) | counts)
        nothing = np.full(settings.replicates, np.nan)
        pair = (mine.mean(), theirs.mean(), gains.mean(axis=0)) if known.any() else (math.nan, math.nan, nothing)
        rows.append(line(policy, "macro", *pair, _normal_p(pair[0] - pair[1], pair[2])) | {"findings": known.sum()})
    table = pd.DataFrame(rows).astype({"positives": "Int64", "findings": "Int64"})
    macro = table["finding"] == "macro"
    for part in (macro, ~macro):
        table.loc[part, "p_holm"] = metrics.holm(table.loc[part, "p"].to_numpy())
    return table


def _normal_p(difference: float, replicates: np.ndarray) -> float:
    """Two-sided p of a difference with the standard error of its replicates. 1 for none that never varies; NaN where
    there is no telling.
    """
    known = replicates[~np.isnan(replicates)]
    error = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    if error > 1e-12:
        return 2 * NormalDist().cdf(-abs(difference) / error)
    return 1.0 if difference == 0 and not math.isnan(error) else math.nan


def tables(
    models: Mapping[str, pd.DataFrame], final_policy: str, settings: Settings
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """(the mix's predictions by its name, the tables best_of and policies); neither of a single policy."""
    if len(models) < 2:
        return {}, {}
    mix, choice = best_of(models, final_policy, settings)
    mixed = {BEST_OF: mix}
    return mixed, {"best_of": choice, "policies": against({**models, **mixed}, final_policy, settings)}


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """What metrics.json says of them: policies.<policy>, the mean over the findings against final_policy's. What has no
    value is absent.
    """
    if "policies" not in tables:
        return {}
    means = tables["policies"].query("finding == 'macro'").set_index("policy")
    shown = ("auc", "difference", "low", "high", "detectable", "p_holm")
    return without_empty({"policies": {policy: numbers(row, shown) for policy, row in means.iterrows()}})
