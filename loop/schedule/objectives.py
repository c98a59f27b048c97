"""The objectives that a config may name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gapclose.loop.schedule.objective import OBJECTIVE, Objective
from gapclose.loop.schedule.worth import WorthObjective

OBJECTIVES: Final[Mapping[str, Objective]] = {"gap": OBJECTIVE, "worth": WorthObjective()}
"""By `tune.objective`."""
