"""The heat maps on predict's cards: which findings have one, where its colour lies, and when there is none."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cxr.core.findings import FINDINGS, SLUGS
from cxr.data.picture import whole as whole_picture
from cxr.explain import maps
from cxr.explain.formats import Explained, Measured, Worth
from cxr.predict import heat
from tests.data.pictures import dicom
from tests.explain.make import Bright
from tests.predict.conftest import picture, predicted


class Model:
    """A model as the explainer sees it."""

    def __init__(self, size, net=None):
        self.size, self.net = size, net or Bright()


def explainer(models, method="grad_cam"):
    return heat.explainer(models, method)[0]


def cards(page: str) -> dict[str, str]:
    """File name -> the card's markup."""
    return {re.search(r"<h3>(.*?)</h3>", card)[1]: card for card in page.split('<section class="card">')[1:]}


def mapped(card: str) -> list[str]:
    return re.findall(r"Where the score for (.*?) rests", card)


@pytest.fixture(scope="module")
def explained(made, tmp_path_factory):
    """(page, table) of twelve files."""
    source, out = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    for k in range(45, 57):
        Image.fromarray(picture(k, False)).save(source / f"{k}.png")
    table = predicted(made, source, out)[1]
    return (out / "predictions.html").read_text(), table.set_index("file")


def test_what_is_positive_has_a_map_the_most_conspicuous_first(explained):
    page, table = explained
    names, left_out = dict(zip(SLUGS, FINDINGS, strict=True)), 0
    for file, card in cards(page).items():
        positive = {names[slug] for slug in SLUGS[1:] if table.loc[file, f"positive.{slug}"] == "yes"}
        order = [name for name in re.findall(r'<span class="yes">([A-Z][\w ]+)</span>', card) if name in positive]
        assert mapped(card) == order[: heat.MOST] and set(order) == positive
        assert card.count("<figure>") == min(len(positive), heat.MOST)
        more = re.search(r"(\d+) more with a “yes”", card)
        assert int(more[1] if more else 0) == max(0, len(positive) - heat.MOST)
        left_out += bool(more)
    assert left_out, "some card has more positive findings than maps"


def test_no_finding_has_no_map(explained):
    page, table = explained
    assert (table["positive.no_finding"] == "yes").any()
    assert "Where the score for No Finding rests" not in page


def test_the_page_says_what_a_heat_map_cannot_show(explained):
    text = " ".join(explained[0].split())
    for sentence in (
        "a map of a wrong yes looks like that of a right one",
        "so it can’t show what was missed",
        "a map has 8 × 8 cells",
        "Colour on the lung is no proof of the opposite",
    ):
        assert sentence in text


