"""The report on a fabricated run: everything that the other stages leave, in their formats, made in a second."""

import contextlib
import dataclasses
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from cxr import papers
from cxr.adgm.formats import Model, Samples
from cxr.adgm.variants import CONTROLS, Run
from cxr.audit import chexpert, rsna, sheet
from cxr.cohort import checks as doctor
from cxr.cohort import describe, splits
from cxr.cohort.policies import table as label_table
from cxr.core.files import write_json, write_table
from cxr.core.findings import CLASSES, FINDINGS, SLUGS, finding, slug
from cxr.data.formats import Manifest
from cxr.evaluation import classifiers
from cxr.evaluation import run as steps
from cxr.fidelity.formats import Fidelity
from cxr.report import page
from cxr.report.compose import gather, parameters, write
from cxr.report.inputs import Artefacts
from cxr.report.sections.adgm import adgm
from cxr.report.sections.audit import audit as section_audit
from cxr.report.sections.classifiers import baseline, final, gan
from cxr.report.sections.data import data
from cxr.report.sections.fidelity import fidelity
from cxr.report.sections.labels import labels as labels_section
from cxr.synthesis.formats import Plan
from stages.cli import main
from stages.report import run as stage
from tests.make import example

POLICIES, RARE, LABELS = ["u_zeroes", "u_ones"], ["pneumonia", "lung_lesion", "consolidation"], [50, 200]
VARIANTS = ["corrected", "no_z", "supervised"]
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


