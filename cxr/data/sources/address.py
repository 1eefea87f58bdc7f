"""Opens a source, as the user writes it, as a tree of files on this machine, and describes it in a manifest.

A source is `phantom` (a made-up cohort), a folder, a .zip, the http(s):// or s3:// address of a .zip, an s3:// address
that ends in / (a folder, read where it lies), or `kaggle:<handle>` (owner/dataset, or a competition's name).
`#sha256=<hex>` after an address checks the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cxr.core.files import sha256
from cxr.data.formats import Manifest, Recipe
from cxr.data.sources.archive import MAX_FILE, Folder, Tree, Zip
from cxr.data.sources.prefix import Prefix
from cxr.data.sources.remote import download, public
from cxr.data.sources.rsna_patients import Patients, parse, within

if TYPE_CHECKING:
    from cxr.data.phantom.sites import Site

KINDS = (
    "phantom, a folder, a .zip, the http(s):// or s3:// address of a .zip, s3://.../ of a folder, or kaggle:<handle>"
)
FILE_KINDS = "a file, a folder or .zip that holds it, the http(s):// or s3:// address of either, or kaggle:<handle>"


def open_source(
    source: str, dataset: str, downloads: str | os.PathLike, recipe: Recipe | None = None
) -> tuple[Tree, str]:
    """The tree of a source, and its kind: phantom, folder, zip, http, s3 or kaggle.

    dataset: chexpert or rsna. downloads: folder that keeps downloads and phantoms; a whole file there is used without
    asking the server. recipe: the phantom's size and seed. Raises ValueError when the source does not exist or can't be
    downloaded.
    """
    downloads = Path(downloads)
    if source == "phantom":
        assert recipe is not None
        return Zip(_phantom(dataset, downloads, recipe)), "phantom"
    if source.startswith("kaggle:"):
        return _local(_kaggle(source.removeprefix("kaggle:"), downloads), source), "kaggle"
    if scheme := _scheme(source, f"a source is {KINDS}"):
        if scheme == "s3" and source.endswith("/"):
            return Prefix(source), "s3"
        file = downloads / f"{dataset}-{_short_hash(source)}.zip"
        return Zip(
            _once(file, lambda file: download(source, file, _check_zip(source)))
        ), "s3" if scheme == "s3" else "http"
    tree = _local(Path(source).expanduser(), source)
    return tree, tree.kind


def read_patients(source: str, downloads: str | os.PathLike) -> tuple[Patients, str]:
    """The mapping of RSNA's images to patients that data.rsna_patients names, and the SHA-256 of its bytes.

    source: a .json, a folder or .zip that holds MAPPING, an address of either, or kaggle:<handle>. downloads: as of
    open_source. Raises ValueError as open_source does, for a source that holds no mapping or several, and as
    rsna_patients.parse does for what the mapping holds.
    """
    name = f"data.rsna_patients ({public(source)})"
    opened = _open_file(source, Path(downloads), lambda file: None if zipfile.is_zipfile(file) else _parsed(file, name))
    data = opened.read(within(opened)) if isinstance(opened, Tree) else opened.read_bytes()
    return parse(data, name), hashlib.sha256(data).hexdigest()


def _parsed(file: Path, name: str) -> None:
    parse(file.read_bytes(), name)


def _open_file(source: str, downloads: Path, check: Callable[[Path], None]) -> Path | Tree:
    """The file that a source names, or the folder or .zip that holds it. check raises ValueError for a wrong one."""
    if source.startswith("kaggle:"):
        path = _kaggle(source.removeprefix("kaggle:"), downloads)
    elif _scheme(source, f"give {FILE_KINDS}"):
        path = _once(downloads / f"file-{_short_hash(source)}.bin", lambda file: download(source, file, check))
    else:
        path = Path(source).expanduser()
    if path.is_dir():
        return Folder(path)
    if not path.is_file():
        raise ValueError(f"{source!r}: no such file or folder; give {FILE_KINDS}")
    if zipfile.is_zipfile(path):
        return Zip(path)
    if (size := path.stat().st_size) > MAX_FILE:
        raise ValueError(f"{source!r} has {size:,} bytes: more than {MAX_FILE:,} are refused")
    return path


def describe(
    tree: Tree, kind: str, tables: Iterable[str], images: Iterable[str], recipe: Recipe | None = None, **more: str
) -> Manifest:
    """The manifest of a data set. tables, images: names in the tree. more: fields that only this data set has.

    It holds no path of this machine.
    """
    manifest: dict = {"kind": kind}
    if recipe is not None:
        manifest["recipe"] = recipe
    manifest["images"] = manifest["bytes"] = 0
    for image in images:
        manifest["images"] += 1
        manifest["bytes"] += tree.size(image)
    manifest["tables"] = {name: tree.sha256(name) for name in tables}
    if isinstance(tree, Zip):
        manifest["zip"] = {"bytes": tree.root.stat().st_size, "sha256": sha256(tree.root)}
    return Manifest(**manifest, **more)


def check_unchanged(tree: Tree, manifest: Manifest, dataset: str) -> None:
    """Raise ValueError when a label table differs from the one that the records were read from."""
    for name, expected in manifest.tables.items():
        if name not in tree.names():
            problem = "is gone"
        elif tree.sha256(name) != expected:
            problem = "has changed"
        else:
            continue
        raise ValueError(
            f"{name} in {tree.root} {problem} since the download stage: run dvc repro -f download@{dataset}"
        )


def _scheme(source: str, cure: str) -> str | None:
    """http, https or s3 of an address, None of a path. Raises ValueError, with the cure, for another scheme."""
    scheme, separator, _ = source.partition("://")
    if separator and scheme not in ("http", "https", "s3"):
        raise ValueError(f"source {public(source)!r}: {scheme}:// is not known; {cure}")
    return scheme if separator else None


def _local(path: Path, source: str) -> Tree:
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Zip(path)
    raise ValueError(f"source {source!r}: no such folder or file; a source is {KINDS}")


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _once(file: Path, make: Callable[[Path], None]) -> Path:
    """Make `file` unless it exists. Another process that wants it waits."""
    from filelock import FileLock

    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            make(file)
    return file


def _check_zip(source: str) -> Callable[[Path], None]:
    def check(file: Path) -> None:
        if not zipfile.is_zipfile(file):
            raise ValueError(
                f"{public(source)} is no .zip: give the archive's own address, not that of a page about it"
            )

    return check


def _phantom(dataset: str, downloads: Path, recipe: Recipe) -> Path:
    """The phantom's zip. Its name holds a hash of the recipe and of the phantom's code."""
    from cxr.data.phantom import cohort

    code = [sha256(file) for file in sorted(Path(cohort.__file__).parent.glob("*.py"))]
    write = {"chexpert": cohort.write_chexpert, "rsna": cohort.write_rsna}[dataset]
    options: dict = recipe.model_dump(exclude={"site"})
    if recipe.site is not None:
        options["site"] = _site(recipe.site, dataset)

    name = (
        f"phantom-{dataset}-{_short_hash(json.dumps([recipe.model_dump(exclude_none=True), code], sort_keys=True))}.zip"
    )
    return _once(downloads / name, lambda file: write(file, **options))


def _site(number: int, dataset: str) -> Site:
    """The phantom's hospital of this number. Raises ValueError for another number, and for RSNA, which has one."""
    from cxr.data.phantom import sites

    known = {1: sites.FIRST, 2: sites.SECOND}
    if number not in known or dataset != "chexpert":
        raise ValueError(f"site = {number}: the phantom has a second hospital for chexpert alone; give 1 or 2")
    return known[number]


def _kaggle(handle: str, downloads: Path) -> Path:
    os.environ.setdefault("KAGGLEHUB_CACHE", str(downloads / "kaggle"))
    try:
        import kagglehub
    except ImportError as error:
        raise ValueError("a kaggle: source needs kagglehub: pip install 'cxr[kaggle]'") from error
    get = kagglehub.dataset_download if "/" in handle else kagglehub.competition_download
    try:
        return Path(get(handle))
    except Exception as error:  # its own exceptions, requests' and the system's
        raise ValueError(
            f"kaggle:{handle}: {type(error).__name__}: {error}; accept the dataset's terms on kaggle.com, and log in: "
            f"python -c 'import kagglehub; kagglehub.login()'"
        ) from error
