"""The IP-Adapter: weights beside a pipeline's own that let it see a picture as it reads a prompt.

`diffusion` makes an `IPAdapter` from the config, `pipeline` loads it into a loaded pipeline and
asks the `ImagePrompts` for a call's arguments (Ye et al. 2023, arXiv 2308.06721). It reads
safetensors only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from gapclose.generators.checkpoint import digest_files, files_in, local_folder
from gapclose.generators.errors import GeneratorConfigError, MemoryOutError
from gapclose.generators.hub import ask_hub, cached_file
from gapclose.generators.images import Pixels
from gapclose.generators.loading import first_line, silent_loading

if TYPE_CHECKING:
    import torch

_KEY: Final = "generator.ip_adapter"
_GREY: Final = np.full((8, 8, 3), 127, dtype=np.uint8)


@dataclass(frozen=True, slots=True, kw_only=True)
class IPAdapter:
    """Where the weights of an IP-Adapter and of its image encoder are.

    Attributes:
        model: Hub id (owner/name) or a folder.
        weight_name: File of the adapter's weights in `subfolder`; ends in .safetensors.
        subfolder: Folder in `model`.
        image_encoder: Folder of a CLIP vision model in `subfolder`, or with a slash in `model`, as
            `load_ip_adapter` of diffusers has it; None is the pipeline's own.

    Raises:
        GeneratorConfigError: If the weights are no safetensors.
    """

    model: str
    weight_name: str
    subfolder: str = ""
    image_encoder: str | None = "image_encoder"

    def __post_init__(self) -> None:
        """Refuse a pickle before it is asked for."""
        if not self.weight_name.endswith(".safetensors"):
            raise GeneratorConfigError(
                f"{self.weight_name!r} may be a pickle, which can run code; name a file that ends "
                "in .safetensors",
                key=f"{_KEY}.weight_name",
            )

    @property
    def version(self) -> str | None:
        """A digest of local files; of a hub id the commit, None before it is in the cache."""
        folder = local_folder(self.model)
        if folder is not None:
            # Not of the whole folder, which holds the adapters of other pipelines, too.
            read = [folder / self._weights]
            if self.image_encoder is not None:
                read += files_in(folder / self._encoder)
            return digest_files(folder, read) if read[0].is_file() else None
        found = cached_file(self.model, self._weights)
        return None if found is None else found.parents[self._weights.count("/")].name

    def check(self, pipeline: type[Any] | None) -> None:
        """Refuse files that are not there and pipelines that take no such weights.

        Args:
            pipeline: Class of the pipeline that is to take them, None if it is not known yet.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        folder = local_folder(self.model)
        if folder is None:
            ask_hub(self.model, self._weights, key=f"{_KEY}.model")
        elif not (folder / self._weights).is_file():
            raise GeneratorConfigError(
                f"there is no file {folder / self._weights}; name the folder, the subfolder and "
                "the weight_name of the adapter",
                key=_KEY,
            )
        elif self.image_encoder is not None and not (folder / self._encoder).is_dir():
            raise GeneratorConfigError(
                f"there is no folder {folder / self._encoder}; name the image encoder's, or null "
                "for the pipeline's own",
                key=f"{_KEY}.image_encoder",
            )
        if pipeline is not None:
            _check_kind(pipeline)

    @property
    def _weights(self) -> str:
        return "/".join(part for part in (self.subfolder, self.weight_name) if part)

    @property
    def _encoder(self) -> str:
        encoder = self.image_encoder or ""
        return encoder if "/" in encoder or not self.subfolder else f"{self.subfolder}/{encoder}"

    def load_into(self, pipeline: Any) -> ImagePrompts:
        """Load the adapter into a pipeline of diffusers.

        Raises:
            GeneratorConfigError: If the pipeline takes no such weights, or they cannot be loaded.
            MemoryOutError: If they do not fit into memory.
        """
        import torch
        from safetensors import SafetensorError
        from transformers import CLIPVisionModelWithProjection

        _check_kind(type(pipeline))
        folder = local_folder(self.model)
        source = self.model if folder is None else str(folder)
        where: dict[str, Any] = {} if folder is None else {"local_files_only": True}
        try:
            # Building layers draws their first weights before the saved ones replace them.
            with silent_loading(), torch.random.fork_rng(devices=[]):
                if self.image_encoder is not None:
                    encoder: Any = CLIPVisionModelWithProjection.from_pretrained(
                        source,
                        subfolder=self._encoder,
                        use_safetensors=True,
                        trust_remote_code=False,
                        dtype=pipeline.unet.dtype,
                        **where,
                    )
                    pipeline.register_modules(image_encoder=encoder.to(pipeline.unet.device))
                elif getattr(pipeline, "image_encoder", None) is None:
                    raise GeneratorConfigError(
                        f"a {type(pipeline).__name__} comes without one; name its folder",
                        key=f"{_KEY}.image_encoder",
                    )
                pipeline.load_ip_adapter(
                    source,
                    subfolder=self.subfolder,
                    weight_name=self.weight_name,
                    image_encoder_folder=None,  # diffusers would read a pickle of it, too
                    **where,
                )
            prompts = ImagePrompts(pipeline)
            prompts.check(f"{_KEY}.image_encoder")
        except GeneratorConfigError:
            raise
        except torch.OutOfMemoryError as error:
            raise MemoryOutError(f"{self.model} does not fit into memory") from error
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            ImportError,
            RuntimeError,
            SafetensorError,
        ) as error:
            raise GeneratorConfigError(
                f"{self.model} cannot be loaded: {first_line(error)}", key=_KEY
            ) from error
        return prompts


