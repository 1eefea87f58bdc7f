"""The pipeline's own rules: dvc.yaml against the code, params against the options, presets against each other, README
against the tree.
"""

import ast
import importlib
import inspect
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.closure import ROOT, closure

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PRESETS = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "presets").glob("*.yaml"))}
STAGES = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}
# The machine's business, never params': moving to another machine must not invalidate the cache.
MACHINE = {"state", "processes", "checkpoint_minutes"}
# Where option default (sound) and the papers' value differ on purpose; docs/papers.md says why.
SOUND = {
    "split.by", "split.min_positives", "classifier.crop_min", "classifier.flip", "classifier.rotate", "gan.channels",
    "gan.view",
    "balance.target_prevalence", "balance.labels", "balance.precision",
    "adgm_runs.variants", "adgm_runs.classes", "adgm_runs.labels", "adgm_runs.draws",  # a list emptied is none
}  # fmt: skip


def options(stage: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(importlib.import_module(f"stages.{stage}").run).parameters)


def sections(stage: str) -> list[str]:
    """The sections of params.yaml that the stage's command line is passed whole."""
    return [s for s in re.findall(r"\$\{(\w+)\}", STAGES[stage]["cmd"]) if s not in ("item", "key")]


def test_one_name_one_thing():
    files = {p.stem for p in (ROOT / "stages").glob("*.py")} - {"__init__", "cli", "training", "checkpoints", "repro"}
    assert files == set(STAGES)
    assert all(f"python -m stages.{name} " in stage["cmd"] for name, stage in STAGES.items())


@pytest.mark.parametrize("stage", STAGES)
def test_code_dependencies_are_the_import_closure(stage):
    listed = sorted(d for d in STAGES[stage]["deps"] if isinstance(d, str) and d.endswith(".py"))
    assert listed == closure(ROOT / "stages" / f"{stage}.py")


def test_training_does_not_depend_on_what_judges_it():
    judges = {f"cxr/{name}.py" for name in ("metrics", "fidelity", "evaluate", "figures", "report")}
    for stage in ("baseline", "final", "gan", "adgm"):
        assert not judges & set(STAGES[stage]["deps"])
    assert "cxr/adgm/nets.py" not in STAGES["gan"]["deps"] and "cxr/gan/nets.py" not in STAGES["adgm"]["deps"]
    assert not {"cxr/gan/train.py", "cxr/gan/selection.py"} & {*STAGES["fidelity"]["deps"], *STAGES["balance"]["deps"]}


@pytest.mark.parametrize("stage", STAGES)
def test_sections_and_command_line_give_exactly_the_options(stage):
    known = set(options(stage))
    passed = [key for section in sections(stage) for key in PARAMS[section]]
    literal = [o.replace("-", "_") for o in re.findall(r"--([\w-]+)", STAGES[stage]["cmd"])]
    foreach = DVC["stages"][stage].get("foreach", {})
    if "${item}" in STAGES[stage]["cmd"] and isinstance(foreach, dict):  # a foreach of dicts is unpacked as well
        passed += list(next(iter(foreach.values())))
    given = passed + literal
    assert len(given) == len(set(given)), "an option is given twice"
    assert set(given) <= known, "the stage lacks an option"
    missing = known - set(given) - MACHINE
    alone = {"arm", "trial"}  # of the arms' training
    others = {"baseline": {"synthetic", *alone}, "final": alone, "selftrain": {"synthetic", *alone}}
    assert missing <= others.get(stage, set()), "an option cannot be set from params.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_sections_stand_under_params(stage):
    used = set(sections(stage)) | set(re.findall(r"\$\{(\w+)\.", STAGES[stage]["cmd"])) - {"item"}
    listed = set(STAGES[stage].get("params", []))
    assert set(sections(stage)) - set(PARAMS) == set()
    if stage != "report":  # which also shows sections that it is not passed
        assert listed <= used
    lists = {"arms", "adgm_runs"} if stage in ("label", "baseline", "adgm") else set()
    assert set(sections(stage)) - lists <= listed


def test_the_report_depends_on_every_parameter_that_it_shows():
    assert sorted(STAGES["report"]["params"]) == sorted(PARAMS)


def test_presets_have_the_same_keys_and_kinds():
    def shape(value):
        if isinstance(value, dict):
            return {k: shape(v) for k, v in value.items()}
        return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__

    assert {"demo", "paper", "smoke"} <= set(PRESETS)
    for name, preset in PRESETS.items():
        assert shape(preset) == shape(PARAMS), name


def test_a_fresh_clone_runs_the_demo():
    tracked = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git history here")
    assert yaml.safe_load(tracked.stdout) == PRESETS["demo"]


