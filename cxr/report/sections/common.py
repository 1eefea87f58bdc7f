"""What several sections share: names, AUCs of one split, verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum

from cxr.cohort.formats import RsnaSplit
from cxr.core.files import read_json
from cxr.data.formats import Manifest
from cxr.evaluation.names import POLICIES
from cxr.report.inputs import Artefacts, Rows
from cxr.report.page import Estimate

FEW = "no finding has enough positives"
BOUNDS = ("low", "high")
TOTALS = ("total_low", "total_high")


class Verdict(StrEnum):
    """What an interval or a test of a difference shows."""

    UNTESTED = "untested"  # no number
    ONE_TRAINING = "one training"  # nothing repeated, so another training may differ as much
    NONE = "none"  # no difference found
    UNCORRECTED = "uncorrected"  # a difference before the correction for several tests, none after it
    UNSURE = "unsure"  # a difference at the level of the test, whose p is too large for a verdict on trainings
    GAIN = "gain"
    LOSS = "loss"


def from_interval(low: float, high: float) -> Verdict:
    """The verdict of an interval of a difference: on which side of zero it lies."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return Verdict.UNTESTED
    return Verdict.GAIN if low > 0 else Verdict.LOSS if high < 0 else Verdict.NONE


def verdict(row: Mapping, alpha: float, strict: float) -> Verdict:
    """The verdict of a difference over patients and trainings; one training of each allows none.

    alpha: level of the test. strict: largest p of a verdict. The same trainings on another machine are other trainings:
    a p just below alpha is above it there about half of the time (Boos and Stefanski 2011).
    """
    if not math.isfinite(row["difference"]):
        return Verdict.UNTESTED
    if row["trainings"] < 2:
        return Verdict.ONE_TRAINING
    if not math.isfinite(row["p"]):
        return Verdict.UNTESTED
    if row["p_holm"] < alpha:
        sign = Verdict.GAIN if row["difference"] > 0 else Verdict.LOSS
        return sign if row["p_holm"] <= strict else Verdict.UNSURE
    return Verdict.UNCORRECTED if row["p"] < alpha else Verdict.NONE


def policy_name(policy: str) -> str:
    """A label policy's name on the page."""
    return POLICIES.get(policy, policy)


def too_few(row: Mapping) -> str:
    """'3 positives' or '1 negative', whichever are fewer: why a row has no AUC."""
    kind = min(("positives", "negatives"), key=lambda k: row[k])
    return f"{row[kind]:.0f} {kind if row[kind] != 1 else kind[:-1]}"


def areas(run: Artefacts, split: str) -> Rows:
    """The AUCs of one split (valid or test), by (model, finding)."""
    table = run.table("auc", "split").query("split == @split")
    return Rows(table, run.evaluate / "auc.csv", "evaluate", "model", "finding")


def row_name(row: Mapping) -> str:
    """The finding's name, or what its mean is over."""
    return mean_of(row, "finding") if row["finding"] == "macro" else row["finding"]


def mean_of(row: Mapping, what: str) -> str:
    """The name of a mean's row: of how many findings. what: one of them, in words."""
    return f"Mean of {row['findings']:.0f} {what}{'' if row['findings'] == 1 else 's'}"


def no_number(row: Mapping) -> str:
    """Why a row of AUCs has none."""
    return FEW if row["finding"] == "macro" else too_few(row)


def auc_of(row: Mapping) -> Estimate:
    """A row's AUC with its interval."""
    return Estimate(row["auc"], row["low"], row["high"], no_number(row))


def change_of(row: Mapping, why: str = FEW, ends: tuple[str, str] = BOUNDS) -> Estimate:
    """A row's difference with its interval. ends: the columns of its bounds."""
    return Estimate(row["difference"], row[ends[0]], row[ends[1]], why)


def pick(row: Mapping, *keys: str) -> dict:
    """Some of a row's values."""
    return {key: row[key] for key in keys}


def backbone_name(run: Artefacts) -> str:
    """The classifier's network on the page."""
    backbone = run.params.get("classifier", {}).get("backbone", "densenet121")
    names = {
        "densenet121": "DenseNet121",
        "densenet_small": "small DenseNet (0.08 million weights, not the paper\u2019s DenseNet121)",
    }
    return names.get(backbone, f"{backbone} (not the paper\u2019s DenseNet121)")


def reported(split: RsnaSplit) -> str:
    """The part of RSNA that the ADGM's scores are of: test, or valid where the split has no test part."""
    return "test" if "test" in split.splits else "valid"


def source_kind(run: Artefacts, name: str) -> str:
    """The kind of source of a data set (chexpert or rsna): phantom, folder, zip and so on."""
    return read_json(run.dataset(name) / "manifest.json", f"download@{name}", Manifest).kind


def marks(run: Artefacts, name: str, printed: Mapping) -> Mapping:
    """A paper's values for the axes of a figure: none where the data set is a phantom, which compares with no paper."""
    return {} if source_kind(run, name) == "phantom" else printed
