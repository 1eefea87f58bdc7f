"""predict against the pipeline's own predictions, what it refuses, and how it continues."""

import io
import json
import os
import shutil
import zipfile

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import recall_score

from cxr.core.findings import FINDINGS, SLUGS, columns_of
from cxr.core.store import open_store
from cxr.data.pack import pack
from cxr.data.sources.archive import Folder
from cxr.evaluation import operating
from cxr.evaluation.classifiers import Settings
from cxr.predict import decoding
from cxr.predict import run as predict_run
from cxr.predict.outputs import is_written
from cxr.predict.part import NAME
from stages import predict as stage
from stages.cli import main
from tests.data.pictures import dicom
from tests.predict.conftest import N, picture, predicted

SCORES = [f"score.{slug}" for slug in SLUGS]


def pipelines(made):
    return pd.read_parquet(made / "predictions.parquet").set_index("image_id").sort_index()


def test_scores_are_those_of_the_pipeline(made, whole):
    table = whole[1].set_index("file")
    accepted = table[table["reason"].isna()]
    own = pipelines(made)
    both = own.index.intersection(accepted.index)
    assert len(both) > 35 and len(table) == N  # 45 were held out, and few are refused
    assert np.abs(accepted.loc[both, SCORES].to_numpy() - own.loc[both, SCORES].to_numpy()).max() < 1e-5


def test_an_image_is_the_pipelines_whatever_sizes_other_networks_and_models_have(tmp_path):
    """A JPEG of 130 x 120 pixels, decoded in full for 100, at half size for 48 and at a quarter for 16."""
    (tmp_path / "files").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (130, 120)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "files/x.jpg", quality=90)
    tree, rows = Folder(tmp_path / "files"), pd.DataFrame({"image_id": ["x"], "path": ["x.jpg"]})
    pack(tree, rows, [16, 48, 100], tmp_path / "stores", processes=1)
    for sizes in ([16], [48], [16, 48]):
        ((file,),) = decoding.decoded(tree, ["x.jpg"], frozenset(), sizes, 1)
        for size in sizes:
            np.testing.assert_array_equal(file.images[size], open_store(tmp_path / f"stores/{size}").images[0])


def test_probabilities_and_calls_are_those_of_evaluate(made, whole):
    own = pipelines(made).reset_index()
    labels = pd.read_parquet(made / "labels.parquet")
    train = labels[labels["split"] == "train"]
    settings = Settings(min_positives=3)
    judged = operating.fit(own, operating.trained_share(train), operating.true_share(train), settings)
    test = own[own["split"] == "test"].reset_index(drop=True)
    table = whole[1].set_index("file").reindex(test["image_id"])
    accepted = table["reason"].isna().to_numpy()
    assert accepted.sum() > 5
    known = 0
    for k, slug in enumerate(SLUGS):
        mine = table.loc[accepted, f"probability.{slug}"].to_numpy(np.float64)
        assert np.allclose(mine, judged.probability["calibrated"][accepted, k], atol=1e-5, equal_nan=True)
        called = table.loc[accepted, f"positive.{slug}"]
        if np.isnan(judged.threshold[k]):
            assert called.isna().all()
        else:
            expected = test.loc[accepted, f"score.{slug}"].to_numpy() >= judged.threshold[k]
            assert (called.to_numpy() == np.where(expected, "yes", "no")).all()
            known += 1
    assert known >= 11


def test_the_findings_table_carries_the_test_sensitivity(made, whole):
    own = pipelines(made).query("split == 'test'")
    worth = pd.read_csv(whole[0] / "findings.csv").set_index("finding")
    calibration = json.loads((made / "predictor/calibration.json").read_text())
    k = SLUGS.index("edema")
    truth, called = columns_of(own, "truth")[:, k], own["score.edema"] >= calibration["findings"]["edema"]["threshold"]
    assert worth.loc["Edema", "sensitivity"] == pytest.approx(recall_score(truth, called), abs=1e-5)
    assert worth.loc["Edema", "specificity"] == pytest.approx(recall_score(1 - truth, ~called), abs=1e-5)
    assert worth.loc["Pleural Other", "status"] == "not trained on"
    assert worth.loc["Fracture", "status"] == "not trained on"  # the network saw no positive
    assert set(worth.index) == set(FINDINGS)


