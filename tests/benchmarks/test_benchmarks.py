"""Each benchmark at its smallest size: both ways run and agree; a wrong result is not put in a table."""

import contextlib
import os
import re
import subprocess
import sys
import time
import tomllib
from importlib import import_module
from importlib.metadata import packages_distributions
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from benchmarks import __main__ as everything
from benchmarks import (
    adgm_step,
    classifier_input,
    dcgan_step,
    densenet_step,
    gpu,
    growth,
    numbers,
    precision,
    resize,
    steps,
)
from benchmarks import startup as startup_line
from benchmarks.__main__ import ORDER
from benchmarks.steps import Enough, timed
from benchmarks.timing import Difference, Line, agree, compared, in_turns, seconds, side_by_side, table
from cxr.training import loop
from cxr.training.machine import fabric
from tests.closure import ROOT

LONG = pytest.mark.skipif("CXR_LONG" not in os.environ, reason="it takes half a minute; set CXR_LONG=1")
SCRIPTS = [pytest.param(name, marks=LONG if name.endswith("_step") else ()) for name in ORDER if name != "precision"]


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_runs_and_its_results_agree(script):
    lines = list(import_module(f"benchmarks.{script}").lines(True))
    assert lines and all(line.checked and line.ours > 0 for line in lines)
    assert table(lines).count("\n") == len(lines) + 1


def test_every_script_is_in_the_runner():
    with_lines = {p.stem for p in (ROOT / "benchmarks").glob("*.py") if "def lines(" in p.read_text(encoding="utf-8")}
    assert with_lines == set(ORDER)


def test_what_was_measured_is_printed_where_a_script_fails(monkeypatch, capsys, tmp_path):
    def broken(quick):
        raise ValueError("no disk")

    line = Line("x", "run", 1.0, float("nan"), "1 s", "", True, "checked")
    scripts = {"first": lambda quick: [line], "second": broken, "third": lambda quick: [line._replace(what="y")]}
    monkeypatch.setattr(everything, "ORDER", list(scripts))
    monkeypatch.setattr(everything, "import_module", lambda name: SimpleNamespace(lines=scripts[name.split(".")[1]]))
    before = (ROOT / "docs/benchmarks.md").read_bytes()
    with pytest.raises(SystemExit, match="second failed, and docs/benchmarks.md is as it was"):
        everything.main()
    printed = capsys.readouterr()
    assert "| x | run |" in printed.out and "| y | run |" in printed.out and "no disk" in printed.err
    assert (ROOT / "docs/benchmarks.md").read_bytes() == before


def test_ratios_are_medians_of_turns():
    turns = [(1.0, 2.0), (2.0, 10.0), (1.0, 9.0)]  # ratios 2, 5, 9
    line = compared("x", turns, "same", unit="image", per=4, plain_per=2, bar=10)
    assert (line.result, line.met) == ("10.00 x", True)  # 5, and a plain unit stands for two of ours
    assert (line.ours, line.plain) == (0.25, 4.5)
    assert not compared("x", turns, "same", unit="image", bar=5.01).met
    assert "**missed**" in table([compared("x", turns, "same", unit="image", bar=5.01)])


def test_turns_alternate():
    seen = []
    turns = in_turns(lambda: seen.append("ours"), lambda: (seen.append("plain"), time.sleep(0.01)), 3)
    assert seen == ["ours", "plain"] * 3 and all(ours < 0.01 <= plain for ours, plain in turns)


def sleeper(seconds: float):
    if seconds < 0:
        raise ValueError("negative")
    return lambda: time.sleep(seconds)


@pytest.mark.slow
def test_the_plain_step_is_made_in_a_process_of_its_own():
    with steps.Elsewhere(sleeper, 0.05) as plain:
        assert plain.process.pid != os.getpid()
        plain()
        started = time.perf_counter()
        plain()
        assert 0.05 < time.perf_counter() - started < 0.5
    assert plain.process.exitcode == 0
    with pytest.raises((EOFError, ConnectionError)), steps.Elsewhere(sleeper, -1.0) as plain:
        plain()


