"""The paper audit against tables built with the published counts, the numbers of docs/papers.md, and changed tables."""

import csv
import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from cxr import papers
from cxr.audit import chexpert as audit_chexpert
from cxr.audit import rsna as audit_rsna
from cxr.audit import sheet
from cxr.cohort.describe import put_right
from cxr.core.files import sha256
from cxr.core.findings import CLASSES, FINDINGS
from cxr.data.formats import Manifest
from cxr.data.sources import chexpert as of_chexpert
from cxr.data.sources import rsna as of_rsna
from cxr.data.sources.archive import Folder
from cxr.papers import TABLE_1
from cxr.report.inputs import Artefacts
from cxr.report.sections.audit import audit as section
from cxr.synthesis import balance
from stages import audit as stage
from stages.cli import main
from tests.make import example

IMAGES, PATIENTS, STUDIES = 223_414, 64_540, 187_641


def chexpert() -> pd.DataFrame:
    """Columns of records with the published counts of images, patients, studies, sexes and labels."""
    patient = np.arange(IMAGES) % PATIENTS
    female, male = 28_728, 35_811
    age = np.concatenate(
        [
            np.repeat([62, 40, 80], [13_215, 7_757, 7_756]),  # 46.0 % of the women are 50 to 75
            np.repeat([60, 40, 77], [18_120, 8_846, 8_845]),  # 50.6 % of the men
            [0],
        ]
    )
    sex = np.repeat(np.array(["F", "M", None], object), [female, male, 1])
    table = {
        "patient_id": patient, "study_id": np.arange(IMAGES) % STUDIES, "sex": sex[patient], "age": age[patient],
        "projection": np.where(np.arange(IMAGES) % 7 == 0, "lateral", "frontal"), "view": None,
        "official_split": "train",
    }  # fmt: skip
    for k, finding in enumerate(FINDINGS):
        positive, uncertain, rest = put_right(finding)
        negative = 0 if finding == "No Finding" else min(21_638, rest)
        column = np.repeat(np.array([1, -1, 0, np.nan], np.float32), [positive, uncertain, negative, rest - negative])
        table[finding] = np.random.default_rng(k).permutation(column)
    return pd.DataFrame(table)


def rsna() -> pd.DataFrame:
    """Columns of records with the published counts of patients, rows and classes, and the order that gives P2's slices.

    Blocks of (class, boxes, patients): 4,000 rows of opacities from 2,519 patients; the rest of the first 24,015 rows;
    an opacity across the cut; 2,668 more rows to 26,684; and what the paper never uses.
    """
    opacity, other, normal = range(3)
    blocks = [
        (opacity, 2, 1_481), (opacity, 1, 1_038), (other, 1, 9_000), (normal, 1, 7_019),
        (opacity, 2, 1_527), (opacity, 1, 941), (opacity, 2, 1),
        (opacity, 2, 124), (opacity, 1, 226), (other, 1, 1_295), (normal, 1, 899),
        (opacity, 2, 410), (opacity, 1, 264), (other, 1, 1_526), (normal, 1, 933),
    ]  # fmt: skip
    kind, boxes, patients = (np.array(column) for column in zip(*blocks, strict=True))
    kind, boxes = np.repeat(kind, patients), np.repeat(boxes, patients)
    return pd.DataFrame(
        {
            "class_name": np.array(CLASSES)[kind],
            "boxes": [[[0, 0, 1, 1]] * n if k == opacity else [] for k, n in zip(kind, boxes, strict=True)],
            "view": "AP",
        }
    )


@pytest.fixture(scope="module")
def published() -> tuple[pd.DataFrame, pd.DataFrame]:
    return chexpert(), rsna()


def by(table: pd.DataFrame) -> dict:
    """(paper, quantity) -> row; the quantities of a paper are all different."""
    rows = {(row.paper, row.quantity): row for row in table.itertuples()}
    assert len(rows) == len(table)
    return rows


@pytest.fixture(scope="module")
def full(published) -> dict:
    one, two = published
    sheets = audit_chexpert.sheet(audit_chexpert.count(one), ""), audit_rsna.sheet(audit_rsna.count(two), "")
    return by(sheet.table(*sheets))


