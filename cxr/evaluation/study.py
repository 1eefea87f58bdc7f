"""Does the GAN help? Tables of the study of control arms: each arm is trained once per seed, and all are tested on the
same patients.

An arm's AUC is the mean over seeds, with an interval over resampled patients and the standard deviation over seeds.
Differences are paired; cxr/evaluation/repeated.py combines patients and trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, columns_of, slug
from cxr.evaluation import metrics, repeated
from cxr.evaluation.classifiers import Settings, enough, mean_known, model_areas, numbers, without_empty
from cxr.evaluation.names import REFERENCES, frame
from cxr.synthesis.arms import ARMS, check_arm

Models = Mapping[tuple[str, int], pd.DataFrame]  # (arm, seed) -> predictions


def check(arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Raises ValueError for an unknown arm, for an arm or a seed given twice, and for arms without a seed."""
    for arm in arms:
        check_arm(arm)
    for name, given in (("arms", arms), ("seeds", seeds)):
        if twice := [v for v in given if list(given).count(v) > 1]:
            raise ValueError(f"study.{name} names {twice[0]!r} twice: name it once")
    if arms and not seeds:
        raise ValueError("study.arms names arms but study.seeds is empty: give each arm at least one seed, such as [0]")


class Scores(NamedTuple):
    """AUCs of every model on one split, by arm (A), seed (S) and name (K: the rare findings, 'rare', 'macro').

    area A x S x K; replicates A x S x K x B, with the same patients for all; NaN where there are too few positives.
    """

    area: np.ndarray
    replicates: np.ndarray


def _scores(
    models: Models, arms: Sequence[str], seeds: Sequence[int], rare: np.ndarray, selected: np.ndarray, draws, settings
) -> Scores:
    area = np.full((len(arms), len(seeds), len(rare) + 2), np.nan)
    replicates = np.full((*area.shape, draws.counts.shape[1]), np.nan)
    settings = settings._replace(replicates=draws.counts.shape[1])
    for a, arm in enumerate(arms):
        for s, seed in enumerate(seeds):
            areas = model_areas(models[arm, seed][selected], draws, settings)
            known_rare = areas.known & np.isin(np.arange(len(FINDINGS)), rare)
            for values, kept in ((areas.area, area[a, s]), (areas.replicates, replicates[a, s])):
                kept[:-2] = values[rare]
                kept[-2], kept[-1] = mean_known(values, known_rare), mean_known(values, areas.known)
    return Scores(area, replicates)


def best_control(arms: Sequence[str], valid: np.ndarray) -> str | None:
    """The arm without generated images that has the highest validation AUC; the first of equals.

    valid: mean over seeds, A x K as in Scores. The AUC is the mean over the rare findings, or over all findings where
    no rare one has enough positives on validation. None without a control or without any AUC.
    """
    controls = [a for a, arm in enumerate(arms) if not ARMS[arm].generated]
    for name in (-2, -1):
        known = [a for a in controls if not np.isnan(valid[a, name])]
        if known:
            return arms[max(known, key=lambda a: valid[a, name])]
    return None


