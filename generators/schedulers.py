"""The noise schedulers a draw may name: short name -> diffusers class and what sets it.

`diffusion` builds them, the config is checked against their names. It imports diffusers only to
build one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gapclose.generators.errors import GeneratorConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerSpec:
    """How one short name is built.

    Attributes:
        name: Class in diffusers.
        settings: Set whatever the pipeline's saved config says: they are what the name means.
        absent: Set only where the saved config says nothing, since the class's own default suits
            pixels and not latents.
        bounded: Whether it needs a largest sigma in the tens, as Stable Diffusion v1 has (14.6).
            On a schedule that ends in pure noise (sigma 20,000) Karras' spacing spends its steps
            there until timesteps collide, and Heun's average of two slopes overshoots.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    absent: Mapping[str, Any] = field(default_factory=dict)
    bounded: bool = False


# Latents leave [-1, 1]; DDIM and DDPM cut there by default, and a config saved by another class
# does not say otherwise.
_NO_CLIP: Final = {"clip_sample": False}
_KARRAS: Final = {"use_karras_sigmas": True}

SCHEDULERS: Final[dict[str, SchedulerSpec]] = {
    "ddim": SchedulerSpec(name="DDIMScheduler", absent=_NO_CLIP),
    "ddpm": SchedulerSpec(name="DDPMScheduler", absent=_NO_CLIP),
    "deis": SchedulerSpec(name="DEISMultistepScheduler"),
    "dpmsolver++": SchedulerSpec(
        name="DPMSolverMultistepScheduler", settings={"algorithm_type": "dpmsolver++"}
    ),
    "dpmsolver++_karras": SchedulerSpec(
        name="DPMSolverMultistepScheduler",
        settings={"algorithm_type": "dpmsolver++", **_KARRAS},
        bounded=True,
    ),
    "dpmsolver++_sde": SchedulerSpec(
        name="DPMSolverMultistepScheduler", settings={"algorithm_type": "sde-dpmsolver++"}
    ),
    "dpmsolver++_single": SchedulerSpec(
        name="DPMSolverSinglestepScheduler", settings={"algorithm_type": "dpmsolver++"}
    ),
    "euler": SchedulerSpec(name="EulerDiscreteScheduler"),
    "euler_karras": SchedulerSpec(name="EulerDiscreteScheduler", settings=_KARRAS, bounded=True),
    "euler_a": SchedulerSpec(name="EulerAncestralDiscreteScheduler"),
    "heun": SchedulerSpec(name="HeunDiscreteScheduler", bounded=True),
    "kdpm2": SchedulerSpec(name="KDPM2DiscreteScheduler", bounded=True),
    "kdpm2_a": SchedulerSpec(name="KDPM2AncestralDiscreteScheduler", bounded=True),
    "lms": SchedulerSpec(name="LMSDiscreteScheduler"),
    # Without skip_prk_steps it spends nine more evaluations on a Runge-Kutta start.
    "pndm": SchedulerSpec(name="PNDMScheduler", absent={"skip_prk_steps": True}),
    "unipc": SchedulerSpec(name="UniPCMultistepScheduler"),
    # For pipelines trained for them; the guard in `build_scheduler` keeps them off others.
    "flow_euler": SchedulerSpec(name="FlowMatchEulerDiscreteScheduler"),
    "flow_heun": SchedulerSpec(name="FlowMatchHeunDiscreteScheduler"),
    "lcm": SchedulerSpec(name="LCMScheduler"),
}


def check_scheduler(name: str) -> None:
    """Refuse a name that is not in the table.

    Raises:
        GeneratorConfigError: One line that names the nearest scheduler.
    """
    if name not in SCHEDULERS:
        classes = {spec.name: key for key, spec in reversed(SCHEDULERS.items())}
        near = (
            classes.get(name)
            or (difflib.get_close_matches(name.lower(), SCHEDULERS, n=1, cutoff=0.0)[0])
        )
        raise GeneratorConfigError(
            f"unknown {name!r}; did you mean {near!r}? ({', '.join(SCHEDULERS)})",
            key="scheduler",
        )


def build_scheduler(name: str | None, original: Any) -> Any:
    """Build a fresh scheduler for one call of a pipeline.

    Args:
        name: Short name; None is the pipeline's own class.
        original: The scheduler the pipeline was saved with. Building from the one in use would
            pass on what an earlier swap had set (diffusers#10738).

    Raises:
        GeneratorConfigError: If the name is unknown, or its class does not fit the pipeline: a
            flow-matching model denoised by DDIM gives noise, not an error.
    """
    own = type(original)
    if name is None:
        return own.from_config(original.config)
    check_scheduler(name)
    spec = SCHEDULERS[name]
    fitting = {own.__name__, *getattr(original, "_compatibles", ()), *_kin(own.__name__)}
    if spec.name not in fitting:
        usable = sorted(key for key, other in SCHEDULERS.items() if other.name in fitting)
        raise GeneratorConfigError(
            f"{name!r} does not fit a pipeline made for {own.__name__}; "
            f"usable: {', '.join(usable) or 'only its own (null)'}",
            key="scheduler",
        )
    if spec.bounded and _ends_in_pure_noise(original):
        usable = [
            k for k, other in SCHEDULERS.items() if other.name in fitting and not other.bounded
        ]
        raise GeneratorConfigError(
            f"{name!r} does not work on a noise schedule that ends in pure noise; "
            f"usable: {', '.join(usable)}",
            key="scheduler",
        )
    import diffusers

    saved = dict(original.config)
    defaults = saved.get("_use_default_values", ())
    absent = {k: v for k, v in spec.absent.items() if k not in saved or k in defaults}
    return getattr(diffusers, spec.name).from_config(original.config, **absent, **spec.settings)


def _ends_in_pure_noise(original: Any) -> bool:
    """Tell whether hardly any signal is left at the last step (0.5 % in Stable Diffusion v1)."""
    signal = getattr(original, "alphas_cumprod", None)
    return signal is not None and float(signal[-1]) < 1e-6


def _kin(own: str) -> tuple[str, ...]:
    # diffusers declares no compatibles for the flow-matching family.
    family = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
    return family if own in family else ()
