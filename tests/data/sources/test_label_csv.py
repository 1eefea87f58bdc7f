"""The canonical table: the checks on a published CSV and on a records file."""

import csv
import io
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxr.core import records
from cxr.data.sources import label_csv, schema


def test_csv_lines_are_counted_as_in_the_file_whatever_the_line_ends():
    data = "\ufeffa,stray, b\r\n1,x,\n\n2,,y\r\n,,\r3,x,z\r\n\r\n".encode()
    table = label_csv.read_csv(data, "t.csv", ("b", "a"))
    assert list(table.columns) == ["b", "a"]
    assert list(table.index) == [2, 4, 6]
    assert table.to_numpy().tolist() == [["", "1"], ["y", "2"], ["z", "3"]]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", r"t\.csv is empty"),
        (b" \r\n", r"t\.csv is empty"),
        (b"a,b\n", r"t\.csv has a header but no rows"),
        (b"a,c\n1,2\n", r"t\.csv line 1: column 'b' is missing; the header is 'a,c'"),
        (b"a,b\n1,2\n1,2,3,4\n", r"t\.csv line 3 has 4 cells, the header 2"),
        (b"a,b\r\n1,2\r\n\r\n1", r"t\.csv line 4 has 1 cells, the header 2"),
        (b'a,b\n1,"2\n', r"t\.csv is no readable CSV"),
        (b'a,b\n1,"x\ny"\n3\n', r"t\.csv line 4 has 1 cells, the header 2"),
        (b'a,b\n1,"x",3\n', r"t\.csv line 2 has 3 cells, the header 2"),
        (b"a,b\n1,2\n1,\x00\n", r"t\.csv line 3 holds a NUL byte, so it is no UTF-8 text"),
        ("a,b\n1,2\n".encode("utf-16-le"), r"t\.csv line 1 holds a NUL byte, so it is no UTF-8 text"),
        (b"a,b, b\n1,2,3\n", r"t\.csv line 1: column 'b' stands 2 times: remove or rename one"),
        (b"a,b,b\n1,2,3\n", r"t\.csv line 1: column 'b' stands 2 times: remove or rename one"),
        (b"a;c\n1;2\n", r"t\.csv line 1: column 'b' is missing; the header is 'a;c'"),
        (b"a;b\n1;2\n1;2;3\n", r"t\.csv line 3 has 3 cells, the header 2: .* as many semicolons as the header has"),
        (b"a\tb\n1\n", r"t\.csv line 2 has 1 cells, the header 2: .* as many tabs"),
        (b"a:b\n1:2\n", r"t\.csv line 1: column 'a' is missing; the header is 'a:b'"),
        (b'"a,b"\n"1,2"\n', r"t\.csv line 1: the whole line is one quoted cell: save the table again"),
        (b"A,b,A.\n1,2,3\n", r"t\.csv line 1: column 'a' stands 2 times"),
        (b"a,b\n1,\xff\n", r"t\.csv line 2: b is no UTF-8 text: save the table as 'CSV UTF-8'"),
    ],
)
def test_a_bad_csv_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        label_csv.read_csv(data, "t.csv", ("a", "b"))


def test_the_nearest_column_is_named():
    with pytest.raises(
        ValueError, match=r"column 'Lung Lesion' is missing.*rename the column 'Lung Lesions', the near"
    ):
        label_csv.read_csv(b"Lung Opacity,Lung Lesions,Sex\n1,2,3\n", "t.csv", ("Lung Opacity", "Lung Lesion", "Sex"))


