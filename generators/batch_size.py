"""The batch size of a pipeline: how many images memory bears at once.

`diffusion` asks it before each batch and tells it what became of the last one. It measures no
memory.
"""

from __future__ import annotations

import logging
from typing import Final

log = logging.getLogger(__name__)

_CPU_BATCH: Final = 32
_GPU_BATCH: Final = 8  # the first one; doubled while memory lasts
_GPU_BATCH_LIMIT: Final = 64


class BatchSize:
    """How many images are generated at once: fixed, or as many as memory bears.

    Attributes:
        images: Images of the next batch.
    """

    def __init__(self, fixed: int | None) -> None:
        """Keep to a fixed size; None starts at a CPU's."""
        self.images = _CPU_BATCH if fixed is None else fixed
        self._is_fixed = fixed is not None
        self._grows = False

    def start_on_gpu(self) -> None:
        """Start small, and grow."""
        if not self._is_fixed:
            self.images, self._grows = _GPU_BATCH, True

    def grow_after(self, images: int) -> None:
        """Double after a whole batch that memory bore, up to a limit."""
        if self._grows and images == self.images:
            self.images = min(2 * images, _GPU_BATCH_LIMIT)

    def halve_after(self, images: int) -> None:
        """Halve after a batch that memory did not bear, and stay there."""
        self.images, self._grows = images // 2, False
        log.warning("memory is out at a batch of %d; going on with %d", images, self.images)
