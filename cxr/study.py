"""Does the GAN help? The tables of a study of control arms: each arm trained once for every seed, all on the same test
patients.

Two things would come out otherwise another time: which patients the test set has, and how a training falls out (its
seed). An arm's AUC is the mean over seeds, its interval a bootstrap over patients of that mean; beside it stands the
standard deviation over seeds. A difference is paired: seed by seed, and in the same draws of patients. Its standard
error holds both parts as in the analysis of several readers and cases, with trainings for readers (Obuchowski and
Rockette 1995, degrees of freedom of Hillis 2007): with S seeds, s the standard deviation of the S paired differences,
C the covariance over patients of two of them, and P the patients' variance of their mean,

    variance = max(P, s^2 / S + max(0, C)),    degrees of freedom = (S - 1) variance^2 / (s^2 / S)^2.

P + s^2 / S would count twice the noise of the patients' draw that two trainings do not share. One seed says nothing of
trainings: no combined interval, no p. Two say little: where trainings differ more than patients, equal arms are told
apart at 0.05 about one time in eight. From three on it is one in twenty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit

from cxr import metrics
from cxr.arms import known
from cxr.evaluate import Settings, mean_known, model_areas, numbers, without_empty
from cxr.labels import FINDINGS, slug

CONTROLS = ("baseline", "baseline_steps", "oversampling", "pos_weight", "auc_margin", "blurred")  # no generated image
REFERENCES = ("baseline", "best control")

Trainings = Mapping[tuple[str, int], pd.DataFrame]  # (arm, seed) -> predictions


def check(arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise ValueError for an arm that is none, for one named twice, and for arms without a seed."""
    for arm in arms:
        known(arm)
    for name, values in (("arms", arms), ("seeds", seeds)):
        if twice := [v for v in values if list(values).count(v) > 1]:
            raise ValueError(f"study.{name} names {twice[0]!r} twice: name it once")
    if arms and not seeds:
        raise ValueError("study.arms names arms but study.seeds is empty: give each arm at least one seed, such as [0]")


class Scores(NamedTuple):
    """AUCs of every training on one split, by arm A, seed S, name K (the rare findings, 'rare', 'macro').

    area A x S x K; replicates A x S x K x B, the same patients for all; NaN where there are too few positives.
    """

    area: np.ndarray
    replicates: np.ndarray


class Combined(NamedTuple):
    """The standard error of a mean difference over patients and trainings, and its degrees of freedom."""

    error: float
    df: float

    def interval(self, mean: float, confidence: float) -> tuple[float, float]:
        half = float(stdtrit(self.df, (1 + confidence) / 2)) * self.error
        return mean - half, mean + half

    def p(self, mean: float) -> float:
        """Two-sided. Trainings that are equal to the bit: 1; NaN where a difference does not vary at all."""
        if self.error > 0:
            return float(2 * stdtr(self.df, -abs(mean) / self.error))
        return 1.0 if mean == 0 == self.error else math.nan

    def detectable(self, confidence: float, power: float) -> float:
        """The smallest true difference that the test finds with this probability; NaN where nothing varies."""
        quantiles = stdtrit(self.df, (1 + confidence) / 2) + stdtrit(self.df, power)
        return float(quantiles) * self.error if self.error > 1e-12 else math.nan


def combine(differences: np.ndarray, replicates: np.ndarray) -> Combined:
    """differences S, one for each seed, S >= 2, and replicates S x B, the same patients drawn for all."""
    seeds, drawn = len(differences), replicates[:, ~np.isnan(replicates).any(axis=0)]
    if drawn.shape[1] < 2 or np.isnan(differences).any():
        return Combined(math.nan, math.nan)
    patients = drawn.mean(axis=0).var(ddof=1)
    shared = (seeds * patients - drawn.var(axis=1, ddof=1).mean()) / (seeds - 1)
    own = differences.var(ddof=1) / seeds
    variance = max(patients, own + max(0.0, shared))
    df = (seeds - 1) * (variance / own) ** 2 if own > 0 else math.inf
    return Combined(math.sqrt(variance), df)


def _scores(
    trainings: Trainings, arms: Sequence[str], seeds: Sequence[int], rare: np.ndarray, at: np.ndarray, draws, settings
) -> Scores:
    area = np.full((len(arms), len(seeds), len(rare) + 2), np.nan)
    replicates = np.full((*area.shape, draws.counts.shape[1]), np.nan)
    settings = settings._replace(replicates=draws.counts.shape[1])
    for a, arm in enumerate(arms):
        for s, seed in enumerate(seeds):
            found = model_areas(trainings[arm, seed][at], draws, settings)
            few = found.known & np.isin(np.arange(len(FINDINGS)), rare)
            for source, kept in ((found.area, area[a, s]), (found.replicates, replicates[a, s])):
                kept[:-2] = source[rare]
                kept[-2], kept[-1] = mean_known(source, few), mean_known(source, found.known)
    return Scores(area, replicates)


def best_control(arms: Sequence[str], valid: np.ndarray) -> str | None:
    """The arm without a generated image whose validation AUC, mean over seeds, is highest; the first of equals.

    valid A x K, as Scores. Judged by the mean over the rare findings, or over all where none of these has enough
    positives on validation; None without a control or without any such AUC.
    """
    controls = [a for a, arm in enumerate(arms) if arm in CONTROLS]
    for name in (-2, -1):
        known = [a for a in controls if not np.isnan(valid[a, name])]
        if known:
            return arms[max(known, key=lambda a: valid[a, name])]
    return None