PUBLISHED = "AP/PA,Lung Opacity,x\nAP,1.0,264.5\n,-1.0,0.5\nPA,,3\n"
REWRITTEN = {
    "semicolons": "AP/PA;Lung Opacity;x\nAP;1,0;264,5\n;-1,0;0,5\nPA;;3\n",
    "tabs": PUBLISHED.replace(",", "\t"),
    "bars": PUBLISHED.replace(",", "|"),
    "separator stated": "sep=;\r\n" + PUBLISHED.replace(",", ";"),
    "case": "ap/pa,LUNG OPACITY,X\n" + PUBLISHED.partition("\n")[2],
    "other signs": "AP.PA, lung_opacity ,x\n" + PUBLISHED.partition("\n")[2],
    "quotes": '"AP/PA","Lung Opacity","x"\n"AP","1.0","264.5"\n"","-1.0","0.5"\n"PA","","3"\n',
    "empty columns": "AP/PA,Lung Opacity,x,,\nAP,1.0,264.5,,\n,-1.0,0.5,,\nPA,,3,,\n",
    "cells after the header's end": "AP/PA,Lung Opacity,x\nAP,1.0,264.5,, \n,-1.0,0.5,\nPA,,3\n",
    "empty rows": PUBLISHED.replace("\n,-1", "\n,,\n\n ,\n,-1") + ",,\n,,,,,\n\n",
    "index column": "".join(f"{k},{line}\n" for k, line in enumerate(PUBLISHED.split("\n")[:-1])),
    "no decimals": PUBLISHED.replace("1.0", "1"),
    "a minus of a word processor": PUBLISHED.replace("-1", "\u22121"),
    "words for nothing": PUBLISHED.replace("PA,,", "PA,NaN,").replace("\n,-1", "\nNA,-1"),
    "CRLF": PUBLISHED.replace("\n", "\r\n"),
}


@pytest.mark.parametrize("form", REWRITTEN)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_that_a_tool_wrote_again_reads_as_the_published_one(form, encoding):
    table = label_csv.read_csv(REWRITTEN[form].encode(encoding), "t.csv", ("x", "AP/PA", "Lung Opacity"))
    labels = label_csv.numbers(table["Lung Opacity"], (1, 0, -1), "t.csv")
    np.testing.assert_array_equal(labels, np.float32([1, -1, np.nan]))
    np.testing.assert_array_equal(label_csv.measures(table["x"]), [264.5, 0.5, 3])
    assert ["" if label_csv.is_blank(cell) else cell for cell in table["AP/PA"]] == ["AP", "", "PA"]


def test_an_exact_header_counts_before_a_like_one():
    assert label_csv.read_csv(b"A,b,a \n1,2,3\n", "t.csv", ("a", "b")).to_numpy().tolist() == [["3", "2"]]


def test_other_encodings_matter_in_the_columns_that_are_read_only():
    data = "a,b,Name\n1,2,Jürgen\n".encode("latin-1")
    assert label_csv.read_csv(data, "t.csv", ("a", "b")).to_numpy().tolist() == [["1", "2"]]
    with pytest.raises(ValueError, match=r"t\.csv line 2: Name is no UTF-8 text"):
        label_csv.read_csv(data, "t.csv", ("a", "Name"))


def test_a_comma_inside_quotes_of_a_table_with_commas_is_no_decimal_point():
    table = label_csv.read_csv(b'a,b\n"1,0",2\n', "t.csv", ("a", "b"))
    with pytest.raises(ValueError, match=r"t\.csv line 2: a is '1,0', must be one of 1, 0"):
        label_csv.numbers(table["a"], (1, 0), "t.csv")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=5).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(cells, st.sampled_from(["1", "0", "-1", "1.5"])), min_size=1, max_size=5),
    dialect=st.sampled_from(["excel", "excel-tab", "unix"]),
    separator=st.sampled_from(",;|"),
)
def test_what_a_csv_writer_writes_is_read_back(rows, dialect, separator):
    options = {} if dialect == "excel-tab" else {"delimiter": separator}
    stream = io.StringIO(newline="")
    csv.writer(stream, dialect, **options).writerows([("Path", "Edema"), *rows])
    table = label_csv.read_csv(stream.getvalue().encode(), "t.csv", ("Edema", "Path"))
    assert table["Edema"].tolist() == [number for _, number in rows]
    decimal = label_csv._with_point if options.get("delimiter") != "," else str
    assert table["Path"].tolist() == [decimal(cell) for cell, _ in rows]


