"""split: patient-disjoint training, validation and test sets, and their counts.

CheXpert: the official test set and valid.csv, or draws from the official train table. RSNA: draws. Images that resize
rejected are in no split.

    python -m stages.split --dataset chexpert --records data/chexpert/records.parquet
    --manifest data/chexpert/manifest.json --stores data/stores/chexpert --out data/splits
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import main
from .options import Records, Seed


def run(
    dataset: Annotated[Literal["chexpert", "rsna"], Option()],
    records: Records,
    manifest: Annotated[Path, Option(help="manifest.json beside the records")],
    stores: Annotated[Path, Option(help="folder of the stores, with rejected.csv")],
    out: Annotated[Path, Option(help="folder for split.parquet and split.json")],
    by: Annotated[
        Literal["patient", "image"], Option(help="CheXpert: whole patients, or images as in paper 1, which leaks")
    ] = "patient",
    test: Annotated[
        Literal["auto", "official", "train"],
        Option(
            help="CheXpert: the official test set, or a draw from train.csv; auto: the official one where it is there"
        ),
    ] = "auto",
    test_images: Annotated[int, Option(min=1, help="CheXpert: test images, where they are drawn from train.csv")] = 500,
    valid: Annotated[
        Literal["auto", "official", "train"],
        Option(
            help="CheXpert: valid.csv, or a draw from train.csv; auto: valid.csv where each rare finding has "
            "min_positives there"
        ),
    ] = "auto",
    valid_images: Annotated[
        int, Option(min=1, help="CheXpert: validation images, where they are drawn from train.csv")
    ] = 4000,
    train_share: Annotated[
        float, Option(min=0.0, max=1.0, help="CheXpert: share of the training patients who stay")
    ] = 1.0,
    rare_patients: Annotated[
        int, Option(min=0, help="CheXpert: most training patients with each rare finding; 0: all")
    ] = 0,
    rare_in_pa: Annotated[
        float,
        Option(min=0.0, max=1.0, help="CheXpert: share of training patients with a rare finding in PA who stay"),
    ] = 1.0,
    findings: Annotated[
        list[str], Option(help="CheXpert: the rare findings, which valid=auto, rare_patients and rare_in_pa look at")
    ] = (),
    rsna: Annotated[
        Literal["patient", "image", "file_order"],
        Option(help="RSNA: whole patients; images, where no mapping names patients; or the slices of paper 2's code"),
    ] = "patient",
    valid_share: Annotated[float, Option(min=0.0, max=0.9, help="RSNA: share of the images for validation")] = 0.1,
    test_share: Annotated[
        float, Option(min=0.0, max=0.9, help="RSNA: share of the images for the test; 0: none")
    ] = 0.0,
    min_positives: Annotated[
        int, Option(min=1, help="validation positives that a finding needs to count in the mean AUC")
    ] = 5,
    seed: Seed = 0,
) -> None:
    """Split the patients of one dataset."""
    from cxr.cohort import splits
    from cxr.cohort.formats import SPLITS
    from cxr.core.files import atomic, read_json, read_table, sha256, write_json, write_table
    from cxr.core.findings import finding
    from cxr.core.guard import SPLIT
    from cxr.core.records import load
    from cxr.data.formats import Manifest

    table = load(records, dataset)
    rejected = read_table(stores / "rejected.csv", f"resize@{dataset}", ("image_id",), dtype=str)
    table = table[~table["image_id"].isin(rejected["image_id"])].reset_index(drop=True)
    key, source = None, read_json(manifest, f"download@{dataset}", Manifest)
    if dataset == "chexpert":
        if not findings:  # of all stages that read the list the first
            raise ValueError("rare.findings is empty: name one finding at least, for which X-rays are generated")
        rare = [finding(name) for name in findings]
        official, why = splits.official_parts(table, valid=valid, test=test, rare=rare, min_positives=min_positives)
        for line in why:
            print(f"split: validation is drawn from train.csv: {line}")
        split = splits.chexpert(
            table, by=by, test_images=test_images, valid_images=valid_images, official=official,
            train_share=train_share, rare=rare, rare_patients=rare_patients, rare_in_pa=rare_in_pa, seed=seed,
        )  # fmt: skip
    else:
        by, key = rsna, source.patient_key or "image"
        if rsna == "file_order":
            split = splits.file_order(table, valid_share=valid_share)
        else:
            split = splits.rsna(
                table, by=rsna, valid_share=valid_share, test_share=test_share, seed=seed, patient_key=key
            )
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / SPLIT, split)
        digest = sha256(folder / SPLIT)
        result = splits.summary(
            split, table, by=by, min_positives=min_positives, sha256=digest, phantom=source.kind == "phantom",
            patient_key=key,
        )  # fmt: skip
        write_json(folder / "split.json", SPLITS[dataset](**result))
    _print(dataset, by, result, key, min_positives)


def _print(dataset: str, by: str, result: dict, key: str | None, min_positives: int) -> None:
    """The split's counts, and what a user should know about it."""
    for name, part in result["splits"].items():
        owners = f" of {part['patients']:,} patients" if "patients" in part else ""
        print(f"split: {dataset} {name}: {part['images']:,} images{owners}")
    if shared := result.get("shared_patients"):
        print(f"split: {dataset} by {by}: {shared:,} patient(s) in training and in another part")
    if key == "image":
        print(f"split: {dataset}: patientId names an image: one patient may stand in training and in another part")
    if by == "file_order":
        shared, unused = result["shared_images"], result["splits"].get("unused", {}).get("images", 0)
        print(
            f"split: {dataset} by file order, as paper 2's code: {shared} image(s) in both training and validation, "
            f"{unused:,} images with unused rows; an image counts once for each of its rows"
        )
    if result.get("too_few"):
        print(
            f"split: fewer than {min_positives} validation positives, left out of the mean AUC: "
            + ", ".join(result["too_few"])
        )


if __name__ == "__main__":
    main(run)
