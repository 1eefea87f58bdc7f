"""The evaluation in four steps: policies, classifiers, study, adgm. Each gives tables and its part of metrics.json."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from cxr.adgm.variants import Run, leading
from cxr.evaluation import adgm as adgm_tables
from cxr.evaluation import benefit, external, metadata, operating, precision, sensitivity, studies, subgroups
from cxr.evaluation import policies as policy_tables
from cxr.evaluation import readers as reader_tables
from cxr.evaluation import study as study_tables
from cxr.evaluation.classifiers import Models, Settings, judge, summary


class Result(NamedTuple):
    """Tables by name (cxr/evaluation/names.py), and the part of metrics.json that goes with them."""

    tables: dict[str, pd.DataFrame]
    metrics: dict


class Records(NamedTuple):
    """Records with sex, age and view, and their file, which messages name."""

    path: str | os.PathLike
    table: pd.DataFrame


def policies(models: Models, final_policy: str, settings: Settings) -> tuple[Models, Result]:
    """Does the policy matter? models: policy -> predictions, one table a training. Also gives the predictions of the
    best of all policies.
    """
    mix, tables = policy_tables.tables(models, final_policy, settings)
    return mix, Result(tables, policy_tables.summary(tables))


def classifiers(
    models: Models,
    mix: Models,
    train: Mapping[str, pd.DataFrame],
    records: Records,
    final_policy: str,
    findings: Sequence[str],
    settings: Settings,
    readers: pd.DataFrame | None = None,
    extra: pd.DataFrame | None = None,
) -> Result:
    """How good are the baselines and final, against the metadata baseline, calibrated, and by subgroup?

    models: each policy's predictions and 'final', one table a training; mix: of `policies`; train: model -> training
    rows of its label table; findings: the rare ones' names; readers: radiologists' calls (cxr/evaluation/readers.py),
    where there are some; extra: training rows of other hospitals that every model was trained on as well. AUCs are
    means over the trainings; calibration, operating points, subgroups, precision, net benefit and what stands beside
    the readers are of the first training.
    """
    names = [name for name in models if name != "final"]
    floors = {f"floor_{p}": [metadata.replace_scores(models[p][0], train[p], *records)] for p in names}
    floor = f"floor_{final_policy}"
    tables = judge({**models, **mix, **floors}, final_policy, settings, floor)
    pair = {name: models[name][0] for name in (final_policy, "final")}
    trained = {name: operating.trained_share(pd.concat([train[name], extra])) for name in pair}
    true = operating.true_share(train[final_policy])
    judged = {name: operating.fit(table, trained[name], true, settings) for name, table in pair.items()}
    tables |= operating.tables(pair, judged, trained, true, settings)
    people = metadata.people(*records, models["final"][0]["image_id"])
    tables |= subgroups.table(pair | {floor: floors[floor][0]}, judged, people, settings)
    every = {name: models[name] for name in pair}
    study_ids = records.table.set_index("image_id")["study_id"]
    tables |= studies.tables(every | {floor: floors[floor]}, study_ids, list(pair), findings, settings)
    tables["uncertain"] = sensitivity.table(every, settings)
    tables["precision"] = precision.table(pair, judged, settings)
    tables["benefit"] = benefit.table(pair, judged, settings)
    if (read := reader_tables.table(pair, study_ids, readers, settings)) is not None:
        tables["readers"] = read
    metrics = summary(tables, names, final_policy, findings) | operating.summary(tables, floor, final_policy)
    metrics |= studies.summary(tables["per_study"], final_policy) | precision.summary(tables["precision"], final_policy)
    return Result(tables, metrics)


def outside(
    sets: list[external.Outside],
    final: pd.DataFrame,
    rates: pd.DataFrame,
    train: pd.DataFrame,
    records: Records,
    local_labels: int,
    settings: Settings,
) -> Result:
    """How good is the first final on other hospitals' patients? sets: none gives tables without a row.

    final: its predictions; rates: the table operating of `classifiers`; train: training rows of the final policy's
    label table, for the metadata baseline; local_labels: that a recalibration is fitted on.
    """
    people = metadata.people(*records, train["image_id"])
    return Result(external.judge(sets, final, rates, people, train, local_labels, settings), {})


def within(predictions: pd.DataFrame, records: pd.DataFrame, view: str) -> pd.DataFrame:
    """The predictions of X-rays of one view. Raises ValueError where no test X-ray is left."""
    ids = records.loc[records["view"] == view, "image_id"]
    rows = predictions[predictions["image_id"].isin(ids)].reset_index(drop=True)
    if not (rows["split"] == "test").any():
        raise ValueError(f"evaluate.study_view = {view}, but no test X-ray is of this view: choose another, or all")
    return rows


def study(models: study_tables.Models, findings: Sequence[str], settings: Settings, endpoint: str) -> Result:
    """Does the GAN help? models: (arm, seed) -> predictions, the baseline and the GAN arm among them."""
    tables = study_tables.judge_study(models, findings, settings, endpoint)
    return Result(tables, study_tables.summary(tables))


def adgm(
    runs: Mapping[Run, pd.DataFrame],
    records: Records,
    split: pd.DataFrame,
    settings: Settings,
    patient_key: str = "patient",
) -> Result:
    """Does the unlabelled data help? runs: the ADGM's predictions, none: no ADGM; records and split: RSNA's.

    patient_key: what patient_id names. With 'image' the intervals are over images, and no number of patients is given.
    """
    if not runs:
        return Result({}, {})
    tables = adgm_tables.tables(runs, settings)
    train = records.table[records.table["image_id"].isin(split.loc[split["split"] == "train", "image_id"])]
    people = metadata.people(*records, next(iter(runs.values()))["image_id"])
    chosen = leading([run.variant for run in runs]), min(run.draw for run in runs)
    led = {(run.classes, run.labels): table for run, table in runs.items() if (run.variant, run.draw) == chosen}
    floors = {count: metadata.class_probabilities(train, people, count) for count in {run.classes: 0 for run in runs}}
    tables["adgm_floor"] = subgroups.adgm(led, floors, people, settings)
    if patient_key == "image":
        tables |= {name: tables[name].assign(patients=float("nan")) for name in ("adgm", "adgm_floor")}
    return Result(tables, adgm_tables.summary(tables))
