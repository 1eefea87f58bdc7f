"""Where a session runs, and with which settings: spark-submit and spark-defaults.conf have the last word."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.closure import ROOT

pytestmark = pytest.mark.slow

PROGRAM = """
import json, os, sys
from cxr.spark.session import session
with session(*sys.argv[1:]) as spark:
    context = spark.sparkContext
    names = ("spark.sql.shuffle.partitions", "spark.ui.enabled", "spark.ui.showConsoleProgress", "spark.app.name")
    python = context.parallelize([0], 1).map(lambda _: sys.executable).first()
    settings = {name: context.getConf().get(name) for name in names}
    print("found", json.dumps({"master": context.master, "python": python} | settings))
"""


@pytest.fixture
def found(spark_here, tmp_path):
    """A function: start PROGRAM, by spark-submit where it has options, with a spark-defaults.conf; what it printed."""
    import pyspark

    def run(*options: str, defaults: str = "", given: tuple[str, ...] = ()) -> dict[str, str]:
        (tmp_path / "program.py").write_text(PROGRAM)
        (tmp_path / "conf").mkdir(exist_ok=True)
        (tmp_path / "conf/spark-defaults.conf").write_text(defaults)
        submit = str(Path(pyspark.__file__).parent / "bin/spark-submit")
        started = [submit, *options] if options else [sys.executable]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYSPARK_", "SPARK_"))}
        environment |= {"SPARK_CONF_DIR": str(tmp_path / "conf"), "PYTHONPATH": str(ROOT)}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        words = [*started, str(tmp_path / "program.py"), *given]
        done = subprocess.run(words, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout.partition("found ")[2].splitlines()[0])

    return run


def test_spark_submit_chooses_the_master_and_every_other_setting(found):
    seen = found("--master", "local[1]", "--name", "ours", "--conf", "spark.sql.shuffle.partitions=3")
    assert (seen["master"], seen["spark.app.name"], seen["spark.sql.shuffle.partitions"]) == ("local[1]", "ours", "3")
    assert seen["spark.ui.enabled"] == "false", "what it leaves open is ours to choose"


def test_spark_submit_takes_the_master_of_spark_defaults(found):
    seen = found("--conf", "spark.ui.enabled=false", defaults="spark.master local[1]\n")
    assert seen["master"] == "local[1]"


def test_a_plain_command_takes_spark_defaults(found):
    python = str(Path(sys.executable).parent / "python3")
    seen = found(defaults=f"spark.master local[1]\nspark.sql.shuffle.partitions 5\nspark.pyspark.python {python}\n")
    assert (seen["master"], seen["spark.sql.shuffle.partitions"]) == ("local[1]", "5")
    assert seen["python"] == python
    assert (seen["spark.app.name"], seen["spark.ui.showConsoleProgress"]) == ("cxr", "false")


def test_a_plain_command_without_any_has_all_cores(found):
    assert found()["master"] == "local[*]"


def test_the_master_that_is_given_counts(found):
    assert found(defaults="spark.master local[1]\n", given=("local[2]",))["master"] == "local[2]"
