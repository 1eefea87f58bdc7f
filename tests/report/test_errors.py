"""The most confident errors: which images, in which order, and whether the page may show them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from cxr.core.files import write_json
from cxr.core.findings import SLUGS
from cxr.data.formats import Manifest
from cxr.evaluation.errors import most_confident
from cxr.report import page
from cxr.report.sections.errors import COUNT, errors
from tests.make import example

pytestmark = pytest.mark.usefixtures("undrawn")


def predicted(**columns):
    n = len(next(iter(columns.values())))
    table = pd.DataFrame({"image_id": [f"i{k}" for k in range(n)], "patient_id": [f"p{k}" for k in range(n)]})
    table = table.assign(split="test", **{f"truth.{name}": 0.0 for name in SLUGS}, **dict.fromkeys(
        (f"score.{name}" for name in SLUGS), 0.5))  # fmt: skip
    return table.assign(**{key.replace("__", "."): value for key, value in columns.items()})


def chosen(table, count, kind):
    rows = most_confident(table, count).query(f"finding == 'Edema' and kind == '{kind}'")
    return rows["image_id"].tolist()


def test_positives_with_the_lowest_scores_and_negatives_with_the_highest():
    table = predicted(truth__edema=[1, 1, 1, 0, 0, np.nan, np.nan], score__edema=[0.3, 0.1, 0.9, 0.2, 0.8, 0.0, 1.0])
    assert chosen(table, 2, "missed") == ["i1", "i0"] and chosen(table, 2, "false alarm") == ["i4", "i3"]
    assert chosen(table, 9, "missed") == ["i1", "i0", "i2"]


def test_one_image_a_patient_test_images_alone_and_ties_by_name():
    table = predicted(truth__edema=[1.0] * 5, score__edema=[0.1, 0.2, 0.3, 0.3, 0.0])
    table["patient_id"] = ["p0", "p0", "p1", "p2", "p3"]
    table.loc[4, "split"] = "valid"
    assert chosen(table.sample(frac=1, random_state=0), 3, "missed") == ["i0", "i2", "i3"]


def test_the_pictures_are_those_of_the_store(made, whole):
    part = whole["errors"]
    assert part["shown"] and len(part["findings"]) >= 12
    first = part["findings"][0]
    assert len(first["scores"]["missed"]) == COUNT and first["scores"]["missed"] == sorted(first["scores"]["missed"])
    assert first["scores"]["false alarm"] == sorted(first["scores"]["false alarm"], reverse=True)
    assert all(one["picture"].uri.startswith("data:image/jpeg") for one in part["findings"])


@pytest.mark.parametrize(
    ("kind", "allowed", "shown"),
    [("phantom", "phantom", True), ("zip", "phantom", False), ("zip", "always", True), ("phantom", "never", False)],
)
def test_pictures_of_patients_are_off_by_default(made, whole, tmp_path, kind, allowed, shown):
    write_json(tmp_path / "manifest.json", example(Manifest, kind=kind))
    part = errors(dataclasses.replace(made[0], chexpert=tmp_path, error_images=allowed))
    assert part["shown"] is shown and bool(part["findings"]) is shown
    if not shown:
        html = page.render(whole | {"errors": part})
        assert "report.error_images" in html and "Most confident errors:" not in html


def test_a_store_without_an_image_is_an_error(made, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        errors(dataclasses.replace(made[0], store=tmp_path))
