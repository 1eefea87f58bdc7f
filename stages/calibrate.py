"""calibrate: a trained classifier as a folder that predicts: weights, scaling, operating points, what is refused.

python -m stages.calibrate --model models/final/0 --predictions models/predictions/final/0.parquet
--out models/predictor ...
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import main
from .options import Precision, SplitFolder, Stores


def run(
    model: Annotated[Path, Option(help="folder of a trained classifier")],
    predictions: Annotated[Path, Option(help="parquet of its scores of validation and test images")],
    table: Annotated[Path, Option(help="table that it was trained on")],
    label_table: Annotated[Path, Option(help="label table of the real images")],
    stores: Stores,
    split: SplitFolder,
    manifest: Annotated[Path, Option(help="the data set's manifest.json")],
    instance: Annotated[str, Option(help="the training's name in dvc.yaml, for messages")],
    out: Annotated[Path, Option(help="folder to write, which the command predict reads")],
    extra_data: Annotated[Path | None, Option(help="folder of the stage extra_data, in it a folder a data set")] = None,
    explained: Annotated[Path | None, Option(help="explain.json of the stage explain, for the cards")] = None,
    replicates: Annotated[int, Option(min=1, max=100_000, help="replicates of the bootstrap over patients")] = 1000,
    confidence: Annotated[float, Option(min=0.5, max=0.999, help="confidence of every interval")] = 0.95,
    min_positives: Annotated[int, Option(min=2, help="fewest positives, and fewest negatives, for a number")] = 10,
    sensitivity: Annotated[float, Option(min=0.01, max=1.0, help="of operating points, on validation")] = 0.9,
    scaling: Annotated[Literal["platt", "temperature"], Option(help="fitted on validation")] = "platt",
    bins: Annotated[int, Option(min=2, max=100, help="bins of a calibration error")] = 10,
    seed: Annotated[int, Option(min=0, help="seed of the draws of patients")] = 0,
    precision: Precision = "auto",
    images: Annotated[int, Option(min=100, help="most training images for the outlier statistics")] = 5000,
    false_alarms: Annotated[
        float, Option(min=0.001, max=0.5, help="share of images of the training's own kind that may be refused")
    ] = 0.01,
) -> None:
    """Write the folder that the command predict reads: weights, calibration, operating points, what is refused."""
    from cxr.classifier import extra
    from cxr.core.files import atomic, read_json, read_table, sha256
    from cxr.core.findings import COLUMNS
    from cxr.core.guard import read_split
    from cxr.core.store import open_store
    from cxr.data.formats import Extra, Manifest
    from cxr.evaluation.classifiers import Settings
    from cxr.evaluation.predictions import read_classifier
    from cxr.explain.formats import Explained
    from cxr.predict import calibrate
    from cxr.predict.formats import Calibration
    from cxr.predict.model import read_net
    from cxr.training.machine import fabric

    net, meta = read_net(model, instance)
    scored, (_, info) = read_classifier(predictions, instance), read_split(split, "chexpert")
    for file, made_under in ((model, meta.split_sha256), (predictions, scored["split_sha256"].iloc[0])):
        if made_under != info.sha256:
            raise ValueError(f"{file}: was made under another split; `dvc repro -f {instance}` makes it again")
    maps = read_json(explained, "explain", Explained) if explained else None
    if maps and maps.weights_sha256 != sha256(model / "model.safetensors"):
        raise ValueError(f"{explained}: is of other weights; `dvc repro explain` makes it again")
    labels, enriched = read_table(label_table, columns=COLUMNS), read_table(table, instance, COLUMNS)
    rows = {part: labels[labels["split"] == part] for part in ("train", "valid", "test")}
    others: list[Extra] = []
    if meta.extra:
        if extra_data is None:
            raise ValueError(f"{model}: was trained on {', '.join(meta.extra)} as well, which needs --extra_data")
        enriched = extra.joined(enriched, extra.rows(extra_data, meta.extra, "all"))
        others = [read_json(extra_data / name / "dataset.json", f"extra_data@{name}", Extra) for name in meta.extra]
    trained = calibrate.Trained.of(enriched, labels, meta.view)
    settings = Settings(replicates, confidence, min_positives, seed, sensitivity, scaling, bins)
    findings = calibrate.findings(scored, trained, settings)

    store, machine = open_store(stores / str(meta.size)), fabric(precision)
    rows |= {"train": calibrate.sample(rows["train"], images)}
    network = calibrate.Network(machine, net.to(machine.device), store, scored)
    features = {part: network.features(table) for part, table in rows.items()}
    numbers, gaussians = calibrate.fit_outliers(rows, features, meta.view, false_alarms)
    test = scored[scored["split"] == "test"]
    calibration = Calibration(
        data=read_json(manifest, "download@chexpert", Manifest).kind,
        scaling=scaling,
        sensitivity=sensitivity,
        confidence=confidence,
        test_images=len(test),
        test_patients=test["patient_id"].nunique(),
        split_sha256=info.sha256,
        weights_sha256=sha256(model / "model.safetensors"),
        findings=findings,
        outliers=numbers,
        explained=maps,
    )
    with atomic(out) as folder:
        calibrate.write(folder, model, meta, calibration, gaussians, others)
    ready = sum(finding.slope is not None for finding in findings.values())
    print(
        f"calibrate: {ready} of {len(findings)} findings calibrated; refuses {numbers.test_refused:.1%} of the "
        f"{len(test):,} test images as out of distribution"
    )


if __name__ == "__main__":
    main(run)