def rsna_records(rng: np.random.Generator, patients: int = 900) -> pd.DataFrame:
    chosen = rng.choice(3, patients, p=[0.25, 0.4, 0.35])
    rows = [
        {key: f"r{i:04d}" for key in ("image_id", "patient_id", "study_id", "path")}
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


def fabricate(root: Path, kind: str = "phantom", labels: list[int] = LABELS, rare: list[str] = RARE) -> dict:
    """A whole run's artefacts below `root`; returns the report stage's options."""
    rng = np.random.default_rng(0)
    xpert, pneumonia = chexpert_records(rng), rsna_records(rng)
    summary = {s: describe.summary_chexpert(xpert[xpert["official_split"] == s]) for s in ("train", "valid")}
    train = xpert[xpert["official_split"] == "train"]
    checks = [doctor.chexpert(xpert).assign(dataset="chexpert"), doctor.rsna(pneumonia).assign(dataset="rsna")]
    write_json(root / "explore/summary.json", {"chexpert": summary, "rsna": describe.summary_rsna(pneumonia)})
    write_table(root / "explore/table1.csv", describe.beside_paper(describe.table1(train)))
    write_table(root / "explore/age_by_sex.csv", describe.ages(train))
    write_table(root / "explore/checks.csv", pd.concat(checks))
    write_table(root / "explore/rsna_classes.csv", describe.rsna_classes(pneumonia))
    why = {name: sheet.standing(name, 5, kind) for name in papers.DATASETS}
    sheets = chexpert.sheet(None, why["chexpert"]), rsna.sheet(None, why["rsna"])
    write_table(root / "audit/audit.csv", sheet.table(*sheets))
    write_table(
        root / "audit/data.csv", pd.DataFrame({"dataset": why.keys(), "kind": kind, "n": 5, "why": why.values()})
    )
    for name, records in (("chexpert", xpert), ("rsna", pneumonia)):
        write_json(root / name / "manifest.json", example(Manifest, kind=kind, images=len(records)))
        path = "train/patient00009/view1.jpg"
        rejected = pd.DataFrame({"image_id": ["x"], "path": [path], "reason": [f"{path}: not <script>JPEG</script>"]})
        write_table(root / "stores" / name / "rejected.csv", rejected)
        split = splits.chexpert(records, by="patient", test_images=250, seed=0) if name == "chexpert" else None
        split = splits.rsna(records, by="patient", valid_share=0.2, seed=0) if split is None else split
        info = splits.summary(split, records, by="patient", min_positives=5, sha256="0")
        write_json(root / "splits" / name / "split.json", info)
        if name == "chexpert":
            truth = label_table(records, split, "u_zeroes")
        else:
            held_out = split[split["split"] == "valid"].merge(records[["image_id", "class_name"]], on="image_id")

    settings = classifiers.Settings(replicates=60, min_positives=5)
    models = {p: predictions(truth, rng, 1.2) for p in POLICIES} | {"final": predictions(truth, rng, 1.5)}
    runs = adgm_runs(held_out, rng, labels)
    train = truth[truth["split"] == "train"]
    mix, question = steps.policies({p: models[p] for p in POLICIES}, "u_zeroes", settings)
    named = [finding(name) for name in rare]
    people = steps.Records("records", xpert), steps.Records("records", pneumonia)
    results = [
        steps.classifiers(models, mix, dict.fromkeys(models, train), people[0], "u_zeroes", named, settings),
        question,
        steps.adgm(runs, people[1], split, settings),
    ]
    for name, table in ((name, table) for result in results for name, table in result.tables.items()):
        write_table(root / "evaluate" / f"{name}.csv", table)
    write_json(root / "metrics.json", results[0].metrics | results[2].metrics)

    epochs = np.arange(1, 4)
    for k, name in enumerate([*(f"baseline/{p}" for p in POLICIES), "final"]):
        history = {"epoch": epochs, "train_loss": 0.5 / epochs + 0.02 * k, "valid_loss": 0.55 / epochs**0.8 + 0.02 * k}
        write_table(
            root / "history" / f"{name}.csv",
            pd.DataFrame(history | {"valid_macro_auc": 0.6 + 0.06 * epochs - 0.01 * k}),
        )
    for name in rare:
        e = np.arange(1, 41)
        curves = {"epoch": e, "loss_d": 0.7 + 0.2 * rng.random(40), "loss_g": 2 - 0.02 * e + 0.4 * rng.random(40)}
        curves |= {"d_real": 0.7 + 0.05 * rng.random(40), "d_fake": 0.3 + 0.05 * rng.random(40)}
        looked = np.where((e == 1) | (e % 10 == 0), 1.0, np.nan)
        curves |= {"kid": looked * (0.5 + (e - 30) ** 2 / 100), "diversity": looked * e / 50}
        write_table(root / "gan" / name / "history.csv", pd.DataFrame(curves))
        kept = {"mode": "per_finding", "select": "kid", "average": 0.99, "epoch": 30, "epochs": 90, "kept_back": 20}
        kept |= {"stopped_at": 40, "why": "no better KID in 1 looks"}
        write_json(root / "gan" / name / "kept.json", kept)
        xray_grid(rng, 6).save(root / "gan" / name / "real.png")
        for epoch in (1, 10, 20, 30, 40):
            xray_grid(rng, 90 / epoch + 8).save(root / "gan" / name / f"grid-{epoch:04d}.png")
        fabricate_fidelity(root / "fidelity" / name, rng)
    parts = {
        "positives": 90,
        "generated": 160,
        "prevalence_before": 0.05,
        "prevalence_after": 0.1,
        "gan_images": 80,
        "gan_epochs": 40,
    }
    plan = {"target_prevalence": 0.1, "labels": "masked", "train_images": 900, "synthetic_images": 480}
    write_json(root / "balanced/plan.json", example(Plan, **plan, findings={name: parts for name in rare}))
    for one in runs:
        fabricate_adgm(root, rng, one)
    params = {
        "policies": POLICIES,
        "evaluate": {"confidence": 0.95, "replicates": 60},
        "gan": {"epochs": 40, "x": "<b>&"},
    }
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    folders = ("explore", "audit", "chexpert", "rsna", "splits", "stores", "history", "gan", "fidelity", "adgm")
    folders += ("models", "evaluate")
    options = {name: root / name for name in folders} | {
        "balanced": root / "balanced/plan.json",
        "metrics": root / "metrics.json",
    }
    lists = {
        "policies": POLICIES,
        "findings": rare,
        "generators": rare,
        "arms": [],
        "seeds": [0],
        "classes": [2, 3] if labels else [],
        "labels": labels,
        "variants": VARIANTS,
        "draws": [0, 1],
    }
    return options | lists | {"final_policy": "u_zeroes", "params": params}


def fabricate_fidelity(folder: Path, rng: np.random.Generator) -> None:
    spread = {"mean": 0.25, "low": 0.125, "high": 0.375}
    metadata = {"mean": 0.0, "low": -0.0625, "high": 0.0625}
    measured = {"generated": spread, "floor": metadata, "difference": spread, "told_apart": True}
    space = {"generated_median": 4.5, "held_out_median": 4.0, "duplicates": 0.025, "held_out_duplicates": 0.0}
    space |= {"membership_auc": 0.52, "membership_low": 0.41, "membership_high": 0.63}
    told = {"duplicates": 0.025, "duplicates_low": 0.007, "duplicates_high": 0.087}
    counts = {"real": 80, "patients": 60, "generated": 80, "held_out": 20, "held_out_patients": 18, "half": 40}
    counts |= {"replicates": 100, "scales": 2}
    quality = {name: measured for name in ("fid", "kid", "precision", "recall", "ms_ssim")}
    told |= {"spaces": {"features": space, "pixels": space}}
    write_json(
        folder / "fidelity.json",
        example(Fidelity, **counts, features="classifier", quality=quality, memorisation=told),
    )
    xray_grid(rng, 8).crop((0, 0, 256, 64)).save(folder / "worst_pairs.png")


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


def fabricate_adgm(root: Path, rng: np.random.Generator, one: Run) -> None:
    name, e, classes, labels = one.name, np.arange(1, 21), one.classes, one.labels
    history = {"epoch": e}
    for part in ("train", "valid"):
        history |= {f"{part}_{key}": 2 + 1 / e + 0.05 * rng.random(20) for key in ("L", "U", "ce", "J")}
        history[f"{part}_acc"] = 0.8 - 0.3 / e
    facts = {"classes": classes, "labels": labels, "n_labelled": classes * labels, "n_unlabelled": 500, "alpha": 3.0}
    write_json(root / "models/adgm" / name / "model.json", example(Model, **facts, best_epoch=17, epochs=20, size=113))
    if one.variant in CONTROLS:
        write_table(root / "adgm" / name / "history.csv", pd.DataFrame({"epoch": e, "train_ce": 1 / e}))
        return
    history |= {"KL_z": 5 - 5 / e, "KL_a": 3 - 2 / e, "active_z": e // 3, "active_a": e // 4, "temperature": e / 20}
    write_table(root / "adgm" / name / "history.csv", pd.DataFrame(history))
    rows = [np.hstack([np.asarray(xray_grid(rng, 4))[:64, :64]] * 6) for _ in range(classes)]
    Image.fromarray(np.vstack(rows)).save(root / "adgm" / name / "samples.png")
    read = {"agreement": 0.75, "samples": 100 * classes, "real": 0.8125, "real_n": 180, "reader_images": 720}
    write_json(root / "adgm" / name / "samples.json", example(Samples, **read))


def arguments(run: Artefacts, root: Path, **changed) -> list[str]:
    """The stage's command line for one finding and one ADGM of this run, writing below root."""
    options = {f.name: getattr(run, f.name) for f in dataclasses.fields(run) if f.name != "trainers"}
    options |= {
        "findings": ["pneumonia"],
        "generators": ["pneumonia"],
        "classes": [2],
        "labels": [50],
        "variants": ["corrected"],
        "draws": [0],
        "params": run.metrics.with_name("params.yaml"),
    }
    options |= {"out": root / "report.html", "tables": root / "tables", "previews": root / "figures"} | changed
    words = []
    for key, value in options.items():
        for one in value if isinstance(value, list) else [value]:
            words += [f"--{key}", str(one)]
    return words


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(artefacts, what the stage said, the page, the folder of everything written) of one run of the stage."""
    root = tmp_path_factory.mktemp("run")
    artefacts = Artefacts(**fabricate(root, labels=[50]))
    with contextlib.redirect_stdout(io.StringIO()) as said, pytest.raises(SystemExit) as end:
        main(stage, arguments(artefacts, root))
    assert end.value.code == 0
    return artefacts, said.getvalue(), (root / "report.html").read_text(encoding="utf-8"), root


@pytest.fixture(scope="module")
def small(made):
    """The same run with every optional list empty."""
    return dataclasses.replace(made[0], findings=[], classes=[], labels=[])


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


def test_self_contained(made):
    assert made[1].startswith(f"report: {made[3] / 'report.html'} (")
    found = Page(made[2])
    assert made[2].startswith("<!DOCTYPE html>")
    assert len(found.loads) == 18 and all(v.startswith("data:image/") for v in found.loads)
    assert not {"script", "link", "iframe", "object", "base", "form"} & set(found.tags)
    assert not re.search(r"url\(|@import", made[2])
    assert found.links <= found.ids
    assert "built-in method" not in found.text  # a template that names a dict's method


def test_what_came_from_data_is_escaped(made):
    assert "not &lt;script&gt;JPEG&lt;/script&gt;" in made[2] and "&lt;b&gt;&amp;" in made[2]
    assert "<script" not in made[2]


MARKUP = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_markup_in_every_text_of_the_data_is_text(small, tmp_path):
    """Paths, reasons, a doctor's remarks, classes, sources, parameters."""
    names = ("explore", "audit", "stores", "splits", "chexpert")
    run = dataclasses.replace(small, **{name: tmp_path / name for name in names})
    for name in names:
        shutil.copytree(getattr(small, name), tmp_path / name)
    for file in (run.explore / "checks.csv", run.explore / "rsna_classes.csv", *run.stores.rglob("rejected.csv")):
        table = pd.read_csv(file)
        for column in table.select_dtypes(exclude="number"):
            if column != "severity":
                table[column] = MARKUP
        table.assign(path="a.jpg").to_csv(file, index=False)
    texts = dict.fromkeys(("place", "quantity", "stated", "says", "recomputed", "reason"), MARKUP)
    pd.read_csv(run.audit / "audit.csv").assign(**texts).to_csv(run.audit / "audit.csv", index=False)
    pd.read_csv(run.audit / "data.csv").assign(why=MARKUP).to_csv(run.audit / "data.csv", index=False)
    table1 = pd.read_csv(run.explore / "table1.csv").assign(remark=MARKUP)
    table1.to_csv(run.explore / "table1.csv", index=False)
    write_json(run.chexpert / "manifest.json", example(Manifest, kind=MARKUP))
    about = json.loads((run.splits / "rsna" / "split.json").read_text())
    about["splits"]["train"]["classes"] = {MARKUP: 3}
    about["by"] = MARKUP
    write_json(run.splits / "rsna" / "split.json", about)
    run = dataclasses.replace(run, params={MARKUP: {MARKUP: MARKUP}})
    html = page.render(gather(run) | {"tables": MARKUP})
    found = Page(html)  # which also refuses every on... attribute
    assert not {"script"} & set(found.tags) and all(v.startswith("data:image/") for v in found.loads)
    assert found.text.count("<script>alert(1)</script>") > 8
    audited = found.text[found.text.index("The papers\u2019 own numbers Do") :]
    assert audited.count("<script>alert(1)</script>") > 6 * 12


def edited(path: Path, change) -> None:
    if path.suffix == ".json":
        value = json.loads(path.read_text())
        path.write_text(json.dumps(change(value)))
    else:
        change(pd.read_csv(path)).to_csv(path, index=False)


def without(key):
    return lambda value: {k: v for k, v in value.items() if k != key}


def better(value):
    value["final"]["macro_auc"]["auc"] = 0.999
    return value


@pytest.mark.parametrize(
    ("option", "file", "change", "message"),
    [
        ("metrics", "", better, "final.macro_auc.auc is 0.999 but"),
        (
            "metrics",
            "",
            lambda v: v | {"final": {"macro_auc": {"auc": math.nan}}},
            "final.macro_auc.auc is nan; it should be a finite number; `dvc repro -f evaluate`",
        ),
        ("metrics", "", lambda v: [v], "; it should be an object; `dvc repro -f evaluate`"),
        ("metrics", "", lambda v: v | {"final": 3}, "final is 3; it should be an object; `dvc repro -f evaluate`"),
        (
            "metrics",
            "",
            lambda v: v | {"baseline": {"u_x": v["final"]}},
            "auc.csv has no such row; `dvc repro -f evaluate`",
        ),
        ("explore", "summary.json", without("rsna"), "'rsna' is missing; `dvc repro -f explore`"),
        ("splits", "rsna/split.json", without("by"), "'by' is missing; `dvc repro -f split@rsna`"),
        ("chexpert", "manifest.json", without("kind"), "'kind' is missing; `dvc repro -f download@chexpert`"),
        ("evaluate", "auc.csv", lambda t: pd.concat([t, t[:1]]), "stands twice; `dvc repro -f evaluate`"),
        ("evaluate", "auc.csv", lambda t: t[t["finding"] != "Edema"], "no row of ('u_zeroes', 'Edema'); `dvc repro -f"),
        ("evaluate", "auc.csv", lambda t: t.assign(auc=1.5), "auc.csv line 2: auc is 1.5; `dvc repro -f evaluate`"),
        ("evaluate", "compare.csv", lambda t: t.assign(p="low"), "compare.csv line 2: p is low; `dvc repro -f"),
        ("evaluate", "compare.csv", lambda t: t[1:], "compare.csv: no row of No Finding; `dvc repro -f evaluate`"),
    ],
)
def test_what_was_edited_by_hand_is_one_line(small, tmp_path, option, file, change, message):
    source = getattr(small, option)
    copy = tmp_path / source.name
    (shutil.copytree if source.is_dir() else shutil.copy2)(source, copy)
    edited(copy / file if file else copy, change)
    with pytest.raises(ValueError) as error:
        gather(dataclasses.replace(small, **{option: copy}))
    assert message in str(error.value) and str(copy) in str(error.value)


def test_no_patient_no_path(made):
    root = made[3]
    written = [made[2], *(p.read_text() for p in (root / "tables").iterdir())]
    for text in written:
        assert "patient0" not in text and "view1" not in text and str(root) not in text


def test_phantom_banner_only_for_phantoms(made, small, tmp_path):
    assert "Drawn, not taken." in made[2] and "CheXpert and RSNA 2018 are the phantom cohort" in Page(made[2]).text
    for name in ("chexpert", "rsna"):
        write_json(tmp_path / name / "manifest.json", example(Manifest, kind="zip"))
    assert data(dataclasses.replace(small, chexpert=tmp_path / "chexpert"))["phantoms"] == ["RSNA 2018"]
    real = dataclasses.replace(small, chexpert=tmp_path / "chexpert", rsna=tmp_path / "rsna")
    text = Page(page.render(gather(real) | {"tables": "tables"})).text
    assert "Drawn, not taken." not in text and "X-rays read from a zip source" in text


def test_empty_lists_are_empty_sections_and_the_same_bytes_each_time(small, tmp_path):
    for part in ("a", "b"):
        context = gather(small)
        write(context, tmp_path / part / "report.html", tmp_path / part / "tables", tmp_path / part / "figures")
    assert context["adgm"]["answers"] == context["final"]["answers"] == context["gan"]["findings"] == []
    assert (tmp_path / "a/report.html").read_bytes() == (tmp_path / "b/report.html").read_bytes()
    assert "No ADGM was asked for" in (tmp_path / "a/report.html").read_text()
    assert not (tmp_path / "a/tables/adgm.csv").exists()


def test_every_table_is_a_csv_with_its_n(made):
    names = {p.stem for p in (made[3] / "tables").iterdir()}
    assert names == set(re.findall(r'id="table-(\w+)"', made[2]))
    assert names >= {"table1", "table2", "table3", "adgm", "balance", "splits", "positives", "cohort", "audit"}
    assert names >= {"floor", "floor_views", "floor_rsna", "brier", "calibration"}
    assert names >= {"operating", "subgroups", "subgroups_rare"}
    for name in ("table1", "table2", "table3", "adgm", "balance", "checks", "rejected", "fidelity"):
        assert {"n", "count"} & set(pd.read_csv(made[3] / "tables" / f"{name}.csv")), name


def test_the_adgms_table_starts_with_what_metadata_alone_gets(made):
    ours = pd.read_csv(made[3] / "tables/adgm.csv")
    theirs = pd.read_csv(made[3] / "evaluate/adgm_floor.csv").query("labels.isna() and view == 'all'")
    assert (ours["task"][0], ours["variant"][0]) == ("2 classes", "sex, age and view alone")
    assert ours["macro_auc"][0] == pytest.approx(theirs.query("classes == 2")["auc"].item())


def test_every_auc_stands_beside_metadatas_and_every_gain_beside_the_least_detectable(made):
    tables = {name: pd.read_csv(made[3] / f"tables/{name}.csv") for name in ("table2", "table3", "floor")}
    auc = pd.read_csv(made[3] / "evaluate/auc.csv").query("split == 'test' and model == 'floor_u_zeroes'")
    for name, column in (("table2", "floor_u_zeroes"), ("table3", "floor"), ("floor", "floor")):
        assert np.allclose(tables[name][column], auc["auc"], equal_nan=True), name
    least = tables["table3"]["detectable"]
    width = tables["table3"]["difference_high"] - tables["table3"]["difference_low"]
    # Both come from the same replicates: 2.80 standard errors beside an interval of about 3.92.
    assert (least.isna() == width.isna()).all() and (least / width).dropna().between(0.5, 1.0).all()


def test_table3_says_what_evaluate_found(made):
    ours = pd.read_csv(made[3] / "tables/table3.csv").set_index("finding")
    theirs = pd.read_csv(made[3] / "evaluate/compare.csv").set_index("finding")
    assert list(ours.index[:-1]) == list(FINDINGS)
    for column, source in (("difference", "difference"), ("difference_low", "low"), ("p", "p"), ("p_holm", "p_holm")):
        assert np.allclose(ours[column][:-1], theirs.loc[list(FINDINGS), source], equal_nan=True), column
    assert ours["paper_final"].dropna().to_dict() == {"Lung Lesion": 0.75, "Consolidation": 0.73, "Pneumonia": 0.79}
    assert "n/a \u2014 0 positives" in Page(made[2]).text  # the fracture that no test image has


def test_generated_xrays_are_judged_in_a_sentence_and_two_tables(made):
    text = Page(made[2]).text
    assert (
        "Pneumonia: KID 0.25 [0.12, 0.38] against 0.00 [\u22120.06, 0.06] between real X-rays: "
        "worse than real ones ; duplicates of training X-rays 2.5 % [0.7, 8.7 %] 80 generated, 80 real of 60 "
        "patients in halves of 40, 20 held out"
    ) in text
    quality = pd.read_csv(made[3] / "tables/fidelity.csv")
    assert len(quality) == 5 and set(quality["n"]) == {40} and set(quality["floor_high"]) == {0.0625}
    memory = pd.read_csv(made[3] / "tables/memorisation.csv")
    assert set(memory["space"]) == {"features", "pixels"} and set(memory["membership_low"]) == {0.41}


def test_what_could_not_be_judged_of_generated_xrays_is_said(made, tmp_path):
    run = dataclasses.replace(made[0], findings=["pneumonia"], fidelity=tmp_path)
    shutil.copytree(made[0].fidelity / "pneumonia", tmp_path / "pneumonia")
    path = tmp_path / "pneumonia/fidelity.json"
    found = json.loads(path.read_text()) | {"quality": {}, "half": 0}
    found["memorisation"] = dict.fromkeys(("duplicates", "duplicates_low", "duplicates_high")) | {"spaces": {}}
    write_json(path, found)
    html = page.render(gather(made[0]) | {"fidelity": fidelity(run), "tables": "tables"})
    said = "too few patients for two halves : not known ; duplicates of training X-rays n/a \u2014 no held-out X-ray"
    assert said in Page(html).text
    assert "1,024 before the last layer" in Page(html).text and "Inception" not in Page(html).text
    write_json(path, found | {"features": "inception"})
    html = page.render(gather(made[0]) | {"fidelity": fidelity(run), "tables": "tables"})
    assert "2,048 pooled ones of Inception v3" in Page(html).text and "1,024 before" not in Page(html).text
    write_json(path, found | {"features": "eyes"})
    with pytest.raises(
        ValueError, match="features is 'eyes'; it should be .*; `dvc repro -f fidelity@pneumonia` makes it"
    ):
        fidelity(run)
    found["memorisation"]["duplicates"] = "few"
    write_json(path, found)
    with pytest.raises(
        ValueError, match=r"memorisation.duplicates is .*a valid number; `dvc repro -f fidelity@pneumonia`"
    ):
        fidelity(run)


def test_a_groups_calibration_gap_is_on_the_page(made):
    theirs = pd.read_csv(made[3] / "evaluate/subgroups.csv").query("model == 'final' and finding == 'macro'")
    gaps = theirs.query("attribute != 'all'")["offset_gap"]
    ours = pd.read_csv(made[3] / "tables/subgroups.csv")
    assert np.allclose(ours["offset_gap"][1:], gaps, equal_nan=True) and gaps.notna().sum() > 3
    assert page.number(gaps.iloc[0], "difference") in Page(made[2]).text


def test_the_label_question_has_an_answer_a_picture_and_tables(made):
    run, _, html, root = made
    pairs = pd.read_csv(run.evaluate / "policies.csv").query("finding == 'macro'").set_index("policy")
    change = page.cell(page.Estimate(*pairs.loc["u_ones", ["difference", "low", "high"]]), "difference")
    assert f"U-Ones instead of U-Zeroes: macro AUC changed by {change}" in html
    assert html.count("Does the policy for uncertain labels matter?") == 2
    table = pd.read_csv(root / "tables/policies.csv")
    assert table["policy"].tolist() == ["U-Zeroes", "U-Ones", "Best of each finding"]
    assert table["difference"].isna().tolist() == [True, False, False]
    choice = pd.read_csv(root / "tables/best_of.csv").set_index("finding")
    taken = pd.read_csv(run.evaluate / "best_of.csv").set_index("finding")
    assert choice.loc["Edema", "taken"] == {"u_zeroes": "U-Zeroes", "u_ones": "U-Ones"}[taken.loc["Edema", "policy"]]
    assert choice.loc["Fracture", "taken"] == "U-Zeroes, by default"  # without a positive
    auc = pd.read_csv(run.evaluate / "auc.csv").query("split == 'test' and model == 'best_of'").set_index("finding")
    assert choice.loc["Edema", "test"] == pytest.approx(auc.loc["Edema", "auc"])


def test_a_policys_gain_is_said_to_be_of_one_training(made, tmp_path):
    run = dataclasses.replace(made[0], evaluate=tmp_path / "evaluate")
    shutil.copytree(made[0].evaluate, run.evaluate)
    table = pd.read_csv(run.evaluate / "policies.csv")
    at = (table["policy"] == "u_ones") & (table["finding"] == "macro")
    for p_holm, said, shown in (
        (0.01, "a gain, between one training of each", 1),
        (0.2, "a gain, but not after the correction for testing every policy, between one training of each", 0),
    ):
        table.loc[at, ["difference", "low", "high", "p_holm"]] = [0.05, 0.02, 0.08, p_holm]
        table.loc[(table["policy"] == "best_of") & (table["finding"] == "macro"), "low"] = -1.0
        table.to_csv(run.evaluate / "policies.csv", index=False)
        found = labels_section(run)
        assert (found["answers"][0]["verdict"], found["shown"]) == (said, shown)


def test_one_policy_asks_no_label_question(made, tmp_path):
    run = dataclasses.replace(made[0], policies=["u_zeroes"], evaluate=tmp_path / "evaluate")
    shutil.copytree(made[0].evaluate, run.evaluate)
    for name in ("policies.csv", "best_of.csv"):
        (run.evaluate / name).unlink()
    assert labels_section(run) is None
    html = page.render(gather(made[0]) | {"labels": None, "tables": "tables"})
    assert "Does the policy for uncertain labels matter?" not in html


def test_previews(made):
    names = {p.name for p in (made[3] / "figures").iterdir()}
    assert names == {"roc.png", "final_roc.png", "differences.png", "reliability.png", "adgm_accuracy.png", "gan.png"}
    for name in names:
        with Image.open(made[3] / "figures" / name) as picture:
            assert min(picture.size) > 90


@pytest.mark.parametrize(
    "section, option, file, cure",
    [
        (baseline, "evaluate", "auc.csv", "dvc repro evaluate"),
        (baseline, "history", "baseline/u_zeroes.csv", "dvc repro baseline@u_zeroes"),
        (labels_section, "evaluate", "policies.csv", "dvc repro evaluate"),
        (gan, "gan", "pneumonia", "dvc repro -f gan@pneumonia"),
        (fidelity, "fidelity", "pneumonia/fidelity.json", "dvc repro fidelity@pneumonia"),
        (final, "evaluate", "auc.csv", "dvc repro evaluate"),
        (adgm, "adgm", "corrected-2-50-0/history.csv", "dvc repro adgm@corrected-2-50-0"),
        (adgm, "models", "adgm/corrected-2-50-0/model.json", "dvc repro adgm@corrected-2-50-0"),
        (data, "splits", "chexpert/split.json", "dvc repro split@chexpert"),
        (data, "stores", "chexpert/rejected.csv", "dvc repro resize@chexpert"),
        (data, "explore", "summary.json", "dvc repro explore"),
        (section_audit, "audit", "audit.csv", "dvc repro audit"),
    ],
)
def test_a_missing_file_is_named_with_its_cure(made, tmp_path, section, option, file, cure):
    with pytest.raises(ValueError) as error:
        section(dataclasses.replace(made[0], **{option: tmp_path}))
    assert str(tmp_path / file) in str(error.value) and cure in str(error.value)


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"final_policy": "u_ignore"}, "'u_ignore' is none of the policies trained (u_zeroes, u_ones)"),
        ({"findings": ["measles"]}, "unknown finding 'measles'"),
        ({"params": "absent.yaml"}, "absent.yaml"),
        ({"explore": "gone"}, "`dvc repro explore` makes it"),
    ],
)
def test_bad_input_is_one_line_and_the_old_report_stays(made, tmp_path, capsys, changed, message):
    (tmp_path / "report.html").write_text("old")
    with pytest.raises(SystemExit) as end:
        main(stage, arguments(made[0], tmp_path, **changed))
    said = capsys.readouterr().err
    assert end.value.code == 1 and message in said and len(said.splitlines()) == 1
    assert (tmp_path / "report.html").read_text() == "old" and not (tmp_path / "tables").exists()


def test_parameters_are_flat_and_in_words():
    found = parameters({"seed": 3, "gan": {"deep": {"a": [1, 2]}, "flip": False, "weights": None}})
    assert found == [("", [("seed", "3")]), ("gan", [("deep.a", "1, 2"), ("flip", "no"), ("weights", "none")])]
