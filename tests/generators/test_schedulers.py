"""The scheduler table: every entry is built, and none leaks into the next."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    PNDMScheduler,
)

from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.schedulers import SCHEDULERS, build_scheduler, check_scheduler

pytestmark = pytest.mark.filterwarnings("ignore:__array:DeprecationWarning")


def _saved(**options: Any) -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_schedule="scaled_linear", prediction_type="v_prediction", **options
    )


KARRAS = sorted(
    name
    for name, spec in SCHEDULERS.items()
    if spec.name in DPMSolverMultistepScheduler._compatibles
)


@pytest.mark.parametrize("name", KARRAS)
def test_it_keeps_what_the_model_was_trained_with(name: str) -> None:
    built = build_scheduler(name, _saved())
    assert type(built).__name__ == SCHEDULERS[name].name
    assert built.config.beta_schedule == "scaled_linear"
    assert built.config.prediction_type == "v_prediction"
    for key, value in SCHEDULERS[name].settings.items():
        assert built.config[key] == value


def test_the_issues_names_are_there() -> None:
    assert {"ddim", "dpmsolver++", "euler", "euler_a", "pndm", "unipc", "heun", "lms"} <= set(
        KARRAS
    )


def test_every_class_exists_in_diffusers() -> None:
    for spec in SCHEDULERS.values():
        assert hasattr(diffusers, spec.name)


def test_none_is_a_fresh_copy_of_the_pipelines_own() -> None:
    own = _saved(solver_order=3)
    built = build_scheduler(None, own)
    assert built is not own
    assert type(built) is type(own)
    assert dict(built.config) == dict(own.config)


def test_an_earlier_swap_does_not_leak() -> None:
    own = _saved()
    before = dict(own.config)
    assert build_scheduler("euler_karras", own).config.use_karras_sigmas is True
    assert build_scheduler("euler", own).config.use_karras_sigmas is False
    assert dict(own.config) == before


def test_latents_are_not_clipped_unless_the_model_says_so() -> None:
    assert build_scheduler("ddim", _saved()).config.clip_sample is False
    clipping = diffusers.DDPMScheduler(clip_sample=True)
    assert build_scheduler("ddim", clipping).config.clip_sample is True
    assert build_scheduler("pndm", _saved()).config.skip_prk_steps is True
    slow = PNDMScheduler(skip_prk_steps=False)
    assert build_scheduler("pndm", slow).config.skip_prk_steps is False


@pytest.mark.parametrize(
    ("typo", "near"), [("dimm", "ddim"), ("Euler", "euler"), ("uni", "unipc")]
)
def test_an_unknown_name_brings_the_nearest(typo: str, near: str) -> None:
    with pytest.raises(GeneratorConfigError, match=f"did you mean '{near}'"):
        check_scheduler(typo)


def test_a_scheduler_of_another_family_is_refused() -> None:
    with pytest.raises(GeneratorConfigError, match="flow_euler, flow_heun"):
        build_scheduler("ddim", FlowMatchEulerDiscreteScheduler())
    with pytest.raises(GeneratorConfigError, match="does not fit"):
        build_scheduler("flow_euler", _saved())
    built = build_scheduler("flow_heun", FlowMatchEulerDiscreteScheduler())
    assert type(built).__name__ == "FlowMatchHeunDiscreteScheduler"


@pytest.mark.parametrize("name", KARRAS)
def test_pure_noise_is_no_start_for_some(name: str) -> None:
    cosine = DPMSolverMultistepScheduler(beta_schedule="squaredcos_cap_v2")
    if SCHEDULERS[name].bounded:
        with pytest.raises(GeneratorConfigError, match="pure noise; usable: ddim"):
            build_scheduler(name, cosine)
    else:
        assert type(build_scheduler(name, cosine)).__name__ == SCHEDULERS[name].name
