"""The report's section on the label question: does the policy for uncertain labels matter?

As cxr/report/sections/classifiers.py: the names that the template uses, nothing computed anew.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cxr.core.findings import FINDINGS, finding
from cxr.report import figures
from cxr.report.inputs import Artefacts, Rows, csv
from cxr.report.page import Column, Estimate, Table, number
from cxr.report.sections.classifiers import areas, estimate, named, plot, policy_name, verdict

AGAINST = ("policy", "finding", "difference", "low", "high", "detectable", "p", "p_holm")
CHOICE = ("finding", "positives", "negatives", "policy")


def labels(run: Artefacts) -> dict | None:
    """Each policy's mean AUC against final.policy's, and the mix of the best on validation; None for one policy."""
    if len(run.policies) < 2:
        return None
    path = run.evaluate / "policies.csv"
    macro = csv(path, "evaluate", AGAINST).query("finding == 'macro'")
    pairs = Rows(macro, path, "evaluate", "policy")
    _, by = areas(run, "test")
    reference, others = policy_name(run.final_policy), [p for p in run.policies if p != run.final_policy]
    rows = [_row(run, by, run.final_policy)]
    answers, points, shown = [], [], 0
    for policy in (*others, "best_of"):
        pair, row = pairs[policy], _row(run, by, policy)
        change = Estimate(pair["difference"], pair["low"], pair["high"], "no finding has enough positives")
        said = verdict(pair, run.alpha).replace("every finding", "every policy")
        shown += said in ("a gain", "a loss")
        said += ", between one training of each" if said.startswith("a ") else ""
        rows.append(row | {"difference": change} | {k: pair[k] for k in ("detectable", "p", "p_holm")})
        answers.append({"name": row["policy"], "change": change, "p_holm": pair["p_holm"], "verdict": said})
        answers[-1] |= {k: by[policy, "macro"][k] for k in ("n", "patients", "findings")}
        note = "n/a" if np.isnan(pair["difference"]) else f"{number(pair['difference'], 'difference')}"
        note += "" if np.isnan(pair["p_holm"]) else f"   Holm p {number(pair['p_holm'], 'p')}"
        points.append({"name": row["policy"], "note": note, "printed": np.nan} | {k: pair[k] for k in AGAINST[2:5]})
    drawn = figures.forest(pd.DataFrame(points), f"difference in mean AUC, policy \u2212 {reference}")
    test = f"test: mean AUC and {run.level} interval"
    columns = [
        Column("policy", "Policy"),
        Column("findings", "findings", "count", test),
        Column("auc", "AUC", "auc", test),
        Column("difference", f"less {reference}", "difference", test),
        Column("detectable", "detectable", "auc", test),
        Column("p", "p", "p", "paired"),
        Column("p_holm", "Holm", "p", "paired"),
    ]
    notes = [
        f"All policies are scored on the same {by['final', 'macro']['patients']:,.0f} test patients against one truth, "
        "in which uncertain labels are left out. The interval is over patients, between one training of each; p has "
        "the standard error of the same resampled patients and is corrected for the number of policies (Holm). "
        f"Detectable: the smallest true difference that this test set would have shown with power {run.power:g}, "
        "before the correction.",
    ]
    return {
        "reference": reference,
        "shown": shown,
        "answers": answers,
        "forest": plot(
            drawn,
            f"Mean test AUC of each policy less that of {reference}, with {run.level} intervals over patients. Blue: "
            "the interval is clear of zero, before any correction.",
            "Forest plot of the differences in mean AUC between label policies",
            80,
        ),
        "table": Table("policies", f"Each policy beside {reference}", columns, rows, notes, [reference]),
        "choice": _choice(run, by),
    }


def _row(run: Artefacts, by: Rows, policy: str) -> dict:
    macro = by[policy, "macro"]
    return {"policy": policy_name(policy), "auc": estimate(macro), "findings": macro["findings"], "difference": None}


def _choice(run: Artefacts, by: Rows) -> Table:
    path = run.evaluate / "best_of.csv"
    found = csv(path, "evaluate", (*CHOICE, *(f"auc.{p}" for p in run.policies)))
    chosen = Rows(found, path, "evaluate", "finding")
    rows = []
    for name in FINDINGS:
        row, test = chosen[name], by["best_of", name]
        few = "" if np.isfinite(row[f"auc.{run.final_policy}"]) else ", by default"
        line = {"finding": named(test), "taken": policy_name(row["policy"]) + few, "test": estimate(test)}
        line |= {"valid_positives": row["positives"], "positives": test["positives"], "n": test["n"]}
        rows.append(line | {p: Estimate(row[f"auc.{p}"], why="too few") for p in run.policies})
    columns = [
        Column("finding", "Finding"),
        Column("valid_positives", "positive", "count", "validation: AUC under"),
        *(Column(p, policy_name(p), "auc", "validation: AUC under") for p in run.policies),
        Column("taken", "taken"),
        Column("positives", "positive", "count", "test"),
        Column("n", "n", "count", "test"),
        Column("test", "AUC", "auc", "test"),
    ]
    notes = [
        "Chosen on validation patients alone, whose AUCs of what was chosen are therefore too high; the test AUC is "
        f"not. A finding with too few positives on validation takes {policy_name(run.final_policy)}.",
    ]
    strong = [finding(f) for f in run.findings]
    return Table(
        "best_of", "Best of each finding: the policy with the highest AUC on validation", columns, rows, notes, strong
    )
