"""A table cut into pieces has the rows, the line numbers and the errors of the whole one."""

import random

import pandas as pd
import pytest

from cxr.data.sources import pieces
from cxr.data.sources.archive import Folder
from cxr.data.sources.label_csv import read_csv

COLUMNS = ("Path", "Age")
TABLES = {
    "plain": b"Path,Age,More\na,1,x\nb,2,y\n\n\nc,3,z\n",
    "no line end at the end": b"Path,Age\na,1\nb,2",
    "of Windows": b"Path,Age\r\na,1\r\n\r\nb,2\r\n",
    "of an old Mac": b"Path,Age\ra,1\r\rb,2\r",
    "all line ends": b"Path,Age\na,1\r\nb,2\rc,3\n\rd,4\n\n",
    "quotes": b'Path,Age\n"a,""b""",1\n"c\nd\r\ne,\r",2\nf,"3"\n"",""\n" g ",4\n',
    "a quote inside a cell": b'Path,Age\n5" tube,1\na,2\n6" tube,3\nb,4\n',
    "Excel's": b'\xef\xbb\xbfsep=;\r\n"Path";Age\r\na;1,5\r\n"b;c";2,25\r\nd;3\r\n',
    "blank lines first": b"\n\n\nPath|Age\na|1\n|\n b|2\n",
    "utf-8": "Path,Age\nMüller,1\nŁódź,2\n北京,3\n".encode(),
    "utf-16": "Path\tAge\r\nMüller\t1\r\nb\t2\r\n".encode("utf-16"),
}


def in_pieces(folder, data: bytes, size: int) -> pd.DataFrame:
    (folder / "t.csv").write_bytes(data)
    tree, parts = Folder(folder), []
    for piece, piece_data in pieces.each(tree, "t.csv", COLUMNS, size):
        assert tree.part("t.csv", piece.start, piece.length) == piece_data
        parts.append(pieces.rows(piece_data, piece, COLUMNS))
    return pd.concat(parts)


@pytest.mark.parametrize("name", TABLES)
def test_the_pieces_have_the_rows_of_the_whole(tmp_path, name):
    whole = read_csv(TABLES[name], "t.csv", COLUMNS)
    for size in range(1, len(TABLES[name]) + 2):
        pd.testing.assert_frame_equal(in_pieces(tmp_path, TABLES[name], size), whole)


def test_random_tables(tmp_path):
    """Whatever the cells hold, and however the cells are quoted."""
    rng = random.Random(0)
    for _ in range(300):
        cells = ["".join(rng.choices("ab \",;\n\r'", k=rng.randrange(6))) for _ in range(40)]
        quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
        ends = rng.choices(["\n", "\r\n", "\r"], k=20)
        text = "Path,Age\n" + "".join(
            f"{a},{b}{end}" for a, b, end in zip(quoted[::2], quoted[1::2], ends, strict=True)
        )
        whole = read_csv(text.encode(), "t.csv", COLUMNS)
        pd.testing.assert_frame_equal(in_pieces(tmp_path, text.encode(), rng.randrange(1, 60)), whole)


def test_a_piece_holds_no_more_than_it_should(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"Path,Age\n" + b"abc,1\n" * 1000)
    found = [piece for piece, _ in pieces.each(Folder(tmp_path), "t.csv", COLUMNS, 100)]
    assert max(piece.length for piece in found) < 100 + len("abc,1\n") and len(found) >= 60


BODY = [f"patient{k},{k}" for k in range(40)]


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (30, 'a,"b"c', "no readable CSV"),
        (30, 'a,"b', "no readable CSV"),
        (30, "a,1,2", "has 3 cells"),
        (30, "a", "has 1 cells"),
        (30, "a\0,1", "NUL byte"),
        (30, "\udcff,1", "no UTF-8 text"),
        (39, f'"{"x" * 200_000}",1', "no readable CSV"),
    ],
)
def test_a_fault_far_down_is_named_as_in_the_whole(tmp_path, line, text, message):
    rows = ["Path,Age", *BODY]
    rows[line - 1] = text
    data = "\n".join(rows).encode("utf-8", "surrogateescape")
    with pytest.raises(ValueError, match=message) as whole:
        read_csv(data, "t.csv", COLUMNS)
    for size in (40, 100, 5000):
        with pytest.raises(ValueError, match=message) as piece:
            in_pieces(tmp_path, data, size)
        assert str(piece.value) == str(whole.value)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"Path,Age\n"])
def test_a_table_without_rows_is_refused(tmp_path, data):
    with pytest.raises(ValueError, match=r"t\.csv (is empty|has a header but no rows): download"):
        in_pieces(tmp_path, data, 100)
