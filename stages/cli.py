"""What every stage's command line shares.

DVC passes a section of params.yaml as `--key value` with the key's own underscores, booleans as `--key` / `--no-key`
and lists as a repeated `--key` (.dvc/config sets both). Typer declares options with dashes; `main` makes the two meet.
What a user supplied wrongly, an option or a file (ValueError), ends as one line on stderr and exit code 1.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path


def root() -> Path:
    """The repository, also from DVC's temporary experiment folders (.dvc/tmp/exps/...) inside it."""
    here = Path.cwd()
    for parent in here.parents:
        if parent.name == ".dvc" and (parent / "config").exists():
            return parent.parent
    return here


def state_dir() -> Path:
    """The folder that outlives a stage's outs: $CXR_STATE, or the repository's .checkpoints."""
    if chosen := os.environ.get("CXR_STATE"):
        return Path(chosen)
    return root() / ".checkpoints"


def located(path: str) -> str:
    """A file or folder as the user wrote it, relative to the repository, from where this process runs. Addresses
    (s3://, kaggle:) and names of what is no file are given back as they are.
    """
    here = root()
    file = here / Path(path).expanduser()
    return str(file) if here != Path.cwd() and ":" not in path and file.exists() else path


def instances_of(policy: str) -> tuple[str, str]:
    """The stage instances that make a policy's label table and its model."""
    label, baseline = ("relabel", "selftrain") if policy == "u_selftrained" else ("label", "baseline")
    return f"{label}@{policy}", f"{baseline}@{policy}"


def app_of(command: Callable):
    """The Typer application of one stage's function."""
    import typer

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(command)
    return app


def main(command: Callable, arguments: list[str] | None = None) -> None:
    """Run a stage's function as the whole command line of its file, and exit."""
    # Idle OpenMP threads spin only shortly before they sleep. By default they spin for milliseconds, which made a
    # training ten times slower as soon as anything else ran beside it. Read when torch is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    arguments = sys.argv[1:] if arguments is None else arguments
    arguments = [a.replace("_", "-") if a.startswith("--") and "=" not in a else a for a in arguments]
    file = Path(sys.argv[0])  # final and selftrain run baseline's function
    name = file.stem if file.parent.name == "stages" else command.__module__.rsplit(".", 1)[-1]
    try:
        code = app_of(command)(arguments, standalone_mode=False)
    except ValueError as error:
        message = str(error)
    except OSError as error:  # a full disk, a folder that may not be written
        message = f"{error.filename or 'writing'}: {error.strerror or error}"
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the command line's own errors: a bug, shown whole
            raise
        message = error.format_message()
    else:
        sys.exit(code or 0)
    print(f"{name}: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(1)
