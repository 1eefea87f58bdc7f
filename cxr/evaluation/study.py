"""Does the GAN help? The tables of a study of control arms: each arm trained once for every seed, all on the same test
patients.

An arm's AUC is the mean over seeds, its interval a bootstrap over patients of that mean; beside it stands the standard
deviation over seeds. Differences are paired and combine patients and trainings as cxr/evaluation/repeated.py says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, columns_of, slug
from cxr.evaluation import metrics, repeated
from cxr.evaluation.classifiers import Settings, enough, mean_known, model_areas, numbers, without_empty
from cxr.synthesis.arms import ARMS, check_arm

REFERENCES = ("baseline", "best control")

Models = Mapping[tuple[str, int], pd.DataFrame]  # (arm, seed) -> predictions


def check(arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Raise ValueError for an arm that is none, for one named twice, and for arms without a seed."""
    for arm in arms:
        check_arm(arm)
    for name, given in (("arms", arms), ("seeds", seeds)):
        if twice := [v for v in given if list(given).count(v) > 1]:
            raise ValueError(f"study.{name} names {twice[0]!r} twice: name it once")
    if arms and not seeds:
        raise ValueError("study.arms names arms but study.seeds is empty: give each arm at least one seed, such as [0]")


class Scores(NamedTuple):
    """AUCs of every model on one split, by arm A, seed S, name K (the rare findings, 'rare', 'macro').

    area A x S x K; replicates A x S x K x B, the same patients for all; NaN where there are too few positives.
    """

    area: np.ndarray
    replicates: np.ndarray


def _scores(
    models: Models, arms: Sequence[str], seeds: Sequence[int], rare: np.ndarray, at: np.ndarray, draws, settings
) -> Scores:
    area = np.full((len(arms), len(seeds), len(rare) + 2), np.nan)
    replicates = np.full((*area.shape, draws.counts.shape[1]), np.nan)
    settings = settings._replace(replicates=draws.counts.shape[1])
    for a, arm in enumerate(arms):
        for s, seed in enumerate(seeds):
            found = model_areas(models[arm, seed][at], draws, settings)
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
    controls = [a for a, arm in enumerate(arms) if not ARMS[arm].generated]
    for name in (-2, -1):
        known = [a for a in controls if not np.isnan(valid[a, name])]
        if known:
            return arms[max(known, key=lambda a: valid[a, name])]
    return None


def judge_study(models: Models, findings: Sequence[str], settings: Settings) -> dict[str, pd.DataFrame]:
    """The tables study and study_differences of the models, on test patients; findings: the rare ones' names.

    study: arm, finding (each of `findings`, 'rare' their mean, 'macro' that of all), seeds, auc, low, high, sd,
    valid_auc, positives, n, patients; of a mean, findings and valid_findings: over how many it is on test and on
    validation, those with enough positives. study_differences: arm, reference (of REFERENCES), control (which arm that
    is), finding, findings, seeds, positives, n, trainings.PARTS of arm less control, p_holm. The best control is chosen
    on validation. p_holm's families: all arms and rare findings against one reference; all arms' means of the rare
    findings; all arms' macro means. detectable: for one test, before Holm.
    """
    arms, seeds = (list(dict.fromkeys(key[i] for key in models)) for i in (0, 1))
    first = models[arms[0], seeds[0]]
    names, rare = [*findings, "rare", "macro"], np.array([FINDINGS.index(name) for name in findings], int)
    test, validation = ((first["split"] == split).to_numpy() for split in ("test", "valid"))
    draws = metrics.draw_patients(first.loc[test, "patient_id"], settings.replicates, settings.seed)
    scores = _scores(models, arms, seeds, rare, test, draws, settings)
    valid = np.full((len(arms), len(names)), np.nan)
    if validation.any():
        none = metrics.draw_patients(first.loc[validation, "patient_id"], 0, settings.seed)
        valid = _scores(models, arms, seeds, rare, validation, none, settings).area.mean(axis=1)
    truth = {name: first.loc[test, f"truth.{slug(name)}"].to_numpy() for name in findings}
    counts = {n: {"positives": int((t == 1).sum()), "n": int((~np.isnan(t)).sum())} for n, t in truth.items()}
    few = np.isin(np.arange(len(FINDINGS)), rare)
    shown, chosen = (enough(columns_of(first[at], "truth"), settings) for at in (test, validation))
    over = {name: {} for name in findings}
    for name, mine in (("rare", few), ("macro", True)):
        counts[name] = {"positives": None, "n": int(test.sum()), "findings": int((shown & mine).sum())}
        over[name] = {"valid_findings": int((chosen & mine).sum())}

    rows = []
    for (a, arm), (k, name) in ((x, y) for x in enumerate(arms) for y in enumerate(names)):
        low, high, _ = metrics.interval(scores.replicates[a, :, k].mean(axis=0), settings.confidence)
        rows.append({"arm": arm, "finding": name, "seeds": len(seeds), "auc": scores.area[a, :, k].mean(), "low": low,
                     "high": high, "sd": repeated.spread(scores.area[a, :, k]), "valid_auc": valid[a, k],
                     **counts[name], **over[name], "patients": len(draws.counts)})  # fmt: skip
    best, lines = best_control(arms, valid), []
    for reference, control in zip(REFERENCES, ("baseline", best), strict=True):
        if control not in arms:
            continue
        r, family = arms.index(control), []
        for (a, arm), (k, name) in ((x, y) for x in enumerate(arms) for y in enumerate(names) if x[1] != control):
            head = {"arm": arm, "reference": reference, "control": control, "finding": name, "seeds": len(seeds)}
            paired = (part[a, :, k] - part[r, :, k] for part in scores)
            change = repeated.difference(*paired, settings.confidence, settings.power)
            family.append(head | counts[name] | change)
        for group in (findings, ["rare"], ["macro"]):
            members = [line for line in family if line["finding"] in group]
            for line, p in zip(members, metrics.holm([line["p"] for line in members]), strict=True):
                line["p_holm"] = p
        lines += family
    whole = dict.fromkeys(("positives", "findings"), "Int64")
    return {
        "study": pd.DataFrame(rows).astype(whole | {"valid_findings": "Int64"}),
        "study_differences": pd.DataFrame(lines, columns=DIFFERENCES).astype(whole),
    }


DIFFERENCES = (
    *("arm", "reference", "control", "finding", "findings", "seeds", "positives", "n"),
    *(*repeated.PARTS, "p_holm"),
)


def summary(tables: Mapping[str, pd.DataFrame]) -> dict:
    """What metrics.json says of the study: <arm>.rare_auc and .macro_auc, and gan_against_best_control, the difference
    in the rare findings' mean. What has no value is absent.
    """
    table = tables["study"].set_index(["arm", "finding"])
    study: dict = {
        arm: {f"{name}_auc": numbers(table.loc[arm, name], ("auc", "low", "high", "sd")) for name in ("rare", "macro")}
        for arm in table.index.unique("arm")
    }
    parts = ("difference", "low", "high", "total_low", "total_high", "detectable", "p", "p_holm")
    of = tables["study_differences"].query("arm == 'gan' and reference == 'best control' and finding == 'rare'")
    if len(of):
        study["gan_against_best_control"] = numbers(of.iloc[0], parts)
    return without_empty({"study": study})