def test_the_published_tables_leave_nothing_unchecked(full):
    verdicts = [row.verdict for row in full.values()]
    assert set(verdicts) == {sheet.AGREES, sheet.DIFFERS, sheet.CONTRADICTS}
    assert all(row.reason for row in full.values() if row.verdict == sheet.CONTRADICTS)
    assert all(row.recomputed for row in full.values())


@pytest.mark.parametrize(
    "quantity, recomputed, verdict",
    [
        ("radiographs", "223,414", sheet.DIFFERS),
        ("radiographs: each of Table 1\u2019s rows sums to them", "223,414", sheet.CONTRADICTS),
        ("patients", "64,540", sheet.AGREES),
        ("female, male and unknown patients sum to all", "64,540", sheet.AGREES),
        ("patients female", "28,728", sheet.AGREES),
        ("patients male", "35,811", sheet.AGREES),
        ("patients of unknown sex", "1", sheet.AGREES),
        ("studies, which the caption says are counted", "187,641", sheet.DIFFERS),
        ("aged 50 to 75, female", "46.0 %", sheet.DIFFERS),
        ("aged 50 to 75, male", "50.6 %", sheet.AGREES),
        ("Pneumonia, positive", "6,039", sheet.AGREES),
        ("Pneumonia, positive, percent", "2.70 %", sheet.AGREES),
        ("Pneumonia, uncertain", "18,770", sheet.DIFFERS),
        ("No Finding, uncertain", "0", sheet.AGREES),
        ("Support Devices, positive", "116,001", sheet.DIFFERS),
        ("Support Devices, positive, percent", "51.92 %", sheet.DIFFERS),
        ("Edema, positive, percent", "23.39 %", sheet.CONTRADICTS),
        ("Atelectasis, negative, percent", "15.10 %", sheet.CONTRADICTS),
        ("Enlarged Cardiomediastinum, positives under U-Zeroes", "10,798", sheet.AGREES),
        ("Enlarged Cardiomediastinum, positives under U-Ones", "23,201", sheet.DIFFERS),
        ("Support Devices, positives under U-Zeroes", "116,001", sheet.DIFFERS),
        ("the findings with the fewest positives", "Pleural Other, Pneumonia, Fracture", sheet.CONTRADICTS),
        ("images to generate so that all three are balanced", "-610,226", sheet.CONTRADICTS),
    ],
)
def test_paper_1(full, quantity, recomputed, verdict):
    row = full[1, quantity]
    assert (row.recomputed, row.verdict) == (recomputed, verdict)


@pytest.mark.parametrize(
    "quantity, recomputed, verdict",
    [
        ("images", "26,684", sheet.DIFFERS),
        ("Lung Opacity, share of the images, one per patient", "22.5 %", sheet.DIFFERS),
        ("No Lung Opacity / Not Normal, share of the images, one per patient", "44.3 %", sheet.DIFFERS),
        ("Normal, share of the images, one per patient", "33.2 %", sheet.AGREES),
        ("Lung Opacity, share of the rows, one per box", "31.6 %", sheet.AGREES),
        ("Lung Opacity, bar read by eye", "9,555", sheet.AGREES),
        ("images trained on", "78.7 %", sheet.DIFFERS),
        ("images validated on", "9.5 %", sheet.AGREES),
        ("patients never used", "3,133", sheet.DIFFERS),
        ("patients in training and validation", "1", sheet.DIFFERS),
        ("Abnormal, validation images of 2 classes", "1,770", sheet.AGREES),
        ("Lung Opacity, validation images of 3 classes", "475", sheet.DIFFERS),
        ("No Lung Opacity / Not Normal, validation images of 3 classes", "1,295", sheet.AGREES),
        ("Normal, validation images of 3 classes", "899", sheet.AGREES),
        ("Lung Opacity, labelled images of 3 classes", "2,519", sheet.DIFFERS),
        ("Normal, labelled images of 3 classes", "4,000", sheet.AGREES),
        ("N_u, 2 classes, 4,000 labels per class", "16,015", sheet.DIFFERS),
        ("N_u, 3 classes, 4,000 labels per class", "12,015", sheet.DIFFERS),
        ("alpha = (N_l + N_u) / N_l, 2 classes, 4,000 labels per class", "3.002", sheet.DIFFERS),
        ("alpha = (N_l + N_u) / N_l, 3 classes, 4,000 labels per class", "2.001", sheet.DIFFERS),
        ("accuracy, Abnormal, of 2 classes", "78.19 %", sheet.AGREES),
        ("accuracy, total, of 2 classes", "82.20 %", sheet.AGREES),
        ("accuracy, Lung Opacity, of 3 classes", "79.62 %", sheet.CONTRADICTS),
        ("accuracy, No Lung Opacity / Not Normal, of 3 classes", "46.25 %", sheet.AGREES),
        ("accuracy, total, of 3 classes", "64.92 %", sheet.CONTRADICTS),
        ("sum of the matrix, as of Figure 3\u2019s", "2,665", sheet.CONTRADICTS),
        ("commonest of 2 classes, share of the validation images", "66.3 %", sheet.CONTRADICTS),
        ("commonest of 3 classes, share of the validation images", "48.5 %", sheet.CONTRADICTS),
    ],
)
def test_paper_2(full, quantity, recomputed, verdict):
    row = full[2, quantity]
    assert (row.recomputed, row.verdict) == (recomputed, verdict)


