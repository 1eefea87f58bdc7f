"""One page: the data, the results and the parameters of the run, beside the papers' numbers.

python -m stages.report --explore reports/explore ... --out reports/report.html (dvc.yaml has the whole line)
"""

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from .cli import instances_of, main
from .options import RARE


def run(
    explore: Annotated[Path, Option(help="folder of explore's tables")],
    audit: Annotated[Path, Option(help="folder of the papers' audit")],
    chexpert: Annotated[Path, Option(help="folder of CheXpert's records and manifest")],
    rsna: Annotated[Path, Option(help="folder of RSNA's records and manifest")],
    splits: Annotated[Path, Option(help="folder of the splits")],
    stores: Annotated[Path, Option(help="folder of the stores, with rejected.csv for each data set")],
    history: Annotated[Path, Option(help="folder of the classifiers' training curves")],
    gan: Annotated[Path, Option(help="folder of the GANs' grids and losses: a folder a seed, in it one a generator")],
    fidelity: Annotated[Path, Option(help="folder of fidelity's results: a folder a seed, in it one a generator")],
    balanced: Annotated[Path, Option(help="folder of balance's results, one a seed")],
    adgm: Annotated[Path, Option(help="folder of the ADGMs' curves and samples")],
    models: Annotated[Path, Option(help="folder of the models")],
    predictions: Annotated[Path, Option(help="folder of the classifiers' predictions")],
    store: Annotated[Path, Option(help="CheXpert's store of the classifiers' size")],
    evaluate: Annotated[Path, Option(help="folder of evaluate's tables")],
    explain: Annotated[Path, Option(help="folder of explain's results")],
    params: Annotated[Path, Option(help="parameters of the run; the page lists them")],
    out: Annotated[Path, Option(help="the page")],
    tables: Annotated[Path, Option(help="folder of the page's tables as CSV")],
    previews: Annotated[Path, Option(help="folder of the page's main figures as PNG")],
    documents: Annotated[Path, Option(help="folder of model cards and datasheets")],
    policies: Annotated[list[str], Option(help="label policies that have a baseline")] = ("u_zeroes", "u_ones"),
    selftrained: Annotated[list[str], Option(help="u_selftrained, or none")] = (),
    findings: Annotated[list[str], Option(help="findings that have a generator")] = RARE,
    generators: Annotated[list[str], Option(help="the DCGANs, by their findings joined by +; none: no DCGAN")] = (),
    samplers: Annotated[list[str], Option(help="the generators whose X-rays balance the training table")] = RARE,
    diffusion_seeds: Annotated[list[int], Option(min=0, help="seeds of the diffusion models; none: no model")] = (),
    projection_seeds: Annotated[list[int], Option(min=0, help="seeds of the projection GANs; none: no GAN")] = (),
    editing_seeds: Annotated[list[int], Option(min=0, help="seeds of the edited X-rays; none: not edited")] = (),
    arms: Annotated[list[str], Option(help="the study's arms; none: no study")] = (),
    seeds: Annotated[list[int], Option(min=0, help="one training of each classifier, GAN and arm for each seed")] = (
        0,
    ),
    variants: Annotated[list[str], Option(help="the ADGM's variants and control arms; none: no ADGM")] = (),
    feature_variants: Annotated[list[str], Option(help="the variants and control arms of an encoder's features")] = (),
    classes: Annotated[list[int], Option(min=2, max=3, help="the ADGM's tasks")] = (),
    labels: Annotated[list[int], Option(min=1, help="the ADGM's labels per class")] = (),
    draws: Annotated[list[int], Option(min=0, help="the draws of the ADGM's labels")] = (),
    final_policy: Annotated[str, Option(help="label policy of the final classifier")] = "u_zeroes",
    extra_data: Annotated[Path | None, Option(help="folder of the stage extra_data, in it a folder a data set")] = None,
    error_images: Annotated[
        Literal["phantom", "always", "never"], Option(help="whether the page shows X-rays that were misread")
    ] = "phantom",
    verdict_p: Annotated[
        float, Option(min=0.0, max=1.0, help="largest p at which the page gives a verdict on trained networks")
    ] = 0.005,
) -> None:
    """Write the report."""
    import yaml

    from cxr.report.compose import gather, write
    from cxr.report.inputs import Artefacts

    try:
        shown = yaml.safe_load(params.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{params}: no readable YAML ({error}); `git checkout {params}` restores it") from error
    first = str(seeds[0])
    context = gather(
        Artefacts(
            explore=explore, audit=audit, chexpert=chexpert, rsna=rsna, splits=splits, stores=stores, history=history,
            gan=gan / first, fidelity=fidelity / first, balanced=balanced / first / "plan.json",
            adgm=adgm, models=models, evaluate=evaluate, explain=explain,
            predictions=predictions, store=store, error_images=error_images, verdict_p=verdict_p,
            samplers=list(samplers), diffusion_seeds=list(diffusion_seeds),
            projection_seeds=list(projection_seeds), editing_seeds=list(editing_seeds),
            policies=[*policies, *selftrained], findings=list(findings), generators=list(generators), arms=list(arms),
            seeds=list(seeds), classes=list(classes), labels=list(labels), draws=list(draws),
            variants=[*variants, *feature_variants], final_policy=final_policy, params=shown,
            extra_data=extra_data,
            trainers={policy: instances_of(policy, first)[1] for policy in (*policies, *selftrained)},
        )
    )  # fmt: skip
    write(context, out, tables, previews, documents)
    print(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")


if __name__ == "__main__":
    main(run)
