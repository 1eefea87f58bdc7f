"""Cells, tables and data URIs, against strings written by hand."""

import base64
import io
import math
import re

import jinja2
import pandas as pd
import pytest
from PIL import Image

from cxr.report.page import Counted, Estimate, Matrix, Table, cell, interval, number, render, xray


@pytest.mark.parametrize(
    "value, kind, text",
    [
        (12345, "count", "12,345"),
        (0.1234, "share", "12.3 %"),
        (0.00012, "share", "0.012 %"),
        (0, "share", "0.0 %"),
        (0.8, "auc", "0.800"),
        (-0.0214, "difference", "\u22120.021"),
        (0.0214, "difference", "+0.021"),
        (0.0004, "p", "<0.001"),
        (0.05, "p", "0.050"),
    ],
)
def test_numbers(value, kind, text):
    assert number(value, kind) == text


def test_intervals():
    assert interval(Estimate(0.1, -0.02, 0.2), "difference") == "[\u22120.020, +0.200]"
    assert interval(Estimate(0.8, 0.75, 0.84), "share") == "[75.0, 84.0 %]"
    assert interval(Estimate(0.8), "auc") == ""


@pytest.mark.parametrize(
    ("estimate", "shown"),
    [
        (Estimate(46.078514, 27.733471, 69.133857), "46 [28, 69]"),
        (Estimate(0.090354, 0.032402, 0.165735), "0.09 [0.03, 0.17]"),
        (Estimate(-0.0004, -0.06, 0.0602), "0.00 [\u22120.06, 0.06]"),
        (Estimate(1234.5, 1230.2, 1236.1), "1,234.5 [1,230.2, 1,236.1]"),
        (Estimate(0.25, 0.25, 0.25), "0.25 [0.25, 0.25]"),
    ],
)
def test_a_number_has_the_digits_that_its_interval_carries(estimate, shown):
    assert re.sub("<.*?>", "", cell(estimate, "number")) == shown


def test_cells_are_escaped():
    assert cell("<script>", "text") == "&lt;script&gt;"
    assert "&lt;b&gt;" in cell(Estimate(math.nan, why="<b>"), "auc") and "<b>" not in cell(
        Estimate(math.nan, why="<b>"), "auc"
    )
    assert cell(Estimate(math.nan, why="3 positives"), "auc") == '<span class="na">n/a \u2014 3 positives</span>'
    assert cell(0.0003, "p") == "&lt;0.001"


@pytest.mark.parametrize("value", [None, math.nan, pd.NA, Counted(math.nan, 3)])
def test_missing_is_a_dash(value):
    assert cell(value, "count") == '<span class="na">\u2013</span>'


def test_bounds_are_an_interval_alone():
    assert cell(Estimate(0.1, -0.02, 0.2), "bounds") == "[\u22120.020, +0.200]"
    assert cell(Estimate(0.1), "bounds") == '<span class="na">\u2013</span>'


def test_a_table_as_csv_keeps_whole_numbers_and_bounds():
    rows = [{"a": "x", "b": Estimate(0.81234, 0.7, 0.9), "c": Counted(3, 10)}, {"a": "y", "b": None, "d": 1}]
    frame = Table("t", rows).frame()
    assert list(frame) == ["a", "b", "b_low", "b_high", "c", "c_of", "d"]
    assert frame.iloc[0, :6].to_list() == ["x", 0.81234, 0.7, 0.9, 3, 10]
    assert frame.iloc[1, 1:6].isna().all()
    assert list(Table("t", [], empty=("a", "n")).frame()) == ["a", "n"]


def test_a_matrix_of_an_empty_class():
    matrix = Matrix(("a", "b"), [[3, 1], [0, 0]])
    assert matrix.shares() == [[0.75, 0.25], [0, 0]] and (matrix.n, matrix.accuracy) == (4, 0.75)


def test_a_name_that_the_context_lacks_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="is undefined"):
        render({})


def test_xrays_shrink_but_never_grow():
    for longest, size in ((50, (50, 25)), (500, (100, 50))):
        uri = xray(Image.new("I;16", (100, 50)), longest).uri
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as picture:
            assert picture.size == size and picture.mode == "L"
