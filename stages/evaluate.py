"""evaluate: tables and metrics of the classifiers and the ADGM, made from predictions and tables alone.

python -m stages.evaluate --predictions models/predictions --out reports/evaluate --metrics reports/metrics.json
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import instances_of, main
from .options import View


def run(
    predictions: Annotated[Path, Option(help="folder of predictions")],
    records: Annotated[Path, Option(help="CheXpert's records.parquet")],
    label_tables: Annotated[Path, Option(help="folder of the label tables that the baselines were trained on")],
    balanced: Annotated[Path, Option(help="the table that final was trained on")],
    rsna_records: Annotated[Path, Option(help="RSNA's records.parquet")],
    rsna_split: Annotated[Path, Option(help="folder of RSNA's split")],
    metrics: Annotated[Path, Option(help="JSON file for `dvc metrics`")],
    out: Annotated[Path, Option(help="folder of the tables")],
    policies: Annotated[list[str], Option(help="label policies that have a baseline")] = ("u_zeroes", "u_ones"),
    selftrained: Annotated[list[str], Option(help="[] or u_selftrained, trained on u_ignore's predictions")] = (),
    final_policy: Annotated[
        str, Option(help="policy of final and of the baseline that it is compared with")
    ] = "u_zeroes",
    findings: Annotated[list[str], Option(help="findings named in the metrics")] = (
        "pneumonia",
        "lung_lesion",
        "consolidation",
    ),
    variants: Annotated[list[str], Option(help="variants and control arms of the ADGM; none: no ADGM")] = (),
    classes: Annotated[list[int], Option(min=2, max=3, help="numbers of classes of the ADGM")] = (),
    labels: Annotated[list[int], Option(min=1, help="labels per class of the ADGM")] = (),
    draws: Annotated[list[int], Option(min=0, help="draws of the ADGM's labels")] = (),
    arms: Annotated[list[str], Option(help="control arms of the study; none: no study")] = (),
    seeds: Annotated[list[int], Option(min=0, help="seeds of the study, one training for each arm and seed")] = (0,),
    view: Annotated[View, Option(help="view that the classifiers were trained on")] = "all",
    replicates: Annotated[int, Option(min=1, max=100_000, help="replicates of the bootstrap over patients")] = 1000,
    confidence: Annotated[float, Option(min=0.5, max=0.999, help="confidence of every interval")] = 0.95,
    min_positives: Annotated[int, Option(min=2, help="fewest positives, and fewest negatives, for an AUC")] = 10,
    sensitivity: Annotated[
        float, Option(min=0.01, max=1.0, help="sensitivity on validation at which operating points are set")
    ] = 0.9,
    scaling: Annotated[
        Literal["platt", "temperature"], Option(help="scaling of the logits, fitted on validation")
    ] = "platt",
    bins: Annotated[int, Option(min=2, max=100, help="bins of a calibration error")] = 10,
    age_bands: Annotated[list[int], Option(min=1, max=120, help="years at which an age band starts")] = (40, 60, 80),
    power: Annotated[
        float, Option(min=0.5, max=0.999, help="power of a test, for the smallest detectable difference")
    ] = 0.8,
    seed: Annotated[int, Option(min=0, help="seed of the draws of patients")] = 0,
) -> None:
    """Evaluate the predictions of the classifiers and of the ADGM."""
    from cxr.adgm.variants import runs as adgm_runs
    from cxr.cohort.policies import all_policies
    from cxr.core.files import atomic, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS, finding, in_view
    from cxr.core.guard import read_split
    from cxr.core.records import load
    from cxr.evaluation import run as steps
    from cxr.evaluation.classifiers import Settings
    from cxr.evaluation.formats import Metrics
    from cxr.evaluation.predictions import read_adgm, read_classifier, same_images
    from cxr.evaluation.study import check

    findings, policies = [finding(name) for name in findings], all_policies(policies, selftrained)
    if final_policy not in policies:
        raise ValueError(f"no baseline under final_policy {final_policy!r} to compare with: add it to policies")
    check(arms, seeds)
    files = {p: (predictions / "baseline" / f"{p}.parquet", instances_of(p)[1]) for p in policies}
    files["final"] = predictions / "final.parquet", "final"
    for arm in arms:
        files |= {(arm, s): (predictions / "study" / f"{arm}-{s}.parquet", f"study@{arm}-{s}") for s in seeds}
    models = {name: read_classifier(path, stage) for name, (path, stage) in files.items()}
    same_images({path: models[name] for name, (path, _) in files.items()})
    trainings = {(arm, s): models.pop((arm, s)) for arm in arms for s in seeds}
    paths = {run: predictions / "adgm" / f"{run.name}.parquet" for run in adgm_runs(variants, classes, labels, draws)}
    runs = {run: read_adgm(path, run.classes, f"adgm@{run.name}") for run, path in paths.items()}
    same_images({path: runs[run] for run, path in paths.items()})
    sources = {p: (label_tables / f"{p}.parquet", instances_of(p)[0]) for p in policies} | {
        "final": (balanced, "balance")
    }
    train = {}
    for name, source in sources.items():
        table = read_table(*source, COLUMNS)
        train[name] = in_view(table[table["split"] == "train"], view)

    settings = Settings(
        replicates, confidence, min_positives, seed, sensitivity, scaling, bins, tuple(age_bands), power
    )
    mix, policy_result = steps.policies({p: models[p] for p in policies}, final_policy, settings)
    people = steps.Records(records, load(records, "chexpert"))
    results = [
        steps.classifiers(models, mix, train, people, final_policy, findings, settings),
        policy_result,
        steps.study(trainings, findings, settings),
    ]
    if runs:
        rsna = steps.Records(rsna_records, load(rsna_records, "rsna"))
        results.append(steps.adgm(runs, rsna, read_split(rsna_split, "rsna")[0], settings))
    tables = {name: table for result in results for name, table in result.tables.items()}
    with atomic(out) as folder, atomic(metrics) as file:
        folder.mkdir()
        for name, table in tables.items():
            write_table(folder / f"{name}.csv", table)
        write_json(file, Metrics(**{key: value for result in results for key, value in result.metrics.items()}))
    few = tables["auc"].query("model == 'final' and split == 'test' and auc.isna() and finding != 'macro'")
    if len(few):
        counts = ", ".join(f"{row.finding} ({row.positives}, {row.negatives})" for row in few.itertuples())
        print(f"evaluate: no AUC, too few test images (positives, negatives): {counts}")


if __name__ == "__main__":
    main(run)
