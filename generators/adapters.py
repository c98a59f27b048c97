"""Adapters: what is loaded beside a pipeline's own weights, an IP-Adapter, words and LoRAs.

`diffusion` reads them from the config, and `pipeline` loads them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.embeddings import Embedding, load_embeddings, read_embeddings
from gapclose.generators.ip_adapter import ImagePrompts, IPAdapter, read_ip_adapter
from gapclose.generators.loras import Lora, LoraScales, read_loras
from gapclose.generators.model_files import with_licenses

__all__ = ["NO_ADAPTERS", "Adapters"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """What is loaded beside a pipeline.

    Attributes:
        ip_adapter: For draws with an `ip_adapter_scale`.
        embeddings: Words that prompts may use.
        loras: Whose scales are parameters.
    """

    ip_adapter: IPAdapter | None = None
    embeddings: tuple[Embedding, ...] = ()
    loras: tuple[Lora, ...] = ()

    @classmethod
    def read(
        cls,
        ip_adapter: Mapping[str, Any] | None,
        embeddings: Sequence[Mapping[str, Any]],
        loras: Sequence[Mapping[str, Any]],
    ) -> Adapters:
        """Read their keys.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        return cls(
            ip_adapter=None if ip_adapter is None else read_ip_adapter(ip_adapter),
            embeddings=read_embeddings(embeddings),
            loras=read_loras(loras),
        )

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the scales of LoRAs."""
        return tuple(lora.parameter for lora in self.loras)

    @property
    def versions(self) -> list[str | None]:
        """Of each; None of one that is not in the hub's cache."""
        first = [] if self.ip_adapter is None else [self.ip_adapter.version]
        words = [its.weights.version for its in self.embeddings]
        return [*first, *words, *(lora.version for lora in self.loras)]

    def license(self, own: str | None) -> str | None:
        """Return the licence of images: what is made with adapters comes under theirs, too."""
        beside = {f"embedding {its.name}": its.weights.license for its in self.embeddings}
        beside |= {f"LoRA {lora.name}": lora.license for lora in self.loras}
        return with_licenses(own, beside)

    def check(self, checkpoint: Checkpoint) -> None:
        """Refuse files that are not there, and a pipeline that takes none.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if self.ip_adapter is not None:
            self.ip_adapter.check(checkpoint.saved_class())
        for embedding in self.embeddings:
            embedding.check(checkpoint.configs)
        for lora in self.loras:
            lora.check()

    def load_into(self, pipeline: Any) -> tuple[ImagePrompts | None, LoraScales | None]:
        """Load them into a pipeline of diffusers; returns what a call has to set.

        Raises:
            GeneratorConfigError: It takes none, or not these.
            MemoryOutError: They do not fit into memory.
        """
        image_prompts = None
        if self.ip_adapter is not None:
            image_prompts = self.ip_adapter.load_into(pipeline)
            image_prompts.attach(pipeline)
        load_embeddings(pipeline, self.embeddings)
        return image_prompts, LoraScales(pipeline, self.loras) if self.loras else None


NO_ADAPTERS = Adapters()
