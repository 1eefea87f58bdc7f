"""Does the policy for uncertain labels matter? Tables of every policy's model against the model of final.policy, and of
a mix that takes each finding from the policy with the best validation AUC. Test patients and truth are the same for
all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import Settings, change, enough, numbers, without_empty
from cxr.evaluation.names import BEST_OF, frame


def best_of(models: Mapping[str, pd.DataFrame], final_policy: str, settings: Settings) -> tuple[pd.DataFrame, ...]:
    """(predictions, choice): for each finding, the scores of the policy with the highest AUC on validation.

    models: policy -> predictions of the same images in the same order. final_policy wins ties, and findings with too
    few positives or negatives on validation. Test labels play no part. choice: the table best_of, with a column
    auc.<policy> for each policy, NaN where there are too few labels.
    """
    mix, rows = models[final_policy].copy(), []
    order = [final_policy, *(p for p in models if p != final_policy)]
    valid = {p: models[p][models[p]["split"] == "valid"] for p in order}
    truth = columns_of(valid[final_policy], "truth")
    known = enough(truth, settings)
    areas = {p: np.where(known, metrics.auc(truth, columns_of(valid[p], "score")), np.nan) for p in order}
    for k, (finding, slug) in enumerate(zip(FINDINGS, SLUGS, strict=True)):
        policy = max(order, key=lambda p: areas[p][k]) if known[k] else final_policy  # the first of equals
        mix[f"score.{slug}"] = models[policy][f"score.{slug}"]
        row = {"finding": finding, "policy": policy} | metrics.counts(truth[:, k])
        rows.append(row | {f"auc.{p}": areas[p][k] for p in models})
    return mix, frame("best_of", rows, *(f"auc.{p}" for p in models))


def against(models: Mapping[str, pd.DataFrame], final_policy: str, settings: Settings) -> pd.DataFrame:
    """The table policies: every other model minus final_policy's, on test patients.

    Intervals are of the bootstrap over patients, with the same draws for all. p of a finding is DeLong's, with Holm's
    correction over all findings of all policies. p of the mean is normal, with the bootstrap's standard error, and
    Holm's correction over the policies.
    """
    selected = (models[final_policy]["split"] == "test").to_numpy()
    test = {name: table[selected] for name, table in models.items()}
    truth = columns_of(test[final_policy], "truth")
    known = enough(truth, settings)
    draws = metrics.draw_patients(test[final_policy]["patient_id"], settings.replicates, settings.seed)
    score = {name: columns_of(table, "score")[:, known] for name, table in test.items()}
    truth = truth[:, known]
    area = {name: metrics.auc(truth, scores) for name, scores in score.items()}
    replicates = {name: metrics.bootstrap_auc(truth, scores, draws) for name, scores in score.items()}

    def row(policy: str, finding: str, reference: float, auc: float, gain: np.ndarray) -> dict:
        head = {"policy": policy, "finding": finding, "patients": len(draws.counts), "reference": reference, "auc": auc}
        return head | {"difference": auc - reference} | change(gain, settings)

    single, means = [], []
    for policy in (name for name in models if name != final_policy):
        auc, reference, gains = area[policy], area[final_policy], replicates[policy] - replicates[final_policy]
        for k, finding in enumerate(np.array(FINDINGS)[known]):
            p = metrics.delong_test(truth[:, k], score[final_policy][:, k], score[policy][:, k]).p
            single.append(row(policy, finding, reference[k], auc[k], gains[k]))
            single[-1] |= {"positives": int((truth[:, k] == 1).sum()), "p": p}
        gain = gains.mean(axis=0) if known.any() else np.full(settings.replicates, np.nan)
        mean, mean_reference = (float(a.mean()) if known.any() else math.nan for a in (auc, reference))
        means.append(row(policy, "macro", mean_reference, mean, gain))
        means[-1] |= {"findings": known.sum(), "p": _normal_p(means[-1]["difference"], gain)}
    metrics.add_holm(single)
    metrics.add_holm(means)
    order = list(models)
    return frame("policies", sorted([*single, *means], key=lambda line: order.index(line["policy"])))


def _normal_p(difference: float, replicates: np.ndarray) -> float:
    """Two-sided p of a difference, with the standard deviation of its replicates as standard error. 1 where the
    difference is always 0; NaN where it can't be tested.
    """
    known = replicates[~np.isnan(replicates)]
    error = float(known.std(ddof=1)) if len(known) > 1 else math.nan
    if error > 1e-12:
        return 2 * NormalDist().cdf(-abs(difference) / error)
    return 1.0 if difference == 0 and not math.isnan(error) else math.nan


def tables(
    models: Mapping[str, pd.DataFrame], final_policy: str, settings: Settings
) -> tuple[dict[str, pd.DataFrame], dict[str, pd.DataFrame]]:
    """(BEST_OF -> the mix's predictions, the tables best_of and policies); both empty for a single policy."""
    if len(models) < 2:
        return {}, {}
    mix, choice = best_of(models, final_policy, settings)
    mixed = {BEST_OF: mix}
    return mixed, {"best_of": choice, "policies": against({**models, **mixed}, final_policy, settings)}


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """The part of metrics.json on policies: policies.<policy>, the mean over the findings against final_policy's."""
    if "policies" not in tables:
        return {}
    means = tables["policies"].query("finding == 'macro'").set_index("policy")
    columns = ("auc", "difference", "low", "high", "detectable", "p_holm")
    return without_empty({"policies": {policy: numbers(row, columns) for policy, row in means.iterrows()}})
