"""The tables of the ADGM's section."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cxr import papers
from cxr.adgm.formats import Fitted, Model, Samples
from cxr.adgm.variants import GENERATIVE, LABELLED_ALONE, VARIANTS, Run, leaders
from cxr.evaluation.names import MAJORITY, SCORES
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate, Table
from cxr.report.sections.common import TOTALS, change_of, pick

NAMES = {
    "corrected": "ADGM",
    "paper": "ADGM, paper\u2019s text",
    "paper_code": "ADGM, paper\u2019s code",
    "no_z": "ADGM without z",
    "supervised": "labelled images alone",
    "pseudo_label": "pseudo-labels",
    "mean_teacher": "mean teacher",
    "fixmatch": "FixMatch",
    "features": "ADGM of features",
    "features_supervised": "labelled images alone, of features",
    "probe": "logistic regression, of features",
    "label_propagation": "label propagation, of features",
    "probe_coreset": "logistic regression, labels chosen far apart",
    "probe_uncertain": "logistic regression, labels chosen where unsure",
}
LATENT = ("KL_z", "active_z", "KL_a", "active_a")


def scored(row: Mapping, name: str) -> Estimate:
    """A score of a row with its interval."""
    return Estimate(row[name], row[f"{name}_low"], row[f"{name}_high"])


def _task(classes: int, labels: int) -> str:
    return f"{classes} classes, {labels:,} labels"


def over_draws(run: Artefacts, arms: Rows, by: Rows, compare: Rows, every: Sequence[Run]) -> Table:
    """Means over the label draws after the last epoch: a row for each variant, number of classes and of labels.

    The metadata baseline is the first row of each number of classes.
    """
    table = run.table("adgm_floor", "labels", "view").query("labels.isna() and view == 'all'")
    metadata = Rows(table, run.evaluate / "adgm_floor.csv", "evaluate", "classes")
    rows = []
    for classes in sorted(set(run.classes)):
        alone = metadata[classes]
        rows.append({"task": f"{classes} classes", "variant": "metadata baseline", "n": alone["n"]})
        rows[-1]["macro_auc"] = Estimate(alone["auc"])
        curve = dict(papers.ADGM_CURVE.get(classes, ()))
        first = [r for r in every if r.classes == classes and r.draw == min(run.draws)]
        for r in sorted(first, key=lambda r: r.labels):
            arm, last = arms[r[:3]], by[(*r, "last")]
            row = {"task": _task(classes, r.labels), "variant": NAMES[r.variant]}
            row |= pick(last, "n", "patients", "majority_share") | {"accuracy": scored(arm, "accuracy")}
            over = compare[r.variant, MAJORITY, r.classes, r.labels, "accuracy"]
            row |= {"over": change_of(over, "never differs"), "over_total": change_of(over, "", TOTALS)}
            row |= {"mcnemar_p": last["mcnemar_p"] if arm["draws"] == 1 else None}
            row |= pick(arm, "accuracy_sd", "macro_f1") | {
                n: scored(arm, n) for n in ("balanced_accuracy", "macro_auc")
            }
            rows.append(
                row | {"draws": arm["draws"], "paper": curve.get(r.labels) if r.variant in GENERATIVE else None}
            )
    return Table("adgm", rows)


def compared(compare: Rows, variants: Sequence[str]) -> Table:
    """Each of the leading variants less each other one: a row for each, number of classes and of labels."""
    rows, leads = [], leaders(variants)
    for variant, control, classes, labels, score in compare:
        if score != "accuracy" or variant not in leads or control not in VARIANTS:
            continue
        accuracy = compare[variant, control, classes, labels, "accuracy"]
        row = {"variant": NAMES[variant], "control": NAMES[control], "task": _task(classes, labels)}
        row |= {"draws": accuracy["draws"]}
        for name in SCORES:
            one = compare[variant, control, classes, labels, name]
            row |= {name: change_of(one, "never differ"), f"{name}_total": change_of(one, "", TOTALS)}
        rows.append(row | pick(accuracy, "sd", "p", "detectable"))
    return Table("adgm_compare", rows)


def efficiency(run: Artefacts) -> list[dict]:
    """Labels that an arm of labelled images alone needs for the ADGM's AUC: variant, control, classes, labels, equal
    (as text, with its interval), draws.
    """
    rows = []
    for row in run.table("adgm_efficiency").to_dict("records"):
        ends = [_labels(row[key], row) for key in ("equal", "low", "high")]
        equal = f"{ends[0]} [{ends[1]}, {ends[2]}]"
        rows.append({"variant": NAMES[row["variant"]], "control": NAMES[row["control"]], "equal": equal}
                    | pick(row, "classes", "labels", "draws"))  # fmt: skip
    return rows


def _labels(value: float, row: Mapping) -> str:
    if np.isnan(value):
        return f"more than {row['most']:,.0f}"
    return f"{value:,.0f} or fewer" if value <= row["fewest"] else f"{value:,.0f}"


def latent(run: Artefacts, histories: Mapping[Run, pd.DataFrame], samples: Mapping[Run, Samples]) -> Table:
    """What z and a carry after the last epoch, and whether samples are of the class asked for; means over draws."""
    rows, none = [], Estimate(float("nan"), why="no latent z")
    tasks = [(c, n) for c in sorted(set(run.classes)) for n in sorted(set(run.labels))]
    for variant in [v for v in VARIANTS if v in run.variants]:
        for classes, labels in tasks:
            draws = [r for r in histories if r[:3] == (variant, classes, labels)]
            row = {"variant": NAMES[variant], "task": _task(classes, labels)}
            if draws:
                row |= {name: float(np.mean([histories[r].iloc[-1][name] for r in draws])) for name in LATENT}
            if draws and draws[0] in samples:
                row |= {"samples": samples[draws[0]].samples}
                row |= {
                    name: float(np.mean([getattr(samples[r], name) for r in draws])) for name in ("agreement", "real")
                }
                row |= {"chance": 1 / classes}
            rows.append(row if draws else row | {"KL_z": none})
    return Table("adgm_collapse", rows)


def every_run(by: Rows, models: Mapping[Run, Model | Fitted]) -> Table:
    """A row for each training and for its last and best epoch; one for a control arm that is fitted at once."""
    rows = []
    for r, model in models.items():
        fitted = isinstance(model, Fitted)
        for which, epoch in [("last", None)] if fitted else [("last", model.epochs), ("best", model.best_epoch)]:
            one = by[(*r, which)]
            row = {"task": _task(r.classes, r.labels), "variant": NAMES[r.variant], "draw": r.draw, "which": which}
            row |= {"epoch": epoch, "labelled": model.n_labelled}
            row |= {"unlabelled": None if r.variant in LABELLED_ALONE else model.n_unlabelled, "n": one["n"]}
            row |= {"accuracy": scored(one, "accuracy"), **pick(one, "balanced_accuracy", "macro_f1")}
            rows.append(row | {"macro_auc": scored(one, "macro_auc")})
    return Table("adgm_runs", rows)
