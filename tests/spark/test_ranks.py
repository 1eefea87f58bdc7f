"""What each training of `distribute` gets, and from whom: without Spark, Java or a GPU."""

from types import SimpleNamespace

import pytest

from cxr.spark import train

TORCHRUN = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "node", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "x"}


def run_rank(monkeypatch, tmp_path, local_rank: int, gpus: str | None) -> list[str]:
    """The lines of a training's environment, in a process of torchrun. gpus: CUDA_VISIBLE_DEVICES, None where unset."""
    for name, value in (TORCHRUN | {"LOCAL_RANK": str(local_rank), "OURS": "1"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if gpus is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    assert train.of_rank([f"env > {tmp_path}/env"]) == ""
    return (tmp_path / "env").read_text().splitlines()


@pytest.mark.parametrize(
    ("local_rank", "gpus", "own"),
    [
        (0, "5", "5"),
        (0, "2,7", "2"),  # an executor with two GPUs
        (1, "2,7", "7"),
        (1, "GPU-aa,GPU-bb", "GPU-bb"),
        (0, "", ""),  # TorchDistributor's word for none
        (0, None, None),
    ],
)
def test_each_training_sees_one_gpu_of_its_executor(monkeypatch, tmp_path, local_rank, gpus, own):
    lines = run_rank(monkeypatch, tmp_path, local_rank, gpus)
    assert [line for line in lines if line.startswith("CUDA_VISIBLE_DEVICES")] == (
        [] if own is None else [f"CUDA_VISIBLE_DEVICES={own}"]
    )


def test_a_training_does_not_see_that_torchrun_started_it(monkeypatch, tmp_path):
    names = {line.partition("=")[0] for line in run_rank(monkeypatch, tmp_path, 0, None)}
    assert "OURS" in names and not names & {*TORCHRUN, "LOCAL_RANK"}


@pytest.mark.parametrize("gpu", [True, False])
def test_turns_and_gpus_are_those_that_were_asked_for(monkeypatch, gpu):
    distributor = pytest.importorskip("pyspark.ml.torch.distributor")
    turns = []

    class Distributor:
        def __init__(self, num_processes: int, local_mode: bool, use_gpu: bool) -> None:
            self.asked = (num_processes, local_mode, use_gpu)

        def run(self, function, commands) -> str:
            assert function is train.of_rank
            turns.append((*self.asked, commands))
            return ""

    monkeypatch.setattr(distributor, "TorchDistributor", Distributor)
    train.run(SimpleNamespace(sparkContext="running"), ["a", "b", "c"], 2, gpu)
    assert turns == [(2, False, gpu, ["a", "b"]), (1, False, gpu, ["c"])]
