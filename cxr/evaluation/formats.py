"""metrics.json, written by the evaluate stage: the few numbers to compare experiments by, on test patients."""

from __future__ import annotations

from pydantic import Field

from cxr.core.formats import Format

Numbers = dict[str, float]  # name: value, rounded to four decimals; what has no value is absent


class Area(Format):
    """An AUC."""

    auc: float = Field(description="AUC, 0 to 1")
    low: float | None = Field(None, description="low end of its interval over patients")
    high: float | None = Field(None, description="high end of its interval over patients")
    sd: float | None = Field(None, description="standard deviation over trainings, where there are several")


Areas = dict[str, Area]


class Metrics(Format):
    """The whole of metrics.json. A section that was not computed is absent."""

    test: dict[str, int] = Field({}, description="images, patients and findings of the mean")
    baseline: dict[str, Areas] = Field({}, description="policy: macro_auc and slugs of the rare findings: AUC")
    final: Areas = Field({}, description="macro_auc and slugs of the rare findings: AUC of the final classifier")
    gain: dict[str, Numbers] = Field({}, description="macro_auc and slugs: final minus baseline")
    adgm: dict[str, dict[str, float | Numbers]] = Field({}, description="<classes>-<labels>: scores of the ADGM")
    floor: Areas = Field({}, description="macro_auc of the metadata baseline")
    above_floor: dict[str, Numbers] = Field({}, description="baseline and final minus the metadata baseline")
    calibration: dict[str, Numbers] = Field(
        {},
        description="baseline and final: Brier score, ECE, ECE of perfect probabilities, slope, intercept",
    )
    operating: dict[str, Numbers] = Field({}, description="baseline and final: sensitivity, specificity")
    per_study: dict[str, Areas] = Field(
        {}, description="baseline and final: macro_auc and five_auc (the competition's findings), scored per study"
    )
    precision: dict[str, Numbers] = Field(
        {}, description="baseline and final: average precision, its floors, PPV and NPV; means over the findings"
    )
    policies: dict[str, Numbers] = Field({}, description="policy: macro AUC against the final policy's")
    study: dict[str, Numbers | dict[str, Numbers]] = Field({}, description="arm of the study: AUCs over its seeds")