def test_option_defaults_are_the_papers_but_where_the_paper_is_wrong():
    paper = PRESETS["paper"]
    differing = set()
    for stage in STAGES:
        for section in sections(stage):
            for key, value in paper[section].items():
                default = options(stage)[key].default
                default = list(default) if isinstance(default, tuple) else default
                if section not in ("phantom", "data") and default is not inspect.Parameter.empty and default != value:
                    differing.add(f"{section}.{key}")
    assert differing <= SOUND, differing - SOUND


def test_paths_stand_in_dvc_yaml_alone():
    for path in [*(ROOT / "stages").glob("*.py"), *(ROOT / "cxr").rglob("*.py")]:
        body = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.S)
        for word in re.findall(r"[\"'](?:data|models|reports)/[^\"']*[\"']", body):
            pytest.fail(f"{path.name} holds the path {word}")


def test_cxr_knows_no_command_line_no_dvc_and_no_params():
    for path in (ROOT / "cxr").rglob("*.py"):
        assert not re.search(r"^\s*(import|from) (typer|dvc|yaml|stages)\b", path.read_text(encoding="utf-8"), re.M), (
            path
        )


def executes(tree: ast.AST) -> list[str]:
    """What in a file's code would run what data holds: pickle and its kin, eval, exec, loaders that build objects."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                n for n in names if n.split(".")[0] in ("pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal")
            ]
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if name in ("eval", "exec", "compile", "__import__", "os.system") or name.endswith(
                ("read_pickle", "to_pickle")
            ):
                found.append(name)
            if name in ("torch.load", "torch.save", "yaml.load", "yaml.unsafe_load", "yaml.full_load"):
                found.append(name)
            if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
                found.append(f"{name} {given}")
            if name.endswith("Environment") and given.get("autoescape") != "True":
                found.append(f"{name} without autoescape")
    return found


def test_nothing_that_a_file_holds_is_executed():
    for path in [*(ROOT / "stages").glob("*.py"), *(ROOT / "cxr").rglob("*.py")]:
        assert not executes(ast.parse(path.read_text(encoding="utf-8"))), path
    for code in (
        "import pickle", "from torch import x; torch.load(a)", "np.load(a, allow_pickle=True)", "eval(a)",
        "yaml.load(a, b)", "jinja2.Environment(loader=a)", "pd.read_pickle(a)", "subprocess.run(a, shell=True)",
    ):  # fmt: skip
        assert executes(ast.parse(code)), code
    templates = list((ROOT / "cxr/report/templates").rglob("*.j2"))
    assert len(templates) > 10
    for template in templates:
        text = template.read_text(encoding="utf-8")
        assert "|safe" not in text.replace(" ", "") and "autoescape" not in text, template


def tree_in_readme() -> list[str]:
    block = re.search(r"```tree\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert block, "README.md has no ```tree block"
    found, folders = [], []
    for line in block.group(1).splitlines():
        name = line.split("#")[0].rstrip()
        depth = (len(name) - len(name.lstrip())) // 2
        names = name.split()
        folders = folders[:depth]
        if names and names[0].endswith("/"):
            folders.append(names[0])
        else:
            found += ["".join(folders) + n for n in names]
    return sorted(found)


def test_readme_shows_the_real_tree():
    code = [
        p.relative_to(ROOT).as_posix()
        for folder in ("stages", "cxr", "presets")
        for p in sorted((ROOT / folder).rglob("*"))
        if p.is_file() and p.name != "__init__.py" and "__pycache__" not in p.parts
    ]
    assert tree_in_readme() == sorted([*code, "dvc.yaml", "params.yaml"])


def test_the_picture_of_the_dag_shows_every_stage():
    drawing = (ROOT / "docs" / "dag.svg").read_text(encoding="utf-8")
    names = re.search(r'font-size="14.5".*?>(.*?)</g>', drawing, re.S)
    assert sorted(re.findall(r">(\w+)</text>", names.group(1))) == sorted(STAGES)


def test_requirements_hold_no_host():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    pinned = [line for line in lines if line and not line.startswith("#")]
    assert pinned and all(re.match(r"^[A-Za-z0-9_.\-\[\]]+==[\w.+]+( ; .*)?$", line) for line in pinned)


def test_every_stage_explains_itself_without_torch():
    """--help in a fresh interpreter must not import torch: it would take seconds."""
    for stage in STAGES:
        code = f"import sys, stages.{stage}; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
        assert subprocess.run([str(Path(__import__("sys").executable)), "-c", code], cwd=ROOT).returncode == 0, stage
