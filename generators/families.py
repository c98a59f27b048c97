"""Families: what diffusers' text-to-image pipelines take of a draw, and what each means by it.

`checkpoint` reads from it what a saved pipeline takes, `pipeline` how a draw becomes arguments. A
pipeline's signature says what may be given, not whether it does anything: a recipe that names what
has no effect would say what is not so. The rows are what was seen, class by class, with diffusers
0.42 and random weights (`tests/generators/test_families.py`); a class that has none takes whatever
its signature names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["FAMILIES", "PLAIN", "Family"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a pipeline class makes of a draw.

    Attributes:
        guidance: The argument that a draw's guidance becomes.
        also: Another one, of a stage before, that guides as strongly.
        none_at: Its value that is no guidance: 1 as in Ho and Salimans 2022, "Classifier-Free
            Diffusion Guidance", or 0 where it is added to the conditional prediction.
        least: What it refuses less than.
        baked: A component, and the entry of its config without which guidance has no effect: it
            was distilled away.
        negative: "text" if negative prompts work as they stand; "always" if guidance works beside
            one alone, so that an empty one is given; "ignored" if it is taken and has no effect.
        alone: Whether images of one batch change each other, or cannot be of several prompts.
        schedulers: Names of those that work in its call; None for all that fit its own.
        multiple: Pixels that sides are multiples of; others come out as another size.
        reads: What of a prompt: "text"; the "label" that it is, of a class-conditional pipeline;
            or "nothing", of an unconditional one, whose prompt is ignored.
        refused: Why a draw cannot drive it at all.
    """

    guidance: str = "guidance_scale"
    also: str | None = None
    none_at: float = 1.0
    least: float = 0.0
    baked: tuple[str, str] | None = None
    negative: Literal["text", "always", "ignored"] = "text"
    alone: bool = False
    schedulers: frozenset[str] | None = None
    multiple: int = 1
    reads: Literal["text", "label", "nothing"] = "text"
    refused: str | None = None


PLAIN: Final = Family()
_OWN: Final = frozenset[str]()  # its decoder keeps the scheduler that it was saved with
# They give their scheduler sigmas, which flow_heun does not take.
_SIGMAS: Final = frozenset({"flow_euler"})
_FLOW: Final = Family(schedulers=_SIGMAS, multiple=16)
_FLUX: Final = Family(
    schedulers=_SIGMAS,
    multiple=16,
    negative="ignored",  # at a true_cfg_scale of 1, its own
    baked=("transformer", "guidance_embeds"),
)
# Predictions of the flow: these alone are made for them, and Karras' spacing gives NaN.
_SANA: Final = Family(
    schedulers=frozenset(
        {"deis", "dpmsolver++", "dpmsolver++_sde", "dpmsolver++_single", "unipc"}
        | {"flow_euler", "flow_heun"}
    ),
    multiple=32,
)
_ADDED: Final = Family(schedulers=_SIGMAS, multiple=16, none_at=0.0)
# With a negative prompt it draws one image at a time.
_KANDINSKY: Final = Family(also="prior_guidance_scale", alone=True, schedulers=_OWN, multiple=64)
_HALVED: Final = Family(multiple=16)
_LOST: Final = Family(refused="diffusers saves, and cannot load (its PaellaVQModel)")

FAMILIES: Final[dict[str, Family]] = {
    "StableDiffusion3Pipeline": _HALVED,
    "StableDiffusion3PAGPipeline": _HALVED,
    "FluxPipeline": _FLUX,
    "FluxKontextPipeline": Family(refused="edits pictures, and makes sizes of its own"),
    "ChromaPipeline": _FLOW,
    "Flux2Pipeline": _FLOW,
    "Flux2KleinPipeline": _FLOW,
    "QwenImagePipeline": Family(
        guidance="true_cfg_scale", negative="always", schedulers=_SIGMAS, multiple=16
    ),
    "QwenImage21Pipeline": Family(
        guidance="true_cfg_scale", negative="always", alone=True, schedulers=_SIGMAS, multiple=32
    ),
    "ZImagePipeline": _ADDED,
    "ZImageOmniPipeline": _ADDED,
    "Krea2Pipeline": _ADDED,
    "Lumina2Pipeline": _FLOW,
    "LuminaPipeline": _HALVED,
    "CogView3PlusPipeline": _HALVED,
    "CogView4Pipeline": _FLOW,
    "GlmImagePipeline": Family(alone=True, schedulers=_SIGMAS, multiple=32),
    "OvisImagePipeline": _FLOW,
    "NucleusMoEImagePipeline": _FLOW,
    "Ideogram4Pipeline": Family(refused="takes its guidance as a schedule of 48 steps alone"),
    "PRXPipeline": Family(least=1.0, alone=True, multiple=16),
    "PixArtAlphaPipeline": _HALVED,
    "PixArtSigmaPipeline": _HALVED,
    "PixArtSigmaPAGPipeline": _HALVED,
    "SanaPipeline": _SANA,
    "SanaPAGPipeline": _SANA,
    "HunyuanDiTPipeline": _HALVED,
    "HunyuanDiTPAGPipeline": Family(multiple=16, least=1.001),  # without guidance it fails
    "AuraFlowPipeline": _HALVED,
    "KandinskyCombinedPipeline": _KANDINSKY,
    "KandinskyV22CombinedPipeline": _KANDINSKY,
    "Kandinsky3Pipeline": Family(alone=True, schedulers=frozenset({"ddim", "ddpm"}), multiple=64),
    "WuerstchenCombinedPipeline": _LOST,
    "StableCascadeCombinedPipeline": _LOST,
    # Neither starts from the noise that sigmas ask for, nor gives the scheduler random numbers.
    "DiTPipeline": Family(
        reads="label",
        schedulers=frozenset(
            {"ddim", "deis", "dpmsolver++", "dpmsolver++_karras", "dpmsolver++_single", "pndm"}
            | {"unipc"}
        ),
    ),
    # These do: schedulers without such an argument fail.
    "DDPMPipeline": Family(
        reads="nothing",
        schedulers=frozenset(
            {"ddim", "ddpm", "dpmsolver++", "dpmsolver++_karras", "dpmsolver++_sde"}
            | {"dpmsolver++_single"}
        ),
    ),
    "DDIMPipeline": Family(reads="nothing", schedulers=frozenset({"ddim"})),
    "IFPipeline": Family(
        schedulers=frozenset({"ddpm", "dpmsolver++", "dpmsolver++_sde", "dpmsolver++_single"})
    ),
}
"""By the names of classes in diffusers."""
