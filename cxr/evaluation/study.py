"""Does the GAN help? Tables of the study of control arms: each arm is trained once per seed, and all are tested on the
same patients.

Each seed has a GAN of its own, a draw of generated images and a training of every arm, so that the spread over seeds
holds all three. An arm's AUC is the mean over seeds, with an interval over resampled patients and the standard
deviation over seeds. Differences are paired by seed; cxr/evaluation/repeated.py combines patients and trainings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, columns_of, slug
from cxr.evaluation import intervals, metrics, repeated
from cxr.evaluation.classifiers import Settings, enough, mean_known, model_areas, numbers, without_empty
from cxr.evaluation.names import DIFFERENCE, frame
from cxr.synthesis.arms import ARMS, check_arm

BASELINE, GAN = "baseline", "gan"  # the arms that every study has: the baseline and final classifiers
ORACLE = "oracle"  # the arm that no generator can beat
MEANS = ("rare", "macro")
Models = Mapping[tuple[str, int], pd.DataFrame]  # (arm, seed) -> predictions


def check(arms: Sequence[str], seeds: Sequence[int], endpoint: str, findings: Sequence[str]) -> None:
    """Raises ValueError for an unknown arm, for one that every study has, for an arm or a seed given twice, for no
    seed, and for an endpoint that is neither a mean nor one of the rare findings (slugs).
    """
    for arm in arms:
        check_arm(arm)
        if arm in (BASELINE, GAN):
            raise ValueError(
                f"study.arms has {arm}: every study has it, as the baseline and final classifiers; take it out"
            )
    for name, given in (("study.arms", arms), ("repeats.seeds", seeds)):
        if twice := [v for v in given if list(given).count(v) > 1]:
            raise ValueError(f"{name} names {twice[0]!r} twice: name it once")
    if not seeds:
        raise ValueError("repeats.seeds is empty: give it at least one seed, such as [0]")
    if endpoint not in (*MEANS, *findings):
        raise ValueError(f"evaluate.endpoint = {endpoint!r}: choose rare, macro or one of rare.findings")


class Scores(NamedTuple):
    """AUCs of every model on one split, by arm (A), seed (S) and name (K: the rare findings, 'rare', 'macro').

    area A x S x K; replicates A x S x K x B, with the same patients for all; ends A x K x 2, of the intervals of the
    means over seeds; NaN where there are too few positives.
    """

    area: np.ndarray
    replicates: np.ndarray
    ends: np.ndarray


def _scores(
    models: Models, arms: Sequence[str], seeds: Sequence[int], rare: np.ndarray, selected: np.ndarray, draws, settings
) -> Scores:
    area = np.full((len(arms), len(seeds), len(rare) + 2), np.nan)
    replicates = np.full((*area.shape, draws.counts.shape[1]), np.nan)
    ends = np.full((len(arms), len(rare) + 2, 2), np.nan)
    settings = settings._replace(replicates=draws.counts.shape[1])
    for a, arm in enumerate(arms):
        trainings = [model_areas(models[arm, seed][selected], draws, settings) for seed in seeds]
        known = trainings[0].known
        known_rare = known & np.isin(np.arange(len(FINDINGS)), rare)
        for s, areas in enumerate(trainings):
            for values, kept in ((areas.area, area[a, s]), (areas.replicates, replicates[a, s])):
                kept[:-2] = values[rare]
                kept[-2], kept[-1] = mean_known(values, known_rare), mean_known(values, known)
        members = [[k] for k in rare] + [np.flatnonzero(known_rare), np.flatnonzero(known)]
        for k, findings in enumerate(members):
            ends[a, k] = intervals.mean_interval([one.finding(int(f)) for one in trainings for f in findings])
    return Scores(area, replicates, ends)


def judge_study(
    models: Models, findings: Sequence[str], settings: Settings, endpoint: str = "rare"
) -> dict[str, pd.DataFrame]:
    """The tables study, study_differences and study_claims (cxr/evaluation/names.py) on test patients.

    findings: names of the rare ones; endpoint: what the primary claim is about. finding: each of `findings`, 'rare' for
    their mean, 'macro' for the mean of all; findings: number of findings that a mean is over. detectable is for one
    test, before Holm. study_differences: each arm less the baseline, with p_holm over all arms and rare findings, over
    all arms' means of the rare findings, and over all arms' macro means; and the GAN arm and the oracle less each
    control.
    """
    arms, seeds = list(dict.fromkeys(arm for arm, _ in models)), list(dict.fromkeys(seed for _, seed in models))
    any_model = models[arms[0], seeds[0]]
    rare = np.array([FINDINGS.index(name) for name in findings], int)
    test = (any_model["split"] == "test").to_numpy()
    draws = metrics.draw_patients(any_model.loc[test, "patient_id"], settings.replicates, settings.seed)
    scores = _scores(models, arms, seeds, rare, test, draws, settings)
    counts = _counts(any_model[test], findings, settings)
    rows = []
    for a, arm in enumerate(arms):
        for k, name in enumerate(counts):
            low, high = scores.ends[a, k]
            row = {"arm": arm, "finding": name, "seeds": len(seeds), "patients": len(draws.counts), **counts[name]}
            row |= {"auc": scores.area[a, :, k].mean(), "low": low, "high": high}
            rows.append(row | {"sd": repeated.spread(scores.area[a, :, k])})
    controls = [arm for arm in arms if ARMS[arm].control]
    pairs = [(arm, BASELINE) for arm in arms if arm != BASELINE] if BASELINE in arms else []
    for arm in (GAN, ORACLE):
        pairs += [(arm, control) for control in controls if arm in arms and (arm, control) not in pairs]
    differences = []
    for arm, control in pairs:
        for k, name in enumerate(counts):
            ours, theirs = arms.index(arm), arms.index(control)
            difference, replicates = (v[ours, :, k] - v[theirs, :, k] for v in (scores.area, scores.replicates))
            row = {"arm": arm, "control": control, "finding": name, "seeds": len(seeds), **counts[name]}
            row |= repeated.difference(difference, replicates, settings.confidence, settings.power)
            differences.append(row)
    for family in (findings, *([name] for name in MEANS)):
        metrics.add_holm([r for r in differences if r["control"] == BASELINE and r["finding"] in family])
    return {
        "study": frame("study", rows),
        "study_differences": frame("study_differences", differences),
        "study_claims": frame("study_claims", claims(differences, endpoint)),
    }


def _counts(test: pd.DataFrame, findings: Sequence[str], settings: Settings) -> dict[str, dict]:
    """Finding, 'rare' or 'macro' -> its columns positives, n and findings."""
    counts = {}
    for name in findings:
        counted = metrics.counts(test[f"truth.{slug(name)}"].to_numpy())
        counts[name] = {key: counted[key] for key in ("positives", "n")}
    judged = enough(columns_of(test, "truth"), settings)
    for name, members in (("rare", np.isin(FINDINGS, findings)), ("macro", True)):
        counts[name] = {"n": len(test), "findings": int((judged & members).sum())}
    return counts


def claims(differences: Sequence[dict], endpoint: str) -> list[dict]:
    """Rows of the claim that the GAN arm is better than every control, one for each finding and mean.

    An intersection-union test (Berger 1982): the claim holds where each single test against one control rejects, so
    p_every is the largest of their one-sided p, and no correction for the number of controls is due. The other numbers
    are of the control with that p, the hardest one. p_holm corrects the secondary claims, all but the endpoint's.
    p_every is NaN where any control gives no p.
    """
    rows = []
    for name in dict.fromkeys(row["finding"] for row in differences):
        against = [
            row for row in differences if row["arm"] == GAN and row["finding"] == name and ARMS[row["control"]].control
        ]
        if not against:
            continue
        p_every = float(np.max([row["p_greater"] for row in against]))
        known = [row for row in against if np.isfinite(row["p_greater"])]
        hardest = max(known, key=lambda row: row["p_greater"]) if known else min(against, key=_difference)
        kept = {key: value for key, value in hardest.items() if key not in ("arm", "p_holm")}
        rows.append(kept | {"primary": name == endpoint, "controls": len(against), "p_every": p_every})
    secondary = [row for row in rows if not row["primary"]]
    corrected = metrics.holm(np.array([row["p_every"] for row in secondary]))
    for row, p in zip(secondary, corrected, strict=True):
        row["p_holm"] = p
    return sorted(rows, key=lambda row: not row["primary"])


def _difference(row: dict) -> float:
    return row["difference"] if np.isfinite(row["difference"]) else np.inf


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """The part of metrics.json on the study: <arm>.rare_auc and .macro_auc, and gan_against_hardest_control, the
    primary claim. Blank numbers are left out.
    """
    table = tables["study"].set_index(["arm", "finding"])
    study: dict = {
        arm: {f"{name}_auc": numbers(table.loc[arm, name], ("auc", "low", "high", "sd")) for name in MEANS}
        for arm in table.index.unique("arm")
    }
    primary = tables["study_claims"].query("primary == True")
    if len(primary):
        study["gan_against_hardest_control"] = numbers(primary.iloc[0], (*DIFFERENCE, "p_every"))
    return without_empty({"study": study})
