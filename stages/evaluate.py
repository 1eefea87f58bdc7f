"""evaluate: tables and metrics of the classifiers and the ADGM, made from predictions and tables alone.

python -m stages.evaluate --predictions models/predictions --out reports/evaluate --metrics reports/metrics.json
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from cxr.core.views import View

from .cli import instances_of, main
from .options import RARE

if TYPE_CHECKING:
    import pandas as pd


def run(
    predictions: Annotated[Path, Option(help="folder of predictions")],
    records: Annotated[Path, Option(help="CheXpert's records.parquet")],
    label_tables: Annotated[Path, Option(help="folder of the label tables that the baselines were trained on")],
    balanced: Annotated[Path, Option(help="folder with a folder a seed, whose table final was trained on")],
    rsna_records: Annotated[Path, Option(help="RSNA's records.parquet")],
    rsna_split: Annotated[Path, Option(help="folder of RSNA's split")],
    metrics: Annotated[Path, Option(help="JSON file for `dvc metrics`")],
    out: Annotated[Path, Option(help="folder of the tables")],
    extra_data: Annotated[Path | None, Option(help="folder of the stage extra_data, in it a folder a data set")] = None,
    model: Annotated[
        Path | None, Option(help="folder of the first final: its model.json says what else was trained on")
    ] = None,
    readers: Annotated[Path | None, Option(help="radiologists' calls, a parquet file that may be absent")] = None,
    policies: Annotated[list[str], Option(help="label policies that have a baseline")] = ("u_zeroes", "u_ones"),
    selftrained: Annotated[list[str], Option(help="[] or u_selftrained, trained on u_ignore's predictions")] = (),
    final_policy: Annotated[str, Option(help="policy of final and of the baseline to compare it with")] = "u_zeroes",
    findings: Annotated[list[str], Option(help="findings named in the metrics")] = RARE,
    variants: Annotated[list[str], Option(help="variants and control arms of the ADGM; none: no ADGM")] = (),
    feature_variants: Annotated[list[str], Option(help="variants and control arms of an encoder's features")] = (),
    classes: Annotated[list[int], Option(min=2, max=3, help="numbers of classes of the ADGM")] = (),
    labels: Annotated[list[int], Option(min=1, help="labels per class of the ADGM")] = (),
    draws: Annotated[list[int], Option(min=0, help="draws of the ADGM's labels")] = (),
    arms: Annotated[list[str], Option(help="control arms of the study; none: no study")] = (),
    endpoint: Annotated[str, Option(help="of the primary claim: rare, macro or a rare finding")] = "rare",
    study_view: Annotated[
        Literal["all", "AP", "PA"], Option(help="test X-rays of the study: of all views, or of the worst group's")
    ] = "all",
    seeds: Annotated[list[int], Option(min=0, help="one training of each classifier and arm for each seed")] = (0,),
    view: Annotated[View, Option(help="the classifiers' view")] = "all",
    replicates: Annotated[int, Option(min=1, max=100_000, help="replicates of the bootstrap over patients")] = 1000,
    confidence: Annotated[float, Option(min=0.5, max=0.999, help="confidence of every interval")] = 0.95,
    min_positives: Annotated[int, Option(min=2, help="fewest positives, and fewest negatives, for an AUC")] = 10,
    sensitivity: Annotated[float, Option(min=0.01, max=1.0, help="of operating points, on validation")] = 0.9,
    scaling: Annotated[Literal["platt", "temperature"], Option(help="fitted on validation")] = "platt",
    bins: Annotated[int, Option(min=2, max=100, help="bins of a calibration error")] = 10,
    age_bands: Annotated[
        list[int], Option(min=1, max=120, help="years at which an age band starts; none: one band")
    ] = (),
    study_scores: Annotated[Literal["max", "mean"], Option(help="a study's score from its images'")] = "max",
    thresholds: Annotated[list[float], Option(min=0.001, max=0.999, help="of the net benefit")] = (),
    local_labels: Annotated[int, Option(min=20, help="external: images that a recalibration is fitted on")] = 200,
    power: Annotated[float, Option(min=0.5, max=0.999, help="power for the smallest detectable difference")] = 0.8,
    seed: Annotated[int, Option(min=0, help="seed of the draws of patients")] = 0,
) -> None:
    """Evaluate the predictions of the classifiers and of the ADGM."""
    from threadpoolctl import threadpool_limits

    from cxr.adgm.variants import runs
    from cxr.cohort.formats import RsnaKey
    from cxr.cohort.policies import all_policies
    from cxr.core.findings import finding, slug
    from cxr.core.guard import read_split
    from cxr.core.records import load
    from cxr.evaluation import run as steps
    from cxr.evaluation.classifiers import Settings
    from cxr.evaluation.external import read as read_external
    from cxr.evaluation.predictions import read_runs
    from cxr.evaluation.readers import read as read_readers
    from cxr.evaluation.study import check

    findings, policies = [finding(name) for name in findings], all_policies(policies, selftrained)
    if final_policy not in policies:
        raise ValueError(f"no baseline under final_policy {final_policy!r} to compare with: add it to policies")
    check(arms, seeds, endpoint, [slug(name) for name in findings])
    models, trainings = _read_trainings(predictions, policies, final_policy, arms, seeds)
    classifiers = {name: models[name] for name in (*policies, "final")}
    adgms = read_runs(predictions / "adgm", runs([*variants, *feature_variants], classes, labels, draws))
    sources = {p: (label_tables / f"{p}.parquet", instances_of(p, seeds[0])[0]) for p in policies}
    sources["final"] = balanced / str(seeds[0]) / "table.parquet", f"balance@{seeds[0]}"
    train = _training_rows(sources, view)
    more = _extra_rows(model, extra_data, seeds[0], view)
    settings = Settings(
        replicates, confidence, min_positives, seed, sensitivity, scaling, bins, tuple(age_bands), power, study_scores,
        tuple(thresholds),
    )  # fmt: skip
    people = steps.Records(records, load(records, "chexpert"))
    calls = readers and read_readers(readers)
    sets = read_external(predictions / "external")
    if adgms:  # everything is read before anything is computed
        rsna = steps.Records(rsna_records, load(rsna_records, "rsna"))
        split, info = read_split(rsna_split, "rsna", RsnaKey)
    # The matrices are small: on a busy machine a second thread makes each product wait, and all takes thrice as long.
    threadpool_limits(1, user_api="blas")
    mix, policy_result = steps.policies({p: models[p] for p in policies}, final_policy, settings)
    results = [
        steps.classifiers(classifiers, mix, train, people, final_policy, findings, settings, calls, more),
        policy_result,
    ]
    rates, final = results[0].tables["operating"], models["final"][0]
    results.append(steps.outside(sets, final, rates, train[final_policy], people, local_labels, settings))
    if arms:
        if study_view != "all":
            trainings = {name: steps.within(table, people.table, study_view) for name, table in trainings.items()}
        results.append(steps.study(trainings, findings, settings, endpoint))
    if adgms:
        results.append(steps.adgm(adgms, rsna, split, settings, info.patient_key))
    _write(results, out, metrics)
    _print_few(results[0].tables["auc"])
    for one in sets:
        print(f"evaluate: {one.info.name}: {one.info.images:,} images of {one.info.patients:,} {one.info.patient_key}s")


def _write(results: list, out: Path, metrics: Path) -> None:
    from cxr.core.files import atomic, write_json, write_table
    from cxr.evaluation.formats import Metrics

    with atomic(out) as folder, atomic(metrics) as file:
        folder.mkdir()
        for result in results:
            for name, table in result.tables.items():
                write_table(folder / f"{name}.csv", table)
        write_json(file, Metrics(**{key: value for result in results for key, value in result.metrics.items()}))


def _read_trainings(
    predictions: Path, policies: list[str], final_policy: str, arms: list[str], seeds: list[int]
) -> tuple[dict, dict]:
    """(classifier or arm -> its predictions by training, (arm, seed) -> predictions) of the same images."""
    from cxr.evaluation.predictions import read_classifiers
    from cxr.evaluation.study import BASELINE, GAN

    files = {}
    for s in seeds:
        folder = predictions / "baseline" / str(s)
        files |= {(p, s): (folder / f"{p}.parquet", instances_of(p, s)[1]) for p in policies}
        files["final", s] = predictions / "final" / f"{s}.parquet", f"final@{s}"
        files |= {(a, s): (predictions / "study" / str(s) / f"{a}.parquet", f"study@{a}-{s}") for a in arms}
    read = read_classifiers(files)
    models = {name: [read[name, s] for s in seeds] for name in (*policies, "final", *arms)}
    trainings = {(a, s): read[a, s] for a in arms for s in seeds}
    for arm, name in ((BASELINE, final_policy), (GAN, "final")):
        trainings |= {(arm, s): read[name, s] for s in seeds}
    return models, trainings


def _print_few(auc: "pd.DataFrame") -> None:
    """Name the findings without an AUC of final on test."""
    few = auc.query("model == 'final' and split == 'test' and auc.isna() and finding != 'macro'")
    if len(few):
        counts = ", ".join(f"{row.finding} ({row.positives}, {row.negatives})" for row in few.itertuples())
        print(f"evaluate: no AUC, too few test images (positives, negatives): {counts}")


def _training_rows(sources: dict[str, tuple[Path, str]], view: str) -> dict:
    """Model -> training rows of its label table, in the view. sources: model -> (table, the stage that makes it)."""
    from cxr.core.files import read_table
    from cxr.core.findings import COLUMNS, in_view

    tables = {name: read_table(path, stage, COLUMNS) for name, (path, stage) in sources.items()}
    return {name: in_view(table[table["split"] == "train"], view) for name, table in tables.items()}


def _extra_rows(model: Path | None, folder: Path | None, seed: int, view: str) -> "pd.DataFrame | None":
    """The training rows of the data sets that the classifiers were trained on beside CheXpert; None: none."""
    from cxr.classifier import extra
    from cxr.classifier.formats import Model
    from cxr.core.files import read_json

    names = read_json(model / "model.json", f"final@{seed}", Model).extra if model else []
    if not names:
        return None
    if folder is None:
        raise ValueError(f"{model}: was trained on {', '.join(names)} as well, which needs --extra_data")
    return extra.rows(folder, names, view)


if __name__ == "__main__":
    main(run)