def test_each_row_says_what_its_yes_and_no_are_worth(made, whole):
    """The same as findings.csv, in both tables; nothing in the row of a refused file."""
    worth = pd.read_csv(whole[0] / "findings.csv").set_index("finding")
    for table in (whole[1], pd.read_csv(whole[0] / "predictions.csv")):
        accepted = table[table["reason"].isna()]
        for slug, name in zip(SLUGS, FINDINGS, strict=True):
            assert set(accepted[f"status.{slug}"]) == {worth.loc[name, "status"]}
            for rate in ("sensitivity", "specificity"):
                values = accepted[f"{rate}.{slug}"].to_numpy(np.float64)
                np.testing.assert_allclose(values, worth.loc[name, rate], atol=1e-5, equal_nan=True)
    assert set(accepted["status.pleural_other"]) == {"not trained on"}
    assert accepted["sensitivity.edema"].notna().all()


def test_a_card_names_the_findings_without_a_probability(made, whole):
    page = (whole[0] / "predictions.html").read_text()
    cards = page.split('<section class="card">')[1:]
    shown = [card for card in cards if "Refused:" not in card]
    assert shown and all("<b>Not known (not trained on):</b> Pleural Other, Fracture." in card for card in shown)
    assert "n/a — calibrated" not in page


def relabelled(made, tmp_path, file, change):
    folder = tmp_path / "predictor"
    shutil.copytree(made / "predictor", folder)
    values = json.loads((folder / file).read_text())
    change(values)
    (folder / file).write_text(json.dumps(values))
    return folder


def test_findings_in_another_order_are_refused_or_make_no_difference(made, whole, tmp_path):
    """Tables, cards and reports call the fourteen by their place."""
    folder = relabelled(made, tmp_path / "a", "model.json", lambda values: values["findings"].reverse())
    with pytest.raises(ValueError, match="model.json: its findings are not no_finding, .*, in this order"):
        predicted(made, made / "files", tmp_path / "out", folder)
    folder = relabelled(made, tmp_path / "b", "calibration.json", lambda values: values["findings"].pop("edema"))
    with pytest.raises(ValueError, match="calibration.json: its findings are not those of model.json"):
        predicted(made, made / "files", tmp_path / "out", folder)

    def turned(values):
        values["findings"] = dict(reversed(values["findings"].items()))

    folder = relabelled(made, tmp_path / "c", "calibration.json", turned)
    (tmp_path / "in").mkdir()
    Image.fromarray(picture(45, False)).save(tmp_path / "in" / "45.png")
    predicted(made, tmp_path / "in", tmp_path / "out", folder)
    ours, theirs = (pd.read_csv(out / "findings.csv").set_index("finding") for out in (tmp_path / "out", whole[0]))
    pd.testing.assert_frame_equal(ours, theirs)


def test_csv_and_parquet_agree_and_the_page_has_a_card_for_each_of_the_first(made, whole, tmp_path):
    out, table = whole
    csv = pd.read_csv(out / "predictions.csv")
    assert list(csv.columns) == list(table.columns) and list(csv["file"]) == list(table["file"])
    assert np.allclose(csv["score.edema"], table["score.edema"], atol=1e-5, equal_nan=True)
    predicted(made, made / "files", tmp_path / "few", cards=7)
    page = (tmp_path / "few/predictions.html").read_text()
    assert page.count('<section class="card">') == 7 and f"The first 7 of {N} files" in page
    assert "Trained on simulated patients" in page and "no medical device" in page
    assert not (tmp_path / "few" / NAME).exists()


