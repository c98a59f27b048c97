"""Shortcuts: what low-level features tell of the classes of a run's images, as gap.json has it.

Audits and diagnostics ask; `report/shortcut_words` says what objects. It is no part of any class's
verdict: a shortcut lies between classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from gapclose.analysis.shortcuts import measure_classes, probe_shortcuts
from gapclose.loop.run.folder import RunDir
from gapclose.loop.work.evaluation import EvaluationInput

__all__ = ["find_shortcuts"]

PROBED: Final = 500  # images a side: the three sides of the demo take 2 s together
PERMUTATIONS: Final = 199


def find_shortcuts(
    stages: Mapping[str, Sequence[EvaluationInput]], rundir: RunDir
) -> dict[str, list[dict[str, Any]]]:
    """Probe the images of each stage against the photos, which are the same in all of them.

    Files are taken as they are stored, on either side: that is what a classifier is trained on.

    Args:
        stages: By name, the classes that are compared.
        rundir: Knows where the files lie.

    Returns:
        By stage as `ShortcutProbe.to_json`; empty for fewer than two classes of 20 images.
    """

    def measured(files: Mapping[str, Sequence[str]]) -> Mapping[str, Any]:
        paths = {cls: [*map(rundir.resolve, its)] for cls, its in files.items()}
        return measure_classes(paths, most=PROBED)

    first = next(iter(stages.values()), ())
    real = measured({e.cls: e.real_paths for e in first})
    found = {}
    for stage, inputs in stages.items():
        synthetic = measured({e.cls: e.synthetic_paths for e in inputs})
        probes = probe_shortcuts(real=real, synthetic=synthetic, permutations=PERMUTATIONS)
        found[stage] = [probe.to_json() for probe in probes]
    return found