def test_reasons_name_the_true_count(full):
    enlarged = "Enlarged Cardiomediastinum"
    assert full[1, f"{enlarged}, uncertain"].reason == "that many are negative (21,638) or blank (178,575)"
    assert full[1, f"{enlarged}, negative"].reason == "that many are uncertain"
    assert full[1, "No Finding, negative"].reason == "that many are blank"
    assert full[1, "Support Devices, positive"].reason == "that many are uncertain"
    assert full[2, "accuracy, Lung Opacity, of 3 classes"].reason == "375 of 471; 78.95 % is 375 of 475"
    assert full[2, "images validated on"].reason.startswith("2,545 patients in 2,669 rows")
    assert "21,007 patients in 24,015 rows" in full[2, "images trained on"].reason


def test_every_number_of_table_1_is_a_row(full):
    for finding, printed in TABLE_1.items():
        for state, n, percent in zip(audit_chexpert.HEADINGS, printed[::2], printed[1::2], strict=True):
            assert full[1, f"{finding}, {state}"].says == f"{n:,}"
            assert percent is None or full[1, f"{finding}, {state}, percent"].says == f"{percent} %"


def test_rare_findings_against_a_plain_count(published, full):
    frame = published[0]
    rare = frame[list(papers.RARE)] == 1
    either, frontal = rare.any(axis=1), frame["projection"] == "frontal"
    row = full[1, "images with one of the three rare findings"]
    assert (row.says, row.recomputed) == ("30,008", f"{either.sum():,}")
    assert f"{(either & frontal).sum():,} are frontal" in row.reason and f"{rare.all(axis=1).sum():,} all" in row.reason
    assert f"{(rare['Pneumonia'] & rare['Lung Lesion']).sum():,} are Pneumonia and Lung Lesion" in row.reason
    n = (rare["Pneumonia"] & frontal).sum()
    assert full[1, "Pneumonia, frontal images a GAN can learn from"].recomputed == f"{n:,}"


def test_a_changed_table_differs(published):
    one, two = published[0].copy(), published[1].copy()
    one.loc[(one["Edema"] == 1).idxmax(), "Edema"] = np.nan
    one.loc[one["sex"].isna(), "sex"] = "M"
    two.at[(two["class_name"] == CLASSES[0]).idxmax(), "boxes"] = [[0, 0, 1, 1]] * 3  # a row more: the slices move
    sheets = audit_chexpert.sheet(audit_chexpert.count(one), ""), audit_rsna.sheet(audit_rsna.count(two), "")
    rows = by(sheet.table(*sheets))
    assert (rows[1, "Edema, positive"].recomputed, rows[1, "Edema, positive"].verdict) == ("52,245", sheet.DIFFERS)
    assert rows[1, "Edema, positive"].reason.startswith("none of these: 52,245 positive, 12,984 uncertain")
    assert rows[1, "Edema, positives under U-Zeroes"].verdict == sheet.DIFFERS
    assert rows[1, "patients male"].recomputed == "35,812" and rows[1, "patients male"].verdict == sheet.DIFFERS
    assert rows[1, "Pneumonia, positive"].verdict == sheet.AGREES
    for quantity, recomputed, verdict in (
        ("Lung Opacity, validation images of 3 classes", "476", sheet.DIFFERS),
        ("Normal, validation images of 3 classes", "898", sheet.DIFFERS),
        ("patients in training and validation", "0", sheet.AGREES),
    ):
        assert (rows[2, quantity].recomputed, rows[2, quantity].verdict) == (recomputed, verdict)


