"""Every benchmark, one after the other, and docs/benchmarks.md. Run it on a quiet machine: python -m benchmarks"""

from __future__ import annotations

import platform
import time
import traceback
from importlib import import_module
from pathlib import Path

ORDER = "resize classifier_input predict densenet_step dcgan_step adgm_step numbers startup growth precision".split()
FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # what fp32 and bf16 speed hang on
NOTES = """\
Written by `python -m benchmarks`, which runs each line's script; `python -m benchmarks.resize` and so on run alone.

Both sides run in turns: this project, the plain way, and again, after a first turn that is not counted; the plain way
of a training step in a process of its own, since ours asks its process to keep memory and to be deterministic.
Times are medians of five, the ratio is the median of the turns' ratios. The results of the two are compared before
they are timed; the last column says how, and how far they lie apart. Images are the phantom's, in the formats and sizes
of the two data sets. The plain way is in the scripts as most people write it: PIL or pydicom with scikit-image for
each image and size, a Dataset with torchvision transforms and two workers, float32, eager, NCHW, Adam as it comes,
PyTorch's DCGAN example at 128, the ADGM with every network run for each label, a loop over `roc_auc_score`. The two
lines of `predict` have this project's own resize and network on the other side.
"""
GPU = "## On a GPU"  # what stands from here on was measured by benchmarks.gpu on another machine: it stays
WITHOUT_BF16 = """
This processor does not compute bf16 itself (no AVX512-BF16, no AMX) and emulates it 10 to 50 times slower than fp32,
so `precision: auto` trains in fp32 here. The bars of the three training steps count on bf16, which brings 2 to 3 times
on a processor that has it: what the lines show is what is left without it. Behind each ratio stands the one that a step
would have whose every operation ran as fast as one large fp32 matrix product here; no code goes far beyond that.
"""


def machine() -> tuple[str, bool]:
    """(processor, cores, torch and its threads, in words; whether bf16 is native)."""
    import torch

    from benchmarks.precision import native
    from cxr.core.files import usable_cores

    model, flags = platform.processor() or platform.machine(), ""
    if (cpuinfo := Path("/proc/cpuinfo")).exists():
        fields = dict(line.split(":", 1) for line in cpuinfo.read_text().splitlines() if ":" in line)
        fields = {key.strip(): value.strip() for key, value in fields.items()}
        model, flags = fields.get("model name", model), fields.get("flags", fields.get("Features", ""))
    has = [flag for flag in FLAGS if flag in flags.split()]
    lacks = [flag for flag in ("avx512_bf16", "amx_bf16") if flag not in has]
    listed = "with " + ", ".join(has) + (", without " + ", ".join(lacks) if lacks else "") if has else "flags unknown"
    words = (
        f"{model}, {usable_cores()} cores, {listed}; Python {platform.python_version()}, torch {torch.__version__}, "
        f"{torch.get_num_threads()} threads"
    )
    return words, native()


def on_a_gpu(page: str) -> str:
    """The page's section on GPUs, with an empty line before it; '' where it has none."""
    before, heading, section = page.partition(GPU)
    return f"\n{heading}{section}" if heading else ""


def main() -> None:
    from benchmarks.timing import shown, table

    started, lines, failed = time.monotonic(), [], []
    for name in ORDER:
        try:
            lines += shown(import_module(f"benchmarks.{name}").lines(False))
        except Exception:  # what the others have measured in half an hour is kept
            traceback.print_exc()
            failed.append(name)
    if failed:
        print(table(lines))
        raise SystemExit(f"{', '.join(failed)} failed, and docs/benchmarks.md is as it was")
    words, native = machine()
    missed = sum(not line.met for line in lines)
    text = f"# Benchmarks\n\n{NOTES}{'' if native else WITHOUT_BF16}\nMachine: {words}.\n\n{table(lines)}\n\n"
    text += f"{len(lines) - missed} of {len(lines)} lines reach their bar.\n"
    page = Path(__file__).parents[1] / "docs" / "benchmarks.md"
    page.write_text(text + on_a_gpu(page.read_text(encoding="utf-8")), encoding="utf-8")
    print(table(lines))
    print(
        f"{len(lines) - missed} of {len(lines)} reach their bar; {time.monotonic() - started:.0f} s; docs/benchmarks.md"
    )


if __name__ == "__main__":
    main()