def test_a_zip_a_list_and_stdin_give_the_folders_rows(made, whole, tmp_path, monkeypatch):
    table = whole[1].iloc[:6]
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in table["file"]:
            archive.write(made / "files" / name, name)
        archive.writestr("README.md", "no image")
    _, zipped = predicted(made, tmp_path / "x.zip", tmp_path / "zip")
    lines = "".join(f"{made / 'files' / name}\n" for name in table["file"])
    (tmp_path / "list.txt").write_text(lines)
    _, listed = predicted(made, tmp_path / "list.txt", tmp_path / "list")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines.encode())))
    _, piped = predicted(made, "-", tmp_path / "stdin")
    assert list(zipped["file"]) == list(table["file"])
    for other in (zipped, listed, piped):
        assert np.allclose(other[SCORES], table[SCORES], atol=1e-6, equal_nan=True)
        assert list(other["study"]) == [1, 2, 3, 4, 5, 6]


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)


def test_what_is_no_x_ray_is_refused_with_its_reason(made, tmp_path):
    files = tmp_path / "in"
    files.mkdir()
    Image.fromarray(picture(3, False)).save(files / "a.png")
    (files / "b.dcm").write_bytes(b"not an image")
    Image.fromarray(picture(4, False)[:28]).save(files / "c.png")
    Image.fromarray(np.where(noise((64, 64)) > 127, 255, 0).astype(np.uint8)).save(files / "d.png")
    (files / "e.dcm").write_bytes(dicom(picture(3, False), BodyPartExamined="FOOT"))
    (files / "f.dcm").write_bytes(dicom(picture(3, False), Modality="CT"))
    (files / "notes.txt").write_text("left out")
    code, table = predicted(made, files, tmp_path / "out")
    reasons = table.set_index("file")["reason"]
    assert code == 3 and pd.isna(reasons["a.png"]) and len(reasons) == 6
    assert reasons["b.dcm"] == "unreadable: neither JPEG, PNG, TIFF nor DICOM"
    assert reasons["c.png"] == "too small: the shorter side has 28 pixels, the model's images 32"
    assert reasons["d.png"].startswith("out of distribution: ")
    assert reasons["e.dcm"] == "body part FOOT, not a chest"
    assert reasons["f.dcm"] == "modality CT, not a radiograph"
    refused = table[table["reason"].notna()].drop(columns=["file", "study", "view", "view_from", "reason"])
    assert refused.isna().all(axis=None)
    (files / "a.png").unlink()
    assert predicted(made, files, tmp_path / "none")[0] == 1


def test_a_lateral_is_refused_by_a_frontal_model_from_header_name_or_pixels(frontal, tmp_path):
    files = tmp_path / "in"
    files.mkdir()
    Image.fromarray(picture(84, True)).save(files / "view2_lateral.png")
    Image.fromarray(picture(49, True)).save(files / "x.png")  # one of validation
    Image.fromarray(picture(50, False)).save(files / "y.png")
    (files / "z.dcm").write_bytes(dicom(picture(50, False), ViewPosition="LL"))
    _, table = predicted(frontal, files, tmp_path / "out")
    rows = table.set_index("file")
    reason = "lateral view: the model was trained on frontal ones alone"
    assert list(rows["reason"].fillna("")) == [reason, reason, "", reason]
    assert list(rows["view_from"]) == ["name", "guessed", "guessed", "header"]
    assert rows.loc["y.png", "view"] == "frontal" and rows.loc["z.dcm", "view"] == "LL"


def of_study(k, study, patient):
    return dicom(picture(k, False), StudyInstanceUID=study, PatientID=patient)


