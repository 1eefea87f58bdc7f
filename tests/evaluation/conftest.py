"""Fixtures of the evaluation's tests."""

import pytest

from tests.evaluation.make import adgm_predictions, predictions, write_learnt


@pytest.fixture
def models():
    return {"u_zeroes": predictions(0, 0.5), "u_ones": predictions(1, 0.5), "final": predictions(2, 1.5)}


@pytest.fixture
def folder(tmp_path, models):
    root = tmp_path / "predictions"
    for name, table in models.items():
        path = root / ("final/0.parquet" if name == "final" else f"baseline/0/{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        table.to_parquet(path, index=False)
    (root / "adgm").mkdir()
    for classes in (2, 3):
        adgm_predictions(classes).to_parquet(root / "adgm" / f"corrected-{classes}-20-0.parquet", index=False)
    write_learnt(tmp_path / "learnt", models["final"])
    return root
