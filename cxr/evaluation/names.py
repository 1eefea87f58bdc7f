"""The evaluation's tables: the columns of each, and the names that the report gives to what they hold. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from cxr import papers

# Label policies, and the model that takes each finding from the policy with the best validation AUC.
BEST_OF = "best_of"
POLICIES = papers.POLICIES | {
    "u_ignore": "U-Ignore",
    "u_zeroes_lsr": "U-Zeroes, smoothed",
    "u_ones_lsr": "U-Ones, smoothed",
    "u_multiclass": "U-MultiClass",
    "u_selftrained": "U-SelfTrained",
    BEST_OF: "Best of each finding",
}
# Forms of a probability (cxr/evaluation/operating.py), scores of an ADGM, numbers of a subgroup.
FORMS = {"raw": "as given", "prior": "prior shift", "calibrated": "calibrated"}
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "macro_auc": "AUC",  # one class against the rest, mean over the classes
}
GROUP_NUMBERS = ("auc", "fnr", "offset")
# The classifier that names the commonest class of the same images: a control of every variant of the ADGM.
MAJORITY = "majority"
# The findings of CheXpert's competition (Irvin et al. 2019), and what uncertain test labels may count as.
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
RULES = {"left_out": float("nan"), "zero": 0.0, "one": 1.0}
# A paired difference over patients (low, high) and over patients and trainings (cxr/evaluation/repeated.py).
DIFFERENCE = ("difference", "low", "high", "sd", "total_low", "total_high", "df", "p", "p_greater", "detectable")


def with_bounds(names: Iterable[str], ends: Sequence[str] = ("", "_low", "_high")) -> tuple[str, ...]:
    """Each name with the ends of its interval."""
    return tuple(f"{name}{end}" for name in names for end in ends)


# Of the forms: Brier score; ECE, and that of perfect probabilities with the range of its draws; logistic recalibration.
ERRORS = (
    *with_bounds(f"brier_{form}" for form in FORMS),
    *(f"ece_{form}" for form in FORMS),
    *with_bounds(f"{number}_{form}" for form in FORMS for number in ("perfect", "slope", "intercept")),
)
RATES = with_bounds(("sensitivity", "specificity"))
VALIDATED = ("model", "patients", "finding", "n", "positives", "negatives", "valid_positives", "valid_negatives")
RUN = ("variant", "classes", "labels", "draw", "which")
COMPARED = ("difference", "low", "high", "detectable")

TABLES = {
    "auc": ("model", "finding", "split", "n", "positives", "negatives", "trainings", "auc", "low", "high", "sd",
            "patients", "missing", "findings"),
    "compare": ("finding", "positives", "baseline", "final", "trainings", *DIFFERENCE, "p_holm"),
    "floor": ("finding", "positives", "floor", "auc", *COMPARED, "z", "p", "p_holm", "model"),
    "above_metadata": ("model", "finding", "trainings", *DIFFERENCE, "p_holm"),
    "ensemble": ("model", "finding", "trainings", "members", "auc", *COMPARED),
    "roc": ("model", "finding", "fpr", "tpr"),
    "calibration": (*VALIDATED, "trained_share", "true_share", *ERRORS, "findings"),
    "operating": (*VALIDATED, "threshold", *RATES, "findings"),
    "reliability": ("model", "finding", "form", "bin", "n", "predicted", "observed", "low", "high"),
    "subgroups": ("model", "attribute", "group", "n", "positives", "negatives", "finding", "patients",
                  *with_bounds(f"{number}{kind}" for number in GROUP_NUMBERS for kind in ("", "_gap")), "findings"),
    "worst_gaps": ("model", "finding", "groups", "attribute", "group", *with_bounds(("gap",)), "expected",
                   "expected_low", "p"),
    "best_of": ("finding", "positives", "negatives", "policy"),  # then auc.<policy>
    "policies": ("policy", "finding", "positives", "findings", "patients", "reference", "auc", "trainings", *DIFFERENCE,
                 "p_holm"),
    "study": ("arm", "finding", "seeds", "auc", "low", "high", "sd", "positives", "n", "patients", "findings"),
    "study_differences": ("arm", "control", "finding", "findings", "seeds", "positives", "n", *DIFFERENCE, "p_holm"),
    "study_claims": ("finding", "primary", "control", "controls", "findings", "seeds", "positives", "n", *DIFFERENCE,
                      "p_every", "p_holm"),
    "adgm": (*RUN, "n", "patients", *with_bounds(SCORES), "wilson_low", "wilson_high", "majority_share",
             "mcnemar_p"),  # recall.<i>
    "confusion": (*RUN, "true", "predicted", "n"),
    "adgm_arms": ("variant", "classes", "labels", "draws", *with_bounds(SCORES, ("", "_low", "_high", "_sd"))),
    "adgm_compare": ("variant", "control", "classes", "labels", "score", "draws", *DIFFERENCE),
    "adgm_efficiency": ("variant", "control", "classes", "labels", "draws", "fewest", "most", "equal", "low", "high"),
    "per_study": ("unit", "model", "finding", "n", "positives", "negatives", "auc", "low", "high", "patients",
                  "missing", "findings"),
    "study_roc": ("model", "finding", "fpr", "tpr"),
    "uncertain": ("model", "rule", "finding", "n", "positives", "negatives", "uncertain", "auc", "low", "high",
                  "patients", "missing", "findings"),
    "precision": ("model", "finding", "n", "positives", "negatives", "patients", "prevalence", "chance",
                  *with_bounds(("ap", "above")), "threshold", "called", *with_bounds(("ppv", "npv")), "findings",
                  "called_findings"),
    "benefit": ("model", "finding", "n", "positives", "negatives", "patients", "threshold", "called", "everyone",
                *with_bounds(("benefit", "over_all"))),
    "readers": ("model", "reader", "finding", "n", "positives", "negatives", "patients",
                *with_bounds(("sensitivity", "specificity", "at", "difference"))),
    "external": ("name", "finding", "answer", "n", "positives", "negatives", "patients", "findings",
                 "auc", "low", "high", *with_bounds(("internal", "drop")), "floor",
                 *with_bounds(("above",)), "prevalence", "chance", *with_bounds(("ap",)), *RATES,
                 "internal_sensitivity", "internal_specificity"),
    "external_calibration": ("name", "finding", "n", "positives", "negatives", "findings", "local_labels",
                             "local_positives",
                             *(f"{number}_{form}{end}" for number in ("brier", "perfect", "slope", "intercept")
                               for form in ("given", "local") for end in ("", "_low", "_high")),
                             "ece_given", "ece_local"),
    "external_sets": ("name", "title", "data", "labelled_by", "patient_key", "images", "patients", "trained_patients",
                      "trained_images", "other_view", "unreadable", "unlike", "notes"),
    "external_labels": ("name", "label", "finding", "answer", "source", "reason"),
    "external_boxes": ("name", "finding", "answer", "method", "measure", "images", "patients", *with_bounds(("value",)),
                       "floor", *with_bounds(("gain",)), "beats", "random"),
    "adgm_floor": ("classes", "labels", "view", "n", "patients", "auc", "low", "high"),
}  # fmt: skip
# Whole numbers that may be blank.
COUNTS = ("positives", "negatives", "findings", "missing", "valid_positives", "valid_negatives",
          "called", "called_findings", "uncertain", "local_labels", "local_positives")  # fmt: skip


def frame(table: str, rows: Sequence[dict], *more: str) -> pd.DataFrame:
    """The rows as one of TABLES, with the columns `more` after its own."""
    columns = [*TABLES[table], *more]
    whole = [name for name in columns if name in (*COUNTS, "labels")]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "Int64"))
