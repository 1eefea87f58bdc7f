"""A fabricated external data set for the report's tests."""

import numpy as np
import pandas as pd

from cxr.core.findings import SLUGS
from cxr.evaluation.external import Outside
from cxr.evaluation.formats import External
from tests.make import example


def abroad(final: pd.DataFrame, records: pd.DataFrame, rng: np.random.Generator) -> Outside:
    """Predictions of an external data set, a little worse than those of final, with two labels that mean something."""
    people = records[["image_id", "sex", "age", "projection", "view"]]
    table = final.drop(columns=["split", "projection"]).merge(people, on="image_id")
    table["patient_id"] = "x" + table["patient_id"]
    for key in SLUGS:
        logit = np.log(table[f"score.{key}"] / (1 - table[f"score.{key}"])) + rng.normal(size=len(table))
        table[f"score.{key}"] = table[f"probability.{key}"] = 1 / (1 + np.exp(-logit))
        table[f"positive.{key}"] = (table[f"score.{key}"] > 0.5).astype(float)
        if key not in ("cardiomegaly", "lung_lesion"):
            table[f"truth.{key}"] = np.nan
    answers = (("Big heart", "Cardiomegaly", "same"), ("Nodule", "Lung Lesion", "near"), ("Haze", "", "not the same"))
    labels = [
        {"label": label, "finding": finding, "answer": answer, "source": "a book", "reason": ""}
        for label, finding, answer in answers
    ]
    info = example(
        External, name="elsewhere", title="Saint <b>Elsewhere</b>", images=len(table), patient_key="patient",
        patients=table["patient_id"].nunique(), trained_patients=3, trained_images=7, labels=labels,
        labelled_by="two radiologists",
    )  # fmt: skip
    return Outside(External(**info), table, points(table, rng))


def points(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Heat maps of 30 images of a big heart, which Grad-CAM always finds and the other method never."""
    rows = table.loc[:29, ["image_id", "patient_id", "view"]].reset_index(drop=True).assign(finding="Cardiomegaly")
    for method, hit in {
        "grad_cam": 1.0,
        "integrated_gradients": 0.0,
        "mean_box": 0.5,
        "mean_box_of_view": 0.25,
    }.items():
        rows[f"{method}.hit"], rows[f"{method}.iou"] = hit, rng.random(30)
    return rows.assign(**{"grad_cam.random": 0.25, "integrated_gradients.random": np.nan})
