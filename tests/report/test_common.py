"""Names and verdicts that several sections share."""

import math

import pytest

from cxr.report.sections.common import Verdict, from_interval, policy_name, row_name, too_few, verdict


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0.02, 0.2, Verdict.GAIN),
        (-0.2, -0.02, Verdict.LOSS),
        (-0.02, 0.2, Verdict.NONE),
        (0.0, 0.2, Verdict.NONE),
        (math.nan, 0.2, Verdict.UNTESTED),
    ],
)
def test_the_verdict_of_an_interval(low, high, expected):
    assert from_interval(low, high) == expected


def test_too_few_names_the_fewer():
    assert too_few({"positives": 3, "negatives": 90}) == "3 positives"
    assert too_few({"positives": 90, "negatives": 1}) == "1 negative"


def test_names():
    assert policy_name("u_zeroes") == "U-Zeroes" and policy_name("u_new") == "u_new"
    assert row_name({"finding": "Edema", "findings": math.nan}) == "Edema"
    assert row_name({"finding": "macro", "findings": 13.0}) == "Mean of 13 findings"
    assert row_name({"finding": "macro", "findings": 1.0}) == "Mean of 1 finding"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Verdict.GAIN),
        ({"difference": -0.02}, Verdict.LOSS),
        ({"p": 0.01, "p_holm": 0.031}, Verdict.UNSURE),  # below the level here, above it on another machine
        ({"p": 0.03, "p_holm": 0.09}, Verdict.UNCORRECTED),
        ({"p": 0.3, "p_holm": 0.9}, Verdict.NONE),
        ({"trainings": 1, "p": math.nan}, Verdict.ONE_TRAINING),
        ({"p": math.nan}, Verdict.UNTESTED),
        ({"difference": math.nan}, Verdict.UNTESTED),
    ],
)
def test_the_verdict_on_trained_networks(change, expected):
    row = {"difference": 0.02, "trainings": 3, "p": 0.001, "p_holm": 0.004} | change
    assert verdict(row, alpha=0.05, strict=0.005) == expected