def judge_study(models: Models, findings: Sequence[str], settings: Settings) -> dict[str, pd.DataFrame]:
    """The tables study and study_differences (cxr/evaluation/names.py) on test patients; findings: names of the rare
    ones.

    finding: each of `findings`, 'rare' for their mean, 'macro' for the mean of all; findings and valid_findings: how
    many a mean is over on test and on validation; control: the arm that the reference is. The best control is chosen on
    validation. Families of p_holm, per reference: all arms and rare findings; all arms' means of the rare findings; all
    arms' macro means. detectable is for one test, before Holm.
    """
    arms, seeds = list(dict.fromkeys(arm for arm, _ in models)), list(dict.fromkeys(seed for _, seed in models))
    any_model = models[arms[0], seeds[0]]
    rare = np.array([FINDINGS.index(name) for name in findings], int)
    test, validation = ((any_model["split"] == split).to_numpy() for split in ("test", "valid"))
    draws = metrics.draw_patients(any_model.loc[test, "patient_id"], settings.replicates, settings.seed)
    scores = _scores(models, arms, seeds, rare, test, draws, settings)
    valid = np.full((len(arms), len(rare) + 2), np.nan)
    if validation.any():
        no_draws = metrics.draw_patients(any_model.loc[validation, "patient_id"], 0, settings.seed)
        valid = _scores(models, arms, seeds, rare, validation, no_draws, settings).area.mean(axis=1)
    counts = _counts(any_model[test], any_model[validation], findings, settings)
    rows = []
    for a, arm in enumerate(arms):
        for k, name in enumerate(counts):
            low, high, _ = metrics.interval(scores.replicates[a, :, k].mean(axis=0), settings.confidence)
            row = {"arm": arm, "finding": name, "seeds": len(seeds), "patients": len(draws.counts), **counts[name]}
            row |= {"auc": scores.area[a, :, k].mean(), "low": low, "high": high, "valid_auc": valid[a, k]}
            rows.append(row | {"sd": repeated.spread(scores.area[a, :, k])})
    differences = []
    for reference, control in zip(REFERENCES, ("baseline", best_control(arms, valid)), strict=True):
        if control in arms:
            head = {"reference": reference, "control": control, "seeds": len(seeds)}
            family = _differences(scores, arms, control, counts, settings)
            differences += [head | row for row in family]
    return {"study": frame("study", rows), "study_differences": frame("study_differences", differences)}


def _counts(test: pd.DataFrame, valid: pd.DataFrame, findings: Sequence[str], settings: Settings) -> dict[str, dict]:
    """Finding, 'rare' or 'macro' -> its columns positives, n, findings and valid_findings."""
    counts = {}
    for name in findings:
        counted = metrics.counts(test[f"truth.{slug(name)}"].to_numpy())
        counts[name] = {key: counted[key] for key in ("positives", "n")}
    known, valid_known = (enough(columns_of(part, "truth"), settings) for part in (test, valid))
    for name, members in (("rare", np.isin(FINDINGS, findings)), ("macro", True)):
        counts[name] = {"n": len(test), "findings": int((known & members).sum())}
        counts[name]["valid_findings"] = int((valid_known & members).sum())
    return counts


def _differences(scores: Scores, arms: Sequence[str], control: str, counts: dict[str, dict], settings) -> list[dict]:
    """Rows of every other arm minus the control, with p_holm."""
    c, rows = arms.index(control), []
    for a, arm in enumerate(arms):
        if arm == control:
            continue
        for k, name in enumerate(counts):
            difference, replicates = (values[a, :, k] - values[c, :, k] for values in scores)
            row = {"arm": arm, "finding": name, **counts[name]}
            rows.append(row | repeated.difference(difference, replicates, settings.confidence, settings.power))
    means = ("rare", "macro")
    for family in ([name for name in counts if name not in means], *([name] for name in means)):
        metrics.add_holm([row for row in rows if row["finding"] in family])
    return rows


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """The part of metrics.json on the study: <arm>.rare_auc and .macro_auc, and gan_against_best_control, the
    difference in the mean of the rare findings. Blank numbers are left out.
    """
    table = tables["study"].set_index(["arm", "finding"])
    study: dict = {
        arm: {f"{name}_auc": numbers(table.loc[arm, name], ("auc", "low", "high", "sd")) for name in ("rare", "macro")}
        for arm in table.index.unique("arm")
    }
    columns = ("difference", "low", "high", "total_low", "total_high", "detectable", "p", "p_holm")
    gan = tables["study_differences"].query("arm == 'gan' and reference == 'best control' and finding == 'rare'")
    if len(gan):
        study["gan_against_best_control"] = numbers(gan.iloc[0], columns)
    return without_empty({"study": study})
