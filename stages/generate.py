"""generate: X-rays of a trained generator as PNG files.

cxr generate models/gan/0/pneumonia -n 500 --out images/
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from .cli import main, root
from .options import Seed

if TYPE_CHECKING:
    import numpy as np

    from cxr.synthesis.samplers import Sampler


def run(
    generator: Annotated[
        Path, Argument(help="folder of a generator, as the stages gan, diffusion, projection and editing write it")
    ],
    out: Annotated[Path, Option(help="folder for the images and table.csv; a new or an empty one")],
    n: Annotated[int, Option("-n", "--n", min=1, max=1_000_000, help="number of X-rays")] = 100,
    finding: Annotated[
        list[str], Option(help="a finding that the X-rays show; repeatable where the generator's condition has several")
    ] = (),
    sex: Annotated[Literal["F", "M"] | None, Option(help="of the patients, where it is a condition")] = None,
    age: Annotated[float | None, Option(min=0, max=110, help="years, where it is a condition")] = None,
    view: Annotated[Literal["AP", "PA"] | None, Option(help="where it is a condition")] = None,
    fidelity: Annotated[
        Path | None, Option(help="folder of the fidelity stage, in it a folder a seed; default: where dvc.yaml puts it")
    ] = None,
    max_duplicates: Annotated[
        float, Option(min=0.0, max=1.0, help="largest share of its images that may be copies of training images")
    ] = 0.05,
    force: Annotated[bool, Option(help="generate although fidelity refused it, or never judged it")] = False,
    seed: Seed = 0,
) -> None:
    """Write X-rays of a generator as PNG files with a table. The same seed gives the same X-rays."""
    import pandas as pd
    from PIL import Image

    from cxr.core.files import Progress, atomic, sha256, write_table
    from cxr.core.findings import finding as official
    from cxr.core.findings import slug
    from cxr.synthesis.generate import BLOCK
    from cxr.synthesis.samplers import judged_in, open_sampler
    from cxr.training.machine import device

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is not empty; give a new folder")
    if not generator.is_dir():
        raise ValueError(f"{generator}: no such folder; give a generator's, such as that of the stage gan")
    machine, generator = device(), generator.resolve()
    sampler = open_sampler(generator, lambda net: net.to(machine))
    names = [slug(official(name)) for name in finding] or sampler.findings[:1]
    several = len(sampler.findings) > 1
    if (several and not finding) or (len(names) > 1 and not sampler.conditional) or set(names) - set(sampler.findings):
        raise ValueError(
            f"--finding {', '.join(finding) or 'is missing'}: {generator.name} makes X-rays of "
            f"{', '.join(sampler.findings)}: choose {'some' if sampler.conditional else 'one'} of them"
        )
    if (sampler.edits or not sampler.whole) and (sex or age is not None or view):
        raise ValueError(f"{generator.name} takes no sex, age or view: leave --sex, --age and --view out")
    weights = sha256(generator / "generator.safetensors")
    reports = fidelity or root() / "reports" / "fidelity"
    for judged in dict.fromkeys(judged_in(reports, generator, name) for name in names):
        if not force and (reason := refusal(judged / "fidelity.json", weights, max_duplicates)):
            raise ValueError(f"{generator}: {reason}; --force generates all the same")

    encoded, about = _conditions(sampler, names, n, {"sex": sex, "age": age, "view": view}, seed)
    label = "+".join(names)
    files = [f"{label}-{k:06d}.png" for k in range(n)]
    with atomic(out) as folder, Progress("generate", n) as progress:
        folder.mkdir()
        for start in range(0, n, BLOCK):
            many = min(BLOCK, n - start)
            y = None if encoded is None else encoded[start : start + many]
            for file, image in zip(files[start:], sampler.sample(many, y, seed, 5, start), strict=False):  # balance: 4
                Image.fromarray(image).save(folder / file)
            progress.update(many)
        table = pd.DataFrame({"file": files, "finding": label, "seed": seed, "generator_sha256": weights})
        write_table(folder / "table.csv", table.assign(**about))
    print(f"generate: {n:,} X-rays of {label}, {sampler.meta.size} px")


def _conditions(
    sampler: "Sampler", names: list[str], n: int, patient: dict[str, object], seed: int
) -> "tuple[np.ndarray | None, dict[str, object]]":
    """(the conditions of n X-rays that show the findings, N x K, or None; columns of table.csv about them)."""
    import numpy as np
    import pandas as pd

    from cxr.core.findings import FINDINGS, finding

    if sampler.edits:
        asked = sampler.draw(names, n, np.random.default_rng([seed, 5]))
        return sampler.encode(asked), {"source": asked["image_id"].to_numpy()}
    row = dict.fromkeys(FINDINGS, 0.0) | {finding(name): 1.0 for name in names} | patient
    encoded = sampler.encode(pd.DataFrame([row | {"projection": "frontal"}])) if sampler.conditional else None
    return None if encoded is None else encoded.repeat(n, axis=0), patient if sampler.whole else {}


def refusal(file: Path, weights: str, most: float) -> str | None:
    """Why a generator is refused, or None. file: its fidelity.json; weights: its SHA-256; most: share of duplicates."""
    from cxr.core.files import read_json
    from cxr.fidelity.formats import Fidelity

    if not file.is_file():
        return f"whether it copies training images was never judged (no {file})"
    judged = read_json(file, "fidelity", Fidelity)
    if judged.generator_sha256 != weights:
        return f"{file} judges another generator"
    copied = judged.memorisation.duplicates
    if copied is None:
        return f"{file} could not judge whether it copies training images: it had no held-out X-ray"
    if copied > most:
        return f"{copied:.1%} of its X-rays copy training images, more than max_duplicates = {most:g}"
    return None


if __name__ == "__main__":
    main(run)
