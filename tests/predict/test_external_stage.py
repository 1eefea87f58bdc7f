"""The stages external_data and external as commands, on a hospital's own table and on NIH's made tree."""

import json
import shutil

import pandas as pd
import pytest

from cxr.classifier.formats import Earlier, Model
from cxr.core.files import read_json, write_json
from cxr.core.findings import SLUGS
from cxr.core.store import open_store
from cxr.evaluation.formats import External
from stages import classifier, external, external_data
from tests.data.sources import trees
from tests.make import write_split


@pytest.fixture
def ours(made, tmp_path):
    """The files that the classifier was trained, validated and tested on, as a hospital's own data set."""
    split = pd.read_parquet(made / "split/split.parquet")
    view = ["LAT" if "lateral" in name else "PA" for name in split["image_id"]]
    table = pd.DataFrame({"file": split["image_id"], "whose": split["patient_id"], "view": view, "wet": 1})
    table.loc[::2, "wet"] = 0
    table.to_csv(made / "files" / "list.csv", sep=";", index=False, encoding="utf-8-sig")
    external_data.run(
        name="ours", dataset="table", source=str(made / "files"), size=32, out=tmp_path / "data", processes=1,
        columns=["path=file", "patient=whose", "view=view", "edema=wet"], state=tmp_path / "state",
    )  # fmt: skip
    (made / "files" / "list.csv").unlink()
    return tmp_path


def scored(made, folder, trained_on, kind="folder", **more):
    write_json(folder / "manifest.json", {"kind": kind, "images": 1, "bytes": 1, "tables": {}})
    external.run(
        **{"predictor": made / "predictor", "data": folder / "data", "table": made / "labels.parquet"} | more,
        manifest=folder / "manifest.json", trained_on=trained_on, out=folder / "out", precision="32-true",
    )  # fmt: skip
    return pd.read_parquet(folder / "out/predictions.parquet"), read_json(folder / "out/external.json", None, External)


def test_scores_are_the_pipelines_and_patients_of_training_and_validation_are_refused(made, ours, capsys):
    table, info = scored(made, ours, "table")
    kept = pd.read_parquet(made / "predictions.parquet").query("split == 'test'").set_index("image_id")
    assert sorted(table["image_id"]) == sorted(kept.index) and info.trained_patients == info.trained_images == 45
    for slug in SLUGS:
        gap = (table.set_index("image_id")[f"score.{slug}"] - kept[f"score.{slug}"]).abs().max()
        assert gap < 1e-5
    assert info.images == info.patients == 15 and info.other_view == 0 and info.patient_key == "patient"
    assert table["truth.edema"].isin((0, 1)).all() and table["truth.pneumonia"].isna().all()
    assert "45 images of 45 trained-on and 30 of 30 validated-on patients refused" in capsys.readouterr().out
    assert "30 images of 30 patients were refused: the model's epoch, scaling and operating" in info.notes[-1]


def test_other_people_under_the_same_numbers_are_not_refused(made, ours):
    table, info = scored(made, ours, "chexpert")
    assert len(table) == 90 and info.trained_images == 0
    assert [one.finding for one in info.labels] == ["Edema"] and info.labels[0].answer == "same"


def test_what_a_start_has_seen_is_refused_as_well(made, ours):
    """A training that starts from the weights of another, which had started from torchxrayvision's of NIH."""
    folder = ours / "first"
    shutil.copytree(made / "model", folder)
    first = read_json(folder / "model.json", None, Model)
    write_json(folder / "model.json", first.model_copy(update={"weights": "xrv:densenet121-res224-nih"}))
    options = {
        "table": made / "labels.parquet", "stores": made / "stores", "split": made / "split", "model": ours / "second",
        "predictions": ours / "p.parquet", "history": ours / "h.csv", "backbone": "densenet_small", "size": 32,
        "epochs": 1, "batch": 9, "precision": "32-true", "state": ours / "state",
    }  # fmt: skip
    write_split(ours / "split", pd.read_parquet(made / "split/split.parquet")[::-1], select_on=["edema"], phantom=False,
                official={"test": ["train"]})  # fmt: skip
    start = str(folder / "model.safetensors")
    with pytest.raises(ValueError, match="were trained under another split"):
        classifier.run(**options | {"weights": start, "split": ours / "split"})
    split = json.loads((made / "split/split.json").read_text())
    write_json(made / "split/split.json", split | {"phantom": False, "official": {"test": ["train"]}})
    try:
        classifier.run(**options, weights=start)
    finally:
        write_json(made / "split/split.json", split)
    second = read_json(ours / "second/model.json", None, Model)
    assert second.earlier == [Earlier(weights="xrv:densenet121-res224-nih", extra=[])]
    predictor = ours / "predictor"
    shutil.copytree(made / "predictor", predictor)
    shutil.copy(ours / "second/model.json", predictor)
    trees.nih(ours / "nih")
    external_data.run(
        name="nih", dataset="nih", source=str(ours / "nih"), size=32, out=ours / "other/data", processes=1, state=ours
    )
    with pytest.raises(ValueError, match="external nih: the model's initial weights"):
        scored(ours, ours / "other", "chexpert", table=made / "labels.parquet")