def test_how_fast_fp32_could_be_is_told_where_nothing_else_is_had():
    turns = [(1.0, 1e6)] * 3
    said = steps.at_best(fabric("32-true"), lambda turns: products(None, turns), turns)
    assert re.fullmatch(r"; \d+\.\d x would be the whole step, 0 GFLOP, at a matrix product's \d+ GFLOP/s", said)
    assert steps.at_best(fabric("bf16-mixed"), None, turns) == ""


def test_nothing_is_timed_when_the_results_differ():
    ran = []
    with pytest.raises(Difference, match="gap: 3, more than 2"):
        side_by_side("x", lambda: ran.append(1), lambda: None, lambda *_: agree(3, 2, "gap"), unit="run")
    assert ran == [1]
    with pytest.raises(Difference):
        agree(float("nan"), 1, "a NaN agrees with nothing")


def test_durations():
    assert [seconds(v) for v in (12.34, 0.01234, 2e-6, 1e-9, float("nan"))] == [
        "12.3 s", "12.3 ms", "2 µs", "0.001 µs", "-",
    ]  # fmt: skip


# A wrong result in each script --------------------------------------------------------------------------------------


def test_pixels_off_by_more_than_two_gray_levels_are_refused():
    plain = np.full((2, 8, 8), 100, np.uint8)
    assert "2 (at most 2)" in resize.close([plain + 2], [plain])
    worse = plain.copy()
    worse[1] += 3
    with pytest.raises(Difference):
        resize.close([worse], [plain])
    with pytest.raises(Difference):
        resize.same([worse], [plain])


def test_a_brighter_batch_is_refused():
    x = torch.zeros(2, 3, 8, 8)
    brighter = classifier_input.close(x + 0.01 / torch.tensor(classifier_input.IMAGENET_STD).view(1, 3, 1, 1), x)
    assert abs(brighter - 0.01) < 1e-6 and brighter > classifier_input.TOLERANCE


def test_another_loss_is_refused(monkeypatch):
    whole = densenet_step.CrossEntropy.forward
    monkeypatch.setattr(densenet_step.CrossEntropy, "forward", lambda *a: 1.01 * whole(*a))
    with pytest.raises(Difference):
        list(densenet_step.lines(True))


def test_other_noise_is_refused(monkeypatch):
    monkeypatch.setattr(dcgan_step, "affine", lambda n, stream: None)  # the noise is then not what the loop draws
    with pytest.raises(Difference):
        list(dcgan_step.lines(True))


def test_another_bound_is_refused(monkeypatch):
    monkeypatch.setattr(adgm_step, "objective", lambda terms, alpha, shares: terms.L.mean() + terms.U.mean())
    with pytest.raises(Difference):
        adgm_step.agreement(33, 3, 2)


def test_another_auc_is_refused(monkeypatch):
    whole = numbers.bootstrap_auc
    monkeypatch.setattr(numbers, "bootstrap_auc", lambda *a: whole(*a) + 1e-6)
    with pytest.raises(Difference):
        next(numbers.lines(True))


def test_work_is_no_no_op_and_an_error_no_help():
    up_to_date = "Stage 'a' didn't change, skipping\nData and pipelines are up to date.\n"
    assert startup_line.nothing_ran(up_to_date) == "nothing ran"
    with pytest.raises(Difference):
        startup_line.nothing_ran("Running stage 'a':\n")
    with pytest.raises(Difference):
        startup_line.explained("Traceback")
    with pytest.raises(Difference, match="failed"):
        startup_line.output("-c", "raise SystemExit(1)")


def test_growth_is_judged():
    n = [10, 40, 160]
    assert growth.judged("x", n, [(1, 100), (4, 100), (16, 110)]).met
    assert not growth.judged("x", n, [(1, 100), (4, 100), (32, 100)]).met, "twice the time for an image"
    assert not growth.judged("x", n, [(1, 100), (4, 100), (16, 400)]).met, "memory grows with the images"


