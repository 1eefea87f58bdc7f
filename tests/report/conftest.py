"""A run of the report's stage on a fabricated run, made once for all tests of the report."""

import contextlib
import dataclasses
import io

import pytest

from cxr.report.compose import gather
from cxr.report.figures import style
from cxr.report.inputs import Artefacts
from stages.cli import main
from stages.report import run as stage
from tests.report.fabricated import arguments, fabricate


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """(artefacts, what the stage printed, the page, the folder of everything written) of one run of the stage."""
    root = tmp_path_factory.mktemp("run")
    artefacts = Artefacts(**fabricate(root, labels=[50]))
    with contextlib.redirect_stdout(io.StringIO()) as printed, pytest.raises(SystemExit) as end:
        main(stage, arguments(artefacts, root))
    assert end.value.code == 0
    return artefacts, printed.getvalue(), (root / "report.html").read_text(encoding="utf-8"), root


@pytest.fixture(scope="session")
def small(made):
    """The same run with every optional list empty."""
    return dataclasses.replace(made[0], findings=[], classes=[], labels=[])


@pytest.fixture(scope="session")
def whole(made):
    """The context of the page of the whole run: all findings, the ADGM with a supervised arm and two draws."""
    return gather(made[0]) | {"tables": "tables", "papers": "documents"}


@pytest.fixture(scope="session")
def bare(small):
    """The context of the page with every optional list empty."""
    return gather(small) | {"tables": "tables", "papers": "documents"}


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are made, and not drawn, which takes most of a page's time: for tests that read sentences and tables."""
    empty = b'<svg xmlns="http://www.w3.org/2000/svg" width="9pt" height="9pt" viewBox="0 0 9 9"></svg>'
    monkeypatch.setattr(style, "_bytes", lambda figure, **options: empty)
