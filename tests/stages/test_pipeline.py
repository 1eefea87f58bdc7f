"""The pipeline's rules: dvc.yaml against the code, params against the options, presets against each other."""

import ast
import importlib
import inspect
import re
import subprocess
import sys

import pytest
import yaml

from cxr.adgm.variants import VARIANTS
from stages.__main__ import STAGES as COMMANDS
from stages.__main__ import TOOLS
from tests.closure import ROOT, closure

DVC = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
PRESETS = {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in sorted((ROOT / "presets").glob("*.yaml"))}
STAGES = {name: stage.get("do", stage) for name, stage in DVC["stages"].items()}
SCRIPTS = {name: re.match(r"python -m stages\.(\w+) ", stage["cmd"])[1] for name, stage in STAGES.items()}
PLUMBING = {"__init__", "__main__", "cli", "job", "live", "options", "state"}  # files of stages/ that are no command
NETWORKS = {"classifier", "gan", "diffusion", "encoder", "adgm"}
# Set for one machine, and never in params.yaml: moving to another machine must not invalidate the cache.
MACHINE = {"state", "processes", "checkpoint_minutes", "engine", "master"}
IN_PLACE = {"adgm_of_features": "adgm"}  # a section of values that stand in place of another's
# Where option default (sound) and the papers' value differ on purpose; docs/papers.md says why.
SOUND = {
    "split.by", "split.test", "split.valid", "split.valid_images",
    "classifier.crop_min", "classifier.flip", "classifier.rotate", "gan.channels",
    "gan.view",
    "balance.target_prevalence", "balance.labels", "balance.precision",
    "adgm_runs.variants", "adgm_runs.classes", "adgm_runs.labels", "adgm_runs.draws",  # a list emptied is none
    "gan_runs.generators", "evaluate.age_bands", "evaluate.thresholds", "rare.findings",
}  # fmt: skip


def options(stage: str) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(importlib.import_module(f"stages.{SCRIPTS[stage]}").run).parameters)


def sections(stage: str) -> list[str]:
    """The sections of params.yaml that the stage's command line is passed whole."""
    return [s for s in re.findall(r"\$\{(\w+)\}", STAGES[stage]["cmd"]) if s not in ("item", "key")]


def test_every_command_is_a_file_and_a_stage_in_the_order_of_the_pipeline():
    assert tuple(dict.fromkeys(SCRIPTS.values())) == COMMANDS
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - PLUMBING == {*COMMANDS, *TOOLS}


