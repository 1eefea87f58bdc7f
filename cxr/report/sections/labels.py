"""The label question: does the policy for uncertain labels matter?"""

from __future__ import annotations

import math

from cxr.core.findings import FINDINGS, finding
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate, Table
from cxr.report.sections.common import TOTALS, areas, auc_of, change_of, pick, policy_name, row_name, verdict


def labels(run: Artefacts) -> dict | None:
    """Each policy's mean AUC beside final.policy's, and the best policy of each finding; None for one policy."""
    if len(run.policies) < 2:
        return None
    macro = run.table("policies", "policy", "finding").query("finding == 'macro'")
    pairs = Rows(macro, run.evaluate / "policies.csv", "evaluate", "policy")
    by = areas(run, "test")
    rows = []
    for policy in (run.final_policy, *(p for p in run.policies if p != run.final_policy), "best_of"):
        area = by[policy, "macro"]
        row = {"policy": policy_name(policy), **pick(area, "findings", "n", "patients"), "auc": auc_of(area)}
        if policy != run.final_policy:
            pair = pairs[policy]
            row |= {"difference": change_of(pair), "total": change_of(pair, ends=TOTALS)}
            row |= pick(pair, "trainings", "sd", "detectable", "p", "p_holm")
            row["verdict"] = verdict(pair, run.alpha, run.verdict_p)
        rows.append(row)
    return {
        "reference": rows[0]["policy"],
        "answers": rows[1:],
        "trainings": len(run.seeds),
        "patients": by["final", "macro"]["patients"],
        "table": Table("policies", rows, [rows[0]["policy"]]),
        "columns": [(policy, policy_name(policy), "auc") for policy in run.policies],
        "choice": _choice(run, by),
    }


def _choice(run: Artefacts, by: Rows) -> Table:
    chosen = run.rows("best_of", "finding")
    rows = []
    for name in FINDINGS:
        valid, test = chosen[name], by["best_of", name]
        default = "" if math.isfinite(valid[f"auc.{run.final_policy}"]) else ", by default"
        row = {"finding": row_name(test), "valid_positives": valid["positives"]}
        row |= {p: Estimate(valid[f"auc.{p}"], why="too few") for p in run.policies}
        row |= {"taken": policy_name(valid["policy"]) + default, **pick(test, "positives", "n"), "test": auc_of(test)}
        rows.append(row)
    return Table("best_of", rows, [finding(name) for name in run.findings])
