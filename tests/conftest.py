"""Fixtures shared by the tests."""

import shutil
from pathlib import Path

import pytest

# What takes longest starts first, so that no test process waits at the end for another.
LONGEST = (
    "test_dag",
    "test_kills",
    "test_packaging",
    "test_repro",
    "test_remote",
    "test_download",
    "test_nets",
    "test_train",
    "test_classifier",
)
ROOT = Path(__file__).resolve().parents[1]


TOGETHER = ("report", "spark")  # folders whose tests share what takes long to make


def group(nodeid: str) -> str:
    """The tests of one file, or of one folder of TOGETHER, run in one process."""
    file = nodeid.partition("::")[0]
    folder = file.split("/")[-2]
    return folder if folder in TOGETHER else file


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest groups first."""
    place = {name: number for number, name in enumerate((*TOGETHER, *LONGEST))}
    items.sort(key=lambda item: place.get(group(item.nodeid), place.get(item.path.stem, len(place))))


def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """pytest-xdist's own groups (loadgroup) have no effect under pytest 9: it writes them into a name that is no longer
    read.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    return Groups(config, log)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real chest X-rays in both layouts, laid beside the repository; tests that need them skip where they are
    absent.
    """
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real chest X-rays beside the repository")
    return folder


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny nets on two threads wait for each other more than they compute, above all beside another test process."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def here(cohort: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of the cohort of the test's own file, as the working folder."""
    shutil.copytree(cohort, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def stage(here: Path, capsys):
    """Runs a stage's command line in `here`; gives (exit code, its error lines)."""
    from stages.cli import main

    def run(command, words: str) -> tuple[int, list[str]]:
        with pytest.raises(SystemExit) as stop:
            main(command, words.split())
        return stop.value.code, [line for line in capsys.readouterr().err.splitlines() if "error" in line]

    return run
