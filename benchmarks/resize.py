"""Image files -> packed stores, beside a loop that decodes each file in full for each size.

python -m benchmarks.resize
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import inputs
from benchmarks.timing import Line, agree, main, side_by_side
from cxr.data.pack import pack
from cxr.data.sources.archive import Folder

GRAY_LEVELS = 2.0  # how far a scaled decode may lie from a full one, on average over the pixels


def plain_jpeg(paths: list[Path], size: int, file: Path) -> np.ndarray:
    """As most write it: open, convert, resize by PIL's default filter (antialiased bicubic)."""
    images = [np.asarray(Image.open(path).convert("L").resize((size, size))) for path in paths]
    np.save(file, np.stack(images))
    return np.stack(images)


def plain_dicom(paths: list[Path], size: int, file: Path) -> np.ndarray:
    """As most write it: pydicom's pixels, scikit-image's antialiased resize."""
    import pydicom
    from skimage.transform import resize

    images = [resize(pydicom.dcmread(path).pixel_array, (size, size), anti_aliasing=True) for path in paths]
    gray = np.round(np.stack(images) * 255).astype(np.uint8)
    np.save(file, gray)
    return gray


def packed(folder: Path, table, sizes: list[int], out: Path, processes: int = 1) -> list[np.ndarray]:
    """This project's stores, N x S x S for each size."""
    with contextlib.redirect_stderr(io.StringIO()):  # the progress of hundreds of runs
        rejected = pack(Folder(folder), table, sizes, out, processes, max_rejected=0)
    assert rejected.empty
    return [np.load(out / str(size) / "images.npy") for size in sizes]


def close(ours: list[np.ndarray], plain: list[np.ndarray]) -> str:
    """Raises Difference when an image lies further than GRAY_LEVELS from its antialiased full decode. Ours holds the
    files several times over.
    """
    means = [np.abs(a[: len(b)].astype(np.int16) - b).mean((1, 2)).max() for a, b in zip(ours, plain, strict=True)]
    return agree(float(max(means)), GRAY_LEVELS, "mean gray level difference, worst image")


def same(ours: list[np.ndarray], plain: list[np.ndarray]) -> str:
    changed = sum(int((a != b).sum()) for a, b in zip(ours, plain, strict=True))
    return agree(changed, 0, "bytes that differ")


def lines(quick: bool) -> Iterator[Line]:
    repeats = 1 if quick else 5
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        full, sizes = (inputs.SMALL, [96, 64]) if quick else (inputs.FULL, [224, 128])
        paths = inputs.files(folder / "full", 3 if quick else 12, full)
        once = inputs.records(paths, 1 if quick else 4)  # enough for what a store costs whatever its size not to count
        yield side_by_side(
            f"resize, {full[1]} x {full[0]} JPEG ({inputs.size_of(paths)}) to {sizes[0]} and {sizes[1]}, one process",
            lambda: packed(folder / "full", once, sizes, folder / "ours"),
            lambda: [plain_jpeg(paths, size, folder / f"plain{size}.npy") for size in sizes],
            close,
            unit="image",
            per=len(once),
            plain_per=len(paths),
            repeats=repeats,
            bar=5,
        )
        many = inputs.records(paths, 12 if quick else 80)  # enough for the start of two processes not to count
        yield side_by_side(
            f"resize, the same, two processes ({len(many)} images) against one",
            lambda: packed(folder / "full", many, sizes, folder / "ours", 2),
            lambda: packed(folder / "full", many, sizes, folder / "ours", 1),
            same,
            unit="image",
            per=len(many),
            repeats=repeats,
            bar=1.8,
        )
        challenge, size = ((256, 256), 65) if quick else (inputs.CHALLENGE, 225)
        scans = inputs.files(folder / "dicom", 3 if quick else 24, challenge, inputs.dicom)
        once = inputs.records(scans, 1 if quick else 16)
        yield side_by_side(
            f"resize, {challenge[0]} x {challenge[1]} DICOM ({inputs.size_of(scans)}) to {size}, one process",
            lambda: packed(folder / "dicom", once, [size], folder / "ours"),
            lambda: [plain_dicom(scans, size, folder / "plain.npy")],
            close,
            unit="image",
            per=len(once),
            plain_per=len(scans),
            repeats=repeats,
            bar=12,
        )


if __name__ == "__main__":
    main(lines)