def read_ip_adapter(options: Mapping[str, Any]) -> IPAdapter:
    """Make an adapter of the keys of a config.

    Raises:
        GeneratorConfigError: If a key is unknown or missing, or the weights are no safetensors.
    """
    try:
        return IPAdapter(**options)
    except TypeError:
        raise GeneratorConfigError(
            f"takes {', '.join(field.name for field in fields(IPAdapter))}; not "
            f"{', '.join(map(str, options)) or 'nothing'}",
            key=_KEY,
        ) from None


class ImagePrompts:
    """What a pipeline with an IP-Adapter is shown beside its prompts: a picture each, or none."""

    def __init__(self, pipeline: Any) -> None:
        """Wrap a pipeline of diffusers with one IP-Adapter in it."""
        from diffusers.models.embeddings import ImageProjection
        from transformers import CLIPImageProcessor

        side = pipeline.image_encoder.config.image_size
        # Not the pipeline's own: a safety checker's may have another size.
        self._processor: Any = CLIPImageProcessor(size=side, crop_size=side)
        self._pipeline = pipeline
        (projection,) = pipeline.unet.encoder_hid_proj.image_projection_layers
        # The "plus" adapters look at patches, the plain one at the image's one embedding.
        self._sees_patches = not isinstance(projection, ImageProjection)
        self._nothing: torch.Tensor | None = None

    def check(self, key: str) -> None:
        """Refuse an image encoder whose embeddings the adapter does not take.

        Adapters of one family come for encoders of two sizes.

        Raises:
            GeneratorConfigError: It names the key.
        """
        import torch

        try:
            with torch.inference_mode():
                self._pipeline.unet.encoder_hid_proj([self._embed([_GREY])])
        except RuntimeError as error:
            raise GeneratorConfigError(
                f"its pictures are not what the adapter takes ({first_line(error)}); name the "
                "encoder that the adapter was trained with",
                key=key,
            ) from error

    def attach(self, pipeline: Any) -> None:
        """Let a pipeline take one picture per image.

        Its own method repeats all embeddings for every prompt, so that a batch of prompts would
        be shown each other's pictures.
        """

        def one_each(
            _: Any, embeddings: Sequence[Any], device: Any, __: int, guided: bool
        ) -> list[Any]:
            return [both.to(device) if guided else both.chunk(2)[1] for both in embeddings]

        pipeline.prepare_ip_adapter_image_embeds = one_each

    def arguments(
        self, pipeline: Any, pictures: Sequence[Pixels], *, n: int, scale: float | None
    ) -> dict[str, Any]:
        """Set the scale of the adapter, and return the arguments for one call.

        Args:
            pipeline: The one that is called; `attach` has seen it.
            pictures: One per image of the call; not looked at without a scale.
            n: Images of the call.
            scale: Of the adapter; None switches it off.
        """
        pipeline.set_ip_adapter_scale(scale or 0.0)
        if not scale:  # the pipeline wants embeddings all the same, and looks at none of them
            if self._nothing is None:
                self._nothing = self._embed([np.zeros((8, 8, 3), dtype=np.uint8)])
            return {"ip_adapter_image_embeds": [self._nothing.repeat_interleave(n, dim=0)]}
        return {"ip_adapter_image_embeds": [self._embed(pictures)]}

    def _embed(self, pictures: Sequence[Pixels]) -> torch.Tensor:
        """Embed pictures: (2n, 1, ...), what guidance steers away from before the pictures."""
        import torch

        pixels = self._processor(
            images=[Image.fromarray(picture) for picture in pictures], return_tensors="pt"
        ).pixel_values
        device = self._pipeline.unet.device
        seen, unseen = self._pipeline.encode_image(pixels, device, 1, self._sees_patches)
        return torch.cat([unseen, seen])[:, None]


def _check_kind(pipeline: type[Any]) -> None:
    from diffusers.loaders import IPAdapterMixin

    if not issubclass(pipeline, IPAdapterMixin):
        raise GeneratorConfigError(f"a {pipeline.__name__} takes none; leave it out", key=_KEY)