def test_quoted_cells_may_hold_commas_quotes_and_line_ends():
    data = b'a,b\n"1,5","x ""y"""\n\n"2\n",z\n3,"w"\n'
    table = label_csv.read_csv(data, "t.csv", ("a", "b"))
    assert table.to_numpy().tolist() == [["1,5", 'x "y"'], ["2\n", "z"], ["3", "w"]]
    assert list(table.index) == [2, 4, 6]


def test_numbers_take_blank_and_the_allowed_values_only():
    column = pd.Series(["1.0", "", "-1", " 0 ", " "], index=range(2, 7), name="Edema")
    np.testing.assert_array_equal(
        label_csv.numbers(column, (1, 0, -1), "t.csv"), np.float32([1, np.nan, -1, 0, np.nan])
    )
    for wrong in ("2", "1,0", "inf", "yes"):
        column[5] = wrong
        with pytest.raises(ValueError, match=rf"t\.csv line 5: Edema is '{wrong}', must be one of 1, 0, -1 or blank"):
            label_csv.numbers(column, (1, 0, -1), "t.csv")


def test_a_million_labels_are_read_in_seconds():
    row = b"train/patient%06d/study1/view1_frontal.jpg,1.0,,-1.0,0.0\n"
    data = b"Path,a,b,c,d\n" + b"".join(row % i for i in range(1_000_000))
    started = time.process_time()
    table = label_csv.read_csv(data, "t.csv", ("Path", "a", "b", "c", "d"))
    for name in "abcd":
        label_csv.numbers(table[name], (1, 0, -1), "t.csv")
    assert time.process_time() - started < 8
    assert len(table) == 1_000_000 and table.index[-1] == 1_000_001


def rsna_table() -> pd.DataFrame:
    row = {
        "image_id": "i",
        "patient_id": "p",
        "study_id": "s",
        "path": "i.dcm",
        "sex": None,
        "age": 155,
        "projection": "frontal",
        "view": "AP",
        "official_split": "train",
        "class_name": "Normal",
        "boxes": [],
    }
    return pd.DataFrame([row, row | {"image_id": "j", "path": "j.dcm", "sex": "F", "boxes": [[1.0, 2.0, 3.0, 4.0]]}])


def test_records_survive_a_file(tmp_path):
    table = schema.conform(rsna_table(), "rsna")
    table.to_parquet(tmp_path / "records.parquet", index=False)
    loaded = records.load(tmp_path / "records.parquet", "rsna")
    assert list(loaded.columns) == list(records.COLUMNS["rsna"])
    assert loaded["age"].dtype == np.float32 and loaded["age"][0] == 155
    assert loaded["sex"].isna().tolist() == [True, False]
    assert [[list(box) for box in boxes] for boxes in loaded["boxes"]] == [[], [[1, 2, 3, 4]]]


def test_a_bad_records_file_is_named_with_the_cure(tmp_path):
    file = tmp_path / "records.parquet"
    with pytest.raises(ValueError, match=r"records\.parquet: no such file; .*download@rsna"):
        records.load(file, "rsna")
    file.write_bytes(b"PAR1 cut short")
    with pytest.raises(ValueError, match=r"records\.parquet: no readable parquet file; .*-f download@rsna"):
        records.load(file, "rsna")
    rsna_table().drop(columns="view").to_parquet(file)
    with pytest.raises(ValueError, match="column 'view' is missing"):
        records.load(file, "rsna")
    pd.concat([rsna_table()] * 2).to_parquet(file)
    with pytest.raises(ValueError, match="image_id 'i' stands twice"):
        records.load(file, "rsna")


def test_a_source_that_breaks_its_promise_is_an_error_of_ours():
    for column, value in (
        ("view", "XX"),
        ("sex", "female"),
        ("projection", None),
        ("image_id", "i"),
        ("class_name", "?"),
    ):
        with pytest.raises(AssertionError):
            schema.conform(rsna_table().assign(**{column: value}), "rsna")
