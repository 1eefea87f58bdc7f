"""balance: generates the synthetic images that bring each rare finding to the target prevalence; writes the enriched
training table.

python -m stages.balance --findings pneumonia --findings lung_lesion --table data/labels/u_zeroes.parquet --gans
models/gan/0 --out data/balanced/0 ...
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from cxr.core.views import View

from .cli import main
from .options import Precision, Records, Repeat, Samplers, Seed, SplitFolder

if TYPE_CHECKING:
    import torch

    from cxr.synthesis.agreement import Ensemble
    from cxr.synthesis.samplers import Sampler


def run(
    findings: Annotated[list[str], Option(help="slugs of the findings to balance; each has a generator")],
    samplers: Samplers,
    table: Annotated[Path, Option(help="label table of the final model's policy")],
    gans: Annotated[Path, Option(help="folder of one seed's generators")],
    records: Records,
    split: SplitFolder,
    fidelity: Annotated[Path, Option(help="folder of the fidelity stage, in it a folder a seed")],
    out: Annotated[Path, Option(help="folder for table.parquet, plan.json and images/")],
    size: Annotated[int, Option(min=32, max=1024, help="the classifier's image size")],
    view: Annotated[View, Option(help="the classifier's view")] = "all",
    target_prevalence: Annotated[
        float,
        Option(min=0.0, max=1.0, help="share of the training images with each finding, synthetic images included"),
    ] = 0.1,
    dose: Annotated[
        float,
        Option(min=0.0, help="generated positives as a multiple of the real ones; 0: as target_prevalence asks"),
    ] = 0.0,
    negatives: Annotated[
        float,
        Option(min=0.0, help="generated images without a finding, as a multiple of those with it"),
    ] = 0.0,
    labels: Annotated[
        Literal["masked", "one_hot", "sampled"], Option(help="the other 13 labels of a synthetic image")
    ] = "masked",
    views: Annotated[
        Literal["kept", "independent"],
        Option(help="view of a generated image: of the real one whose labels are drawn, or of any training image"),
    ] = "kept",
    filter: Annotated[
        Literal["none", "agree", "soft"],
        Option(help="agree: keep images on whose finding the classifiers agree; soft: their probabilities as labels"),
    ] = "none",
    classifiers: Annotated[
        Path | None, Option(help="folder of the baselines, in it a folder a seed; a filter needs it")
    ] = None,
    predictions: Annotated[Path | None, Option(help="folder of the baselines' predictions, likewise")] = None,
    policy: Annotated[str, Option(help="label policy of these baselines")] = "u_zeroes",
    max_duplicates: Annotated[
        float,
        Option(min=0.0, max=1.0, help="largest share of a generator's images that may be copies of training images"),
    ] = 0.05,
    precision: Precision = "32-true",
    seed: Seed = 0,
    repeat: Repeat = 0,
) -> None:
    """Plan, generate and write the enriched training table."""
    from cxr.core.files import atomic, read_table, write_json, write_table
    from cxr.core.findings import COLUMNS, finding, in_view, slug
    from cxr.core.guard import guard, read_split
    from cxr.core.records import load
    from cxr.core.store import write_store
    from cxr.synthesis import balance
    from cxr.synthesis.formats import Plan
    from cxr.synthesis.generate import Real, Wanted, enrich
    from cxr.synthesis.samplers import folder_of, open_sampler
    from cxr.training.machine import fabric

    findings = [slug(finding(name)) for name in findings]
    rows = read_table(table, columns=COLUMNS).assign(synthetic=False)
    splits, split_info = read_split(split, "chexpert")
    train = in_view(rows[rows["split"] == "train"], view)
    guard(train, splits, by=split_info.by, what=str(table))
    machine = fabric(precision)
    folders = {name: folder_of(gans, name, samplers) for name in findings}
    opened = {folder: open_sampler(folder, machine.setup) for folder in dict.fromkeys(folders.values())}
    serving = {name: opened[folder] for name, folder in folders.items()}
    for name, sampler in serving.items():
        balance.check(labels, negatives, view, sampler, views)
        _check_judged(name, sampler, fidelity, split_info.sha256, max_duplicates)

    counts = balance.wanted(train, findings, target_prevalence, dose, negatives)
    asked = {name: Wanted(generated, without) for name, (_, generated, without) in counts.items()}
    known = load(records, "chexpert").set_index("image_id") if any(s.whole for s in serving.values()) else None
    ensemble = (
        None if filter == "none" else _baselines(filter, classifiers, predictions, policy, findings, machine.device)
    )
    enriched, images = enrich(
        serving, rows, Real(train, known, views), asked, labels, size, seed + repeat, ensemble, filter
    )  # fmt: skip
    index = enriched.loc[enriched["synthetic"], ["image_id"]].reset_index(drop=True)
    sizes = {name: {"gan_images": s.meta.images, "gan_epochs": s.meta.epochs} for name, s in serving.items()}
    numbers = balance.plan(train, in_view(enriched, view), counts, sizes)
    kind = serving[findings[0]].meta.kind
    plan = Plan(
        target_prevalence=target_prevalence, kind=kind, dose=dose, labels=labels, views=views, filter=filter,
        split_sha256=split_info.sha256, **numbers,
    )  # fmt: skip
    with atomic(out) as folder:
        folder.mkdir()
        write_table(folder / "table.parquet", enriched)
        write_store(folder / "images", images, index)
        write_json(folder / "plan.json", plan)
    for name, part in plan.findings.items():
        change = f"{part.prevalence_before:.1%} -> {part.prevalence_after:.1%}"
        print(f"balance: {name}: {part.positives:,} real + {part.generated:,} generated, {change}")


def _baselines(
    filter: str, classifiers: Path | None, predictions: Path | None, policy: str, findings: list[str],
    device: "torch.device",
) -> "Ensemble":  # fmt: skip
    """The baselines of all seeds, which a filter asks. Raises ValueError without their folders."""
    from cxr.synthesis.agreement import open_ensemble

    if classifiers is None or predictions is None:
        raise ValueError(f"balance.filter = {filter} needs --classifiers and --predictions")
    models = sorted(classifiers.glob(f"*/{policy}"))
    scores = [predictions / model.parent.name / f"{policy}.parquet" for model in models]
    return open_ensemble(models, scores, findings, device)


def _check_judged(name: str, sampler: "Sampler", fidelity: Path, split_sha256: str, max_duplicates: float) -> None:
    """Raises ValueError for a generator of another split, one that was not judged, and one that copies."""
    from cxr.core.files import read_json, sha256
    from cxr.fidelity.formats import Fidelity
    from cxr.synthesis.balance import check_copies
    from cxr.synthesis.samplers import judge_of, judged_in, stage_of

    folder, path = sampler.folder, judged_in(fidelity, sampler.folder, name) / "fidelity.json"
    if sampler.meta.split_sha256 != split_sha256:
        cure = f"run {stage_of(folder)} again"
        raise ValueError(f"{folder}: was trained on another split, so held-out patients may be in it; {cure}")
    judged, weights = read_json(path, judge_of(folder), Fidelity), folder / "generator.safetensors"
    if judged.generator_sha256 != sha256(weights):
        cure = f"`dvc repro -f {judge_of(folder)}` judges this one"
        raise ValueError(f"{path}: judges another generator than {weights}; {cure}")
    check_copies(name, judged.memorisation.duplicates, judged.generated, path.parent, max_duplicates)


if __name__ == "__main__":
    main(run)
