"""Writes the pages that repeat what the code says: the parameters, the pipeline, the commands and the file formats in
docs/reference/; the graph of stages and the demo's numbers in README.md.

    python -m docs.generate

tests/docs compares what it would write with what is committed.
"""

from __future__ import annotations

import csv
import functools
import importlib
import inspect
import json
import pkgutil
import re
import subprocess
import tempfile
import types
import typing
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTE = "<!-- Written by `python -m docs.generate`. Edit the code, not this page. -->\n"
MERMAID = re.compile(r"```mermaid\n.*?```", re.S)
RESULTS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)", re.S)
# What stages of dvc.yaml are given under another name than the parameter's own.
RENAMED = {("data", "chexpert"): ("download", "source"), ("data", "rsna"): ("download", "source")}


@functools.cache
def read_yaml(path: str) -> dict:
    """A YAML file of the repository."""
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def stage_bodies() -> dict[str, dict]:
    """Stage -> its part of dvc.yaml, without the foreach around it."""
    return {name: stage.get("do", stage) for name, stage in read_yaml("dvc.yaml")["stages"].items()}


def command_of(stage: dict) -> str:
    """The name of the file in stages/ that a stage runs."""
    return re.match(r"(?:python -m stages\.|cxr )(\w+)", stage["cmd"]).group(1)


# Options


class Setting(typing.NamedTuple):
    """One option of a command, as its signature declares it. name: with underscores, as in params.yaml."""

    name: str
    kind: str
    default: str
    text: str


def command_names() -> list[str]:
    """Every file in stages/ that is a command, in alphabetical order."""
    files = sorted(path.stem for path in (ROOT / "stages").glob("*.py"))
    return [name for name in files if hasattr(importlib.import_module(f"stages.{name}"), "run")]


@functools.cache
def settings(command: str) -> dict[str, Setting]:
    """Option -> what stages/<command>.py's `run` declares about it."""
    run = importlib.import_module(f"stages.{command}").run
    hints = typing.get_type_hints(run, include_extras=True)
    found = {}
    for name, parameter in inspect.signature(run).parameters.items():
        base, info = hints[name], None
        if typing.get_origin(base) is typing.Annotated:
            base, info = typing.get_args(base)[:2]
        default = "" if parameter.default is inspect.Parameter.empty else written(parameter.default)
        found[name] = Setting(name, kind_of(base, info), default, sentence(getattr(info, "help", None) or ""))
    return found


def kind_of(base: object, info: object) -> str:
    """A type and its range in words, such as `whole number, at least 1`."""
    if isinstance(base, types.UnionType):
        base = next(part for part in typing.get_args(base) if part is not types.NoneType)
    if typing.get_origin(base) is list:
        return f"list of {kind_of(typing.get_args(base)[0], info)}"
    if typing.get_origin(base) is typing.Literal:
        return ", ".join(f"`{choice}`" for choice in typing.get_args(base))
    names = {bool: "true or false", int: "whole number", float: "number", str: "text", Path: "path"}
    low, high = getattr(info, "min", None), getattr(info, "max", None)
    bounds = {
        (False, False): "", (False, True): f", at least {low}", (True, False): f", at most {high}",
        (True, True): f", {low} to {high}",
    }[high is not None, low is not None]  # fmt: skip
    return names.get(base, "text") + bounds


def written(value: object) -> str:
    """A value as params.yaml has it, in code marks. Short floats keep their exponent: 8e-4, not 0.0008."""
    if isinstance(value, list | tuple):
        return "`[" + ", ".join(written(item).strip("`") for item in value) + "]`"
    if isinstance(value, bool) or value is None:
        return f"`{str(value).lower()}`" if value is not None else "`none`"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def sentence(text: str) -> str:
    """Text for a table's cell: one line, no bars, a value before a colon in code marks, else a capital at the start."""
    text = " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
    text = re.sub(r"(^|[.;] )([a-z0-9_.]+):", r"\1`\2`:", text)
    return text[:1].upper() + text[1:]


