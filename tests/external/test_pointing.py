"""Heat maps against another hospital's boxes: the floor of other patients, which boxes count, and a known network."""

import numpy as np
import pandas as pd
import pytest

from cxr.core.findings import SLUGS
from cxr.core.store import open_store, write_store
from cxr.evaluation.external import _pointed
from cxr.evaluation.formats import External
from cxr.external import pointing
from cxr.external.mapping import Meaning
from tests.evaluation.make import SETTINGS
from tests.explain.make import Bright
from tests.make import example

SIDE, N = 32, 12


def means(label, finding, answer="same") -> Meaning:
    return Meaning(label, finding, answer, "a book", "")


def test_the_floor_is_the_mean_box_of_the_other_patients_and_of_their_view():
    masks = np.zeros((4, 2, 2), bool)
    masks[0, 0, 0] = masks[1, 0, 1] = masks[2, 1, 0] = masks[3, 1, 0] = True
    means = pointing.others_mean(masks, ["p", "p", "q", "r"])
    assert means[0].tolist() == means[1].tolist() == [[0, 0], [1, 0]]
    assert means[2].tolist() == [[1 / 3, 1 / 3], [1 / 3, 0]] or np.allclose(means[2], [[1 / 3, 1 / 3], [1 / 3, 0]])
    of_view = pointing.others_mean(masks, ["p", "p", "q", "r"], ["AP", "PA", "AP", "LL"])
    assert of_view[2].tolist() == [[1, 0], [0, 0]]  # the AP image of p alone
    assert np.array_equal(of_view[3], pointing.others_mean(masks, ["p", "p", "q", "r"])[3])  # nobody else is LL
    with pytest.raises(ValueError, match="needs two patients"):
        pointing.others_mean(masks, ["p"] * 4)


@pytest.fixture
def data(tmp_path):
    """(store, predictions, boxes) of dark images with a bright square each, of two patients' worth for each label."""
    rng = np.random.default_rng(0)
    images, boxes = np.full((N, SIDE, SIDE), 20, np.uint8), []
    for k in range(N):
        x, y = 4 * rng.integers(0, 6, 2)
        images[k, y : y + 8, x : x + 8] = 240
        boxes.append((f"i{k:02}", "Sign", x / SIDE, y / SIDE, 0.25, 0.25))
    rows = pd.DataFrame({"image_id": [one[0] for one in boxes], "patient_id": [f"p{k // 2}" for k in range(N)]})
    rows["view"] = np.where(np.arange(N) % 2, "AP", None)
    rows = pd.concat([rows, pd.DataFrame(np.nan, rows.index, [f"truth.{slug}" for slug in SLUGS])], axis=1)
    rows["truth.no_finding"] = 1.0  # Bright's first output is brightness
    write_store(tmp_path / "store", images, rows[["image_id"]])
    return open_store(tmp_path / "store"), rows, pd.DataFrame(boxes, columns=["image_id", "label", *pointing.SIDES])


def test_a_network_that_reacts_to_the_squares_points_at_them(data):
    table = pointing.table(Bright(), *data, [means("Sign", "No Finding")], 100)
    assert len(table) == N and set(table["finding"]) == {"No Finding"}
    assert table["grad_cam.hit"].mean() == 1 > table["mean_box.hit"].mean()
    assert table["integrated_gradients.hit"].mean() == 1 and table["integrated_gradients.random"].between(-1, 1).all()
    assert table["grad_cam.random"].isna().all()  # with random weights its maps are flat
    assert {"mean_box.iou", "mean_box_of_view.iou"} <= set(table)


def test_only_boxes_of_images_with_the_finding_and_of_labels_that_mean_it_count(data):
    store, rows, boxes = data
    known = [means("Sign", "No Finding")]
    assert len(pointing.table(Bright(), store, rows, boxes, known, 5)) == 5
    assert pointing.table(Bright(), store, rows, boxes, [means("Sign", "No Finding", "not the same")], 9).empty
    rows.loc[2:, "truth.no_finding"] = 0.0
    assert pointing.table(Bright(), store, rows, boxes, known, 9).empty  # all of one patient
    rows.loc[2, "truth.no_finding"] = 1.0
    assert pointing.table(Bright(), store, rows, boxes, known, 9)["image_id"].tolist() == ["i00", "i01", "i02"]


def test_evaluate_gives_a_finding_with_enough_images_its_numbers(data):
    points = pointing.table(Bright(), *data, [means("Sign", "No Finding")], 100)
    labels = [means("Sign", "No Finding", "near")._asdict()]
    info = External(**example(External, labels=labels))
    few = SETTINGS._replace(min_positives=N + 1)
    assert _pointed(info, points, few) == [] and _pointed(info, None, SETTINGS) == []
    rows = pd.DataFrame(_pointed(info, points, SETTINGS._replace(min_positives=5))).set_index(["method", "measure"])
    assert set(rows["answer"]) == {"near"} and set(rows["images"]) == {N} and set(rows["patients"]) == {N // 2}
    hit = rows.loc[("grad_cam", "hit")]
    assert hit["value"] == 1 and hit["gain"] == 1 - rows.loc[(hit["floor"], "hit"), "value"] and hit["beats"]
    other = rows.loc[("integrated_gradients", "iou"), "random"]
    assert np.isnan(hit["random"]) and other == pytest.approx(points["integrated_gradients.random"].mean())
    assert np.isnan(rows.loc[("mean_box", "hit"), "random"]) and np.isnan(rows.loc[("mean_box", "hit"), "gain"])
