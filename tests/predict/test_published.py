"""The rows as every output has them: in order, by study, with names."""

import tracemalloc

from cxr.predict.part import Part
from cxr.predict.published import Published
from cxr.predict.verdict import SEVERAL


def published(folder, rows, **more):
    with Part(folder, {"run": 1}) as part:
        part.add([{"view": None, "view_from": None, "reason": None, "probability.edema": 0.5} | row for row in rows])
    given = {"names": [f"file-{k}" for k in range(len(rows))], "mixed": set(), "worth": {"status.edema": "calibrated"}}
    return Published(part.path, **given | more)


def test_rows_come_in_their_order_and_by_study(tmp_path):
    studies = [2, 1, 2, 3, 1, 4]
    rows = [{"number": k, "study": study} for k, study in enumerate(studies)]
    rows[3]["reason"] = "unreadable"
    whole = published(tmp_path, rows, mixed={4})
    assert [row["file"] for row in whole] == [f"file-{k}" for k in range(6)] == [row["file"] for row in whole]
    assert [[row["number"] for row in study] for study in whole.studies()] == [[1, 4], [0, 2]]
    assert [row["reason"] for row in whole] == [None, None, None, "unreadable", None, SEVERAL]
    accepted, refused = next(iter(whole)), list(whole)[5]
    assert accepted["status.edema"] == "calibrated" and accepted["probability.edema"] == 0.5
    assert "status.edema" not in refused and "probability.edema" not in refused


def test_without_an_accepted_row_there_is_no_study(tmp_path):
    assert list(published(tmp_path, [{"number": 0, "study": 1, "reason": "too small"}]).studies()) == []


def test_memory_holds_one_study(tmp_path):
    """Four times the images take less than a hundred bytes more for each."""
    peaks = []
    for n in (1000, 4000):
        (tmp_path / str(n)).mkdir()
        rows = published(tmp_path / str(n), [{"number": k, "study": k // 2, "more": "x" * 2000} for k in range(n)])
        tracemalloc.start()
        assert sum(len(study) for study in rows.studies()) == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 3000 * 100