def test_a_frontal_model_leaves_laterals_out(frontal, ours):
    table, info = scored(frontal, ours, "chexpert")
    assert len(table) == 72 and info.other_view == 18 and (table["projection"] == "frontal").all()


def test_nih_is_packed_and_a_part_of_it_chosen(made, tmp_path, capsys):
    options = {"name": "nih", "dataset": "auto", "source": str(trees.nih(tmp_path / "nih")), "size": 32, "processes": 1}
    external_data.run(**options, out=tmp_path / "data", part="test", state=tmp_path)
    assert open_store(tmp_path / "data/store/32").index["image_id"].tolist() == ["00000002_000.png", "00000003_000.png"]
    assert "2 images of 2 patients of NIH ChestX-ray14 from a folder source" in capsys.readouterr().out
    table, info = scored(made, tmp_path, "chexpert")
    assert table["truth.pleural_effusion"].tolist() == [1, 0] and info.title == "NIH ChestX-ray14"
    assert {one.label for one in info.labels if one.answer == "not the same"} >= {"Infiltration", "No Finding"}
    with pytest.raises(ValueError, match="has no image of the official part 'valid'"):
        external_data.run(**options, out=tmp_path / "other", part="valid", state=tmp_path)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"name": "../x"}, "use letters, digits, _ and - alone"),
        ({"source": "phantom"}, "the phantom is a chexpert, not a nih"),
        ({"dataset": "nhi"}, "unknown data set 'nhi'"),
        ({"columns": ["edema"]}, "must be <key>=<column"),
    ],
)
def test_a_wrong_entry_is_one_line(tmp_path, change, problem):
    options = {"name": "nih", "dataset": "nih", "source": str(tmp_path), "size": 32, "out": tmp_path / "data"}
    with pytest.raises(ValueError, match=problem):
        external_data.run(**options | {"state": tmp_path} | change)


def test_a_model_of_another_size_is_named(made, ours):
    external_data.run(
        name="n", dataset="nih", source=str(trees.nih(ours / "nih")), size=48, out=ours / "data", state=ours,
        processes=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="images of 48 pixels, the model's have 32"):
        scored(made, ours, "chexpert")


def test_heat_maps_are_compared_with_nihs_boxes(made, tmp_path):
    """Four effusions of four patients; a fifth image has a box of an infiltration, which means no finding."""
    rows = [f"0000000{k}_000.png,Effusion,0,{k},057,M,PA,2682,2749,0.143,0.143" for k in range(1, 5)]
    rows.append("00000005_000.png,Infiltration,0,5,057,M,PA,2682,2749,0.143,0.143")
    drawn = [f"0000000{k}_000.png,Effusion,{k},{2 * k},8,10,,," for k in range(1, 5)]
    drawn.append("00000005_000.png,Infiltrate,1,1,8,8,,,")
    tree = trees.nih(tmp_path / "nih", rows, **{"BBox_List_2017.csv": trees.lines(trees.BOX_HEADER, *drawn)})
    external_data.run(
        name="nih", dataset="nih", source=str(tree), size=32, out=tmp_path / "data", state=tmp_path, processes=1
    )
    boxes = pd.read_parquet(tmp_path / "data/boxes.parquet").set_index("image_id")
    assert len(boxes) == 5 and boxes.loc["00000002_000.png", "x"] == 2 / 32 and boxes["height"].iloc[0] == 10 / 40
    scored(made, tmp_path, "chexpert")
    points = pd.read_parquet(tmp_path / "out/pointing.parquet")
    assert points["image_id"].tolist() == [f"0000000{k}_000.png" for k in range(1, 5)]
    assert set(points["finding"]) == {"Pleural Effusion"}
    assert points[["grad_cam.hit", "mean_box.iou"]].notna().all(axis=None)


def test_boxes_of_images_of_another_size_are_left_out_and_the_page_says_so(made, tmp_path, capsys):
    external_data.run(
        name="nih", dataset="nih", source=str(trees.nih(tmp_path / "nih")), size=32, out=tmp_path / "data",
        state=tmp_path, processes=1,
    )  # fmt: skip
    assert "1 of 2 boxes reach beyond their images" in capsys.readouterr().out
    _, info = scored(made, tmp_path, "chexpert")
    assert not (tmp_path / "out/pointing.parquet").exists() and "have not their published size" in info.notes[-1]
