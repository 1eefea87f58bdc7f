"""The report's sections on CheXpert: the baseline classifier, the generated X-rays, the final classifier.

Each function returns the names that cxr/template.html.j2 uses under its section. No number is computed here that
another
stage computes: this file picks, joins and words.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from cxr import papers
from cxr.core.files import read_json
from cxr.core.findings import FINDINGS, finding, slug
from cxr.evaluation.names import POLICIES
from cxr.gan import generators
from cxr.report import figures
from cxr.report.inputs import Artefacts, Rows, csv, image
from cxr.report.page import Column, Estimate, Picture, Table, data_uri, number, xray_uri
from cxr.report.sections.gan import kept
from cxr.synthesis.formats import Plan

AUC = ("model", "finding", "split", "n", "positives", "negatives", "auc", "low", "high", "patients", "findings")
COMPARE = ("finding", "positives", "baseline", "final", "difference", "low", "high", "detectable", "p", "p_holm")
PRINTED = tuple(papers.POLICIES)  # the policies that the paper tried
GRID = 8  # tiles in a row of a sample grid, as cxr/gan/nets.py makes them
STRIP = 6  # grids in the strip over epochs


def policy_name(policy: str) -> str:
    return POLICIES.get(policy, policy)


def plot(figure: figures.Figure, caption: str, alt: str, width: int = 100) -> Picture:
    return Picture(caption, data_uri(figures.svg(figure), "svg+xml"), alt, width)


def too_few(row: dict) -> str:
    """'3 positives' or '1 negative', whichever is the fewer: why a row has no AUC."""
    kind = min(("positives", "negatives"), key=lambda k: row[k])
    return f"{row[kind]:.0f} {kind if row[kind] != 1 else kind[:-1]}"


def areas(run: Artefacts, split: str) -> tuple[pd.DataFrame, Rows]:
    """The AUCs of one split, as a table and by (model, finding)."""
    path = run.evaluate / "auc.csv"
    table = csv(path, "evaluate", AUC)
    table = table[table["split"] == split]
    return table, Rows(table, path, "evaluate", "model", "finding")


def named(row: dict) -> str:
    """The finding's name, or what its mean is over."""
    return f"Mean of {row['findings']:.0f} findings" if row["finding"] == "macro" else row["finding"]


def _why(row: dict) -> str:
    return "no finding has enough positives" if row["finding"] == "macro" else too_few(row)


def estimate(row: dict) -> Estimate:
    """A row's AUC with its interval, or why it has none."""
    return Estimate(row["auc"], row["low"], row["high"], _why(row))


def _roc(
    run: Artefacts, table: pd.DataFrame, models: dict[str, str], caption: str
) -> tuple[Picture | None, figures.Figure | None]:
    if not run.findings:
        return None, None
    curves = csv(run.evaluate / "roc.csv", "evaluate", ("model", "finding", "fpr", "tpr"))
    names = [finding(f) for f in run.findings]
    drawn = figures.roc(curves, table, names, models)
    return plot(drawn, caption, f"ROC curves of {', '.join(names)}", min(100, 34 * len(names))), drawn


