"""What a training asks of its machine: memory that is freed is kept for the next step, and a precision that it has."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from cxr.training.machine import fabric
from tests.closure import ROOT

CODE = """if True:
    import resource
    import torch
    from cxr.training.machine import device
    {first}
    for step in range(6):
        if step == 3:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        held = [torch.zeros(2_500_000 * size) for size in (4, 10, 5)]
        del held
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(first: str) -> int:
    """Pages that the last three of six steps, of 190 MB each, touched for the first time."""
    run = [sys.executable, "-c", CODE.format(first=first)]
    no_gpu = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    return int(subprocess.run(run, cwd=ROOT, env=no_gpu, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone is asked")
@pytest.mark.slow
def test_a_step_uses_the_pages_of_the_one_before():
    assert faults("") > 20_000, "the large tensors are mapped anew in each step"
    assert faults("device()") < 2_000


@pytest.mark.skipif(torch.cuda.is_available(), reason="of a CPU")
@pytest.mark.parametrize(
    ("can", "chosen"), [({}, "32-true"), ({"avx512_bf16": True}, "bf16-mixed"), ({"amx_tile": True}, "bf16-mixed")]
)
def test_auto_is_bf16_where_the_processor_computes_it(monkeypatch, can, chosen):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: can)
    assert fabric("auto").strategy.precision.precision == chosen
    assert fabric("32-true").strategy.precision.precision == "32-true"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other processors have other names")
def test_torch_says_whether_a_processor_computes_bf16():
    assert {"avx512_bf16", "amx_tile"} <= torch.cpu.get_capabilities().keys()
