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


class Label(Format):
    """What a label of another data set means."""

    label: str = Field(description="the data set's own label")
    finding: str = Field(description="CheXpert's nearest finding; '': none")
    answer: str = Field(description="same, near (scored and marked) or not the same (not scored)")
    source: str = Field(description="where the label's definition stands")
    reason: str = Field(description="why it is not simply the same")


class External(Format):
    """external.json, beside the predictions of an external data set: who was scored, and who was not."""

    name: str = Field(description="its name in params.yaml")
    title: str = Field(description="its name on the page")
    data: str = Field(description="phantom (simulated patients), folder, zip, ...")
    labelled_by: str = Field(description="who labelled it")
    patient_key: str = Field(description="what patient_id names: patient or image")
    images: int = Field(description="images scored")
    patients: int = Field(description="their patients")
    trained_patients: int = Field(description="patients refused because they were trained on")
    trained_images: int = Field(description="their images")
    other_view: int = Field(description="images left out because the model was not trained on their view")
    unreadable: int = Field(description="images that resize rejected")
    unlike: float = Field(description="share of the scored images that the command predict would refuse as unlike")
    notes: list[str] = Field(description="a sentence each on what reading left out")
    labels: list[Label] = Field(description="what each label with a value means")
    weights_sha256: str = Field(description="SHA-256 of the model's weights")
