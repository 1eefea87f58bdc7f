"""How a training computes, and where: the plugins of Lightning Fabric."""

from __future__ import annotations

from typing import Any, Literal, cast

from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision


class Mixed(MixedPrecision):
    """bf16-mixed or 16-mixed: autocast in training and validation alike.

    Fabric's own casts a module's inputs too, in training alone. Pixels would lose up to half a grey level there, and
    the ADGM's likelihood, whose target they are, would be another quantity than its validation's.
    """

    def convert_input(self, data: Any) -> Any:
        return data


class Alone(LightningEnvironment):
    """One process, whatever a scheduler's or a launcher's variables say (SLURM_*, WORLD_SIZE, LOCAL_RANK).

    Fabric would take them for orders: to wait for other processes, or to refuse a number of tasks.
    """

    @property
    def creates_processes_externally(self) -> bool:
        return False

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return 0


def plugins(precision: str, kind: str) -> list[Any]:
    """Fabric's plugins. precision: 32-true | bf16-mixed | 16-mixed; kind: cuda | cpu."""
    if precision == "32-true":
        return [Alone(), Precision()]
    return [Alone(), Mixed(cast(Literal["16-mixed", "bf16-mixed"], precision), kind)]
