"""What every stage's command line shares.

DVC passes a section of params.yaml as `--key value` with the key's own underscores, booleans as `--key` / `--no-key`
and lists as a repeated `--key` (.dvc/config sets both).
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path

import typer
from typer.core import TyperCommand

at_end = contextlib.ExitStack()  # what ends with the command, however it ends


def root() -> Path:
    """The repository's folder, also when the process runs in an experiment's temporary folder (.dvc/tmp/exps/...)."""
    here = Path.cwd()
    for parent in here.parents:
        if parent.name == ".dvc" and (parent / "config").exists():
            return parent.parent
    return here


def state_dir() -> Path:
    """The folder that outlives a stage's outs: $CXR_STATE, or .checkpoints in the repository."""
    if chosen := os.environ.get("CXR_STATE"):
        return Path(chosen)
    return root() / ".checkpoints"


def located(path: str) -> str:
    """The user's path, which is relative to the repository, as this process must open it.

    An address (s3://, kaggle:) or a name without a file comes back unchanged.
    """
    here = root()
    file = here / Path(path).expanduser()
    return str(file) if here != Path.cwd() and ":" not in path and file.exists() else path


def instances_of(policy: str, seed: int | str) -> tuple[str, str]:
    """The stage instances that make a policy's label table and its model of one seed."""
    label, baseline = ("relabel", "selftrain") if policy == "u_selftrained" else ("label", "baseline")
    return f"{label}@{policy}", f"{baseline}@{policy}-{seed}"


class StageCommand(TyperCommand):
    """A stage's command, each of whose options is accepted in DVC's spelling too: --test_images for --test-images,
    --no-spectral_norm for --no-spectral-norm."""

    def parse_args(self, ctx, args: list[str]) -> list[str]:
        names = [name for option in self.params for name in (*option.opts, *option.secondary_opts)]
        dashed = {name.replace("-", "_"): name for name in names if name.startswith("--")}
        words = [word.partition("=") for word in args]
        words = [(dashed.get(name.replace("-", "_"), name), *rest) for name, *rest in words]
        return super().parse_args(ctx, ["".join(word) for word in words])


def app_of(command: Callable) -> typer.Typer:
    """The Typer application of one stage's function."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command(cls=StageCommand)(command)
    return app


def main(command: Callable, arguments: list[str] | None = None) -> None:
    """Run a stage's function as the command line of its file, and exit. arguments: default this process's."""
    execute(app_of(command), Path(inspect.unwrap(command).__code__.co_filename).stem, arguments)


def execute(app: typer.Typer, name: str, arguments: list[str] | None = None) -> None:
    """Run a command line and exit. What the user can mend is one line on stderr, which starts with `name`, and exit
    code 1; an error of ours keeps its traceback.
    """
    # Idle OpenMP threads spin only shortly before they sleep. By default they spin for milliseconds, which made a
    # training ten times slower as soon as anything else ran beside it. torch reads this when it is imported.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        with at_end:
            code = app(arguments, standalone_mode=False)
    except ValueError as error:
        message = str(error)
    except OSError as error:  # a full disk, a folder that may not be written
        message = f"{error.filename or 'writing'}: {error.strerror or error}"
    except Exception as error:
        if not hasattr(error, "format_message"):  # not one of the command line's own errors
            raise
        message = error.format_message()
    else:
        sys.exit(code or 0)
    print(f"{name}: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    sys.exit(1)