def test_memory_is_watched():
    """In a process of its own, as the benchmark measures: what another one has freed may be used again."""
    code = """if True:
        import time
        import numpy as np
        from benchmarks import growth
        held = []
        _, small = growth.watched(lambda: time.sleep(0.1))
        _, large = growth.watched(lambda: (held.append(np.ones(8_000_000)), time.sleep(0.1)))
        print(large - small)
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 50e6 < int(done.stdout) < 90e6


@pytest.mark.slow
def test_precisions_are_compared():
    line = next(precision.lines(True, at_most=0.5))
    assert line.met and re.match(r"macro AUC 0\.\d{4} against 0\.\d{4}$", line.result)
    assert not next(precision.lines(True, at_most=-1.0)).met


def test_products_of_bf16_are_summed_in_fp32_and_rounded_once():
    torch.manual_seed(0)
    x, w = torch.randn(2, 8, 9, 9).bfloat16(), torch.randn(4, 8, 3, 3).bfloat16()
    exact = torch.conv2d(x.double(), w.double())
    with precision.SummedWide():
        emulated = torch.conv2d(x, w)
        assert torch.equal(torch.conv2d(x.float(), w.float()), torch.conv2d(x.float(), w.float()))
    assert emulated.dtype == torch.bfloat16
    assert ((emulated.double() - exact).abs() <= exact.abs() * 2**-8).all(), "half a last place of eight bits"
    a, b = x.flatten(1), torch.randn(648, 5).bfloat16()
    with precision.SummedWide():
        assert torch.equal(a @ b, (a.float() @ b.float()).bfloat16())


def test_what_is_emulated_is_what_this_pytorch_computes_in_bf16():
    """Gradients too. A processor without bf16 has slow kernels of its own for it, here asked for small ones."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 2)).bfloat16()
    x = torch.randn(4, 3, 8, 8).bfloat16()
    found = []
    for how in (contextlib.nullcontext(), precision.SummedWide()):
        net.zero_grad()
        with how:
            net(x).square().sum().backward()
        found.append(torch.cat([p.grad.flatten().float() for p in net.parameters()]))
    assert (found[0] - found[1]).norm() < 2**-7 * found[0].norm()


# The GPU's script, on a CPU ----------------------------------------------------------------------------------------


def test_without_a_gpu_it_says_so_in_one_line(capsys):
    if torch.cuda.is_available():
        pytest.skip("a GPU is here")
    gpu.main()
    assert capsys.readouterr().out == "no GPU here: this benchmark has nothing to measure\n"


def test_it_needs_only_what_it_names():
    """What else the project depends on is blocked, by the names of its packages and of their modules."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [name for names in project["optional-dependencies"].values() for name in names]
    names = {re.split(r"[\[<>=;]", line)[0].strip().lower() for line in [*project["dependencies"], *extras]}
    owners = {module: {owner.lower() for owner in found} for module, found in packages_distributions().items()}
    names -= {owner for module in gpu.NEEDS for owner in owners[module]}  # torch brings torchgen
    lacking = sorted(module for module, found in owners.items() if found & names)
    assert {"dvc", "scipy", "sklearn", "matplotlib", "pydicom", "typer", "captum", "jinja2"} <= set(lacking)
    blocked = f"import sys; sys.modules.update(dict.fromkeys({lacking}))"
    code = f"{blocked}; from benchmarks import gpu; import lightning_fabric; gpu.main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def products(machine, checkpoints) -> None:
    a, b = torch.ones(7, 5), torch.ones(5, 3)
    for step in range(100):
        a @ b
        time.sleep(0.002)
        checkpoints.step(dict, step)


def test_rate_and_operations():
    training = gpu.Training("products", 1, products, 0)
    assert steps.flops(lambda turns: products(None, turns)) == 2 * 7 * 5 * 3
    assert 0.002 < gpu.run(training, None, 1, 10) < 0.02
    assert len(timed(lambda turns: products(None, turns), None, 4)) == 4


def test_hand_computed_gpu_numbers():
    assert gpu.union([(0, 2), (1, 3), (5, 6), (5.2, 5.8)]) == 4
    assert gpu.duration(3600) == "1.0 h" and gpu.duration(1800) == "30.0 min" and gpu.duration(72 * 3600) == "3.0 days"
    assert gpu.peak("NVIDIA H100 80GB HBM3") == 989e12 and gpu.peak("NVIDIA H100 PCIe") == 756e12
    assert gpu.peak("CPU") is None


def tiny_preset() -> dict:
    preset = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    preset["classifier"].update(size=32, batch=4)
    preset["gan"].update(size=32, batch=8, width=8)
    preset["adgm"].update(size=33, batch=3)
    preset["diffusion"].update(size=32, batch=4, width=8, levels=2, blocks=1)
    return preset


@pytest.mark.slow
def test_the_trainings_at_a_tiny_size_with_as_many_steps_as_a_gpu_makes():
    """The GAN's epoch had fewer steps than the benchmark asks for, so that it could end on no GPU."""
    lines = list(gpu.rows(tiny_preset(), gpu.WARM, gpu.STEPS, {"eager": ("0", None)}))
    assert len(lines) == 7 and all(line.count("|") == 8 for line in lines)
    assert "the whole preset" in lines[-1] and re.search(r"\d (h|min|days) \|$", lines[-1])


