"""The command `cxr`: every stage of dvc.yaml, and the tools beside the pipeline.

In a checkout `python -m stages` is the same command.
"""

import importlib
from typing import Annotated

import typer
from typer.core import TyperGroup

from cxr import __version__

from .cli import app_of, execute

# In the order of the pipeline.
STAGES = (
    "download", "explore", "audit", "resize", "split", "external_data", "extra_data", "label", "diffusion",
    "classifier", "relabel", "gan", "projection", "editing", "fidelity", "balance", "explain", "calibrate", "external",
    "arm", "encoder", "adgm", "evaluate", "report",
)  # fmt: skip
TOOLS = ("predict", "export", "generate", "repro", "distribute", "checkpoints")


class Commands(TyperGroup):
    """The commands, each imported when its name or the whole list is asked for."""

    def list_commands(self, ctx) -> list[str]:
        return [*STAGES, *TOOLS]

    def get_command(self, ctx, cmd_name: str):
        if cmd_name not in self.list_commands(ctx):
            return None
        module = importlib.import_module(f".{cmd_name}", __package__)
        return typer.main.get_command(app_of(module.run))

    def format_commands(self, ctx, formatter) -> None:
        for title, names in (("Stages, in the order of the pipeline", STAGES), ("Tools", TOOLS)):
            with formatter.section(title):
                formatter.write_dl([(name, self.get_command(ctx, name).help.splitlines()[0]) for name in names])


app = typer.Typer(
    cls=Commands,
    invoke_without_command=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def cxr(ctx: typer.Context, version: Annotated[bool, typer.Option("--version", help="print it, and end")] = False):
    """Two chest X-ray studies, stage by stage. `cxr STAGE --help` lists a stage's options."""
    if version:
        print(__version__)
        raise typer.Exit()
    if ctx.invoked_subcommand is None:
        print(ctx.get_help())


def main() -> None:
    """Run the command line of this process, and exit."""
    execute(app, "cxr")


if __name__ == "__main__":
    main()
