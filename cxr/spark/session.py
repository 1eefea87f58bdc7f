"""A Spark session: on this machine (`local[2]`), or where spark-submit started the process."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import cxr
from cxr.core.files import usable_cores

if TYPE_CHECKING:
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

HERE = str(Path(cxr.__file__).resolve().parents[1])


@contextlib.contextmanager
def session(master: str | None = None) -> Iterator[SparkSession]:
    """The running session, or a new one, which ends with the block.

    master: where Spark runs; None: as spark-submit or spark-defaults.conf say, without them all cores of this machine.
    What those two say of anything else counts too, before what this project would choose.
    Raises ValueError where pyspark or Java is missing, or Spark does not start.
    """
    # No table of pandas reaches Spark, but Arrow's.
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)
    try:
        from py4j.protocol import Py4JError
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise ValueError("the engine spark needs pyspark: pip install 'cxr[spark]'") from error
    if running := SparkSession.getActiveSession():
        yield running
        return
    java = Path(os.environ["JAVA_HOME"], "bin/java") if "JAVA_HOME" in os.environ else shutil.which("java")
    if not _submitted() and not (java and Path(java).is_file()):
        raise ValueError("the engine spark needs Java 17 or newer: install it, or set JAVA_HOME to its folder")
    try:
        spark = SparkSession.builder.config(conf=_settings(master)).getOrCreate()
    except (PySparkRuntimeError, Py4JError, OSError) as error:
        raise ValueError(
            f"Spark did not start on {master or 'this machine'} ({cause(error)}): see Java's lines above"
        ) from error
    try:
        spark.sparkContext.setLogLevel("ERROR")  # a task's failure comes back as an error
        yield spark
    finally:
        spark.stop()


def _submitted() -> bool:
    """Whether spark-submit started this process: Java runs already."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def _settings(master: str | None) -> SparkConf:
    """The settings of a session; sets this process's PYSPARK_PYTHON where that is not set.

    Only Java knows what spark-submit and spark-defaults.conf say, so Java starts first. It gets the master, which
    decides what else it prepares: YARN's classes, say.
    """
    from pyspark import SparkConf, SparkContext

    SparkContext._ensure_initialized(conf=SparkConf().setMaster(master) if master else None)
    settings = SparkConf()
    if master:
        settings.setMaster(master)
    if not _submitted():  # what Spark takes by itself here is meant for its shell
        settings.setAppName("cxr").set("spark.ui.showConsoleProgress", "false")
    if python := settings.get("spark.pyspark.python"):  # only spark-submit reads it
        os.environ["PYSPARK_PYTHON"] = python
    if settings.get("spark.master", "local[*]").startswith("local"):  # elsewhere an executor's Python is not this one
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        for key, value in _local().items():
            settings.setIfMissing(key, value)
    return settings


def _local() -> dict[str, str]:
    """What Spark on one machine needs: no page for a browser, no address but the loopback's, this code."""
    return {
        "spark.ui.enabled": "false",
        "spark.sql.shuffle.partitions": str(4 * usable_cores()),  # 200, for a cluster, cost more than the work
        "spark.executor.heartbeatInterval": "60s",  # a busy machine is not a lost executor
        "spark.network.timeout": "600s",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.executorEnv.PYTHONPATH": os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])]),
        "spark.executorEnv.PYSPARK_PYTHON": os.environ["PYSPARK_PYTHON"],
    }


def cause(error: Exception) -> str:
    """What a task raised, in one line, from the error of the job that it ended."""
    lines = [line.strip() for line in str(error).splitlines()]
    raised = [
        line
        for line in lines
        if line.partition(":")[0].endswith(("Error", "Exception", "DiskFull")) and " at " not in line
    ]
    ours = [line for line in raised if not line.startswith(("org.apache", "py4j", "pyspark"))]
    return (ours or raised or lines or [type(error).__name__])[-1 if ours else 0][:500]
