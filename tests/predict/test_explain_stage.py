"""The stage explain: boxes of an RSNA tree against a classifier's maps, and what predict's page makes of it."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from torch import nn

from cxr.explain import boxed, worth
from cxr.explain.formats import Explained
from stages import download
from stages import explain as stage
from tests.data.pictures import dicom, smooth
from tests.data.sources.test_rsna import write
from tests.explain.make import Bright
from tests.make import write_split
from tests.predict.conftest import calibrated, picture, predicted

N, SIDE = 40, 96


def bright(k: int) -> tuple[np.ndarray, list[int]]:
    """A dark X-ray with one bright square, and its box."""
    rng = np.random.default_rng(k)
    x, y = (int(v) for v in 8 * rng.integers(0, 9, 2))
    pixels = smooth(SIDE, SIDE, k) // 4
    pixels[y : y + 24, x : x + 24] = 240
    return pixels, [x, y, 24, 24]


@pytest.fixture(scope="module")
def rsna(tmp_path_factory):
    """A folder with the challenge's layout (images of one bright square), its records, manifest and split."""
    root = tmp_path_factory.mktemp("rsna")
    made = {f"i{k:03d}": bright(k) for k in range(N)}
    labels = [f"{name},{','.join(map(str, box))},1" for name, (_, box) in made.items()] + ["none,,,,,0"]
    classes = [f"{name},Lung Opacity" for name in made] + ["none,Normal"]
    images = {
        name: dicom(pixels, ViewPosition=("AP", "PA")[k % 2]) for k, (name, (pixels, _)) in enumerate(made.items())
    }
    write(root / "source", labels, classes, images | {"none": dicom(smooth(SIDE, SIDE))})
    download.run(dataset="rsna", source=str(root / "source"), out=root / "data", state=root)
    records = pd.read_parquet(root / "data" / "records.parquet")
    part = np.where(np.arange(len(records)) % 2, "train", "test")
    write_split(root / "split", records[["image_id", "patient_id"]].assign(split=part))
    return root


def explained(rsna, made, out, **options):
    given = {"model": made / "model", "records": rsna / "data/records.parquet", "split": rsna / "split"}
    given |= {"manifest": rsna / "data/manifest.json", "source": str(rsna / "source"), "state": rsna, "out": out}
    stage.run(**given | {"instance": "final@0", "replicates": 100} | options)
    return Explained.model_validate_json((out / "explain.json").read_text())


@pytest.fixture(scope="module")
def result(rsna, made, tmp_path_factory):
    out = tmp_path_factory.mktemp("explain") / "out"
    return out, explained(rsna, made, out)


def test_counts_are_those_of_the_images_with_boxes(result):
    out, numbers = result
    assert (numbers.images, numbers.floor_images, numbers.patients) == (20, 20, 20) and numbers.data == "folder"
    assert set(numbers.methods) == {"grad_cam", "integrated_gradients"} and numbers.finding == "lung_opacity"
    table = pd.read_csv(out / "pointing.csv").set_index(["method", "measure"])
    assert set(table.index.unique("method")) == {*numbers.methods, *worth.FLOORS}
    for method, one in numbers.methods.items():
        assert one.hit.value == pytest.approx(table.loc[(method, "hit"), "value"], abs=1e-5)
        best = max(table.loc[(floor, "hit"), "value"] for floor in worth.FLOORS)
        assert one.hit.floor == pytest.approx(best, abs=1e-5) and one.hit.beats == (one.hit.gain_low > 0)


