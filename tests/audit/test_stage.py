"""The audit's stage, and the report's section on it."""

import csv
import dataclasses
import json

import pandas as pd
import pytest

from cxr.audit import sheet
from cxr.core.files import sha256
from cxr.data.formats import Manifest
from cxr.data.sources import chexpert as of_chexpert
from cxr.data.sources import rsna as of_rsna
from cxr.data.sources.archive import Folder
from cxr.report.inputs import Artefacts
from cxr.report.sections.audit import audit as section
from stages import audit as stage
from stages.cli import main
from tests.audit.make import chexpert, rsna
from tests.make import example


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
        (folder / name / "manifest.json").write_text(json.dumps(example(Manifest, kind=kind, patient_key="patient")))
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
        (tmp_path / name / "manifest.json").write_text(
            json.dumps(example(Manifest, kind="folder", patient_key="patient"))
        )
    run([*words, "--out", str(tmp_path / "c")])
    shown = of_section(tmp_path / "c")
    assert shown["reasons"] == [] and not shown["unchecked"]
    table = pd.read_csv(tmp_path / "c" / "audit.csv")
    n = sheet.tally(table)
    assert [shown[key] for key in ("agree", "checked", "differ", "contradict")] == [
        n[sheet.AGREES], len(table), n[sheet.DIFFERS], n[sheet.CONTRADICTS],
    ]  # fmt: skip

    relabelled = example(Manifest, kind="folder", labels="train_cheXbert.csv")
    (tmp_path / "chexpert" / "manifest.json").write_text(json.dumps(relabelled))
    run([*words, "--out", str(tmp_path / "d")])
    assert of_section(tmp_path / "d")["reasons"] == [
        "the labels here are those of train_cheXbert.csv, the paper's those of train.csv"
    ]
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
    images = len({row["patientId"] for row in csv.DictReader(labels.open())})
    words = ["--chexpert", str(tmp_path / "train.csv"), "--rsna", str(tmp_path / labels.name)]
    run([*words, "--out", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert f"audit: {n} training images here, a part or another collection: CheXpert as published has 223,414" in said
    assert f"audit: {images} images here, a part or another collection: RSNA 2018" in said
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
