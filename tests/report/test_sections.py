"""What the report says in words."""

import math
import re
from pathlib import Path

import pytest

from cxr.report.sections.classifiers import GRID, effect, policy_name, too_few, verdict


@pytest.mark.parametrize(
    "difference, low, high, p_holm, words",
    [
        (0.1, 0.02, 0.2, 0.01, "a gain"),
        (-0.1, -0.2, -0.02, 0.01, "a loss"),
        (0.1, 0.02, 0.2, 0.3, "a gain, but not after the correction for testing every finding"),
        (0.1, -0.02, 0.2, 0.01, "no difference shown"),
        (math.nan, math.nan, math.nan, math.nan, "could not be tested"),
    ],
)
def test_verdicts(difference, low, high, p_holm, words):
    assert verdict({"difference": difference, "low": low, "high": high, "p_holm": p_holm}, 0.05) == words


def test_too_few_names_the_fewer():
    assert too_few({"positives": 3, "negatives": 90}) == "3 positives"
    assert too_few({"positives": 90, "negatives": 1}) == "1 negative"


def test_a_policy_without_a_short_name_keeps_its_own():
    assert policy_name("u_zeroes") == "U-Zeroes" and policy_name("u_new") == "u_new"


def test_grids_are_cut_as_they_are_made():
    source = (Path(__file__).parents[2] / "cxr/gan/nets.py").read_text(encoding="utf-8")  # importing it takes torch
    assert re.search(rf"^GRID = {GRID}\b", source, re.MULTILINE)


def test_what_two_trainings_differ_in_is_not_the_generated_images_doing():
    row = {"difference": 0.07, "low": 0.04, "high": 0.1, "p_holm": 0.0001}
    assert effect(row, 159, 0.05) == "a gain, between one training of each"
    assert "no X-ray of it was generated" in effect(row, 0, 0.05) and "gain" not in effect(row, 0, 0.05)
    assert effect(row | {"low": -0.1}, 0, 0.05) == "no difference shown"
