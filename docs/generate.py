"""Writes the pages that repeat what the code says: the parameters, the pipeline, the commands and the file formats in
docs/reference/; the published results in docs/explanation/; the graph of stages and the demo's numbers in README.md.

    python -m docs.generate

tests/docs compares what it would write with what is committed.
"""

from __future__ import annotations

import copy
import csv
import functools
import importlib
import inspect
import json
import re
import subprocess
import tempfile
import textwrap
from itertools import groupby
from pathlib import Path

import yaml

from docs.declared import (
    ROOT,
    Setting,
    annotation,
    command_names,
    comments,
    models,
    read_yaml,
    remark,
    sentence,
    settings,
    table,
    written,
)
from docs.published import page as published

NOTE = "<!-- Written by `python -m docs.generate`. Edit the code, not this page. -->\n"
MERMAID = re.compile(r"```mermaid\n.*?```", re.S)
RESULTS = re.compile(r"(?<=<!-- results -->\n).*?(?=<!-- /results -->)", re.S)
# What stages of dvc.yaml are given under another name than the parameter's own.
RENAMED = {
    ("data", "chexpert"): ("download", "source"),
    ("data", "rsna"): ("download", "source"),
    ("data", "rsna_patients"): ("download", "patients"),
}


def stage_bodies() -> dict[str, dict]:
    """Stage -> its part of dvc.yaml, without the foreach around it."""
    return {name: stage.get("do", stage) for name, stage in read_yaml("dvc.yaml")["stages"].items()}


def command_of(stage: dict) -> str:
    """The name of the file in stages/ that a stage runs."""
    return re.match(r"(?:python -m stages\.|cxr )(\w+)", stage["cmd"]).group(1)


def option_of(section: str, key: str) -> Setting | None:
    """The option that a parameter is passed to: `${section}` passes every key and counts first, `--option
    ${section.key}` one.
    """
    if renamed := RENAMED.get((section, key)):
        return settings(renamed[0])[renamed[1]]
    for stage in sorted(stage_bodies().values(), key=lambda stage: f"${{{section}}}" not in stage["cmd"]):
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
    heads = ["Parameter", "Type and range", "Default", "Demo", "Paper", "What it is"]
    for section, keys in demo.items():
        if isinstance(keys, list):  # no section: a list of its own
            what = remark(remarks[section, ""])
            rows = [[f"`{section}`", "list", "", written(keys), written(paper[section]), what]]
            page += [f"## {section}\n", table(heads, rows)]
            continue
        rows = []
        for key, value in keys.items():
            option = option_of(section, key)
            text = remark(remarks[section, key]) or (option.text if option else "")
            kind, default = (option.kind, option.default) if option else ("list", "")
            if isinstance(value, list) and not kind.startswith("list"):
                kind = f"list of {kind}"
            rows.append([f"`{key}`", kind, default, written(value), written(paper[section][key]), text])
        page += [f"## {section}\n", remark(remarks[section, ""]) + ".\n" if remarks[section, ""] else ""]
        page.append(table(heads, rows))
    return "\n".join(page)


def pipeline() -> str:
    """reference/pipeline.md: every stage, what it runs for, what it reads and what it writes."""
    page = [
        "# The pipeline\n",
        NOTE,
        "The stages of `dvc.yaml`, in its order. GitHub draws this graph. The demo has no stages of class `optional`.",
        "\n",
    ]
    page.append(graph() + "\n")
    for name, stage in read_yaml("dvc.yaml")["stages"].items():
        body = stage.get("do", stage)
        outs = [next(iter(out)) if isinstance(out, dict) else out for out in [*body.get("metrics", []), *body["outs"]]]
        code = [dep for dep in body["deps"] if dep.startswith(("cxr", "stages"))]
        data = [dep for dep in body["deps"] if dep not in code]
        over, command = stage.get("foreach", stage.get("matrix")), command_of(body)
        page += [f"## {name}\n", sentence(body["desc"]) + ".\n"]
        listed = {
            "Runs": f"once for each of {lists(over)}" if over else "once",
            "Command": f"[`{command}`](commands.md#{command})",
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
        "Every stage runs a command, and some commands stand beside the pipeline. `--help` prints the same options.",
        "In a clone a command is `python -m stages.NAME`. After `pip install .` it is `cxr NAME`.\n",
    ]  # fmt: skip
    users: dict[str, list[str]] = {}
    for stage, body in stage_bodies().items():
        users.setdefault(command_of(body), []).append(f"[{stage}](pipeline.md#{stage})")
    for command in [*users, *(name for name in command_names() if name not in users)]:
        run = importlib.import_module(f"stages.{command}").run
        used = f"Run by: {', '.join(users[command])}." if command in users else "Not a stage."
        page += [f"## {command}\n", f"{sentence(inspect.getdoc(run).split(chr(10) * 2)[0])} {used}\n"]
        page.append(f"```sh\npython -m stages.{command} --help\n```\n")
        rows = [[f"`{o.name}`", o.kind, o.default, o.text] for o in settings(command).values()]
        page.append(table(["Option", "Type and range", "Default", "What it is"], rows))
    return "\n".join(page)


