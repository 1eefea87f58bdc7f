"""FHIR reports: valid R4, each prediction in the report of its study, nothing of a header."""

import json

import pandas as pd
import pytest
from fhir.resources.R4B.diagnosticreport import DiagnosticReport

from cxr.core.findings import FINDINGS, SLUGS
from tests.data.test_privacy import SECRETS
from tests.predict.conftest import predicted
from tests.predict.test_capture import fill
from tests.predict.test_private import leaked


@pytest.fixture(scope="module")
def run(made, tmp_path_factory):
    root = tmp_path_factory.mktemp("fhir")
    fill(root / "in")
    code, table = predicted(made, root / "in", root / "out", fhir=True)
    assert code == 3
    return table, {path.name: json.loads(path.read_text()) for path in sorted((root / "out/fhir").iterdir())}


def test_each_study_has_a_valid_report_of_its_predictions(run):
    table, reports = run
    accepted = table[table["reason"].isna()]
    assert list(reports) == [f"study-{n:06d}.json" for n in sorted(accepted["study"].unique())]
    shared = 0
    for name, report in reports.items():
        DiagnosticReport.model_validate(report)
        assert report["status"] == "preliminary" and "subject" not in report
        assert "simulated patients" in report["conclusion"]
        observations = [one for one in report["contained"] if one["resourceType"] == "Observation"]
        assert [one["reference"] for one in report["result"]] == [f"#{one['id']}" for one in observations]
        rows = accepted[accepted["study"] == int(name[6:12])].set_index("file")
        shared = max(shared, len(rows))
        assert len(observations) == len(FINDINGS) * len(rows)  # a finding without a probability is not left out
        assert {one["derivedFrom"][0]["display"] for one in observations} == set(rows.index)
        for one in observations:
            row = rows.loc[one["derivedFrom"][0]["display"]]
            slug = SLUGS[FINDINGS.index(one["code"]["text"])]
            if "dataAbsentReason" in one:
                assert pd.isna(row[f"probability.{slug}"]) and "valueQuantity" not in one
                assert one["dataAbsentReason"]["text"] == row[f"status.{slug}"] != "calibrated"
                continue
            assert one["valueQuantity"]["value"] == pytest.approx(row[f"probability.{slug}"], abs=1e-5)
            answer = one["interpretation"][0]["coding"][0]["code"] if "interpretation" in one else None
            positive = row[f"positive.{slug}"]
            assert answer == (None if pd.isna(positive) else {"yes": "POS", "no": "NEG"}[positive])
    assert shared == 2  # two images of one study stand in one report


def test_nothing_of_a_header_is_in_a_report_and_pseudonyms_replace_file_names(made, tmp_path):
    fill(tmp_path / "in")
    predicted(made, tmp_path / "in", tmp_path / "out", fhir=True, pseudonyms=True)
    texts = [path.read_text() for path in (tmp_path / "out/fhir").iterdir()]
    assert texts and not leaked(tmp_path / "out", SECRETS)
    assert not any(name in text for text in texts for name in ("a.dcm", "b.dcm", "d.png"))
    assert any("image-000001" in text for text in texts)
