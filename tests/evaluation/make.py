"""Predictions, and everything else that the stage evaluate reads, for its tests."""

import numpy as np
import pandas as pd

from cxr.core.findings import CLASSES, FINDINGS, SLUGS
from cxr.evaluation.classifiers import Settings
from stages import evaluate
from tests.make import write_split

SETTINGS = Settings(replicates=60, min_positives=10)


def predictions(seed, signal, n=240):
    """Patients of two images, three in four of them test; Pneumonia is masked in part; Fracture has three positives."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(99)
    table = pd.DataFrame({"image_id": [f"i{k:04d}" for k in range(n)], "patient_id": [f"p{k // 2}" for k in range(n)]})
    table["split"] = np.where(np.arange(n) // 2 % 4 == 0, "valid", "test")
    table["split_sha256"] = "0a"
    for name in SLUGS:
        truth = (common.random(n) < 0.3).astype(np.float32)
        if name == "pneumonia":
            truth[common.random(n) < 0.25] = np.nan
        if name == "fracture":
            truth = (np.arange(n) >= n - 3).astype(np.float32)
        noise = rng.normal(size=n) + signal * np.nan_to_num(truth)
        table[f"score.{name}"] = (1 / (1 + np.exp(-noise))).astype(np.float32)
        table[f"truth.{name}"] = truth
    return table


def adgm_predictions(classes, n=60):
    rng = np.random.default_rng(classes)
    table = pd.DataFrame({"image_id": [f"r{k}" for k in range(n)], "patient_id": [f"r{k}" for k in range(n)]})
    table = table.assign(split="valid", split_sha256="0b", label=rng.integers(classes, size=n))
    for which in ("last", "best"):
        probability = rng.dirichlet(np.ones(classes), size=n).astype(np.float32)
        table = table.assign(**{f"prob_{which}.{i}": probability[:, i] for i in range(classes)})
    return table


def write_learnt(root, predicted):
    """What the models learnt from, and who everybody is: label tables, records, RSNA's split."""
    rng = np.random.default_rng(5)
    root.mkdir()
    train = pd.DataFrame({"image_id": [f"t{k:04d}" for k in range(200)]}).assign(split="train", projection="frontal")
    train["patient_id"] = train["image_id"]
    for name in SLUGS:
        target = (rng.random(len(train)) < 0.3).astype(np.float32)
        train = train.assign(**{f"target.{name}": target, f"weight.{name}": np.float32(1), f"truth.{name}": target})
    for name in ("u_zeroes", "u_ones", "balanced"):
        path = root / (f"{name}/0/table.parquet" if name == "balanced" else f"{name}.parquet")
        path.parent.mkdir(parents=True, exist_ok=True)
        train.to_parquet(path, index=False)

    def people(ids, patients):
        n = len(ids)
        rows = pd.DataFrame({"image_id": ids, "patient_id": patients, "study_id": ids, "path": ids})
        rows = rows.assign(sex=rng.choice(["F", "M", None], n), age=rng.choice([30.0, 50, 70, 90, 155, np.nan], n))
        rows = rows.assign(projection="frontal", view=rng.choice(["AP", "PA", None], n), official_split="train")
        return rows.assign(class_name=rng.choice(CLASSES, n), boxes=[[]] * n, **dict.fromkeys(FINDINGS, 0.0))

    everybody = pd.concat([train, predicted])
    people(everybody["image_id"], everybody["patient_id"]).to_parquet(root / "records.parquet")
    ids = [*(f"r{k}" for k in range(60)), *(f"s{k}" for k in range(90))]
    people(ids, ids).to_parquet(root / "rsna.parquet")
    split = pd.DataFrame({"image_id": ids, "patient_id": ids, "split": ["valid"] * 60 + ["train"] * 90})
    write_split(root / "split", split, patient_key="patient")


def learnt(folder):
    """The stage's options for them."""
    root = folder.parent / "learnt"
    return {
        "records": root / "records.parquet", "label_tables": root, "balanced": root / "balanced",
        "rsna_records": root / "rsna.parquet", "rsna_split": root / "split",
    }  # fmt: skip


RUNS = {"variants": "corrected", "classes": 2, "labels": 20, "draws": 0}


def words(folder):
    return [word for key, value in learnt(folder).items() for word in (f"--{key}", str(value))]


def listed(*given):
    """The words, and the lists of the ADGM's runs that are not among them."""
    lists = [(f"--{key}", str(value)) for key, value in RUNS.items() if f"--{key}" not in given]
    return [*given, *(word for pair in lists for word in pair)]


def stage(folder, out, **options):
    evaluate.run(
        predictions=folder, final_policy="u_zeroes", findings=["pneumonia", "fracture"],
        variants=["corrected"], classes=[2, 3], labels=[20], draws=[0], replicates=60,
        metrics=out / "metrics.json", out=out / "evaluate",
        **learnt(folder) | {"policies": ["u_zeroes", "u_ones"]} | options,
    )  # fmt: skip
    return out


def once(models):
    """Models of one training each."""
    return {name: [table] for name, table in models.items()}


def one(table, **where):
    for key, value in where.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]