def formats() -> str:
    """reference/formats.md: what the pipeline writes and the fields of every JSON file."""
    page = [
        "# File formats\n", NOTE,
        "The fields of every JSON file. Tables and packed images are in [Tables and arrays](tables.md); weights are",
        "safetensors files.",
        "Nothing is a pickle, and no file holds a time, a host name or a path of the machine.\n",
    ]  # fmt: skip
    for package, members in groupby(models(), key=lambda model: model.__module__.rsplit(".", 1)[0]):
        page += [f"## {package}\n"]
        for model in members:
            rows = [
                [f"`{field.alias or name}`", annotation(field.annotation), sentence(field.description or "")]
                for name, field in model.model_fields.items()
            ]
            text = (model.__doc__ or "").strip().split("\n\n")
            page += [f"### {model.__name__}\n", *(sentence(part) + "\n" for part in text if part)]
            page.append(table(["Field", "Type", "What it is"], rows))
    return "\n".join(page)


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
            change, measure = interval(gain, "difference", "+.3f"), "AUC, one training of each"
            if "p_holm" in gain:
                both = {"difference": gain["difference"], "low": gain["total_low"], "high": gain["total_high"]}
                p = "< 0.001" if gain["p_holm"] < 0.001 else f"= {gain['p_holm']:.3f}"
                change = f"{interval(both, 'difference', '+.3f')}, p {p} after Holm's correction"
                measure = (
                    f"AUC, over patients and {len(read_yaml('params.yaml')['repeats']['seeds'])} trainings of each"
                )
            rows.append([f"Final minus baseline: {finding.replace('_', ' ')}", measure, change])
    with open(ROOT / "reports" / "evaluate" / "adgm.csv", encoding="utf-8") as file:
        shares = {(row["classes"], row["labels"]): float(row["majority_share"]) for row in csv.DictReader(file)}
    for run, part in metrics["adgm"].items():
        classes, labels = run.split("-")
        against = f"{interval(part, 'accuracy')}; commonest class {shares[classes, labels]:.3f}"
        if over := part.get("over_majority"):
            against += f", paired difference {interval(over, 'difference', '+.3f')}"
        rows.append([f"ADGM, {classes} classes, {labels} labels per class", "accuracy", against])
    return table(["What", "Measure", "Result"], rows)


@functools.cache
def graph() -> str:
    """The stages as a Mermaid graph. It is `dvc dag --mermaid` for the demo with a name in every list that is empty
    there, with the instances of a stage as one box and without the arrows that follow from others. Dashed: stages the
    demo lacks.
    """
    import networkx

    every = copy.deepcopy(read_yaml("params.yaml"))
    every["arms"] = {"policies": ["u_zeroes", "u_ignore"], "selftrained": ["u_selftrained"]}
    every["study"]["arms"] = ["oversampling"]
    every["data"]["extra"] = [{"name": "other"}]
    for kind in ("diffusion", "projection", "editing", "encoder"):
        every[f"{kind}_runs"][f"{kind}_seeds"] = [0]
    every["adgm_runs"]["feature_variants"] = ["features"]

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
        (Path(folder) / "params.yaml").write_text(yaml.safe_dump(every))
        for command in (["init", "--no-scm", "--quiet"], ["dag", "--mermaid"]):
            ran = subprocess.run(["dvc", *command], cwd=folder, capture_output=True, text=True, check=True)
    nodes = {node: name.split("@")[0] for node, name in re.findall(r'(node\d+)\["(.+?)"\]', ran.stdout)}
    edges = {(nodes[a], nodes[b]) for a, b in re.findall(r"(node\d+)-->(node\d+)", ran.stdout)}
    full = networkx.DiGraph(sorted((a, b) for a, b in edges if a != b))
    reduced = networkx.transitive_reduction(full)
    order = list(read_yaml("dvc.yaml")["stages"])
    before: dict[str, list[str]] = {}  # what the same stages follow -> those they follow
    for name in order:
        if after := sorted(reduced.successors(name), key=order.index):
            before.setdefault(" & ".join(after), []).append(name)
    arrows = [f"{' & '.join(names)} --> {after}" for after, names in before.items()]
    demo, stages = read_yaml("params.yaml"), read_yaml("dvc.yaml")["stages"]
    optional = [name for name in order if not any_instance(stages[name], demo)]
    boxes = ["    classDef optional stroke-dasharray: 4", f"    class {','.join(optional)} optional"]
    return "\n".join(["```mermaid", "flowchart LR", *_filled(arrows), *boxes, "```"])


def _filled(statements: list[str]) -> list[str]:
    """Lines of Mermaid, as long as README's, each with as many whole statements as fit."""
    words = "; ".join(statement.replace(" ", "\0") for statement in statements)
    lines = textwrap.wrap(words, 140, break_long_words=False, break_on_hyphens=False)
    return [f"    {line.rstrip(';')}".replace("\0", " ") for line in lines]


def any_instance(stage: dict, params: dict) -> bool:
    """Whether a stage has an instance under these parameters."""
    over = stage.get("foreach", stage.get("matrix", "once"))
    names = re.findall(r"\$\{(\w+)\.(\w+)\}", str(list(over.values()) if isinstance(over, dict) else over))
    return all(params[section][key] != [] for section, key in names)


def pages() -> dict[Path, str]:
    """File -> what it must hold."""
    made = {"parameters": parameters, "pipeline": pipeline, "commands": commands, "formats": formats}
    found = {ROOT / "docs" / "reference" / f"{name}.md": make() for name, make in made.items()}
    found[ROOT / "docs" / "explanation" / "published.md"] = published()
    readme = ROOT / "README.md"
    text = MERMAID.sub(lambda _: graph(), readme.read_text(encoding="utf-8"))
    return found | {readme: RESULTS.sub(lambda _: results(), text)}


if __name__ == "__main__":
    for file, text in pages().items():
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
            print(f"written: {file.relative_to(ROOT)}")
