"""What a training asks of its process: memory that is freed is kept for the next step."""

import os
import platform
import subprocess
import sys

import pytest

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
def test_a_step_uses_the_pages_of_the_one_before():
    assert faults("") > 20_000, "the large tensors are mapped anew in each step"
    assert faults("device()") < 2_000
