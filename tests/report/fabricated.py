"""A fabricated run: everything that the report reads of other stages, in their formats, made in a second."""

import dataclasses
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from cxr.adgm.formats import Fitted, Model, Samples
from cxr.adgm.variants import CONTROLS, FITTED, GENERATIVE, Run
from cxr.audit import chexpert, rsna, sheet
from cxr.classifier.formats import Model as Classifier
from cxr.cohort import checks, describe, splits
from cxr.cohort.policies import table as label_table
from cxr.core.files import write_json, write_table
from cxr.core.findings import CLASSES, FINDINGS, SLUGS, slug
from cxr.core.guard import SPLIT
from cxr.core.store import write_store
from cxr.data.formats import Manifest
from cxr.evaluation import classifiers
from cxr.evaluation import run as steps
from cxr.explain.formats import Explained
from cxr.fidelity.formats import Fidelity
from cxr.fidelity.measures import MEASURES
from cxr.papers import DATASETS
from cxr.report.inputs import Artefacts
from cxr.synthesis.formats import Plan
from tests.make import example
from tests.report.abroad import abroad

POLICIES, RARE, LABELS = ["u_zeroes", "u_ones"], ["pneumonia", "lung_lesion", "consolidation"], [50, 200]
VARIANTS = ["corrected", "no_z", "supervised", "features", "probe"]
PREVALENCE = dict(
    zip(SLUGS, (0.1, 0.05, 0.12, 0.47, 0.06, 0.23, 0.07, 0.05, 0.15, 0.09, 0.38, 0.04, 0.0, 0.52), strict=True)
)


def chexpert_records(rng: np.random.Generator, patients: int = 700) -> pd.DataFrame:
    rows = []
    for p in range(patients):
        sex, age = ("F", "M")[p % 2], float(rng.integers(18, 90))
        for study in range(rng.integers(1, 3)):
            name = f"patient{p:05d}"
            part = "valid" if p < 60 else "train"
            rows.append(
                {"image_id": f"{part}/{name}/{study}", "path": f"{part}/{name}/{study}/view1_frontal.jpg"}
                | {"patient_id": name, "study_id": f"{name}/{study}", "sex": sex, "age": age, "projection": "frontal"}
                | {"view": ("AP", "PA")[p % 2], "official_split": part}
            )
    table = pd.DataFrame(rows)
    for name in FINDINGS:
        draw, p = rng.random(len(table)), PREVALENCE[slug(name)]
        table[name] = np.select([draw < p, draw < 1.3 * p, draw < 0.6], [1.0, -1.0, 0.0], np.nan)
    table.loc[3, "age"] = 155.0
    return table


