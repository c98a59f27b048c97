"""Image steps: what a mixture's gap would change by, estimated from a few images.

`atom_bank` estimates by these what other settings would change of its images, and what more of a
recipe's images would gain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.kernel import Kernel

Floats = NDArray[np.float64]


def paired_change(kernel: Kernel, both: NDArray[np.float32], slopes: Floats) -> float:
    """Estimate what happens to a mixture's squared MMD when its images change as pairs do.

    With D the mean difference that a change makes to an image's kernel embedding, and r what
    separates the mixture's from the real one, |r + D|^2 - |r|^2 = 2 <D, r> + |D|^2. The whole
    bank estimates r, so a few pairs need only estimate D, and do so well.

    Args:
        kernel: To compare with.
        both: (2m, d) unit rows: images as they are changed, then as they were; m >= 2.
        slopes: (2m,) how much nearer each is to the mixture than to the real images.
    """
    m = len(both) // 2
    gram = kernel.gram(both)
    square = gram[:m, :m] - gram[:m, m:] - gram[m:, :m] + gram[m:, m:]
    # Distinct pairs alone: an image's own change would add its scatter.
    length = (square.sum() - np.trace(square)) / (m * (m - 1))
    return float(2.0 * (slopes[:m].mean() - slopes[m:].mean()) + length)


def step_gain(gaps: Floats, curvature: float) -> float:
    """Estimate what a step towards an atom gains, found on half of its images, paid by the other.

    Args:
        gaps: (m,) Frank-Wolfe gap of each of its images, m >= 2.
        curvature: Of the squared MMD along the way to it.
    """
    halves = gaps[::2].mean(), gaps[1::2].mean()
    gains = []
    for found, paid in (halves, halves[::-1]):
        step = min(max(found, 0.0) / max(curvature, 1e-12), 1.0)
        gains.append(2.0 * step * paid - step**2 * curvature)
    return float(np.mean(gains))
