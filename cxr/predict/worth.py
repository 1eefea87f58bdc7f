"""What the models' answers are worth: each finding's status, and how often a yes and a no were right on test images."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cxr.core.findings import FINDINGS, SLUGS
from cxr.predict.formats import CALIBRATED, Finding, Rate
from cxr.predict.model import Predictor
from cxr.predict.verdict import columns as verdicts

RATES = ("sensitivity", "specificity")


def statuses(models: Sequence[Predictor]) -> dict[str, str]:
    """Slug -> the status of a finding (formats.py): of the mean of several models, the first that is not calibrated."""
    result = {}
    for slug in SLUGS:
        own = [model.calibration.findings[slug].status for model in models]
        result[slug] = next((status for status in own if status != CALIBRATED), CALIBRATED)
    return result


def columns(names: Sequence[str]) -> list[str]:
    """The columns of predictions.csv, of models with these names: after each yes or no what it is worth."""
    result = []
    for column in verdicts(names):
        result.append(column)
        head, kind, slug = _parts(column)
        if kind == "positive":
            result += [f"{head}{name}.{slug}" for name in (*RATES, "status")]
    return result


def _parts(column: str) -> tuple[str, str, str]:
    """second/positive.edema -> second/, positive, edema."""
    own = column.rpartition("/")
    kind, _, slug = own[2].partition(".")
    return own[0] + own[1], kind, slug


def of_columns(models: Sequence[Predictor]) -> dict[str, str | float]:
    """The values of these columns, which every predicted image has. The mean's own rates were not measured."""
    result: dict[str, str | float] = {f"status.{slug}": status for slug, status in statuses(models).items()}
    for model in models:
        head = f"{model.name}/" if len(models) > 1 else ""
        for slug, finding in model.calibration.findings.items():
            result[f"{head}status.{slug}"] = finding.status
            for name, rate in _rates(finding).items():
                if rate:
                    result[f"{head}{name}.{slug}"] = rate.value
    return result


def _rates(finding: Finding) -> dict[str, Rate | None]:
    return dict(zip(RATES, (finding.sensitivity, finding.specificity), strict=True))


def findings(models: Sequence[Predictor]) -> pd.DataFrame:
    """A row for each model and finding: status, threshold (a probability), test sensitivity and specificity."""
    rows = []
    for model in models:
        limits = model.thresholds()
        for k, (slug, name) in enumerate(zip(SLUGS, FINDINGS, strict=True)):
            finding = model.calibration.findings[slug]
            row = {"model": model.name, "finding": name, "status": finding.status, "threshold": limits[k]}
            for rate, measured in _rates(finding).items():
                ends = (measured.value, measured.low, measured.high) if measured else (None, None, None)
                row |= dict(zip((rate, f"{rate}_low", f"{rate}_high"), ends, strict=True))
            counts = ("test_positives", "test_negatives", "valid_positives", "valid_negatives")
            rows.append(row | {count: getattr(finding, count) for count in counts})
    return pd.DataFrame(rows)