def test_a_run_repeats_to_the_byte(result, rsna, made, tmp_path):
    explained(rsna, made, tmp_path / "again")
    for name in ("explain.json", "pointing.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (result[0] / name).read_bytes()


def boxed_of(rsna, part):
    from cxr.data.sources.archive import Folder

    records = pd.read_parquet(rsna / "data" / "records.parquet")
    split = pd.read_parquet(rsna / "split" / "split.parquet")
    rows = records.merge(split[["image_id", "split"]], on="image_id")
    return boxed.read(Folder(rsna / "source"), boxed.sample(rows[rows["split"] == part], 100), 32)


def test_boxes_lie_where_the_squares_are(rsna):
    test = boxed_of(rsna, "test")
    assert test.images.shape == (20, 32, 32) and test.masks.sum(axis=(1, 2)).tolist() == [64] * 20
    for image, mask in zip(test.images, test.masks, strict=True):
        assert image[mask].mean() > 200 > 80 > image[~mask].mean()


def test_a_network_that_reacts_to_the_squares_points_at_them_and_its_opposite_does_not(rsna):
    scores, _ = worth.scores(Bright(), 0, boxed_of(rsna, "test"), boxed_of(rsna, "train"))
    assert scores["grad_cam.hit"].mean() == 1 and scores["grad_cam.iou"].mean() > 0.8
    assert scores["integrated_gradients.hit"].mean() == 1 and scores["mean_box.hit"].mean() < 0.7
    dark, _ = worth.scores(Bright(), 1, boxed_of(rsna, "test"), boxed_of(rsna, "train"))
    assert dark["grad_cam.hit"].mean() == 0


def test_without_boxes_there_is_nothing_to_compare(rsna):
    test = boxed_of(rsna, "test")
    empty = boxed.Boxed(test.rows.iloc[:0], test.images[:0], test.masks[:0])
    with pytest.raises(ValueError, match="20 test and 0 training images have boxes; both need some"):
        worth.scores(Bright(), 0, test, empty)


def test_a_network_without_feature_maps_is_compared_by_the_other_method(rsna):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(32 * 32, 2)

        def forward(self, x):
            return self.head(x.flatten(1))

    scores, similar = worth.scores(Flat(), 0, boxed_of(rsna, "test"), boxed_of(rsna, "train"))
    assert worth.methods_of(scores) == list(similar) == ["integrated_gradients"]


def test_predicts_page_says_whether_the_maps_beat_the_mean_box(made, result, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(picture(45, False)).save(source / "45.png")
    numbers = json.loads((result[0] / "explain.json").read_text())
    for beats in (False, True):
        numbers["methods"]["grad_cam"]["hit"] |= {"beats": beats, "value": 0.25, "floor": 0.5}
        (tmp_path / "explain.json").write_text(json.dumps(numbers))
        folder = tmp_path / f"predictor{beats}"
        calibrated(made, out=folder, explained=tmp_path / "explain.json")
        predicted(made, source, tmp_path / f"out{beats}", folder)
        page = " ".join((tmp_path / f"out{beats}/predictions.html").read_text().split())
        assert "on 20 X-rays of 20 patients" in page and "lies in a box in 25.0 %" in page and "in 50.0 %" in page
        assert ("they are no evidence of where a finding lies" in page) != beats
        captions = re.findall(r"<figcaption>Where the score for (.*?) rests(.*?)</figcaption>", page)
        assert "Lung Opacity" in dict(captions) and len(captions) > 1
        for finding, caption in captions:
            worth = "points better than the mean box" if beats else "<b>does not point better than the mean box</b>"
            expected = f"in 25.0 % of X-rays, the mean box’s in 50.0 %: {worth}"
            assert (expected if finding == "Lung Opacity" else "not compared with boxes") in caption
        card = (folder / "README.md").read_text()
        assert "| grad_cam | 0.25 [" in card and ("| 0.50 | yes |" if beats else "| 0.50 | not shown |") in card


def test_explained_numbers_of_other_weights_are_refused(made, frontal, result, tmp_path):
    with pytest.raises(ValueError, match="is of other weights; `dvc repro explain` makes it again"):
        calibrated(frontal, out=tmp_path / "out", explained=result[0] / "explain.json")


def test_maps_of_a_model_whose_starts_start_has_seen_the_patients_are_refused(rsna, made, tmp_path):
    meta = json.loads((made / "model/model.json").read_text())
    earlier = [{"weights": "b.safetensors", "extra": []}, {"weights": "xrv:densenet121-res224-nih", "extra": []}]
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.json").write_text(json.dumps(meta | {"weights": "a.safetensors", "earlier": earlier}))
    with pytest.raises(ValueError, match=r"classifier.weights = xrv:densenet121-res224-nih: .* rsna's patients"):
        explained(rsna, tmp_path, tmp_path / "out")
