"""The papers' values on the axes of figures: beside real data, and never beside a phantom."""

import dataclasses

import numpy as np
import pytest

from cxr.core.files import write_json
from cxr.data.formats import Manifest
from cxr.report import page
from cxr.report.sections.adgm import adgm
from cxr.report.sections.classifiers import final
from tests.make import example
from tests.report.fabricated import Page

DIAMONDS = "Diamonds: the paper\u2019s differences, printed without intervals."
DASHED = "Dashed: the paper\u2019s Figures 5 and 6"


@pytest.fixture(params=[("phantom", "phantom"), ("phantom", "zip"), ("zip", "phantom"), ("folder", "s3")])
def kinds(request, made, tmp_path):
    """The fabricated run with these kinds of sources, of CheXpert and of RSNA; their kinds."""
    for name, kind in zip(("chexpert", "rsna"), request.param, strict=True):
        write_json(tmp_path / name / "manifest.json", example(Manifest, kind=kind))
    return dataclasses.replace(made[0], chexpert=tmp_path / "chexpert", rsna=tmp_path / "rsna"), request.param


def diamonds(figure) -> np.ndarray:
    """Where a figure has a paper's marks, N x 2."""
    lines = [line for ax in figure.axes for line in ax.lines if line.get_marker() == "D"]
    return np.concatenate([line.get_xydata() for line in lines]) if lines else np.zeros((0, 2))


def test_the_first_papers_differences_stand_beside_real_data_alone(kinds, whole):
    run, (kind, _) = kinds
    section = final(run)
    at, text = diamonds(section["forest"].figure), Page(page.render(whole | {"final": section})).text
    if kind == "phantom":
        assert not len(at) and DIAMONDS not in text
    else:  # lung lesion .61 -> .75, pneumonia .72 -> .79, consolidation .66 -> .73, in the order of the findings
        assert at[:, 0] == pytest.approx([0.14, 0.07, 0.07]) and DIAMONDS in text
    assert section["table"].frame()["paper_final"].notna().sum() == 3  # a column of the table compares nothing


def test_the_second_papers_curves_stand_beside_real_data_alone(kinds, whole):
    run, (_, kind) = kinds
    section = adgm(run)
    at, text = diamonds(section["accuracy"].figure), Page(page.render(whole | {"adgm": section})).text
    assert (len(at), DASHED in text) == ((0, False) if kind == "phantom" else (12, True))
