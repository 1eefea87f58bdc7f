"""What no test run of a developer includes, one of .github/workflows does."""

import re

from tests.closure import ROOT


def test_every_variable_that_a_test_waits_for_is_set_somewhere():
    waits = {
        name
        for file in (ROOT / "tests").rglob("test_*.py")
        for match in re.finditer(r'"(CXR_\w+)" not in os\.environ|environ\.get\("(CXR_TEST_\w+)"\)', file.read_text())
        for name in filter(None, match.groups())
    }
    assert {"CXR_LONG", "CXR_TEST_SLURM"} <= waits
    workflows = "".join(file.read_text() for file in (ROOT / ".github" / "workflows").glob("*.yml"))
    assert {name for name in waits if f"{name}:" not in workflows} == set()