def test_without_data_only_arithmetic_is_checked(full):
    why = sheet.standing("chexpert", IMAGES, "phantom")
    assert why == "CheXpert is the phantom cohort here, which holds nothing to audit"
    part = sheet.standing("rsna", 209, "folder")
    assert part == "209 patients here, a part or another collection: RSNA 2018 as published has 26,684"
    rows = by(sheet.table(audit_chexpert.sheet(None, why), audit_rsna.sheet(None, part)))
    assert set(rows) == set(full)
    for key, row in rows.items():
        if row.needs == "nothing":
            assert row.verdict in (sheet.AGREES, sheet.CONTRADICTS) and row.recomputed
        else:
            assert (row.verdict, row.recomputed, row.reason) == (sheet.UNCHECKED, "", why if key[0] == 1 else part)
    contradictions = {key for key, row in full.items() if row.verdict == sheet.CONTRADICTS}
    assert contradictions == {key for key, row in rows.items() if row.verdict == sheet.CONTRADICTS}
    assert sheet.standing("chexpert", IMAGES, "zip") == sheet.standing("rsna", 26_684, "folder") == ""


def test_the_balance_that_cannot_be_is_the_one_that_balance_refuses():
    positives = {name: TABLE_1[name].positive for name in papers.RARE}
    with pytest.raises(ValueError, match="-610,226 synthetic images"):
        balance.solve(positives, IMAGES, 0.5)


def test_expected_leak_against_draws():
    patients = pd.Series(np.repeat(np.arange(30), [1] * 10 + [2] * 10 + [5] * 10))
    rng, seen = np.random.default_rng(0), []
    for _ in range(4000):
        drawn = np.isin(np.arange(len(patients)), rng.choice(len(patients), 20, replace=False))
        seen.append(patients[drawn].isin(patients[~drawn]).sum())
    assert audit_chexpert.leaked(patients, 20) == pytest.approx(np.mean(seen), abs=4 * np.std(seen) / 4000**0.5)
    assert audit_chexpert.leaked(patients, len(patients)) == 0  # nothing is left to share a patient with
    assert audit_chexpert.leaked(pd.Series(range(9)), 4) == 0


def test_printed_digits():
    assert sheet.near("89", 89.62) and sheet.near("12.08", 12.085) and sheet.near("4.1", 4.11)
    assert not sheet.near("4.1", 23.39) and not sheet.near("16.5", 15.1)
    assert sheet.rounded("78.19", 78.192) and not sheet.rounded("78.19", 78.197)


# The stage and the report's section ---------------------------------------------------------------------------


def records(folder, kind="phantom"):
    """The constructed tables as download would leave them."""
    for name, table in (("chexpert", chexpert()), ("rsna", rsna())):
        (folder / name).mkdir(parents=True)
        ids = [f"i{k}" for k in range(len(table))]
        table = table.assign(image_id=ids, path=ids)
        for column in ("patient_id", "study_id"):
            table[column] = table[column].astype(str) if column in table else ids
        if name == "rsna":
            table = table.assign(sex="F", age=50.0, projection="frontal", official_split="train")
        table.to_parquet(folder / name / "records.parquet", index=False)
        (folder / name / "manifest.json").write_text(json.dumps(example(Manifest, kind=kind)))
    return [word for n in ("chexpert", "rsna") for word in (f"--{n}", str(folder / n / "records.parquet"))]


def run(words, code=0):
    with pytest.raises(SystemExit) as end:
        main(stage.run, words)
    assert end.value.code == code


def of_section(folder) -> dict:
    fields = dict.fromkeys((f.name for f in dataclasses.fields(Artefacts)), None)
    return section(Artefacts(**fields | {"audit": folder, "final_policy": "p", "policies": ["p"]}))


