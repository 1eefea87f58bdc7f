"""generate: X-rays of a trained generator as PNG files.

cxr generate models/gan/0/pneumonia -n 500 --out images/
"""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .cli import main, root
from .options import Seed


def run(
    generator: Annotated[Path, Argument(help="folder of a generator, as the stage gan writes it")],
    out: Annotated[Path, Option(help="folder for the images and table.csv; a new or an empty one")],
    n: Annotated[int, Option("-n", "--n", min=1, max=1_000_000, help="number of X-rays")] = 100,
    finding: Annotated[
        str | None, Option(help="of a generator of several findings: the one whose X-rays are wanted")
    ] = None,
    fidelity: Annotated[
        Path | None, Option(help="folder that the stage fidelity wrote for it; default: where dvc.yaml puts it")
    ] = None,
    max_duplicates: Annotated[
        float, Option(min=0.0, max=1.0, help="largest share of its images that may be copies of training images")
    ] = 0.05,
    force: Annotated[bool, Option(help="generate although fidelity refused it, or never judged it")] = False,
    seed: Seed = 0,
) -> None:
    """Write X-rays of a generator as PNG files with a table. The same seed gives the same X-rays."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    from cxr.core.files import Progress, atomic, sha256, write_table
    from cxr.core.findings import finding as official
    from cxr.core.findings import slug
    from cxr.gan import generators, nets
    from cxr.synthesis import generate
    from cxr.training.machine import device

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out}: is not empty; give a new folder")
    if not generator.is_dir():
        raise ValueError(f"{generator}: no such folder; give a generator's, such as that of the stage gan")
    generator = generator.resolve()
    meta, members = generate.read(generator), generators.members(generator.name)
    name = slug(official(finding)) if finding else members[0]
    if name not in members or (len(members) > 1 and not finding):
        raise ValueError(f"--finding {finding}: {generator.name} makes X-rays of {', '.join(members)}: choose one")
    weights = sha256(generator / "generator.safetensors")
    reports = fidelity or root() / "reports" / "fidelity" / generator.parent.name / generator.name
    judged = reports / name if len(members) > 1 and not (reports / "fidelity.json").exists() else reports
    if not force and (reason := refusal(judged / "fidelity.json", weights, max_duplicates)):
        raise ValueError(f"{generator}: {reason}; --force generates all the same")

    machine = device()
    g = generate.generator(generator, meta).to(machine)
    labels = np.array([[float(member == name) for member in members]], np.float32)
    files = [f"{name}-{k:06d}.png" for k in range(n)]
    with atomic(out) as folder, Progress("generate", n) as progress:
        folder.mkdir()
        for start in range(0, n, 1024):
            many = min(1024, n - start)
            y = labels.repeat(many, axis=0) if meta.mode == "conditional" else None
            images = nets.generate(g, many, meta.z_dim, seed, 5, start, device=machine, labels=y)  # balance has 4
            for file, image in zip(files[start : start + many], images, strict=True):
                Image.fromarray(image).save(folder / file)
            progress.update(many)
        table = pd.DataFrame({"file": files, "finding": name, "seed": seed, "generator_sha256": weights})
        write_table(folder / "table.csv", table)
    print(f"generate: {n:,} X-rays of {name}, {meta.size} px")


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