def judge_study(trainings: Trainings, findings: Sequence[str], settings: Settings) -> dict[str, pd.DataFrame]:
    """The tables study and study_differences of the trainings, on test patients; findings: the rare ones' names.

    study: arm, finding (each of `findings`, 'rare' their mean, 'macro' that of all), seeds, auc, low, high, sd_seeds,
    valid_auc, positives, n, patients. study_differences: arm, reference (of REFERENCES), control (which arm that is),
    finding, seeds, positives, n, difference (arm less control), low, high (patients), sd_seeds (of the paired
    differences), total_low, total_high, p, df (patients and trainings), p_holm, detectable. The best control is chosen
    on validation. p_holm's families: all arms and rare findings against one reference; all arms' means of the rare
    findings; all arms' macro means. detectable: for one test, before Holm; with one seed, of the patients' part alone.
    """
    arms, seeds = (list(dict.fromkeys(key[i] for key in trainings)) for i in (0, 1))
    first = trainings[arms[0], seeds[0]]
    names, rare = [*findings, "rare", "macro"], np.array([FINDINGS.index(name) for name in findings], int)
    test, validation = ((first["split"] == split).to_numpy() for split in ("test", "valid"))
    draws = metrics.draw_patients(first.loc[test, "patient_id"], settings.replicates, settings.seed)
    scores = _scores(trainings, arms, seeds, rare, test, draws, settings)
    valid = np.full((len(arms), len(names)), np.nan)
    if validation.any():
        none = metrics.draw_patients(first.loc[validation, "patient_id"], 0, settings.seed)
        valid = _scores(trainings, arms, seeds, rare, validation, none, settings).area.mean(axis=1)
    truth = {name: first.loc[test, f"truth.{slug(name)}"].to_numpy() for name in findings}
    counts = {n: {"positives": int((t == 1).sum()), "n": int((~np.isnan(t)).sum())} for n, t in truth.items()}
    whole = {"positives": None, "n": int(test.sum())}

    rows = []
    for (a, arm), (k, name) in ((x, y) for x in enumerate(arms) for y in enumerate(names)):
        low, high, _ = metrics.interval(scores.replicates[a, :, k].mean(axis=0), settings.confidence)
        rows.append({"arm": arm, "finding": name, "seeds": len(seeds), "auc": scores.area[a, :, k].mean(), "low": low,
                     "high": high, "sd_seeds": _spread(scores.area[a, :, k]), "valid_auc": valid[a, k],
                     **counts.get(name, whole), "patients": len(draws.counts)})  # fmt: skip
    best, lines = best_control(arms, valid), []
    for reference, control in zip(REFERENCES, ("baseline", best), strict=True):
        if control not in arms:
            continue
        r, family = arms.index(control), []
        for (a, arm), (k, name) in ((x, y) for x in enumerate(arms) for y in enumerate(names) if x[1] != control):
            head = {"arm": arm, "reference": reference, "control": control, "finding": name, "seeds": len(seeds)}
            paired = (part[a, :, k] - part[r, :, k] for part in scores)
            family.append(head | counts.get(name, whole) | _difference(*paired, settings))
        for group in (findings, ["rare"], ["macro"]):
            members = [line for line in family if line["finding"] in group]
            for line, p in zip(members, metrics.holm([line["p"] for line in members]), strict=True):
                line["p_holm"] = p
        lines += family
    return {
        "study": pd.DataFrame(rows).astype({"positives": "Int64"}),
        "study_differences": pd.DataFrame(lines, columns=DIFFERENCES).astype({"positives": "Int64"}),
    }


DIFFERENCES = (
    *("arm", "reference", "control", "finding", "seeds", "positives", "n", "difference", "low", "high", "sd_seeds"),
    *("total_low", "total_high", "df", "p", "p_holm", "detectable"),
)


def _spread(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan


def _difference(differences: np.ndarray, replicates: np.ndarray, settings: Settings) -> dict:
    """The numbers of one row from the paired differences S and their replicates S x B."""
    mean, over_patients = float(differences.mean()), replicates.mean(axis=0)
    low, high, _ = metrics.interval(over_patients, settings.confidence)
    row = {"difference": mean, "low": low, "high": high, "sd_seeds": _spread(differences), "p": math.nan}
    if len(differences) == 1:
        return row | {"detectable": metrics.detectable(over_patients, settings.confidence, settings.power)}
    both = combine(differences, replicates)
    total_low, total_high = both.interval(mean, settings.confidence)
    row |= {"total_low": total_low, "total_high": total_high, "df": both.df if math.isfinite(both.df) else math.nan}
    return row | {"p": both.p(mean), "detectable": both.detectable(settings.confidence, settings.power)}


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """What metrics.json says of the study: <arm>.rare_auc and .macro_auc, and gan_against_best_control, the difference
    in the rare findings' mean. What has no value is absent.
    """
    table = tables["study"].rename(columns={"sd_seeds": "sd"}).set_index(["arm", "finding"])
    study: dict = {
        arm: {f"{name}_auc": numbers(table.loc[arm, name], ("auc", "low", "high", "sd")) for name in ("rare", "macro")}
        for arm in table.index.unique("arm")
    }
    parts = ("difference", "low", "high", "total_low", "total_high", "detectable", "p", "p_holm")
    of = tables["study_differences"].query("arm == 'gan' and reference == 'best control' and finding == 'rare'")
    if len(of):
        study["gan_against_best_control"] = numbers(of.iloc[0], parts)
    return without_empty({"study": study})