def table(heads: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


# The pages


def comments(path: str) -> dict[tuple[str, str], str]:
    """(section, key) -> the comment behind that line of a parameter file; the key of a section's own line is empty."""
    section, found = "", {}
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        code, _, comment = line.partition(" # ")
        if match := re.match(r"(\w+):", code):
            section = match.group(1)
            found[section, ""] = comment
        elif match := re.match(r"  (\w+):", code):
            found[section, match.group(1)] = comment
    return found


def option_of(section: str, key: str) -> Setting | None:
    """The option that a parameter is passed to: `${section}` passes every key, `--option ${section.key}` one."""
    if renamed := RENAMED.get((section, key)):
        return settings(renamed[0])[renamed[1]]
    for stage in stage_bodies().values():
        named = re.search(rf"--([\w-]+) \$\{{{section}\.{key}\}}", stage["cmd"])
        name = named.group(1).replace("-", "_") if named else key
        if named or f"${{{section}}}" in stage["cmd"]:
            options = settings(command_of(stage))
            if name in options:
                return options[name]
    return None


def parameters() -> str:
    """reference/parameters.md: every parameter by section."""
    demo, paper, remarks = read_yaml("params.yaml"), read_yaml("presets/paper.yaml"), comments("presets/demo.yaml")
    page = [
        "# Parameters\n", NOTE,
        "Every key of `params.yaml`. *Default* is what the command uses when the option is missing; the pipeline",
        "always passes a value. *Demo* is `params.yaml` and `presets/demo.yaml`, *Paper* is `presets/paper.yaml`.",
        "A wrong value stops the stage with one line before any work starts.\n",
    ]  # fmt: skip
    for section, keys in demo.items():
        rows = []
        for key, value in keys.items():
            option = option_of(section, key)
            text = sentence(remarks[section, key]) or (option.text if option else "")
            kind, default = (option.kind, option.default) if option else ("list", "")
            if isinstance(value, list) and not kind.startswith("list"):
                kind = f"list of {kind}"
            rows.append([f"`{key}`", kind, default, written(value), written(paper[section][key]), text])
        page += [f"## {section}\n", sentence(remarks[section, ""]) + "\n" if remarks[section, ""] else ""]
        page.append(table(["Parameter", "Type and range", "Default", "Demo", "Paper", "What it is"], rows))
    return "\n".join(page)


def pipeline() -> str:
    """reference/pipeline.md: every stage, what it runs for, what it reads and what it writes."""
    page = [
        "# The pipeline\n",
        NOTE,
        "The stages of `dvc.yaml`, in its order. The arrows leave out what follows from others.\n",
    ]
    page.append(graph() + "\n")
    for name, stage in read_yaml("dvc.yaml")["stages"].items():
        body = stage.get("do", stage)
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in [*body.get("metrics", []), *body["outs"]]]
        code = [dep for dep in body["deps"] if dep.startswith(("cxr", "stages"))]
        data = [dep for dep in body["deps"] if dep not in code]
        over = stage.get("foreach", stage.get("matrix"))
        page += [f"## {name}\n", sentence(body["desc"]) + ".\n"]
        listed = {
            "Runs": "once" if not over else f"once for each of {lists(over)}", "Command": f"`{command_of(body)}`",
            "Parameters": ", ".join(f"[`{p}`](parameters.md#{p})" for p in body.get("params", [])),
            "Reads": paths(data), "Writes": paths(outs), "Code": paths(code),
        }  # fmt: skip
        page += [*(f"- {head}: {text}" for head, text in listed.items() if text), ""]
    return "\n".join(page)


def paths(names: list[str]) -> str:
    """Paths in code marks, with the placeholders of dvc.yaml as <name>."""
    return ", ".join("`" + re.sub(r"\$\{(?:item\.)?([\w.]+)\}", r"<\1>", name) + "`" for name in names)


