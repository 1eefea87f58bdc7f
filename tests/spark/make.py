"""Trees that misbehave on an executor. Its Python imports this file, so it imports no pytest."""

import os
import signal
from pathlib import Path

from cxr.data.sources.archive import Folder
from cxr.spark.resize import Maker

DRIVERS = 1000  # bytes of a table that the driver reads first


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class Killing(Folder):
    """At the first read of `victim` the executor that reads dies: the Java process, and with it its Pythons."""

    def __init__(self, root, victim: str, flag: Path) -> None:
        super().__init__(root)
        self.victim, self.flag = victim, flag

    def read(self, name: str) -> bytes:
        self._kill(name)
        return super().read(name)

    def part(self, name: str, start: int, length: int) -> bytes:
        if start > DRIVERS:
            self._kill(name)
        return super().part(name, start, length)

    def _kill(self, name: str) -> None:
        if name == self.victim and not self.flag.exists():
            executor = parent(parent(os.getpid()))  # worker, daemon, Java
            words = Path(f"/proc/{executor}/cmdline").read_bytes()
            assert b"CoarseGrainedExecutorBackend" in words, words
            self.flag.write_text(str(executor))
            os.kill(executor, signal.SIGKILL)


class Dying(Maker):
    """Leaves a half-made shard, as an executor does that dies while it writes one."""

    def __call__(self, task):
        half = Path(self.place) / f".shard-{task.shard}dead" / "16"
        half.mkdir(parents=True)
        (half / "part.npy").write_bytes(b"half")
        return super().__call__(task)


class Unreachable(Folder):
    """A disk or server that answers nothing: no fault of an image."""

    def read(self, name: str) -> bytes:
        raise ConnectionError(f"no answer for {name}")

    def part(self, name: str, start: int, length: int) -> bytes:
        if start > DRIVERS:
            raise ConnectionError(f"no answer for {name}")
        return super().part(name, start, length)