def baseline(run: Artefacts) -> dict:
    """Table 2 and figures 4 and 5 of the paper: test AUC by label policy, ROC curves of the rare findings, training."""
    table, by = areas(run, "test")
    rows, answers = [], []
    for name in (*FINDINGS, "macro"):
        found = {p: by[p, name] for p in run.policies}
        one = found[run.final_policy]
        row = {"finding": named(one), "positives": one["positives"], "n": one["n"]}
        row |= {f"auc_{p}": estimate(r) for p, r in found.items()}
        row |= {f"floor_{p}": estimate(by[f"floor_{p}", name]) for p in run.policies}
        row |= {f"paper_{p}": papers.mean_auc(p) if name == "macro" else papers.TABLE_2[name][p] for p in PRINTED}
        rows.append(row)
        if name == "macro":
            answers = [{**r, "name": policy_name(p), "value": row[f"auc_{p}"]} for p, r in found.items()]
    columns = [
        Column("finding", "Finding"),
        Column("positives", "positive", "count", "test images"),
        Column("n", "n", "count", "test images"),
        *(Column(f"auc_{p}", policy_name(p), "auc", f"this run: AUC and {run.level} interval") for p in run.policies),
        *(Column(f"floor_{p}", policy_name(p), "auc", "sex, age and view alone") for p in run.policies),
        *(Column(f"paper_{p}", policy_name(p), "printed", "paper, 500 images") for p in PRINTED),
    ]
    notes = [
        "n counts the test images whose label of the finding is certain. In bold, the rare findings that X-rays are "
        "generated of. The paper prints no intervals and no means; the means of its columns are computed here.",
    ]
    roc, drawn = _roc(
        run,
        table,
        {p: policy_name(p) for p in run.policies},
        "Baseline ROC curves of the rare findings on the test images (the paper\u2019s Figures 4 and 5).",
    )
    histories = {policy_name(p): _history(run, f"baseline/{p}") for p in run.policies}
    histories["final"] = _history(run, "final")
    return {
        "table": Table(
            "table2",
            "Test AUC of the baseline classifier by label policy (the paper\u2019s Table 2)",
            columns,
            rows,
            notes,
            [*(finding(f) for f in run.findings), rows[-1]["finding"]],
        ),
        "answers": answers,
        "roc": roc,
        "roc_figure": drawn,
        "training": plot(
            figures.training(histories),
            "Training of the baselines and of the final classifier. The state of the best validation AUC is kept.",
            "Training loss, validation loss and validation macro AUC by epoch",
        ),
    }


def _history(run: Artefacts, name: str) -> pd.DataFrame:
    columns = ("epoch", "train_loss", "valid_loss", "valid_macro_auc")
    policy = name.removeprefix("baseline/")
    stage = run.trainers.get(policy, name.replace("/", "@"))
    return csv(run.history / f"{name}.csv", stage, columns)


def _grids(folder: Path, stage: str) -> list[tuple[int, Path]]:
    """The sample grids of one GAN, (epoch, file), in the order of their epochs."""
    found = sorted((int(m[1]), p) for p in folder.glob("grid-*.png") if (m := re.fullmatch(r"grid-(\d+)\.png", p.name)))
    if not found:
        raise ValueError(f"{folder}: no sample grid (grid-0001.png and so on); `dvc repro -f {stage}` makes them")
    return found


def _tiles(grid: Image.Image, columns: int, rows: int) -> Image.Image:
    """The upper left tiles of a grid that is GRID tiles wide."""
    tile = grid.width // GRID
    return grid.crop((0, 0, columns * tile, min(rows * tile, grid.height)))


