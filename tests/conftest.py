"""Fixtures shared by the tests."""

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, and the tests of one file, or of one folder of TOGETHER, in one process."""
    place = {name: number for number, name in enumerate((*TOGETHER, *LONGEST))}

    def group(item: pytest.Item) -> str:
        folder = item.path.parent.name
        return folder if folder in TOGETHER else item.nodeid.partition("::")[0]

    items.sort(key=lambda item: place.get(group(item), place.get(item.path.stem, len(place))))
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))


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