def test_the_presets_steps_and_judged_images_by_hand(tmp_path):
    preset = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text(encoding="utf-8"))
    preset["classifier"]["size"], preset["gan"]["size"], preset["adgm"]["size"] = 32, 16, 33
    found = {t.name.split()[0]: t for t in gpu.trainings(preset, tmp_path, "cpu", 1)}
    # Two baselines and the final one, of three epochs of whole batches of 16; judged after each, and once at the end.
    assert found["DenseNet121"].steps == 3 * (2 * 13_963 + 21_977)
    assert found["DenseNet121"].judged == round(3 * 4 * 0.1 * 223_414)
    assert found["DCGAN"].steps == 1000 * (94 + 143 + 230)
    assert found["ADGM"].steps == 1_585_500 and found["ADGM"].judged == 100 * 2_668 * 12


def test_each_loop_has_as_many_steps_as_are_timed(tmp_path, monkeypatch):
    """The GAN's epoch had fewer, so that the benchmark could end on no GPU."""
    planned = []

    def plan(*_, epochs, steps, **__):
        planned.append(epochs * steps)
        raise Enough

    monkeypatch.setattr(loop, "run", plan)
    every = gpu.trainings(tiny_preset(), tmp_path, "cpu", gpu.WARM + gpu.STEPS)
    for training in every:
        with contextlib.suppress(Enough):
            training.train(fabric("32-true"), None)
    assert len(planned) == len(every) == 4 and min(planned) >= gpu.WARM + gpu.STEPS


def test_a_loop_that_is_too_short_says_so():
    def train(machine, checkpoints) -> None:
        for step in range(3):
            checkpoints.step(dict, step)
        checkpoints.step(dict, 3, last=True)

    with pytest.raises(ValueError, match="the loop has 4 steps, not 7"):
        gpu.run(gpu.Training("short", 1, train, 0), None, 2, 5)


def test_compiling_reaches_every_net_that_a_loop_sets_up():
    net = torch.nn.Linear(2, 2)
    for mode, kind in ((None, torch.nn.Linear), ("default", torch._dynamo.OptimizedModule)):
        machine = gpu.compiled(fabric("32-true"), mode)
        model, _ = machine.setup(net, torch.optim.SGD(net.parameters(), 0.1))
        assert type(model._forward_module) is kind


def test_what_was_measured_on_a_gpu_stays_on_the_page():
    section = "## On a GPU\n\n| H100 | ms |\n"
    assert everything.on_a_gpu(f"# Benchmarks\n\n1 of 1 lines reach their bar.\n\n{section}") == f"\n{section}"
    assert everything.on_a_gpu("# Benchmarks\n") == ""
