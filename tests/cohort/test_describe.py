"""Table 1, Figure 1 and the summaries against tables counted by hand, and the paper's Table 1 put right."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from cxr import papers
from cxr.cohort import describe
from cxr.cohort.formats import RsnaSummary
from cxr.core.files import sha256, write_json
from cxr.core.findings import CLASSES, FINDINGS
from cxr.data.formats import Manifest
from cxr.data.sources.archive import Folder
from cxr.data.sources.chexpert import read
from cxr.data.sources.schema import conform
from stages import explore as stage
from stages.cli import main
from tests.make import example


def chexpert(rows):
    """Records from (patient, study, view number, sex, age, projection, view, labels)."""
    table = []
    for patient, study, number, sex, age, projection, view, labels in rows:
        image = f"train/{patient}/{study}/view{number}_{projection}"
        table.append(
            {"image_id": image, "patient_id": patient, "study_id": f"{patient}/{study}", "path": image + ".jpg",
             "sex": sex, "age": age, "projection": projection, "view": view, "official_split": "train"}
            | dict.fromkeys(FINDINGS, np.nan) | labels
        )  # fmt: skip
    return conform(pd.DataFrame(table), "chexpert")


def rsna(rows):
    """Records from (name, class, boxes, sex, age, view)."""
    table = [
        {"image_id": name, "patient_id": name, "study_id": name, "path": f"{name}.dcm", "sex": sex, "age": age,
         "projection": "frontal", "view": view, "official_split": "train", "class_name": kind, "boxes": boxes}
        for name, kind, boxes, sex, age, view in rows
    ]  # fmt: skip
    return conform(pd.DataFrame(table), "rsna")


COHORT = chexpert(
    [
        ("p1", "study1", 1, "F", 60, "frontal", "PA", {"Edema": 1, "Pneumonia": -1}),
        ("p1", "study1", 2, "F", 60, "lateral", None, {"Edema": 1, "Pneumonia": -1}),
        ("p1", "study2", 1, "F", 64, "frontal", "AP", {"Edema": 0, "Pneumonia": 1, "Support Devices": 1}),
        ("p2", "study1", 1, "M", 50, "frontal", "AP", {"Edema": 1, "Pneumonia": 1}),
        ("p3", "study1", 1, "M", 140, "frontal", "PA", {"No Finding": 1}),
        ("p4", "study1", 1, None, 3, "lateral", "LL", {}),
    ]
)
PNEUMONIA = rsna(
    [
        ("a", CLASSES[0], [[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 2, 2]], "F", 40, "AP"),
        ("b", CLASSES[0], [[1, 2, 3, 4]], "M", 4, "PA"),
        ("c", CLASSES[1], [], "M", 155, "AP"),
        ("d", CLASSES[2], [], "F", 70, "PA"),
        ("e", CLASSES[2], [], "F", 17, "PA"),
    ]
)


def test_table_1_by_hand():
    table = describe.table1(COHORT).set_index("finding")
    assert list(table.index) == list(FINDINGS)
    assert table.loc["Edema", list(describe.STATES)].tolist() == [3, 0, 1, 2]
    assert table.loc["Pneumonia", list(describe.STATES)].tolist() == [2, 2, 0, 2]
    assert table.loc["Fracture", list(describe.STATES)].tolist() == [0, 0, 0, 6]
    assert (table[list(describe.STATES)].sum(axis=1) == 6).all()
    assert table.loc["Edema", ["positive_percent", "negative_percent"]].tolist() == pytest.approx([50, 100 / 6])
    assert table.loc["Edema", "rank"] == 14 and table.loc["Fracture", "rank"] == 1


def test_table_1_of_no_images_has_no_percents():
    table = describe.table1(COHORT.iloc[:0])
    assert (table["positive"] == 0).all() and table["positive_percent"].isna().all()


def test_the_papers_table_put_right():
    right = {finding: describe.put_right(finding) for finding in FINDINGS}
    assert all(sum(counts) == 223_414 for counts in right.values())
    assert right["Enlarged Cardiomediastinum"] == (10_798, 12_403, 21_638 + 178_575)
    assert right["Support Devices"] == (116_001, 1_079, 106_334)
    assert right["No Finding"] == (22_381, 0, 201_033)
    assert right["Pneumonia"][:2] == (6_039, 18_770)
    rarest = sorted(FINDINGS, key=lambda finding: right[finding][0])[:6]
    assert rarest == [
        "Pleural Other", "Pneumonia", "Fracture", "Lung Lesion", "Enlarged Cardiomediastinum", "Consolidation",
    ]  # fmt: skip
    # Printed percents are cut off or rounded to their own digits, but for these two.
    odd = []
    for finding, row in papers.TABLE_1.items():
        for count, text in zip(row[::2], row[1::2], strict=True):
            if text and abs(100 * count / 223_414 - float(text)) >= 10 ** -len(text.partition(".")[2]):
                odd.append((finding, text))
    assert odd == [("Edema", "4.1"), ("Atelectasis", "16.5")]


def test_a_table_of_the_published_size_agrees_with_the_paper_put_right():
    n, negative = 223_414, 21_638
    labels = {}
    for finding in FINDINGS:
        positive, uncertain, _ = describe.put_right(finding)
        column = np.full(n, np.nan, np.float32)
        column[:positive], column[positive : positive + uncertain] = 1, -1
        column[n - negative :] = 0
        labels[finding] = column[np.random.default_rng(0).permutation(n)]
    table = describe.beside_paper(describe.table1(pd.DataFrame(labels)))
    assert table["agrees"].all()
    row = table.set_index("finding").loc["Enlarged Cardiomediastinum"]
    assert row[["positive", "uncertain", "negative", "blank"]].tolist() == [10_798, 12_403, 21_638, 178_575]
    assert row[["paper_uncertain", "paper_uncertain_percent", "right_rest"]].tolist() == [200_213, "89", 200_213]
    assert table.set_index("finding")["rank"]["Pneumonia"] == 2
    labels["Edema"] = -labels["Edema"]
    table = describe.beside_paper(describe.table1(pd.DataFrame(labels)))
    assert table.loc[~table["agrees"], "finding"].tolist() == ["Edema"]


def test_table_1_of_real_x_rays_is_a_plain_count_of_the_csv(shared_data):
    [file] = shared_data.glob("chexpert/*/train.csv")
    rows = list(csv.DictReader(file.open()))
    records = read(Folder(shared_data / "chexpert")).query("official_split == 'train'")
    table = describe.table1(records).set_index("finding")
    for state, cell in zip(describe.STATES, ("1.0", "-1.0", "0.0", ""), strict=True):
        assert table[state].to_dict() == {finding: sum(row[finding] == cell for row in rows) for finding in FINDINGS}


def test_cooccurrence_by_hand():
    table = describe.cooccurrence(COHORT).set_index("finding")
    assert table.loc["Edema", "Pneumonia"] == table.loc["Pneumonia", "Edema"] == 1
    assert table.loc["Edema", "Edema"] == 3 and table.loc["Pneumonia", "Support Devices"] == 1


def test_ages_by_hand():
    table = describe.ages(COHORT)
    assert table["age_from"].dropna().tolist() == list(range(0, 65, 5))
    by_age = table.dropna().set_index("age_from")
    # A patient counts once, at the age of the first image; 140 is no age.
    assert by_age.loc[60, ["F", "M", "images_F"]].tolist() == [1, 0, 3]
    assert by_age.loc[50, ["M", "images_M"]].tolist() == [1, 1] and by_age.loc[0, "unknown"] == 1
    assert table[["F", "M", "unknown"]].sum().tolist() == [1, 2, 1]
    assert table[["images_F", "images_M", "images_unknown"]].sum().tolist() == [3, 2, 1]
    assert table.iloc[-1][["F", "M", "unknown"]].tolist() == [0, 1, 0]
    assert describe.ages(COHORT.iloc[:0])["F"].sum() == 0


def test_summary_of_chexpert_by_hand():
    summary = describe.summary_chexpert(COHORT)
    assert [summary[key] for key in ("images", "patients", "studies", "frontal", "lateral")] == [6, 4, 5, 4, 2]
    assert summary["views"] == {"AP": 2, "PA": 2, "LL": 1, "RL": 0, "unknown": 1}
    assert summary["per_patient"]["by_sex"] == {"F": 1, "M": 2, "unknown": 1}
    assert summary["per_patient"]["mean_age"] == {"F": 60, "M": 50}  # without the 140
    assert summary["per_image"]["mean_age"]["F"] == pytest.approx((60 + 60 + 64) / 3, abs=1e-4)
    assert summary["per_image"]["share_50_to_75"] == {"F": 1, "M": 1}
    assert summary["share_of_images_with_a_sibling"] == 0.5


def test_rsna_by_hand():
    classes = describe.rsna_classes(PNEUMONIA).set_index("class_name")
    assert classes.loc[CLASSES[0], ["images", "rows", "AP", "PA"]].tolist() == [2, 4, 1, 1]
    assert classes["images_percent"].tolist() == pytest.approx([40, 20, 40])
    assert classes["rows_percent"].tolist() == pytest.approx([400 / 7, 100 / 7, 200 / 7])
    summary = describe.summary_rsna(PNEUMONIA, "image")
    assert [summary[key] for key in ("images", "rows", "boxes", "under_18", "under_5")] == [5, 7, 4, 2, 1]
    assert summary["opacity_share"] == {"AP": 0.5, "PA": pytest.approx(1 / 3, abs=1e-6)}
    assert summary["per_image"]["mean_age"]["M"] == 4  # without the 155
    assert not {"patients", "per_patient", "most_images", "share_of_images_with_a_sibling"} & set(summary)
    RsnaSummary(**summary)


def test_rsna_by_patient_by_hand():
    whose = PNEUMONIA.assign(patient_id=["p", "q", "p", "p", "r"])
    summary = describe.summary_rsna(whose, "patient")
    assert [summary[key] for key in ("images", "patients", "most_images")] == [5, 3, 3]
    assert summary["share_of_images_with_a_sibling"] == 0.6
    assert sum(summary["per_patient"]["by_sex"].values()) == 3 and sum(summary["per_image"]["by_sex"].values()) == 5
    RsnaSummary(**summary)


@pytest.fixture
def records(tmp_path):
    COHORT.to_parquet(tmp_path / "chexpert.parquet", index=False)
    PNEUMONIA.to_parquet(tmp_path / "rsna.parquet", index=False)
    write_json(tmp_path / "manifest.json", example(Manifest, patient_key="image"))
    return tmp_path


def test_stage_writes_the_same_tables_and_figures_again(records, capsys):
    for out in ("a", "b"):
        stage.run(records / "chexpert.parquet", records / "rsna.parquet", records / "manifest.json", records / out)
    assert sha256(records / "a") == sha256(records / "b")
    assert {p.name for p in (records / "a").iterdir()} == {
        "table1.csv", "table1_valid.csv", "cooccurrence.csv", "age_by_sex.csv", "rsna_classes.csv", "checks.csv",
        "summary.json", "labels.png", "age_by_sex.png",
    }  # fmt: skip
    summary = json.loads((records / "a" / "summary.json").read_text(), parse_constant=pytest.fail)
    none = summary["chexpert"]["valid"]
    assert none["images"] == 0 and none["per_image"]["mean_age"]["F"] is None
    assert summary["rsna"]["images"] == 5 and "patients" not in summary["rsna"]
    printed = pd.read_csv(records / "a" / "table1.csv", dtype=str).set_index("finding")
    assert printed.loc["Cardiomegaly", "paper_positive_percent"] == "12.08"
    checks = pd.read_csv(records / "a" / "checks.csv")
    assert list(checks) == ["dataset", "check", "count", "severity", "examples", "advice"]
    assert set(checks["dataset"]) == {"chexpert", "rsna"}
    printed = capsys.readouterr().out
    assert "warning: impossible age: 1" in printed
    assert "rsna: warning: every patient has exactly one image: 5 (does the patient's key name patients, or" in printed
    for name in ("labels", "age_by_sex"):
        assert (records / "a" / f"{name}.png").read_bytes()[1:4] == b"PNG"


def test_stage_tells_which_file_is_no_records(records, capsys):
    COHORT.drop(columns="Edema").to_parquet(records / "chexpert.parquet", index=False)
    given = ["--chexpert", str(records / "chexpert.parquet"), "--rsna", str(records / "rsna.parquet")]
    given += ["--rsna_manifest", str(records / "manifest.json")]
    with pytest.raises(SystemExit) as stop:
        main(stage.run, [*given, "--out", str(records / "out")])
    error = capsys.readouterr().err
    assert stop.value.code == 1 and "chexpert.parquet: " in error and "'Edema' is missing" in error
    assert error.count("\n") == 1 and not (records / "out").exists()