def lists(over: object) -> str:
    """What a stage's foreach or matrix runs over, in words."""
    if isinstance(over, str):
        return f"`{over.strip('${}')}`"
    if all(isinstance(value, str) for value in over) and isinstance(over, list):
        return ", ".join(f"`{value}`" for value in over)
    values = over.values()
    parts = [f"`{value.strip('${}')}`" for value in values if isinstance(value, str)]
    return " x ".join(parts) if parts else ", ".join(f"`{key}`" for key in over)


def commands() -> str:
    """reference/commands.md: every command and its options."""
    page = [
        "# Commands\n", NOTE,
        "Every stage is a command, and some commands stand beside the pipeline. `--help` prints the same options.\n",
    ]  # fmt: skip
    in_dag = list(dict.fromkeys(command_of(stage) for stage in stage_bodies().values()))
    for command in in_dag + [name for name in command_names() if name not in in_dag]:
        run = importlib.import_module(f"stages.{command}").run
        kind = "A stage of the pipeline." if command in in_dag else "Not a stage; run it by hand."
        page += [f"## {command}\n", f"{sentence(inspect.getdoc(run).split(chr(10) * 2)[0])} {kind}\n"]
        page.append(f"```sh\npython -m stages.{command} --help\n```\n")
        rows = [[f"`{o.name}`", o.kind, o.default, o.text] for o in settings(command).values()]
        page.append(table(["Option", "Type and range", "Default", "What it is"], rows))
    return "\n".join(page)


def models() -> Iterator[type]:
    """Every pydantic model of cxr/*/formats.py, package by package, in the order of the file."""
    from pydantic import BaseModel

    import cxr

    for package in pkgutil.iter_modules(cxr.__path__, "cxr."):
        name = f"{package.name}.formats"
        if (ROOT / (name.replace(".", "/") + ".py")).exists():
            module = importlib.import_module(name)
            for value in vars(module).values():
                if inspect.isclass(value) and issubclass(value, BaseModel) and value.__module__ == name:
                    yield value


def formats() -> str:
    """reference/formats.md: what the pipeline writes and the fields of every JSON file."""
    page = [
        "# File formats\n", NOTE,
        "Tables are Parquet or CSV, images are packed arrays, weights are safetensors, everything else is JSON.",
        "Nothing is a pickle, and no file holds a time, a host name or a path of the machine.\n",
    ]  # fmt: skip
    for model in models():
        rows = [
            [f"`{field.alias or name}`", annotation(field.annotation), sentence(field.description or "")]
            for name, field in model.model_fields.items()
        ]
        heads = ["Field", "Type", "What it is"]
        if not any(row[2] for row in rows):
            heads, rows = heads[:2], [row[:2] for row in rows]
        text = (model.__doc__ or "").strip().split("\n\n")
        page += [f"## {model.__name__}\n", *(" ".join(part.split()) + "\n" for part in text if part)]
        page += [f"Package `{model.__module__.rsplit('.', 1)[0]}`.\n", table(heads, rows)]
    return "\n".join(page)


