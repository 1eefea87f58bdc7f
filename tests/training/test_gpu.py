"""What a machine must have before a training takes its GPU, on machines made up, and one process whatever asks for
more.
"""

import logging
import os
import subprocess
import sys

import pytest
import torch

from cxr.training import gpu, machine
from tests.closure import ROOT

WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A driver that shows one GPU, and an environment that hides none."""
    (tmp_path / "0000:01:00.0").mkdir()
    monkeypatch.setattr(gpu, "DRIVER", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def card(monkeypatch, capability: tuple[int, int]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "made-up card")
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: WHEEL)


@pytest.mark.parametrize(
    ("capability", "runs"),
    [
        ((7, 0), False),
        ((7, 5), True),
        ((8, 6), True),
        ((8, 9), True),
        ((9, 0), True),
        ((10, 3), True),
        ((11, 0), False),
    ],
)
def test_a_card_runs_what_was_built_for_its_major_number_and_a_lower_minor_one(capability, runs):
    assert gpu.runs(*capability, WHEEL) is runs


def test_source_is_compiled_for_later_cards_and_a_special_build_is_for_one():
    assert gpu.runs(12, 1, ["compute_90"]) and not gpu.runs(8, 0, ["compute_90"])
    assert gpu.runs(9, 0, ["sm_90a"]) and not gpu.runs(9, 1, ["sm_90a"])


def test_a_card_without_kernels_is_one_line_before_any_work(monkeypatch, driver):
    card(monkeypatch, (7, 0))
    with pytest.raises(ValueError, match=r"^made-up card is of architecture sm_70, and torch .* has kernels for sm_75"):
        machine.device()


@pytest.mark.parametrize(("cuda", "cure"), [("13.2", "R580 or newer"), (None, "built without CUDA")])
def test_a_gpu_that_torch_does_not_see_is_one_line_and_no_run_on_the_cpu(monkeypatch, driver, cuda, cure):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    with pytest.raises(ValueError, match=cure):
        machine.fabric("32-true")
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert machine.device().type == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    with pytest.raises(ValueError, match="CUDA_VISIBLE_DEVICES= "):
        machine.device()


def test_without_a_driver_it_is_the_cpu(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu, "DRIVER", tmp_path / "none")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert machine.device().type == "cpu"


def test_a_workspace_that_does_not_repeat_is_refused(monkeypatch):
    card(monkeypatch, (9, 0))
    assert gpu.check(":16:8")
    with pytest.raises(ValueError, match="CUBLAS_WORKSPACE_CONFIG = :0:0"):
        gpu.check(":0:0")


@pytest.mark.parametrize("found", [True, False])
def test_on_a_gpu_what_does_not_repeat_is_an_error_and_float32_is_no_tf32(monkeypatch, found):
    precisions = torch.backends.cuda.matmul, torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(gpu, "check", lambda workspace: found)
    try:
        machine._prepare()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled() is not found
        if found:
            assert not [flag for flag in precisions if flag.fp32_precision == "tf32"]
            assert not torch.backends.cuda.matmul.allow_tf32 and not torch.backends.cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"  # Fabric reads it
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        torch.use_deterministic_algorithms(True, warn_only=True)


def test_no_log_advises_tf32(monkeypatch, caplog):
    """Fabric's line on tensor cores stood in the log of every training on an H100."""
    from lightning_fabric.accelerators import cuda

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "H100")
    monkeypatch.setattr(cuda, "_is_ampere_or_later", lambda device: True)
    quieted = logging.getLogger("lightning_fabric")
    for level, lines in ((logging.INFO, 1), (None, 0)):
        if level:
            quieted.setLevel(level)
        else:
            with monkeypatch.context() as patch:
                patch.setattr(torch.cuda, "is_available", lambda: False)
                patch.setattr(gpu, "check", lambda workspace: False)
                machine.fabric("32-true")
        caplog.clear()
        cuda._check_cuda_matmul_precision(torch.device("cuda"))
        assert len(caplog.records) == lines


def test_a_macs_gpu_is_left_alone(monkeypatch):
    """It has no float64, and some of its gradients differ from run to run."""
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "check", lambda workspace: False)
    assert machine.fabric("32-true").device.type == machine.device().type == "cpu"


# One training, one process -----------------------------------------------------------------------------------------


def test_several_devices_are_refused_with_the_cure(monkeypatch):
    monkeypatch.setenv("CXR_DEVICES", "2")
    with pytest.raises(ValueError, match="CXR_DEVICES = 2: a training uses one GPU, .*cxr repro"):
        machine.fabric("32-true")
    monkeypatch.setenv("CXR_DEVICES", "1")
    assert machine.fabric("32-true").world_size == 1


def test_nothing_in_the_package_asks_for_its_rank():
    """A share of a batch for each process was another training: other batch norms, other means of the loss."""
    words = ("global_rank", "world_size", "is_global_zero", "all_reduce", "ddp")
    files = [*(ROOT / "cxr").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]
    assert files and not [f"{file}: {word}" for file in files for word in words if word in file.read_text("utf-8")]


SLURM = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0"}
SLURM |= {"SLURM_NODELIST": "n1", "SLURM_NTASKS": "1"}
TORCHRUN = {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29555"}
CODE = """if True:
    import torch
    from cxr.training.machine import fabric
    machine = fabric("32-true")
    net = torch.nn.Linear(3, 2)
    with torch.no_grad():
        net.weight.fill_(1.0)
    model, optimiser = machine.setup(net, torch.optim.SGD(net.parameters(), 0.1))
    machine.backward(model(torch.arange(6.0).view(2, 3)).sum())
    optimiser.step()
    assert not torch.distributed.is_initialized()
    print(machine.world_size, type(machine.strategy).__name__, machine.is_global_zero, net.weight.flatten().tolist())
"""


@pytest.mark.parametrize("around", [SLURM, SLURM | {"SLURM_NTASKS": "4", "SLURM_PROCID": "3"}, TORCHRUN])
def test_a_training_is_one_process_whatever_started_it(monkeypatch, around):
    for name, value in around.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(gpu, "check", lambda workspace: False)
    fabric = machine.fabric("32-true")
    assert (fabric.world_size, fabric.is_global_zero) == (1, True)


@pytest.mark.slow
def test_a_scheduler_or_launcher_around_it_changes_nothing():
    """sbatch with one task or four, with tasks a node, srun, torchrun: each process trains alone, to equal numbers."""
    around = [{}, SLURM, SLURM | {"SLURM_NTASKS": "4"}, SLURM | {"SLURM_NTASKS_PER_NODE": "1"}, TORCHRUN]
    around += [SLURM | {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "3"}, TORCHRUN | {"RANK": "0"}]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("SLURM_") and k not in TORCHRUN}
    running = [
        subprocess.Popen([sys.executable, "-c", CODE], cwd=ROOT, env=clean | more, text=True, stdout=subprocess.PIPE)
        for more in around
    ]
    printed = {process.communicate()[0] for process in running}
    assert len(printed) == 1 and printed.pop().startswith("1 SingleDeviceStrategy True [")
