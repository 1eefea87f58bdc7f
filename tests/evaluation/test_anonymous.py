"""Test images without sex, age and view, as those of CheXpert's official test set."""

import pandas as pd
import pytest

from tests.evaluation.make import stage


def test_the_stage_runs_and_the_metadata_say_nothing(folder, tmp_path, models):
    path = tmp_path / "learnt" / "records.parquet"
    records, test = pd.read_parquet(path), models["final"].query("split == 'test'")
    records.loc[records["image_id"].isin(test["image_id"]), ["sex", "age", "view"]] = None
    records.to_parquet(path)
    tables = stage(folder, tmp_path) / "evaluate"
    floor = pd.read_csv(tables / "floor.csv")
    assert floor["floor"].dropna().tolist() == pytest.approx([0.5] * int(floor["floor"].notna().sum()))
    assert floor["floor"].notna().any()
    groups = pd.read_csv(tables / "subgroups.csv").query("n > 0")
    assert not groups["group"].isin(["F", "M", "AP", "PA"]).any()
    calibrated = pd.read_csv(tables / "calibration.csv").query("finding == 'macro' and model == 'final'")
    assert calibrated["ece_calibrated"].notna().all()
