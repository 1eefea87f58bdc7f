"""Which projections of an X-ray an option asks for. `findings.in_view` picks their rows."""

from typing import Literal

View = Literal["frontal", "lateral", "all"]