def code(stage: str) -> set[str]:
    """The files and folders of code that a stage lists as dependencies."""
    return {dep for dep in STAGES[stage]["deps"] if dep.split("/")[0] in ("cxr", "stages")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_lists_all_code_that_it_may_import_and_no_other_folder(stage):
    files = closure(SCRIPTS[stage]) - {f"stages/{name}.py" for name in PLUMBING}

    def holds(dep: str, file: str) -> bool:
        return file == dep or file.startswith(f"{dep}/")

    assert not {file for file in files if not any(holds(dep, file) for dep in code(stage))}, "not listed"
    assert not {dep for dep in code(stage) if not any(holds(dep, file) for file in files)}, "listed without need"


@pytest.mark.parametrize("stage", [name for name in STAGES if "stages/state.py" in closure(SCRIPTS[name])])
def test_a_training_lists_core_training_and_its_own_package_alone(stage):
    (own,) = {file.split("/")[1] for file in closure(SCRIPTS[stage])} & NETWORKS
    assert code(stage) == {"cxr/core", "cxr/training", f"cxr/{own}", f"stages/{SCRIPTS[stage]}.py"}


@pytest.mark.parametrize("stage", STAGES)
def test_sections_and_command_line_give_exactly_the_options(stage):
    known = set(options(stage))
    passed = [key for section in sections(stage) if section not in IN_PLACE for key in PARAMS[section]]
    for section in set(sections(stage)) & set(IN_PLACE):  # the last value that is given counts
        assert sections(stage).index(section) > sections(stage).index(IN_PLACE[section])
        assert set(PARAMS[section]) < set(PARAMS[IN_PLACE[section]])
    literal = [o.replace("-", "_") for o in re.findall(r"--([\w-]+)", STAGES[stage]["cmd"])]
    foreach = DVC["stages"][stage].get("foreach", [])
    if isinstance(foreach, str):
        for key in foreach[2:-1].split("."):
            foreach = PARAMS[key] if isinstance(foreach, str) else foreach[key]
    if "${item}" in STAGES[stage]["cmd"]:  # a foreach of dicts is unpacked as well
        dicts = foreach.values() if isinstance(foreach, dict) else foreach
        passed += dict.fromkeys(option for given in dicts if isinstance(given, dict) for option in given)
    given = passed + literal
    assert len(given) == len(set(given)), "an option is given twice"
    assert set(given) <= known, "the stage lacks an option"
    missing = known - set(given) - MACHINE
    alone, entry = {"synthetic", "arm", "real_alone"}, {"labels", "columns", "part", "mapping", "seed"}
    others = {"baseline": alone, "selftrain": alone, "final": {"arm"}, "study": {"real_alone"}}
    others |= {"adgm": {"features"}, "adgm_of_features": {"store"}}  # a variant reads one of them
    others["fidelity"] = {"findings"}  # a DCGAN has its own
    others["external_data"] = entry  # the demo's hospital needs none of them
    others["extra_data"] = entry | {"name", "dataset", "source", "site", "patients", "shared"}  # the demo has no entry
    assert missing <= others.get(stage, set()), "an option cannot be set from params.yaml"


@pytest.mark.parametrize("stage", STAGES)
def test_sections_stand_under_params(stage):
    used = set(sections(stage)) | set(re.findall(r"\$\{(\w+)\.", STAGES[stage]["cmd"])) - {"item"}
    listed = set(STAGES[stage].get("params", []))
    assert set(sections(stage)) - set(PARAMS) == set()
    if stage != "report":  # which also shows sections that it is not passed
        assert listed <= used
    lists = {"arms", "adgm_runs"} if stage in ("label", "baseline", "adgm", "adgm_of_features") else set()
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


def test_a_list_that_a_preset_empties_is_none_to_its_stage():
    """DVC passes nothing for an empty list, and the option's default counts: with other values, a run showed DCGANs
    that it had not trained, from an earlier run's folders."""
    filled = {
        (stage, f"{section}.{key}")
        for preset in PRESETS.values()
        for stage in STAGES
        for section in sections(stage)
        for key, value in preset[section].items()
        if value == [] and options(stage)[key].default not in ((), [], inspect.Parameter.empty)
    }
    assert not filled
    for key in ("age_bands", "thresholds"):
        assert options("evaluate")[key].default == (), f"evaluate.{key}: [] would be another list"
    assert options("split")["findings"].default == ()


def test_variants_of_features_have_an_encoder_and_an_encoder_has_variants():
    for name, preset in PRESETS.items():
        assert bool(preset["adgm_runs"]["feature_variants"]) == bool(preset["encoder_runs"]["encoder_seeds"]), name
    few = PRESETS["few_labels"]["adgm_runs"]
    assert {*few["variants"], *few["feature_variants"]} == (VARIANTS.keys() - {"paper", "paper_code", "no_z"})
    assert len(few["draws"]) >= 5 and PRESETS["few_labels"]["split"]["test_share"] > 0


def test_a_fresh_clone_runs_the_demo():
    tracked = subprocess.run(["git", "show", "HEAD:params.yaml"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode:
        pytest.skip("no git history here")
    assert yaml.safe_load(tracked.stdout) == PRESETS["demo"]


def test_no_preset_chooses_an_epoch_by_a_handful_of_positives():
    assert all(preset["split"]["min_positives"] >= 5 for preset in PRESETS.values())


def test_option_defaults_are_the_papers_but_where_the_paper_is_wrong():
    paper = PRESETS["paper"]
    differing = set()
    for stage in STAGES:
        for section in sections(stage):
            for key, value in paper[section].items():
                default = options(stage)[key].default
                default = list(default) if isinstance(default, tuple) else default
                if (
                    section not in ("phantom", "data", "diffusion", *IN_PLACE)
                    and default is not inspect.Parameter.empty
                    and default != value
                ):
                    differing.add(f"{section}.{key}")
    assert differing <= SOUND, differing - SOUND


def test_paths_stand_in_dvc_yaml_alone():
    for path in [*(ROOT / "stages").glob("*.py"), *(ROOT / "cxr").rglob("*.py")]:
        body = re.sub(r'""".*?"""', "", path.read_text(encoding="utf-8"), flags=re.S)
        for word in re.findall(r"[\"'](?:data|models|reports)/[^\"']*[\"']", body):
            pytest.fail(f"{path.name} holds the path {word}")


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


def test_every_stage_explains_itself_without_torch():
    """--help in a fresh interpreter must not import torch or pandas: it would take seconds."""
    code = f"""if True:
        import importlib, sys
        for name in {(*COMMANDS, *TOOLS)}:
            importlib.import_module("stages." + name)
        heavy = {{"torch", "pandas", "dvc"}} & set(sys.modules)
        assert not heavy, heavy"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A DVC repository with the real .dvcignore, one stage, and a folder of code as its dependency."""
    (tmp_path / "rooms" / "inner").mkdir(parents=True)
    for name in ("rooms/a.py", "rooms/inner/b.py", "rooms/inner/__init__.py"):
        (tmp_path / name).write_text("x = 1\n")
    stage = {"cmd": "echo 1 > out", "deps": ["rooms"], "outs": ["out"]}
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"one": stage}}))
    monkeypatch.chdir(tmp_path)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "-q", "init"]):
        subprocess.run(command, check=True)
    (tmp_path / ".dvcignore").write_bytes((ROOT / ".dvcignore").read_bytes())
    subprocess.run([sys.executable, "-m", "dvc", "-q", "repro"], check=True)
    return tmp_path


def status() -> str:
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--json"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.slow
def test_what_python_and_editors_leave_in_a_folder_of_code_changes_no_stage(repository):
    """treeverse/dvc 8952 reports that an ignored file inside a folder dependency counts all the same."""
    subprocess.run(
        [sys.executable, "-c", "import rooms.a, rooms.inner.b"],
        check=True,
        env={"PYTHONPATH": str(repository), "PYTHONDONTWRITEBYTECODE": ""},
    )
    assert list(repository.glob("rooms/inner/__pycache__/*.pyc"))
    for name in (".a.py.swp", "a.py~", ".DS_Store", "old.pyc", "inner/.b.py.swp"):
        (repository / "rooms" / name).write_text("2")
    (repository / "rooms" / "inner" / ".ipynb_checkpoints").mkdir()
    (repository / "rooms" / "inner" / ".ipynb_checkpoints" / "b.py").write_text("2")
    assert status() == "{}"
    (repository / "rooms" / "inner" / "b.py").write_text("x = 2\n")
    assert "rooms" in status()
