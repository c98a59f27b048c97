"""A mistake is one line that names the key and the remedy."""

from __future__ import annotations

from typing import Any

import pytest
from pond_config import POND, pond_config

from gapclose.loop.errors import ConfigError


def said(**changes: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        pond_config(**changes)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix("config: ")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"space": {"guidence_scale": 3}}, ["space.guidence_scale is no key", "guidance_scale?"]),
        ({"reel": 1}, ["reel is no key", "did you mean real?"]),
        ({"space": {"camera": {"jpeg": 90}}}, ["space.camera.jpeg is no key", "jpeg_quality"]),
        ({"generator": {"kind": "diffusers", "modle": "x"}}, ["generator.modle", "model?"]),
        ({"generator": {"kind": "difusers"}}, ["generator.kind", "did you mean diffusers?"]),
        ({"generator": {"kind": "diffusers"}}, ["generator.model is missing"]),
        ({"generator": 3}, ["generator: got 3, expected keys and values"]),
        ({"real": {"pth": "x"}}, ["real.pth is no key", "did you mean path?"]),
        ({"real": {"path": "x", "confirm_share": 1.0}}, ["real.confirm_share", "less than 1"]),
        ({"real": {"kind": "pond", "per_class": 10}}, ["real.per_class: got 10", "40"]),
        ({"tune": {"images_per_trial": "eight"}}, ['got "eight", expected a whole number']),
        ({"tune": {"images_per_trial": True}}, ["got true, expected a whole number"]),
        ({"tune": {"budget": "8x"}}, ["tune.budget", '"8x"', "8h, 5m"]),
        ({"tune": {"budget": None}}, ["tune: nothing ends the search", "trials"]),
        ({"space": {"guidance_scale": [1, "x"]}}, ["space.guidance_scale[1]", "a number"]),
        ({"space": {"guidance_scale": [7, 2]}}, ["[7.0, 2.0]", "lower number first"]),
        ({"space": {"num_inference_steps": [0, 5]}}, ["num_inference_steps", "at least 1"]),
        ({"space": {"camera": {"noise": [-1.0]}}}, ["camera.noise", "from 0 to 1"]),
        ({"space": {"camera": {"jpeg_quality": [70, 101]}}}, ["jpeg_quality", "1 to 100"]),
        ({"space": {"camera": {"kernel": "lancos"}}}, ["kernel", "did you mean lanczos?"]),
        ({"space": {"scheduler": ["eulr"]}}, ["space.scheduler", "eulr", "euler"]),
        ({"baseline": {"scheduler": "ddm"}}, ["baseline.scheduler", "ddm", "ddim"]),
        ({"space": {"slots": {"color": [1, 2]}}}, ["space.slots.color[0]", "quotes"]),
        ({"space": {"slots": {"color": []}}}, ["space.slots", "color has no words"]),
        ({"space": {"slots": {"color": ["a", "a"]}}}, ['"a" twice']),
        (
            {"space": {"prompt": "a {colr} {class}", "slots": {"color": ["a"]}}},
            ["{colr}", "did you mean color?"],
        ),
        ({"space": {"prompt": "a {class"}}, ["space.prompt", "is no template"]),
        ({"space": {"prompt": "a {class!r}"}}, ["{class!r} is no slot"]),
        ({"space": {"prompt": "a photo"}}, ["space.prompt", "no template slot for the class"]),
        ({"baseline": {"prompt": "a photo"}}, ["baseline.prompt", "no template slot"]),
        ({"baseline": {"prompt": "a {color} {class}"}}, ["{color}", "only {class}"]),
        (
            {"space": {"proposer": "llama"}},
            ["space.proposer", '"llama"', "attributes, transformers:MODEL, pkg.mod:Function"],
        ),
        ({"classes": []}, ["classes: got []", "expected all"]),
        ({"classes": ["frog", "frog"]}, ["each class once"]),
        ({"confirm": {"images": 3}}, ["confirm.images: got 3"]),
        ({"embedder": 3}, ["embedder: got 3, expected text"]),
        ({"judge": POND["embedder"]}, ["judge:", "cannot confirm itself"]),
        ({"judge": ["pond-judge", "pond"]}, ['judge: "pond" is the', "cannot confirm itself"]),
        ({"judge": ["a", "b", "a"]}, ['judge: "a" is named twice', "name each judge once"]),
        ({"judge": 3}, ["judge: got 3, expected text"]),
        ({"judge": ["a", 3]}, ["judge[1]: got 3, expected text"]),
        ({"attributes": {"color": ["green"]}}, ["attributes", "color", "two different words"]),
        ({"space": {"camera": {"noise": [0, 12]}}}, ["camera.noise", "from 0 to 1"]),
        ({"space": {"camera": {"resize": 10**6}}}, ["camera.resize: got 1000000", "8192"]),
        ({"space": {"camera": {"saturation": 1e9}}}, ["camera.saturation", "from 0 to 100"]),
        (
            {"space": {"num_inference_steps": [5, 5000]}},
            ["steps: got 5000", "at most 1000"],
        ),
        (
            {"baseline": {"num_inference_steps": 10**6}},
            ["baseline.num_inference_steps: got"],
        ),
        ({"baseline": {"guidance_scale": 1e6}}, ["baseline.guidance_scale: got", "at most 1000"]),
        ({"generator": {"kind": "diffusers", "model": "x", "size": 10**6}}, ["1 to 8192 pixels"]),
        ({"generator": {"kind": "diffusers", "model": "x", "size": [8, 0]}}, ["1 to 8192 pixels"]),
        ({"baseline": {"camera": {"noise": 3}}}, ["baseline.camera.noise: got 3"]),
        ({"baseline": {"guidance_scale": float("inf")}}, ["got Infinity, expected a number"]),
        ({"device": "gpu"}, ["device", "gpu", "cuda:1"]),
        ({"generator": {"kind": "diffusers", "model": "pond", "device": "0"}}, ["expected auto"]),
        ({"space": {"scheduler": ["DDIM"]}}, ["did you mean 'ddim'?"]),
        ({"space": {"scheduler": ["EulerDiscreteScheduler"]}}, ["did you mean 'euler'?"]),
    ],
)
def test_a_mistake_is_one_line_with_key_and_remedy(
    changes: dict[str, Any], parts: list[str]
) -> None:
    line = said(**changes)
    for part in parts:
        assert part in line


def test_an_unknown_key_is_told_before_what_follows_from_it() -> None:
    line = said(generator={"kind": "diffusers", "modle": "x", "size": "big"})
    assert line.startswith("generator.modle")


def test_the_key_is_evidence() -> None:
    with pytest.raises(ConfigError) as told:
        pond_config(space={"camera": {"noise": [3, -1]}})
    assert (told.value.where, told.value.key) == ("config", "space.camera.noise")
