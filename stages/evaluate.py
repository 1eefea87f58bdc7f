"""Tables and metrics from predictions and tables alone: AUCs, baseline against final, the metadata-only floor,
calibration, operating points, subgroups, ROC curves, the ADGM's accuracy, the study's control arms.

python -m stages.evaluate --predictions models/predictions --out reports/evaluate --metrics reports/metrics.json
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import instances_of, main


def run(
    predictions: Annotated[Path, Option(help="folder of the predictions")],
    records: Annotated[Path, Option(help="CheXpert's records: sex, age, view")],
    label_tables: Annotated[Path, Option(help="folder of the label tables that the baselines learnt from")],
    balanced: Annotated[Path, Option(help="the table that final learnt from")],
    rsna_records: Annotated[Path, Option(help="RSNA's records")],
    rsna_split: Annotated[Path, Option(help="RSNA's split")],
    metrics: Annotated[Path, Option(help="JSON for `dvc metrics`")],
    out: Annotated[Path, Option(help="folder of the tables")],
    policies: Annotated[list[str], Option(help="label policies that have a baseline")] = ("u_zeroes", "u_ones"),
    selftrained: Annotated[list[str], Option(help="[] or u_selftrained, trained on u_ignore's predictions")] = (),
    final_policy: Annotated[str, Option(help="of final, and of the baseline to compare")] = "u_zeroes",
    findings: Annotated[list[str], Option(help="findings named in the metrics")] = (
        "pneumonia",
        "lung_lesion",
        "consolidation",
    ),
    variants: Annotated[list[str], Option(help="the ADGM's variants and control arms; none: no ADGM")] = (),
    classes: Annotated[list[int], Option(min=2, max=3, help="the ADGM's tasks")] = (),
    labels: Annotated[list[int], Option(min=1, help="the ADGM's labels per class")] = (),
    draws: Annotated[list[int], Option(min=0, help="the draws of the ADGM's labels")] = (),
    arms: Annotated[list[str], Option(help="the study's control arms; none: no study")] = (),
    seeds: Annotated[list[int], Option(min=0, help="of the study: one training for each arm and seed")] = (0,),
    view: Annotated[
        Literal["frontal", "lateral", "all"], Option(help="the classifier's: training images that count")
    ] = "all",
    replicates: Annotated[int, Option(min=1, max=100_000, help="of the bootstrap over patients")] = 1000,
    confidence: Annotated[float, Option(min=0.5, max=0.999, help="of every interval")] = 0.95,
    min_positives: Annotated[int, Option(min=2, help="an AUC needs as many positives, and as many negatives")] = 10,
    sensitivity: Annotated[
        float, Option(min=0.01, max=1.0, help="on validation, at which an operating point is set")
    ] = 0.9,
    scaling: Annotated[Literal["platt", "temperature"], Option(help="of the logits, fitted on validation")] = "platt",
    bins: Annotated[int, Option(min=2, max=100, help="of a calibration error")] = 10,
    age_bands: Annotated[list[int], Option(min=1, max=120, help="years at which an age band starts")] = (40, 60, 80),
    power: Annotated[
        float, Option(min=0.5, max=0.999, help="with which a difference called detectable would be found")
    ] = 0.8,
    seed: Annotated[int, Option(min=0, help="of the draws of patients")] = 0,
) -> None:
    """Judge the predictions of the classifiers and of the ADGM."""
    from cxr.adgm import variants as adgm_runs
    from cxr.cohort.policies import all_policies
    from cxr.core.files import atomic, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS, finding, in_view
    from cxr.core.guard import read_split
    from cxr.core.records import load
    from cxr.evaluation import adgm, metadata, operating, study, subgroups
    from cxr.evaluation import policies as label_question
    from cxr.evaluation.classifiers import Settings, judge, summary
    from cxr.evaluation.formats import Metrics
    from cxr.evaluation.predictions import read_adgm, read_classifier, same_images

    findings = [finding(name) for name in findings]
    policies = all_policies(policies, selftrained)
    if final_policy not in policies:
        raise ValueError(f"no baseline under final_policy {final_policy!r} to compare with: add it to policies")
    study.check(arms, seeds)
    paths = {policy: predictions / "baseline" / f"{policy}.parquet" for policy in policies}
    paths["final"] = predictions / "final.parquet"
    models = {}
    for name, path in paths.items():
        stage = "final" if name == "final" else instances_of(name)[1]
        models[name] = read_classifier(path, stage)
        same_images(path, models[name], paths[policies[0]], models[policies[0]])
    trainings = {}
    for arm in arms:
        for number in seeds:
            path = predictions / "study" / f"{arm}-{number}.parquet"
            trainings[arm, number] = read_classifier(path, f"study@{arm}-{number}")
            same_images(path, trainings[arm, number], paths[policies[0]], models[policies[0]])
    runs, files = {}, {}
    for run in adgm_runs.runs(variants, classes, labels, draws):
        files[run] = predictions / "adgm" / f"{run.name}.parquet"
        runs[run] = read_adgm(files[run], run.classes, f"adgm@{run.name}")
        first = next(iter(files))
        same_images(files[run], runs[run], files[first], runs[first])

    known, learnt = load(records, "chexpert"), {}
    sources = {policy: (label_tables / f"{policy}.parquet", instances_of(policy)[0]) for policy in policies}
    for name, (path, stage) in (sources | {"final": (balanced, "balance")}).items():
        table = read_table(path, stage, COLUMNS)
        learnt[name] = in_view(table[table["split"] == "train"], view)
    floors = {f"floor_{p}": metadata.beside(models[p], learnt[p], records, known) for p in policies}
    who = metadata.people(records, known, models["final"]["image_id"])

    settings = Settings(
        replicates, confidence, min_positives, seed, sensitivity, scaling, bins, tuple(age_bands), power
    )
    own = f"floor_{final_policy}"
    mixed, asked = label_question.tables({policy: models[policy] for policy in policies}, final_policy, settings)
    tables = judge(models | mixed | floors, final_policy, settings, own) | asked
    pair = {name: models[name] for name in (final_policy, "final")}
    trained, true = (
        {name: operating.trained_share(learnt[name]) for name in pair},
        operating.true_share(learnt[final_policy]),
    )
    judged = {name: operating.fit(table, trained[name], true, settings) for name, table in pair.items()}
    tables |= operating.tables(pair, judged, trained, true, settings)
    tables["subgroups"] = subgroups.table(pair | {own: floors[own]}, judged, who, settings)
    shown = summary(tables, policies, final_policy, findings)
    if runs:
        tables |= adgm.tables(runs, settings)
        shown |= adgm.summary(tables)
    shown |= operating.summary(tables, own, final_policy) | label_question.summary(asked)
    if trainings:
        compared = study.judge_study(trainings, findings, settings)
        tables, shown = tables | compared, shown | study.summary(compared)
    if runs:
        rsna, (split, _) = load(rsna_records, "rsna"), read_split(rsna_split, "rsna")
        seen = rsna[rsna["image_id"].isin(split.loc[split["split"] == "train", "image_id"])]
        who = metadata.people(rsna_records, rsna, next(iter(runs.values()))["image_id"])
        lead = adgm_runs.leading(variants), min(draws)
        led = {(run.classes, run.labels): t for run, t in runs.items() if (run.variant, run.draw) == lead}
        tables["adgm_floor"] = subgroups.adgm(led, {k: metadata.classes(seen, who, k) for k in classes}, who, settings)
    with atomic(out) as folder, atomic(metrics) as file:
        folder.mkdir()
        for name, table in tables.items():
            write_table(folder / f"{name}.csv", table)
        write_json(file, Metrics(**shown))
    few = tables["auc"].query("model == 'final' and split == 'test' and auc.isna() and finding != 'macro'")
    if len(few):
        counts = ", ".join(f"{row.finding} ({row.positives}, {row.negatives})" for row in few.itertuples())
        print(f"evaluate: no AUC, too few test images (positives, negatives): {counts}")


if __name__ == "__main__":
    main(run)
