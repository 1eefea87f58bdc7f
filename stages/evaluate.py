"""Tables and metrics from predictions alone: AUCs, baseline against final, ROC curves, the ADGM's accuracy.

python -m stages.evaluate --predictions models/predictions --out reports/evaluate --metrics reports/metrics.json
"""

from pathlib import Path
from typing import Annotated

from typer import Option

from stages.cli import main


def run(
    predictions: Annotated[Path, Option(help="folder of the predictions")],
    metrics: Annotated[Path, Option(help="JSON for `dvc metrics`")],
    out: Annotated[Path, Option(help="folder of the tables")],
    policies: Annotated[list[str], Option(help="label policies that have a baseline")] = ("u_zeroes", "u_ones"),
    final_policy: Annotated[str, Option(help="of final, and of the baseline to compare")] = "u_zeroes",
    findings: Annotated[list[str], Option(help="findings named in the metrics")] = (
        "pneumonia",
        "lung_lesion",
        "consolidation",
    ),
    classes: Annotated[list[int], Option(min=2, max=3, help="the ADGM's tasks")] = (2, 3),
    labels: Annotated[list[int], Option(min=1, help="the ADGM's labels per class")] = (
        100,
        500,
        1000,
        1500,
        3000,
        4000,
    ),
    replicates: Annotated[int, Option(min=1, max=100_000, help="of the bootstrap over patients")] = 1000,
    confidence: Annotated[float, Option(min=0.5, max=0.999, help="of every interval")] = 0.95,
    min_positives: Annotated[int, Option(min=2, help="an AUC needs as many positives, and as many negatives")] = 10,
    seed: Annotated[int, Option(min=0, help="of the draws of patients")] = 0,
) -> None:
    """Judge the predictions of the classifiers and of the ADGM."""
    from cxr.evaluate import Settings, judge, judge_adgm, summary
    from cxr.files import atomic, write_json, write_table
    from cxr.labels import POLICIES, finding
    from cxr.predictions import read_adgm, read_classifier, same_images

    findings = [finding(name) for name in findings]
    for policy in [*policies, final_policy]:
        if policy not in POLICIES:
            raise ValueError(f"unknown policy {policy!r}: choose from {', '.join(POLICIES)}")
    if final_policy not in policies:
        raise ValueError(f"no baseline under final_policy {final_policy!r} to compare with: add it to policies")
    paths = {policy: predictions / "baseline" / f"{policy}.parquet" for policy in policies}
    paths["final"] = predictions / "final.parquet"
    models = {}
    for name, path in paths.items():
        stage = "final" if name == "final" else f"baseline@{name}"
        models[name] = read_classifier(path, stage)
        same_images(path, models[name], paths[policies[0]], models[policies[0]])
    runs, files = {}, {}
    for k in classes:
        for n in labels:
            files[k, n] = predictions / "adgm" / f"{k}-{n}.parquet"
            runs[k, n] = read_adgm(files[k, n], k, f"adgm@{k}-{n}")
            first = next(iter(files))
            same_images(files[k, n], runs[k, n], files[first], runs[first])

    settings = Settings(replicates, confidence, min_positives, seed)
    tables = judge(models, final_policy, settings) | judge_adgm(runs, settings)
    with atomic(out) as folder, atomic(metrics) as shown:
        folder.mkdir()
        for name, table in tables.items():
            write_table(folder / f"{name}.csv", table)
        write_json(shown, summary(tables, policies, final_policy, findings))
    few = tables["auc"].query("model == 'final' and split == 'test' and auc.isna() and finding != 'macro'")
    if len(few):
        counts = ", ".join(f"{row.finding} ({row.positives}, {row.negatives})" for row in few.itertuples())
        print(f"evaluate: no AUC, too few test images (positives, negatives): {counts}")


if __name__ == "__main__":
    main(run)