def test_maps_change_no_number_and_can_be_left_out_or_be_of_the_other_method(made, explained, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(picture(45, False)).save(source / "45.png")
    pages = {}
    for method in ("none", "integrated_gradients"):
        out = tmp_path / method
        table = predicted(made, source, out, heat_maps=method)[1].set_index("file")
        np.testing.assert_allclose(
            table.loc["45.png", "probability.edema"], explained[1].loc["45.png", "probability.edema"], atol=1e-6
        )
        pages[method] = (out / "predictions.html").read_text()
    assert "<figure>" not in pages["none"] and "heat map" not in pages["none"]
    assert "integrated gradients" in pages["integrated_gradients"]
    assert mapped(pages["integrated_gradients"]) == mapped(cards(explained[0])["45.png"]) != []


def test_a_refused_file_has_no_picture(made, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    letter = np.full((200, 160), 255, np.uint8)
    letter[20:180:10, 20:140] = 0
    Image.fromarray(letter).save(source / "letter.png")
    (source / "foot.dcm").write_bytes(dicom(picture(45, False), BodyPartExamined="FOOT"))
    table = predicted(made, source, out)[1]
    page = (out / "predictions.html").read_text()
    assert table["reason"].notna().all() and table["reason"].str.startswith("out of distribution").any()
    assert page.count("No picture of a refused file.") == 2 and "data:image" not in page


def test_the_networks_layer_is_sought_once(made, tmp_path, monkeypatch):
    sought = []
    real = heat.feature_maps
    for module in (heat, maps):
        monkeypatch.setattr(module, "feature_maps", lambda *given: sought.append(given) or real(*given))
    one = explainer([Model(32)])
    for _ in range(3):
        assert one.maps(whole_picture(np.full((40, 40), 90, np.uint8)), [0]).shape == (1, 32, 32)
    assert len(sought) == 1


def hit(beats: bool, value: float) -> Measured:
    return Measured(value=value, low=0.1, high=0.3, floor=0.5, gain_low=-0.3, gain_high=-0.2, beats=beats)


def compared_model(name: str, finding: str | None, beats: bool = False, data: str = "folder"):
    """A model whose maps of one finding, or of none, were compared with boxes."""
    worth = Worth(hit=hit(beats, 0.25), iou=hit(beats, 0.2), random=None)
    known = Explained(
        data=data, dataset="rsna", finding=finding or "", images=20, patients=20, floor_images=20, confidence=0.95,
        weights_sha256="", methods={"grad_cam": worth},
    )  # fmt: skip
    model = Model(32)
    model.name, model.calibration = name, SimpleNamespace(explained=known if finding else None)
    return model


def test_what_a_map_is_worth_is_known_for_each_finding_and_model():
    models = [compared_model("a", "edema"), compared_model("b", "edema", True), compared_model("c", None)]
    alone = [explainer([model]) for model in models]
    assert [heat.in_short(one.compared("Edema")) for one in alone] == [
        "no better than the mean box", "better than the mean box", "not compared with boxes",
    ]  # fmt: skip
    assert heat.in_short(alone[0].compared("Pneumonia")) == "not compared with boxes"
    assert [one.hit and one.hit.value for one in explainer(models).compared("Edema")] == [0.25, 0.25, None]
    assert heat.in_short(explainer(models[:2]).compared("Edema")) == "no better than the mean box"
    assert explainer([models[0]], "integrated_gradients").compared("Edema")[0].hit is None


def test_each_caption_says_what_the_map_is_worth(explained):
    for card in cards(explained[0]).values():
        captions = re.findall(r"<figcaption>(.*?)</figcaption>", card, re.S)
        assert all("not compared with boxes" in caption for caption in captions)


def test_a_burned_in_picture_has_no_map(made, tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "b.dcm").write_bytes(dicom(picture(45, False), BurnedInAnnotation="YES"))
    table = predicted(made, source, out)[1]
    page = (out / "predictions.html").read_text()
    assert table["reason"].isna().all() and "No picture." in page and "<figure>" not in page


def test_a_network_without_feature_maps_says_so():
    models = [Model(6)]
    assert heat.explainer(models, "grad_cam") == (
        None,
        "Grad-CAM needs feature maps of 7 x 7 cells: 6 px are too few for them",
    )
    assert heat.explainer(models, "integrated_gradients")[0].cells is None
    assert heat.explainer(models, None) == (None, None)


def pixels(shown) -> np.ndarray:
    return np.asarray(shown).astype(int)


def test_the_colour_lies_where_the_map_is_and_nothing_else_is_coloured():
    gray = whole_picture(np.full((100, 160), 90, np.uint8))
    empty = pixels(heat.overlay(gray, np.zeros((16, 16), np.float32)))
    assert empty.shape == (100, 160, 3) and np.abs(empty - 90).max() <= 2
    hot = np.zeros((16, 16), np.float32)
    hot[:8, 8:] = 1  # upper right
    shown = pixels(heat.overlay(gray, hot))
    colour = np.ptp(shown, axis=2)
    assert colour[10:40, 100:150].min() > 40 and colour[60:, :].max() <= 12 and colour[:, :60].max() <= 12


def test_a_map_follows_the_patients_side_in_a_picture_that_is_not_square():
    """Bright's first finding is brightness: the map of a picture that is bright at its left foot is hot there."""
    xray = np.zeros((60, 120), np.uint8)
    xray[30:, :60] = 255
    (map_,) = explainer([Model(32)]).maps(whole_picture(xray), [0])
    assert map_[20:, :12].min() > 0.8 and map_[:12].max() < 0.2 and map_[:, 20:].max() < 0.2


def test_the_map_of_several_models_is_the_mean_of_theirs():
    xray = whole_picture(np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8))
    alone = [explainer([Model(size)]).maps(xray, [0, 1]) for size in (64, 64)]
    both = explainer([Model(64), Model(64)]).maps(xray, [0, 1])
    np.testing.assert_allclose(both, alone[0], atol=1e-6)
    mixed = explainer([Model(64), Model(32)]).maps(xray, [0])
    assert mixed.shape == (1, 64, 64) and mixed.max() == pytest.approx(1) and mixed.min() >= 0


def test_maps_of_zeros_stay_without_a_picture():
    black = whole_picture(np.zeros((64, 64), np.uint8))
    assert heat.heats(explainer([Model(64)]), black, [(0, "Edema")]) == [heat.Heat("Edema", None)]
    assert heat.heats(explainer([Model(64)]), black, []) == []
