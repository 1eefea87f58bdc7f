"""Progress lines, and the formats of JSON artefacts: what is written is read, and what is wrong is named."""

import importlib
import inspect
import json

import pytest
from pydantic import Field

from cxr.core.files import Progress, read_json, write_json
from cxr.core.formats import Format, recorded
from tests.make import example

PACKAGES = ("adgm", "classifier", "cohort", "core", "data", "evaluation", "fidelity", "gan", "synthesis")
MODULES = [importlib.import_module(f"cxr.{name}.formats") for name in PACKAGES]
MODELS = {
    f"{module.__name__}.{name}": model
    for module in MODULES
    for name, model in inspect.getmembers(module, inspect.isclass)
    if issubclass(model, Format) and model.__module__ == module.__name__
}


def test_elsewhere_than_on_a_terminal_progress_is_a_line_at_the_end(capfd):
    with Progress("gan@edema", 1000) as progress:
        progress.skip(300)
        progress.update(300)
        progress.line("epoch 1: loss 0.5")
        progress.update(400)
    with Progress("gan@fracture", 10) as progress:
        progress.skip(10)
    first, second = capfd.readouterr().err.splitlines()
    assert first == "gan@edema: epoch 1: loss 0.5"
    assert second.startswith("gan@edema: 1000/1000 images [00:00<00:00, ")


@pytest.mark.parametrize("name", MODELS)
def test_every_format_is_described_and_read_as_it_was_written(name, tmp_path):
    model = MODELS[name]
    assert model.__doc__ and all(field.description for field in model.model_fields.values())
    values = example(model)
    write_json(tmp_path / "x.json", model(**values))
    assert json.loads((tmp_path / "x.json").read_text()) == values
    assert read_json(tmp_path / "x.json", "stage", model) == model(**values)


class Part(Format):
    """A part of Whole."""

    share: float = Field(ge=0, le=1, description="a share")


class Whole(Format):
    """What a test reads."""

    n: int = Field(description="a count")
    parts: dict[str, Part] = Field(description="parts by name")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"n": 1}', "'parts' is missing"),
        ('{"n": "1", "parts": {}}', "n is '1'; it should be a valid integer"),
        ('{"n": true, "parts": {}}', "n is True; it should be a valid integer"),
        ('{"n": 1, "parts": {"a": {}}}', "'parts.a.share' is missing"),
        ('{"n": 1, "parts": {"a": {"share": 2}}}', "parts.a.share is 2; it should be less than or equal to 1"),
        ('{"n": 1, "parts": {"a": {"share": NaN}}}', "parts.a.share is nan; it should be a finite number"),
        ('{"n": 1, "parts": {}, "more": 1}', "'more' is not a key of it"),
        ("[1]", "the file is [1]; it should be an object"),
        ("{", "no readable JSON"),
        ("[" * 100_000, "no readable JSON"),
        ("\ud800", "no readable JSON"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_first_wrong_key_and_the_cure(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ValueError) as error:
        read_json(path, "stage", Whole)
    assert str(error.value) == f"{path}: {message}; `dvc repro -f stage` makes it again"


class Settings(Format):
    """A training's settings."""

    lr: float = Field(0.1, ge=0, description="step length")
    noise: float = Field(0.0, ge=0, description="added")


class Recorded(recorded(Settings, absent={"noise"})):
    """A file that holds them."""

    net: str = Field(description="kind of net")


def test_a_file_holds_its_trainings_settings_each_given(tmp_path):
    path = tmp_path / "x.json"
    for given in ({"lr": 0.2}, {"lr": 0.2, "noise": 0.5}):
        write_json(path, Recorded(**given, net="a"))
        assert json.loads(path.read_text()) == given | {"net": "a"}
        assert read_json(path, "stage", Recorded).noise == given.get("noise")
    for wrong, message in (
        ({}, "'lr' is missing"),
        ({"lr": -1.0}, "lr is -1.0; it should be greater than or equal to 0"),
    ):
        path.write_text(json.dumps(wrong | {"net": "a"}))
        with pytest.raises(ValueError, match=message):
            read_json(path, "stage", Recorded)


class Later(recorded(Settings, neutral={"noise": 0.0})):
    """A file that may be older than a setting."""

    net: str = Field(description="kind of net")


def test_a_file_from_before_a_setting_has_the_value_that_changes_nothing(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, Later(lr=0.2, noise=0.0, net="a"))
    assert json.loads(path.read_text()) == {"lr": 0.2, "noise": 0.0, "net": "a"}  # written all the same
    path.write_text(json.dumps({"lr": 0.2, "net": "a"}))
    assert read_json(path, "stage", Later).noise == 0.0
    path.write_text(json.dumps({"noise": 0.0, "net": "a"}))
    with pytest.raises(ValueError, match="'lr' is missing"):
        read_json(path, "stage", Later)
