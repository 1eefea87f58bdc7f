"""Does the policy for uncertain labels matter? Tables of every policy's model against the model of final.policy, and of
a mix that takes each finding from the policy with the best validation AUC. Test patients and truth are the same for
all.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.evaluation import metrics
from cxr.evaluation.classifiers import (
    Models,
    Settings,
    differences,
    enough,
    model_areas,
    numbers,
    renamed,
    without_empty,
)
from cxr.evaluation.names import BEST_OF, DIFFERENCE, frame


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


def against(models: Models, final_policy: str, settings: Settings) -> pd.DataFrame:
    """The table policies: every other model minus final_policy's, on test patients, paired by training.

    low and high are over patients; p and the total interval are over patients and trainings, for two trainings or more
    (cxr/evaluation/repeated.py). Holm's correction is over all findings of all policies, and over the policies' means.
    """
    reference = models[final_policy][0]
    selected = (reference["split"] == "test").to_numpy()
    draws = metrics.draw_patients(reference.loc[selected, "patient_id"], settings.replicates, settings.seed)
    areas = {name: [model_areas(t[selected], draws, settings) for t in trainings] for name, trainings in models.items()}
    names = {"first": "reference", "second": "auc"}
    lines = []
    for policy in (name for name in models if name != final_policy):
        rows = differences(reference[selected], areas[final_policy], areas[policy], settings)
        known = areas[policy][0].known
        rows = [row for row, kept in zip(rows, (*known, True), strict=True) if kept]
        rows[-1]["findings"] = int(known.sum())
        lines += [renamed(row, names) | {"policy": policy, "patients": len(draws.counts)} for row in rows]
    for means in (True, False):
        metrics.add_holm([line for line in lines if (line["finding"] == "macro") == means])
    return frame("policies", lines)


def tables(
    models: Models, final_policy: str, settings: Settings
) -> tuple[dict[str, list[pd.DataFrame]], dict[str, pd.DataFrame]]:
    """(BEST_OF -> the mixes' predictions, one a training, the tables best_of and policies); both empty for a single
    policy. best_of is of the first training.
    """
    if len(models) < 2:
        return {}, {}
    trainings = range(len(models[final_policy]))
    mixes = [best_of({p: tables[t] for p, tables in models.items()}, final_policy, settings) for t in trainings]
    mixed = {BEST_OF: [mix for mix, _ in mixes]}
    return mixed, {"best_of": mixes[0][1], "policies": against({**models, **mixed}, final_policy, settings)}


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """The part of metrics.json on policies: policies.<policy>, the mean over the findings against final_policy's."""
    if "policies" not in tables:
        return {}
    means = tables["policies"].query("finding == 'macro'").set_index("policy")
    columns = ("auc", *DIFFERENCE, "p_holm")
    return without_empty({"policies": {policy: numbers(row, columns) for policy, row in means.iterrows()}})