def test_two_patients_in_one_study_are_refused_and_a_study_of_one_is_not(made, tmp_path):
    files = tmp_path / "in"
    files.mkdir()
    for name, given in {"a": ("1.2.3", "p"), "b": ("1.2.4", "q"), "c": ("1.2.3", "r"), "d": ("1.2.4", "q")}.items():
        (files / f"{name}.dcm").write_bytes(of_study(46, *given))
    code, table = predicted(made, files, tmp_path / "out")
    assert list(table["study"]) == [1, 2, 1, 2] and code == 3
    assert list(table["reason"].fillna("")) == ["two patients in one study", "", "two patients in one study", ""]
    assert table.loc[0, SCORES].isna().all() and table.loc[1, SCORES].notna().all()


def test_an_interrupted_run_continues_and_reads_no_image_twice(made, whole, tmp_path, monkeypatch):
    real, scored = predict_run._rows, []

    def once(models, files, asked):
        if scored:
            raise KeyboardInterrupt
        scored.extend(file.number for file, _ in files)
        return real(models, files, asked)

    monkeypatch.setattr(predict_run, "_rows", once)
    with pytest.raises(KeyboardInterrupt):
        predicted(made, made / "files", tmp_path)
    part = tmp_path / NAME
    part.write_bytes(part.read_bytes()[:-20])  # the last line was cut off
    again = []

    def rest(models, files, asked):
        again.extend(file.number for file, _ in files)
        return real(models, files, asked)

    monkeypatch.setattr(predict_run, "_rows", rest)
    with pytest.raises(ValueError, match="is of another run"):
        predicted(made, made / "files/patient00000", tmp_path)
    _, table = predicted(made, made / "files", tmp_path)
    assert sorted({*scored, *again}) == list(range(N)) and set(scored) & set(again) == {max(scored)}
    pd.testing.assert_frame_equal(table, whole[1], check_exact=False, atol=1e-6)