def _strip(grids: list[tuple[int, Path]], stage: str) -> Picture:
    """The same few z after up to STRIP epochs, side by side."""
    chosen = [grids[k] for k in np.unique(np.linspace(0, len(grids) - 1, STRIP).round().astype(int))]
    corners = [_tiles(image(path, stage), 2, 2) for _, path in chosen]
    whole = figures.beside(corners, *corners[0].size, max(2, corners[0].width // 20))
    epochs = ", ".join(f"{epoch:,}" for epoch, _ in chosen)
    text = f"The same noise, after epoch {epochs}."
    return Picture(text, xray_uri(whole, 1600), f"Generated X-rays after epoch {epochs}", xray=True)


def gan(run: Artefacts) -> dict:
    """Figures 6 and 7 of the paper and the plan of the balancing: real beside generated X-rays, losses, counts."""
    shown, histories, epochs, pair = [], {}, {}, None
    for generator in dict.fromkeys(generators.generator_of(name, run.generators) for name in run.findings):
        stage, folder = f"gan@{generator}", run.gan / generator
        name = ", ".join(map(finding, generators.members(generator)))
        grids = dict(_grids(folder, stage))
        epochs[name], text, histories[name] = kept(folder, stage)
        if epochs[name] not in grids:
            raise ValueError(f"{folder}: no grid of epoch {epochs[name]}; `dvc repro -f {stage}` makes it again")
        real, best = (_tiles(image(path, stage), 5, 3) for path in (folder / "real.png", grids[epochs[name]]))
        pair = pair or (real, best)
        made = f"Generated, after epoch {epochs[name]:,}"
        shown.append(
            {
                "name": name,
                "kept": text,
                "real": Picture("Real, training patients", xray_uri(real, 900), f"Real X-rays, {name}", 48, xray=True),
                "generated": Picture(made, xray_uri(best, 900), f"Generated X-rays, {name}", 48, xray=True),
                "strip": _strip(list(grids.items()), stage),
            }
        )
    losses = histories and plot(
        figures.gan(histories, epochs),
        "Losses of generator and discriminator (the paper\u2019s Figure 7), and below them the discriminator\u2019s "
        "mean answer on real and on generated X-rays. One half on both: neither is ahead, which also holds for a GAN "
        "that has learned nothing. Diversity: how much two generated X-rays differ, as a share of two real ones; near "
        "0 the generator makes one X-ray over and over. KID: against real X-rays that it was not trained on. Upright "
        "line: the epoch kept.",
        "GAN losses, diversity and KID by epoch",
        min(100, 45 * len(histories)),
    )
    return {"findings": shown, "losses": losses, "plan": _plan(run), "pair": pair}


def _planned(run: Artefacts) -> dict:
    plan = read_json(run.balanced, "balance", Plan)
    if lacking := [name for name in run.findings if slug(finding(name)) not in plan.findings]:
        raise ValueError(f"{run.balanced}: 'findings.{lacking[0]}' is missing; `dvc repro -f balance` makes it again")
    return plan.model_dump()


def _plan(run: Artefacts) -> Table:
    names, plan = [finding(name) for name in run.findings], _planned(run)
    rows = [{"finding": n, "n": plan["train_images"], **plan["findings"][slug(n)]} for n in names]
    columns = [
        Column("finding", "Finding"),
        Column("gan_images", "X-rays the GAN saw", "count"),
        Column("positives", "positive", "count", "real training images"),
        Column("n", "n", "count", "real training images"),
        Column("generated", "generated", "count"),
        Column("prevalence_before", "before", "share", "prevalence in training"),
        Column("prevalence_after", "after", "share", "prevalence in training"),
    ]
    total = plan["train_images"] + plan["synthetic_images"]
    notes = [
        f"After balancing n is {total:,}, {plan['synthetic_images']:,} of them generated. The target prevalence was "
        f"{number(plan['target_prevalence'], 'share')}; the other 13 labels of a generated X-ray are {plan['labels']}. "
        "The paper does not say how many it generated.",
    ]
    return Table("balance", "What balancing added to the training images", columns, rows, notes)


def verdict(row: dict, alpha: float) -> str:
    """What one comparison allows to say, in words. row: difference, low, high, p_holm; alpha: below which p_holm is
    significant.
    """
    if not all(map(math.isfinite, (row["low"], row["high"]))):
        return "could not be tested"
    if row["low"] <= 0 <= row["high"]:
        return "no difference shown"
    direction = "a gain" if row["difference"] > 0 else "a loss"
    return (
        direction if row["p_holm"] < alpha else f"{direction}, but not after the correction for testing every finding"
    )


def effect(row: dict, generated: int, alpha: float) -> str:
    """The verdict on what generated X-rays of a finding did: the interval is over patients, not over trainings."""
    said = verdict(row, alpha)
    if not said.startswith("a "):
        return said
    if not generated:
        return "two trainings differ; no X-ray of it was generated, so it tells how much trainings differ"
    return f"{said}, between one training of each"


def final(run: Artefacts) -> dict:
    """Table 3 and figure 8 of the paper for all 14 findings: baseline, final, their paired difference, p."""
    table, by = areas(run, "test")
    path = run.evaluate / "compare.csv"
    compare = Rows(csv(path, "evaluate", COMPARE), path, "evaluate", "finding")
    rare = [finding(f) for f in run.findings]
    rows, points = [], []
    for name in (*FINDINGS, "macro"):
        pair, before, after = compare[name], by[run.final_policy, name], by["final", name]
        printed = papers.TABLE_3.get(name)
        row = {"finding": named(after), "positives": after["positives"], "n": after["n"]}
        row |= {"baseline": estimate(before), "final": estimate(after)}
        row |= {"floor": estimate(by[f"floor_{run.final_policy}", name]), "detectable": pair["detectable"]}
        difference = Estimate(pair["difference"], pair["low"], pair["high"])
        row |= {"difference": difference, "p": pair["p"], "p_holm": pair["p_holm"]}
        row |= {"paper_baseline": printed and printed[0], "paper_final": printed and printed[1]}
        rows.append(row)
        known = math.isfinite(pair["difference"])
        shown = f"{number(pair['difference'], 'difference')}" if known else f"n/a \u2014 {_why(after)}"
        if known and math.isfinite(pair["p"]):
            shown += f"   p {number(pair['p'], 'p')}"
        count = "" if name == "macro" else f"  ({after['positives']:,.0f} of {after['n']:,.0f})"
        points.append(
            {"name": row["finding"] + count, "note": shown, "difference": pair["difference"], "low": pair["low"]}
            | {"high": pair["high"], "printed": printed[1] - printed[0] if printed else np.nan}
        )
    estimates = f"this run: AUC and {run.level} interval"
    columns = [
        Column("finding", "Finding"),
        Column("positives", "positive", "count", "test images"),
        Column("n", "n", "count", "test images"),
        Column("baseline", "baseline", "auc", estimates),
        Column("final", "final", "auc", estimates),
        Column("difference", "difference", "difference", estimates),
        Column("detectable", "detectable", "auc", estimates),
        Column("floor", "metadata alone", "auc", estimates),
        Column("p", "p", "p", "DeLong, paired"),
        Column("p_holm", "Holm", "p", "DeLong, paired"),
        Column("paper_baseline", "baseline", "printed", "paper"),
        Column("paper_final", "final", "printed", "paper"),
    ]
    drawn = figures.forest(pd.DataFrame(points))
    roc, roc_figure = _roc(
        run,
        table,
        {run.final_policy: "baseline", "final": "final", f"floor_{run.final_policy}": "metadata"},
        f"ROC curves of the rare findings, baseline and final under {policy_name(run.final_policy)} (the paper\u2019s "
        "Figure 8), and of sex, age and view alone.",
    )
    plan = _planned(run)["findings"]
    answers = [
        {
            "name": name,
            **compare[name],
            "n": by["final", name]["n"],
            "verdict": effect(compare[name], plan[slug(name)]["generated"], run.alpha),
        }
        | {"change": Estimate(*(compare[name][k] for k in ("difference", "low", "high")), _why(by["final", name]))}
        for name in rare
    ]
    return {
        "policy": policy_name(run.final_policy),
        "answers": answers,
        "forest": plot(
            drawn,
            f"Final less baseline, test AUC, with {run.level} intervals over patients. Blue: the interval is clear of "
            "zero, before any correction for testing every finding. Diamonds: the paper\u2019s differences, printed "
            "without intervals. In brackets, positives of n test images.",
            "Forest plot of the differences in AUC",
        ),
        "forest_figure": drawn,
        "table": Table(
            "table3",
            "Test AUC of baseline and final classifier (the paper\u2019s Table 3, here for every finding)",
            columns,
            rows,
            [
                "In bold, the rare findings that X-rays were generated of, which are all that the paper reports. "
                "Metadata alone: a logistic regression on sex, age and view, without a pixel. Detectable: the smallest "
                f"true difference that a test set like this one would have shown with power {run.power:g}, in one test "
                "at the level of the intervals; Holm\u2019s correction would ask for more.",
            ],
            rare,
        ),
        "roc": roc,
        "roc_figure": roc_figure,
    }