def annotation(kind: object) -> str:
    """A type as a cell: `int`, `dict[str, float]`, without the names of modules."""
    text = kind.__name__ if inspect.isclass(kind) and not typing.get_args(kind) else str(kind)
    return "`" + re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", text).replace("|", "or") + "`"


def results() -> str:
    """The demo's main numbers, from reports/metrics.json."""
    metrics = json.loads((ROOT / "reports" / "metrics.json").read_text(encoding="utf-8"))

    def interval(part: dict, key: str, form: str = ".3f") -> str:
        return f"{part[key]:{form}} [{part['low']:{form}}, {part['high']:{form}}]".replace("-", "−")

    policy = read_yaml("params.yaml")["final"]["policy"]
    auc = "mean AUC over 14 findings"
    rows = [
        ["Metadata baseline: sex, age and view alone", auc, interval(metrics["floor"]["macro_auc"], "auc")],
        ["Baseline classifier: real X-rays alone", auc, interval(metrics["baseline"][policy]["macro_auc"], "auc")],
        ["Final classifier: generated X-rays as well", auc, interval(metrics["final"]["macro_auc"], "auc")],
    ]
    for finding, gain in metrics["gain"].items():
        if finding != "macro_auc":
            p = "< 0.001" if gain["p_holm"] < 0.001 else f"= {gain['p_holm']:.3f}"
            change = f"{interval(gain, 'difference', '+.3f')}, p {p} after Holm's correction"
            rows.append([f"Final minus baseline: {finding.replace('_', ' ')}", "AUC", change])
    with open(ROOT / "reports" / "evaluate" / "adgm.csv", encoding="utf-8") as file:
        shares = {(row["classes"], row["labels"]): float(row["majority_share"]) for row in csv.DictReader(file)}
    for run, part in metrics["adgm"].items():
        classes, labels = run.split("-")
        against = f"{interval(part, 'accuracy')}; commonest class {shares[classes, labels]:.3f}"
        rows.append([f"ADGM, {classes} classes, {labels} labels per class", "accuracy", against])
    return table(["What", "Measure", "Result"], rows)


@functools.cache
def graph() -> str:
    """The stages as a Mermaid graph. It is `dvc dag --mermaid` for presets/study.yaml, which runs every stage, with the
    instances of a stage as one box and without the arrows that follow from others. Dashed: stages the demo lacks.
    """
    import networkx

    with tempfile.TemporaryDirectory() as folder:
        for source, name in (("dvc.yaml", "dvc.yaml"), ("presets/study.yaml", "params.yaml")):
            (Path(folder) / name).write_bytes((ROOT / source).read_bytes())
        for command in (["init", "--no-scm", "--quiet"], ["dag", "--mermaid"]):
            ran = subprocess.run(["dvc", *command], cwd=folder, capture_output=True, text=True, check=True)
    nodes = {node: name.split("@")[0] for node, name in re.findall(r'(node\d+)\["(.+?)"\]', ran.stdout)}
    edges = {(nodes[a], nodes[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", ran.stdout)}
    full = networkx.DiGraph(sorted((a, b) for a, b in edges if a != b))
    reduced = networkx.transitive_reduction(full)
    order = list(read_yaml("dvc.yaml")["stages"])
    lines = []
    for name in order:
        if after := sorted(reduced.successors(name), key=order.index):
            lines.append(f"    {name} --> {' & '.join(after)}")
    demo, stages = read_yaml("params.yaml"), read_yaml("dvc.yaml")["stages"]
    optional = [name for name in order if not any_instance(stages[name], demo)]
    lines += ["    classDef optional stroke-dasharray: 4", f"    class {','.join(optional)} optional"]
    return "\n".join(["```mermaid", "flowchart LR", *lines, "```"])


def any_instance(stage: dict, params: dict) -> bool:
    """Whether a stage has an instance under these parameters."""
    over = stage.get("foreach", stage.get("matrix", "once"))
    names = re.findall(r"\$\{(\w+)\.(\w+)\}", str(list(over.values()) if isinstance(over, dict) else over))
    return all(params[section][key] != [] for section, key in names)


def pages() -> dict[Path, str]:
    """File -> what it must hold."""
    made = {"parameters": parameters, "pipeline": pipeline, "commands": commands, "formats": formats}
    found = {ROOT / "docs" / "reference" / f"{name}.md": make() for name, make in made.items()}
    readme = ROOT / "README.md"
    text = MERMAID.sub(lambda _: graph(), readme.read_text(encoding="utf-8"))
    return found | {readme: RESULTS.sub(lambda _: results(), text)}


if __name__ == "__main__":
    for file, text in pages().items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"written: {file.relative_to(ROOT)}")