def test_the_stage_on_a_phantom_of_the_published_size_and_on_the_published_tables(tmp_path, capsys):
    words = records(tmp_path)
    for out in ("a", "b"):
        run([*words, "--out", str(tmp_path / out)])
    assert sha256(tmp_path / "a") == sha256(tmp_path / "b")
    said = capsys.readouterr().out
    assert "audit: CheXpert is the phantom cohort here, which holds nothing to audit" in said
    assert "differs: 0;" in said
    shown = of_section(tmp_path / "a")
    assert shown["reasons"] == [
        "CheXpert is the phantom cohort here, which holds nothing to audit",
        "RSNA 2018 is the phantom cohort here, which holds nothing to audit",
    ]
    assert shown["differ"] == 0 and shown["unchecked"]
    assert {row["verdict"] for row in shown["table"].rows} == {sheet.CONTRADICTS}

    for name in ("chexpert", "rsna"):
        (tmp_path / name / "manifest.json").write_text(json.dumps(example(Manifest, kind="folder")))
    run([*words, "--out", str(tmp_path / "c")])
    shown = of_section(tmp_path / "c")
    assert shown["reasons"] == [] and not shown["unchecked"]
    table = pd.read_csv(tmp_path / "c" / "audit.csv")
    n = sheet.tally(table)
    assert [shown[key] for key in ("agree", "checked", "differ", "contradict")] == [
        n[sheet.AGREES], len(table), n[sheet.DIFFERS], n[sheet.CONTRADICTS],
    ]  # fmt: skip
    percents = [row for row in table.itertuples() if row.quantity.endswith(", percent")]
    left_out = sum(row.verdict == sheet.DIFFERS for row in percents)
    assert len(shown["table"].rows) == n[sheet.DIFFERS] + n[sheet.CONTRADICTS] - left_out
    counts = {row["quantity"] for row in shown["table"].rows}  # each of them is there as a count
    assert all(row.quantity.removesuffix(", percent") in counts for row in percents if row.verdict == sheet.DIFFERS)
    for row, paper in zip(shown["tally"].rows, (1, 2), strict=True):
        assert {v: row[v] for v in sheet.VERDICTS} == sheet.tally(table[table["paper"] == paper])


def test_the_stage_reads_the_published_csvs_without_images(shared_data, tmp_path, capsys):
    [train] = shared_data.glob("chexpert/*/train.csv")
    labels = shared_data / "rsna" / "stage_2_train_labels.csv"
    for path in (train, labels, labels.with_name("stage_2_detailed_class_info.csv")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    n = sum(1 for _ in csv.DictReader(train.open()))
    patients = len({row["patientId"] for row in csv.DictReader(labels.open())})
    words = ["--chexpert", str(tmp_path / "train.csv"), "--rsna", str(tmp_path / labels.name)]
    run([*words, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert f"audit: {n} training images here, a part or another collection: CheXpert as published has 223,414" in said
    assert f"audit: {patients} patients here, a part or another collection: RSNA 2018" in said
    assert sheet.DIFFERS not in set(pd.read_csv(tmp_path / "out/audit.csv")["verdict"])


def test_labels_read_without_images_are_those_read_with_them(shared_data):
    tree = Folder(shared_data / "rsna")
    whole, labels = of_rsna.read(tree), of_rsna.read_labels(tree, *of_rsna.tables(tree))
    known = ["image_id", "patient_id", "study_id", "official_split", "class_name", "boxes"]
    pd.testing.assert_frame_equal(labels[known], whole[known])
    assert labels[["sex", "age", "view"]].isna().all(axis=None)
    tree = Folder(shared_data / "chexpert")
    whole = of_chexpert.read(tree).query("official_split == 'train'")
    pd.testing.assert_frame_equal(of_chexpert.read_labels(tree, of_chexpert.tables(tree)[0]), whole)


@pytest.mark.parametrize(
    "given, message",
    [
        ("valid.csv", "valid.csv: give records.parquet, as download writes it, or the published train.csv"),
        ("no/train.csv", "train.csv: no such file; give the place of the published train.csv"),
        ("records.parquet", "records.parquet: no such file; `dvc repro download@chexpert` makes it"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path, capsys, given, message):
    run(["--chexpert", str(tmp_path / given), "--rsna", "x", "--out", str(tmp_path / "out")], 1)
    error = capsys.readouterr().err
    assert error.startswith("audit: error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