def rsna_records(rng: np.random.Generator, images: int = 900, each: int = 2) -> pd.DataFrame:
    """each: images a patient; with 1 patient_id names the image, as without RSNA's mapping."""
    chosen = rng.choice(3, images, p=[0.25, 0.4, 0.35])
    rows = [
        {key: f"r{i:04d}" for key in ("image_id", "study_id", "path")}
        | {"patient_id": f"r{i // each:04d}"}
        | {"sex": "F", "age": 50.0}
        | {"projection": "frontal", "view": "AP", "official_split": "train", "class_name": CLASSES[k]}
        | {"boxes": [[1.0, 2.0, 30.0, 40.0]] * (1 + i % 2) if k == 0 else []}
        for i, k in enumerate(chosen)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def predictions(labels: pd.DataFrame, rng: np.random.Generator, skill: float) -> pd.DataFrame:
    rows = labels[labels["split"] != "train"].reset_index(drop=True)
    for name in SLUGS:
        signal = rows[f"truth.{name}"].fillna(0.5).to_numpy(float) * skill + rng.normal(size=len(rows))
        rows[f"score.{name}"] = 1 / (1 + np.exp(-signal))
    return rows


def xray_grid(rng: np.random.Generator, noise: float, tile: int = 32) -> Image.Image:
    y, x = np.mgrid[-1 : 1 : tile * 1j, -1 : 1 : tile * 1j]
    lungs = np.exp(-((np.abs(x) - 0.45) ** 2) / 0.05 - y**2 / 0.35)
    tiles = [170 - 120 * lungs + noise * rng.normal(size=lungs.shape) for _ in range(64)]
    whole = np.block([tiles[8 * k : 8 * k + 8] for k in range(8)])
    return Image.fromarray(whole.clip(0, 255).astype(np.uint8))


def fabricate(
    root: Path, kind: str = "phantom", labels: list[int] = LABELS, rare: list[str] = RARE, patient_key: str = "patient"
) -> dict:
    """A whole run's artefacts below `root`; returns the report stage's options. patient_key: of RSNA's manifest."""
    rng = np.random.default_rng(0)
    xpert, pneumonia = chexpert_records(rng), rsna_records(rng, each=1 + (patient_key == "patient"))
    _explore(root / "explore", xpert, pneumonia, patient_key)
    _audit(root / "audit", kind)
    split = _splits(root, kind, xpert, pneumonia, patient_key)
    runs = _evaluate(root, rng, xpert, pneumonia, split, labels, patient_key)
    _histories(root / "history")
    for name in rare:
        _generator(root / "gan/0" / name, rng)
        _fidelity(root / "fidelity/0" / name, rng)
    _plan(root / "balanced/0/plan.json", rare)
    _explain(root / "explain", rng, kind)
    for one in runs:
        _adgm(root, rng, one)
    params = {"policies": POLICIES, "evaluate": {"confidence": 0.95, "replicates": 60}, "gan": {"x": "<b>&"}}
    params["external"] = [{"name": "elsewhere", "source": "/data/x"}]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    folders = ("explore", "audit", "chexpert", "rsna", "splits", "stores", "history", "gan", "fidelity", "adgm")
    options = {name: root / name for name in (*folders, "models", "predictions", "store", "evaluate", "explain")}
    lists = {"policies": POLICIES, "findings": rare, "generators": rare, "arms": [], "seeds": [0]}
    lists |= {"classes": [2, 3] if labels else [], "labels": labels, "variants": VARIANTS, "draws": [0, 1]}
    return (
        options
        | lists
        | {
            "balanced": root / "balanced/0/plan.json",
            "gan": root / "gan/0",
            "fidelity": root / "fidelity/0",
            "final_policy": "u_zeroes",
            "params": params,
        }
    )


def _explore(folder: Path, xpert: pd.DataFrame, pneumonia: pd.DataFrame, patient_key: str) -> None:
    summary = {s: describe.summary_chexpert(xpert[xpert["official_split"] == s]) for s in ("train", "valid")}
    train = xpert[xpert["official_split"] == "train"]
    odd = [checks.chexpert(xpert).assign(dataset="chexpert"), checks.rsna(pneumonia).assign(dataset="rsna")]
    write_json(folder / "summary.json", {"chexpert": summary, "rsna": describe.summary_rsna(pneumonia, patient_key)})
    write_table(folder / "table1.csv", describe.beside_paper(describe.table1(train)))
    write_table(folder / "age_by_sex.csv", describe.ages(train))
    write_table(folder / "checks.csv", pd.concat(odd))
    write_table(folder / "rsna_classes.csv", describe.rsna_classes(pneumonia))


def _audit(folder: Path, kind: str) -> None:
    why = {name: sheet.standing(name, 5, kind) for name in DATASETS}
    sheets = chexpert.sheet(None, why["chexpert"]), rsna.sheet(None, why["rsna"])
    write_table(folder / "audit.csv", sheet.table(*sheets))
    write_table(folder / "data.csv", pd.DataFrame({"dataset": why.keys(), "kind": kind, "n": 5, "why": why.values()}))


def _splits(
    root: Path, kind: str, xpert: pd.DataFrame, pneumonia: pd.DataFrame, patient_key: str
) -> dict[str, pd.DataFrame]:
    """Manifests, rejected images and splits; returns the splits."""
    drawn = {
        "chexpert": splits.chexpert(xpert, by="patient", test_images=250, seed=0),
        "rsna": splits.rsna(pneumonia, by=patient_key, valid_share=0.2, seed=0, patient_key=patient_key),
    }
    for name, records in (("chexpert", xpert), ("rsna", pneumonia)):
        key = patient_key if name == "rsna" else None
        write_json(root / name / "manifest.json", example(Manifest, kind=kind, images=len(records), patient_key=key))
        write_table(root / name / "records.parquet", records)
        write_table(root / "splits" / name / SPLIT, drawn[name])
        path = "train/patient00009/view1.jpg"
        rejected = pd.DataFrame({"image_id": ["x"], "path": [path], "reason": [f"{path}: not <script>JPEG</script>"]})
        write_table(root / "stores" / name / "rejected.csv", rejected)
        info = splits.summary(drawn[name], records, by=key or "patient", min_positives=5, sha256="0", patient_key=key)
        write_json(root / "splits" / name / "split.json", info)
    return drawn


def _evaluate(root, rng, xpert, pneumonia, split, labels, patient_key) -> dict[Run, pd.DataFrame]:
    """Evaluate's tables of made-up predictions, final's predictions and the store of its images; returns the ADGM's."""
    truth = label_table(xpert, split["chexpert"], "u_zeroes")
    held_out = split["rsna"].query("split == 'valid'").merge(pneumonia[["image_id", "class_name"]], on="image_id")
    settings = classifiers.Settings(replicates=60, min_positives=5)
    models = {p: [predictions(truth, rng, 1.2)] for p in POLICIES} | {"final": [predictions(truth, rng, 1.5)]}
    folder = root / "evaluate"
    final = models["final"][0]
    write_table(root / "predictions/final/0.parquet", final.assign(split_sha256="0"))
    write_json(
        root / "models/final/0/model.json",
        example(
            Classifier, backbone="densenet121", weights="/home/somebody/x.safetensors", findings=list(SLUGS), size=64
        ),
    )
    ids = final[["image_id"]]
    write_store(root / "store", np.random.default_rng(1).integers(0, 255, (len(ids), 16, 16), np.uint8), ids)
    runs = adgm_runs(held_out, rng, labels)
    train = truth[truth["split"] == "train"]
    mix, question = steps.policies({p: models[p] for p in POLICIES}, "u_zeroes", settings)
    people = steps.Records("records", xpert), steps.Records("records", pneumonia)
    tables = steps.classifiers(models, mix, dict.fromkeys(models, train), people[0], "u_zeroes", [], settings).tables
    elsewhere = steps.outside([abroad(final, xpert, rng)], final, tables["operating"], train, people[0], 40, settings)
    tables |= (
        question.tables | elsewhere.tables | steps.adgm(runs, people[1], split["rsna"], settings, patient_key).tables
    )
    for name, table in tables.items():
        write_table(folder / f"{name}.csv", table)
    return runs


def _histories(folder: Path) -> None:
    e = np.arange(1, 4)
    for k, name in enumerate([*(f"baseline/0/{p}" for p in POLICIES), "final/0"]):
        history = {"epoch": e, "train_loss": 0.5 / e + 0.02 * k, "valid_loss": 0.55 / e**0.8 + 0.02 * k}
        history |= {"valid_macro_auc": 0.6 + 0.06 * e - 0.01 * k}
        write_table(folder / f"{name}.csv", pd.DataFrame(history))


def _generator(folder: Path, rng: np.random.Generator) -> None:
    e = np.arange(1, 41)
    curves = {"epoch": e, "loss_d": 0.7 + 0.2 * rng.random(40), "loss_g": 2 - 0.02 * e + 0.4 * rng.random(40)}
    curves |= {"d_real": 0.7 + 0.05 * rng.random(40), "d_fake": 0.3 + 0.05 * rng.random(40)}
    measured = np.where((e == 1) | (e % 10 == 0), 1.0, np.nan)
    curves |= {"kid": measured * (0.5 + (e - 30) ** 2 / 100), "diversity": measured * e / 50}
    write_table(folder / "history.csv", pd.DataFrame(curves))
    kept = {"mode": "per_finding", "select": "kid", "average": 0.99, "epoch": 30, "epochs": 90, "kept_back": 20}
    write_json(folder / "kept.json", kept | {"stopped_at": 40, "why": "no better KID in 1 looks"})
    xray_grid(rng, 6).save(folder / "real.png")
    for epoch in (1, 10, 20, 30, 40):
        xray_grid(rng, 90 / epoch + 8).save(folder / f"grid-{epoch:04d}.png")


def _plan(path: Path, rare: list[str]) -> None:
    parts = {"positives": 90, "generated": 160, "prevalence_before": 0.05, "prevalence_after": 0.1}
    parts |= {"negatives": 0, "gan_images": 80, "gan_epochs": 40}
    plan = {"target_prevalence": 0.1, "labels": "masked", "train_images": 900, "synthetic_images": 480}
    write_json(path, example(Plan, **plan, findings={name: parts for name in rare}))


APART = {"pixels": 0.975, "features": 0.8125}  # AUCs of generated against real X-rays


def _fidelity(folder: Path, rng: np.random.Generator) -> None:
    spread = {"mean": 0.25, "low": 0.125, "high": 0.375}
    floor = {"mean": 0.0, "low": -0.0625, "high": 0.0625}
    measured = {"generated": spread, "floor": floor, "difference": spread}
    space = {"generated_median": 4.5, "held_out_median": 4.0, "duplicates": 0.025, "held_out_duplicates": 0.0}
    space |= {"same_patient_median": 3.5, "reidentified": 0.0375, "held_out_reidentified": 0.05}
    space |= {"membership_auc": 0.52, "membership_low": 0.41, "membership_high": 0.63}
    memorised = {"duplicates": 0.025, "duplicates_low": 0.007, "duplicates_high": 0.087}
    counts = {"real": 80, "patients": 60, "generated": 80, "held_out": 20, "held_out_patients": 18, "half": 40}
    counts |= {"replicates": 100, "scales": 2}
    quality = {name: measured for name in MEASURES}
    halves = {"mean": 0.5, "low": 0.4375, "high": 0.5625}
    tests = {
        name: {"auc": a, "p": 0.005, "floor": halves, "held_out": {"auc": 0.53125, "p": 0.4}}
        for name, a in APART.items()
    }
    test = {"n": 80, "patients": 60, "permutations": 199, "told_apart": True, "spaces": tests}
    memorised |= {"spaces": {"features": space, "pixels": space}}
    judged = example(
        Fidelity, **counts, features="classifier", quality=quality, two_sample=test, memorisation=memorised
    )
    write_json(folder / "fidelity.json", judged)
    xray_grid(rng, 8).crop((0, 0, 256, 64)).save(folder / "worst_pairs.png")


def _explain(folder: Path, rng: np.random.Generator, kind: str) -> None:
    measure = {"value": 0.25, "low": 0.125, "high": 0.375, "floor": 0.5, "gain_low": -0.375, "gain_high": -0.125}
    worth = {"hit": measure | {"beats": False}, "iou": measure | {"beats": False}, "random": 0.125}
    methods = {"grad_cam": worth, "integrated_gradients": worth | {"random": None}}
    counts = {"images": 84, "patients": 48, "floor_images": 160}
    known = {"data": kind, "dataset": "rsna", "finding": "lung_opacity", "confidence": 0.95, "weights_sha256": "0"}
    write_json(folder / "explain.json", example(Explained, **known, **counts, methods=methods))
    if kind == "phantom":
        xray_grid(rng, 8).convert("RGB").crop((0, 0, 192, 96)).save(folder / "examples.png")


def adgm_runs(held_out: pd.DataFrame, rng: np.random.Generator, labels: list[int]) -> dict:
    runs = {}
    for classes in (2, 3):
        label = held_out["class_name"].map(CLASSES.index).to_numpy()
        label = label if classes == 3 else (label == 2).astype(int)
        for n in labels:
            for variant, draw in ((v, d) for v in VARIANTS for d in (0, 1)):
                table = held_out[["image_id", "patient_id", "split"]].assign(label=label)
                for which in ("last", "best"):
                    skill = 1 + n / 100 + (variant == "corrected") * 0.4
                    logits = rng.normal(size=(len(label), classes)) + skill * np.eye(classes)[label]
                    prob = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
                    for i in range(classes):
                        table[f"prob_{which}.{i}"] = prob[:, i]
                runs[Run(variant, classes, n, draw)] = table
    return runs


def _adgm(root: Path, rng: np.random.Generator, one: Run) -> None:
    name, e, classes, labels = one.name, np.arange(1, 21), one.classes, one.labels
    history = {"epoch": e}
    for part in ("train", "valid"):
        history |= {f"{part}_{key}": 2 + 1 / e + 0.05 * rng.random(20) for key in ("L", "U", "ce", "J")}
        history[f"{part}_acc"] = 0.8 - 0.3 / e
    facts = {"classes": classes, "labels": labels, "n_labelled": classes * labels, "n_unlabelled": 500, "alpha": 3.0}
    if one.variant in FITTED:
        del facts["alpha"]
        write_json(root / "models/adgm" / name / "model.json", example(Fitted, **facts))
        write_table(root / "adgm" / name / "history.csv", pd.DataFrame({"candidate": [0.1, 1.0], "loss": [0.6, 0.5]}))
        return
    write_json(root / "models/adgm" / name / "model.json", example(Model, **facts, best_epoch=17, epochs=20, size=113))
    if one.variant in CONTROLS:
        write_table(root / "adgm" / name / "history.csv", pd.DataFrame({"epoch": e, "train_ce": 1 / e}))
        return
    history |= {"KL_z": 5 - 5 / e, "KL_a": 3 - 2 / e, "active_z": e // 3, "active_a": e // 4, "temperature": e / 20}
    write_table(root / "adgm" / name / "history.csv", pd.DataFrame(history))
    if one.variant not in GENERATIVE:
        return
    rows = [np.hstack([np.asarray(xray_grid(rng, 4))[:64, :64]] * 6) for _ in range(classes)]
    Image.fromarray(np.vstack(rows)).save(root / "adgm" / name / "samples.png")
    read = {"agreement": 0.75, "samples": 100 * classes, "real": 0.8125, "real_n": 180, "reader_images": 720}
    write_json(root / "adgm" / name / "samples.json", example(Samples, **read))


def arguments(run: Artefacts, root: Path, **changed) -> list[str]:
    """The stage's command line for one finding and one ADGM of this run, writing below root."""
    options = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "trainers"}
    options |= {"findings": ["pneumonia"], "generators": ["pneumonia"], "classes": [2], "labels": [50]}
    options |= {"variants": ["corrected"], "draws": [0], "params": run.evaluate.with_name("params.yaml")}
    options |= {"out": root / "report.html", "tables": root / "tables", "previews": root / "figures"}
    options |= {"documents": root / "documents"} | changed
    options |= {name: options[name].parent for name in ("gan", "fidelity")} | {"balanced": run.balanced.parents[1]}
    words = []
    for key, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{key}", str(one)]
    return words


MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """What a browser would load or run, the text, and the ids with the links to them."""

    def __init__(self, html: str):
        super().__init__()
        self.loads, self.tags, self.words, self.ids, self.links = [], [], [], set(), set()
        self.feed(html)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "srcset", "poster", "data", "action") and not value.startswith("#"):
                self.loads.append(value)
            if name == "href" and value.startswith("#"):
                self.links.add(value[1:])
            if name == "id":
                self.ids.add(value)
            assert not name.startswith("on"), (tag, name)

    def handle_data(self, data):
        if self.tags[-1:] != ["style"]:
            self.words.append(data)