def test_a_run_that_continues_reads_again_what_it_could_not_and_keeps_the_studies(made, tmp_path, monkeypatch):
    files = tmp_path / "in"
    files.mkdir()
    for name, study in {"a": "1.2.3", "b": "1.2.4", "c": "1.2.5", "d": "1.2.4"}.items():
        (files / f"{name}.dcm").write_bytes(of_study(46, study, "p"))
    lines = tmp_path / "list.txt"
    lines.write_text("".join(f"{files / name}.dcm\n" for name in "abcd"))
    (files / "b.dcm").rename(files / "away")

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(predict_run.tables, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            predicted(made, lines, tmp_path / "out")
    (files / "away").rename(files / "b.dcm")
    (files / "a.dcm").unlink()
    code, table = predicted(made, lines, tmp_path / "out")
    assert code == 0 and list(table["study"]) == [1, 4, 3, 4] and table["score.edema"].notna().all()
    assert [name[-5] for name in table["file"]] == list("abcd")


def test_a_name_that_is_no_utf8_is_in_every_output(made, tmp_path):
    files = tmp_path / "in"
    files.mkdir()
    (files / os.fsdecode(b"caf\xe9.dcm")).write_bytes(of_study(46, "1.2.3", "p"))
    (files / "two\nlines.dcm").write_bytes(of_study(47, "1.2.3", "p"))
    code, table = predicted(made, files, tmp_path / "out", fhir=True)
    assert code == 0 and list(table["file"]) == ["caf\\xe9.dcm", "two\\nlines.dcm"]
    assert list(pd.read_csv(tmp_path / "out/predictions.csv")["file"]) == list(table["file"])
    assert "caf\\xe9.dcm" in (tmp_path / "out/predictions.html").read_text()
    assert json.dumps("caf\\xe9.dcm") in (tmp_path / "out/fhir/study-000001.json").read_text()


def test_what_is_left_out_is_said_on_stderr_and_the_page_and_in_the_exit_code(made, tmp_path, capsys):
    files = tmp_path / "in"
    files.mkdir()
    (files / "a.dcm").write_bytes(of_study(46, "1.2.3", "p"))
    (files / "notes.csv").write_text("a")
    assert predicted(made, files, tmp_path / "out")[0] == 0
    assert "predict: left out: files of other kinds: 1 (notes.csv)\n" in capsys.readouterr().err
    (files / "doe_jane.zip").write_bytes(b"PK")
    assert predicted(made, files, tmp_path / "out")[0] == 3
    assert "predict: left out: archives: 1 (doe_jane.zip); unpack them\n" in capsys.readouterr().err
    page = (tmp_path / "out/predictions.html").read_text()
    assert "archives: 1; unpack them. <b>X-rays may be among them.</b>" in page and "doe_jane" not in page
    assert predicted(made, files, tmp_path / "out", pseudonyms=True)[0] == 3
    assert "doe_jane" not in capsys.readouterr().err


def test_a_second_run_neither_predicts_what_the_first_wrote_nor_leaves_it_there(made, tmp_path):
    pytest.importorskip("highdicom")
    files = tmp_path / "in"
    files.mkdir()
    (files / "a.dcm").write_bytes(of_study(46, "1.2.3", "p"))
    out = files / "results"
    both = {"dicom": True, "fhir": True}
    for _ in range(2):
        code, table = predicted(made, files, out, **both)
        assert code == 0 and list(table["file"]) == ["a.dcm"]
    written = [path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()]
    assert "dicom/image-000001.dcm" in written and all(map(is_written, written))
    for without in both:
        with pytest.raises(ValueError, match=f"is of an earlier run with --{without}"):
            predicted(made, files, out, **both | {without: False})
    code, table = predicted(made, files, tmp_path / "out")  # of another run, and so part of the source: refused
    reasons = table.set_index("file")["reason"]
    assert code == 3 and pd.isna(reasons.pop("a.dcm"))
    assert set(reasons) == {"made by cxr predict, no radiograph"}


def test_processes_and_batches_change_nothing(made, whole, tmp_path):
    _, table = predicted(made, made / "files", tmp_path, processes=2)
    pd.testing.assert_frame_equal(table, whole[1], check_exact=False, atol=1e-6)


def test_several_models_give_the_mean_and_each_alone(made, frontal, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for k in (46, 47):
        Image.fromarray(picture(k, False)).save(source / f"{k}.png")
    (tmp_path / "second").symlink_to(frontal / "predictor")
    models = {"predictor-1": made / "predictor", "predictor-2": frontal / "predictor"}
    alone = [predicted(made, source, tmp_path / name, folder)[1] for name, folder in models.items()]
    _, table = predicted(made, source, tmp_path / "both", model=[tmp_path / "second"])
    assert table["reason"].isna().all()
    mean = (alone[0]["probability.edema"] + alone[1]["probability.edema"]) / 2
    assert np.allclose(table["probability.edema"], mean, atol=1e-6)
    for name, one in zip(models, alone, strict=True):
        assert np.allclose(table[f"{name}/probability.edema"], one["probability.edema"], atol=1e-6)
        assert list(table[f"{name}/positive.edema"]) == list(one["positive.edema"])
        assert list(table[f"{name}/sensitivity.edema"]) == list(one["sensitivity.edema"])
        assert list(table[f"{name}/status.fracture"]) == list(one["status.fracture"])
    assert table["sensitivity.edema"].isna().all()  # the mean's was not measured
    assert set(table["status.pleural_other"]) == {"not trained on"} and set(table["status.edema"]) == {"calibrated"}
    assert len(pd.read_csv(tmp_path / "both/findings.csv")) == 2 * len(FINDINGS)


@pytest.mark.parametrize("source, message", [("nowhere", "no such file or folder"), ("empty", "no image file in it")])
def test_a_wrong_source_is_one_line(made, tmp_path, capsys, source, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit) as end:
        main(stage.run, [str(made / "predictor"), str(tmp_path / source), "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert end.value.code == 1 and message in said and said.count("\n") == 1


def test_a_folder_that_is_no_predictor_is_one_line(made, tmp_path):
    with pytest.raises(ValueError, match="no calibration.json in it; give the folder that the stage calibrate wrote"):
        predicted(made, made / "files", tmp_path, made / "model")
