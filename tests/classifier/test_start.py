"""Whom initial weights have seen: by their name, by the model.json beside a file, and by the trainings behind it."""

import pytest

from cxr.classifier import start as starting
from cxr.classifier.formats import Earlier, Model
from cxr.core.files import read_json, write_json
from tests.make import example


def model(folder, **values):
    folder.mkdir()
    write_json(
        folder / "model.json", Model(**example(Model, **{"weights": "none", "extra": [], "view": "all"} | values))
    )
    (folder / "model.safetensors").touch()
    return folder / "model.safetensors"


def test_a_file_says_by_its_model_json_what_it_has_seen(tmp_path):
    first = model(tmp_path / "a", weights="xrv:densenet121-res224-nih", extra=["padchest"], split_sha256="s")
    before = starting.earlier(first, "s", {"padchest": "s"})
    assert before == [Earlier(weights="xrv:densenet121-res224-nih", extra=["padchest"])]
    second = model(tmp_path / "b", weights=str(first), extra=["vindr"], split_sha256="s", earlier=before)
    chain = starting.earlier(second, "s", {"padchest": "s", "vindr": "s"})
    assert chain == [Earlier(weights=str(first), extra=["vindr"]), *before]
    meta = read_json(tmp_path / "b/model.json", None, Model)
    assert starting.starts(meta, "x") == [str(first), "xrv:densenet121-res224-nih"]
    assert starting.extras(meta) == ["vindr", "padchest"]


def test_a_file_that_may_have_seen_held_out_patients_is_refused(tmp_path):
    file = model(tmp_path / "a", extra=["nih"], split_sha256="s")
    with pytest.raises(ValueError, match="trained under another split, so that they may have seen .* train them again"):
        starting.earlier(file, "t", {"nih": "t"})
    for known in ({}, {"nih": "t"}):
        with pytest.raises(ValueError, match="trained on the data set nih as well, and data.extra has none .* add it"):
            starting.earlier(file, "s", known)
    file.with_suffix(".json").unlink()
    with pytest.raises(ValueError, match="model.json beside it is missing, .* copy the training's whole folder"):
        starting.earlier(file, "s", {})


def test_a_model_that_does_not_say_what_its_start_had_seen_is_refused(tmp_path):
    model(tmp_path / "a", weights="old/model.safetensors")
    with pytest.raises(ValueError, match="predictor: it started from old/model.safetensors, .* train it again"):
        starting.starts(read_json(tmp_path / "a/model.json", None, Model), "predictor")


@pytest.mark.parametrize(
    ("start", "official", "message"),
    [
        ("xrv:densenet121-res224-chex", {"test": ["train"], "valid": ["valid"]}, "draws its test images"),
        ("xrv:densenet121-res224-all", {"test": ["test"], "valid": ["train"]}, "draws its valid images"),
        ("xrv:densenet121-res224-all", {"test": ["test"], "valid": ["valid"]}, None),
        ("xrv:densenet121-res224-nih", {"test": ["train"], "valid": ["train"]}, None),
        ("imagenet", {"test": ["train"], "valid": ["train"]}, None),
    ],
)
def test_a_start_that_has_seen_the_test_images_is_refused(start, official, message):
    starting.check(["none", start], "phantom", official)
    if message is None:
        starting.check(["none", start], "chexpert", official)
        return
    with pytest.raises(ValueError, match=message) as error:
        starting.check(["none", start], "chexpert", official)
    assert "choose xrv:densenet121-res224-nih" in str(error.value) and "to official" in str(error.value)
