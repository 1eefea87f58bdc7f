"""The paper audit against tables built with the published counts, the numbers of docs/papers.md, and changed tables."""

import numpy as np
import pandas as pd
import pytest

from cxr import papers
from cxr.audit import chexpert as audit_chexpert
from cxr.audit import rsna as audit_rsna
from cxr.audit import sheet
from cxr.core.findings import CLASSES
from cxr.papers import TABLE_1
from cxr.synthesis import balance
from tests.audit.make import IMAGES, chexpert, rsna


@pytest.fixture(scope="module")
def published() -> tuple[pd.DataFrame, pd.DataFrame]:
    return chexpert(), rsna()


SHARED = "patients in training and validation"


def by(table: pd.DataFrame) -> dict:
    """(paper, quantity) -> row; the quantities of a paper are all different."""
    rows = {(row.paper, row.quantity): row for row in table.itertuples()}
    assert len(rows) == len(table)
    return rows


@pytest.fixture(scope="module")
def full(published) -> dict:
    one, two = published
    sheets = audit_chexpert.sheet(audit_chexpert.count(one), ""), audit_rsna.sheet(audit_rsna.count(two, "patient"), "")
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
        ("Lung Opacity, share of the images", "22.5 %", sheet.DIFFERS),
        ("No Lung Opacity / Not Normal, share of the images", "44.3 %", sheet.DIFFERS),
        ("Normal, share of the images", "33.2 %", sheet.AGREES),
        ("Lung Opacity, share of the rows, one per box", "31.6 %", sheet.AGREES),
        ("Lung Opacity, bar read by eye", "9,555", sheet.AGREES),
        ("images trained on", "78.7 %", sheet.DIFFERS),
        ("images validated on", "9.5 %", sheet.AGREES),
        ("images never used", "3,133", sheet.DIFFERS),
        ("images in training and validation", "1", sheet.DIFFERS),
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
    assert full[2, "images validated on"].reason.startswith("2,545 images in 2,669 rows")
    assert "21,007 images in 24,015 rows" in full[2, "images trained on"].reason


def test_every_number_of_table_1_is_a_row(full):
    for finding, printed in TABLE_1.items():
        for state, n, percent in zip(audit_chexpert.HEADINGS, printed[::2], printed[1::2], strict=True):
            assert full[1, f"{finding}, {state}"].claimed == f"{n:,}"
            assert percent is None or full[1, f"{finding}, {state}, percent"].claimed == f"{percent} %"


def test_rare_findings_against_a_plain_count(published, full):
    frame = published[0]
    rare = frame[list(papers.RARE)] == 1
    either, frontal = rare.any(axis=1), frame["projection"] == "frontal"
    row = full[1, "images with one of the three rare findings"]
    assert (row.claimed, row.recomputed) == ("30,008", f"{either.sum():,}")
    assert f"{(either & frontal).sum():,} are frontal" in row.reason and f"{rare.all(axis=1).sum():,} all" in row.reason
    assert f"{(rare['Pneumonia'] & rare['Lung Lesion']).sum():,} are Pneumonia and Lung Lesion" in row.reason
    n = (rare["Pneumonia"] & frontal).sum()
    assert full[1, "Pneumonia, frontal images a GAN can learn from"].recomputed == f"{n:,}"


def test_a_changed_table_differs(published):
    one, two = published[0].copy(), published[1].copy()
    one.loc[(one["Edema"] == 1).idxmax(), "Edema"] = np.nan
    one.loc[one["sex"].isna(), "sex"] = "M"
    two.at[(two["class_name"] == CLASSES[0]).idxmax(), "boxes"] = [[0, 0, 1, 1]] * 3  # a row more: the slices move
    sheets = audit_chexpert.sheet(audit_chexpert.count(one), ""), audit_rsna.sheet(audit_rsna.count(two, "patient"), "")
    rows = by(sheet.table(*sheets))
    assert (rows[1, "Edema, positive"].recomputed, rows[1, "Edema, positive"].verdict) == ("52,245", sheet.DIFFERS)
    assert rows[1, "Edema, positive"].reason.startswith("none of these: 52,245 positive, 12,984 uncertain")
    assert rows[1, "Edema, positives under U-Zeroes"].verdict == sheet.DIFFERS
    assert rows[1, "patients male"].recomputed == "35,812" and rows[1, "patients male"].verdict == sheet.DIFFERS
    assert rows[1, "Pneumonia, positive"].verdict == sheet.AGREES
    for quantity, recomputed, verdict in (
        ("Lung Opacity, validation images of 3 classes", "476", sheet.DIFFERS),
        ("Normal, validation images of 3 classes", "898", sheet.DIFFERS),
        ("images in training and validation", "0", sheet.AGREES),
    ):
        assert (rows[2, quantity].recomputed, rows[2, quantity].verdict) == (recomputed, verdict)


def test_without_data_only_arithmetic_is_checked(full):
    why = sheet.standing("chexpert", IMAGES, "phantom")
    assert why == "CheXpert is the phantom cohort here, which holds nothing to audit"
    part = sheet.standing("rsna", 209, "folder")
    assert part == "209 images here, a part or another collection: RSNA 2018 as published has 26,684"
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
    with pytest.raises(ValueError, match="-610,226 synthetic positives"):
        balance.solve(positives, IMAGES, 0.5)


def test_patients_on_both_sides_of_the_papers_cut(published):
    """E72. Rows of the table: images 0 to 21,006 train, 21,006 to 23,550 validate (the first of them is on the cut)."""
    two = published[1]
    row = by(sheet.table(audit_rsna.sheet(audit_rsna.count(two, "image"), "")))[2, SHARED]
    assert (row.verdict, row.recomputed, row.reason) == (sheet.UNCHECKED, "", sheet.LACKING)
    owner = two["patient_id"].to_numpy(object).copy()
    owner[[5, 21_100, 21_101]] = "p"  # one in training, two in validation
    owner[[21_200, 26_000]] = "q"  # the other one is never used
    owner[[21_300, 21_301]] = "r"  # both in validation
    row = by(sheet.table(audit_rsna.sheet(audit_rsna.count(two.assign(patient_id=owner), "patient"), "")))[2, SHARED]
    assert (row.claimed, row.recomputed, row.verdict) == (
        "0",
        "2",
        sheet.DIFFERS,
    )  # p, and the owner of the image on the cut
    assert row.reason == "3 of 2,545 validation images (0.1 %) are of a patient in training"
    images = by(sheet.table(audit_rsna.sheet(audit_rsna.count(two.assign(patient_id=owner), "patient"), "")))[
        2, "images"
    ]
    assert images.reason.startswith("26,684 images of 26,680 patients")


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
