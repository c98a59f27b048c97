"""What may change between the sessions of a run."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import yaml
from pond_config import pond_config

from gapclose.loop.config.identity import changed_keys, fingerprint, flat, is_free
from gapclose.loop.config.reading import parse_config


def test_a_resumed_run_may_change_limits_and_machine_only() -> None:
    old = pond_config()
    free = pond_config(
        tune={"budget": "1h", "trials": 5, "images": 7},
        device="cpu",
        storage="sqlite:///other.db",
        generator={
            "kind": "diffusers",
            "model": "pond",
            "device": "cuda",
            "batch_size": 4,
            "offload": "model",
        },
    )
    assert changed_keys(old, free) == ()
    assert fingerprint(old) == fingerprint(free)
    other = pond_config(
        tune={"seed": 1},
        judge="pond-judge",
        space={"slots": {"color": ["red"]}},
        generator={"kind": "diffusers", "model": "pond", "dtype": "float16"},
    )
    assert changed_keys(old, other) == (
        "generator.dtype",
        "judge",
        "space.slots",
        "space.slots.color",
        "tune.seed",
    )
    assert fingerprint(old) != fingerprint(other)


@pytest.mark.parametrize(
    ("written", "judges", "kept"),
    [
        (None, (), None),
        ([], (), None),
        ("pond-judge", ("pond-judge",), "pond-judge"),
        (["pond-judge"], ("pond-judge",), "pond-judge"),
        (["pond-judge", "onnx:/e.onnx"], ("pond-judge", "onnx:/e.onnx"), None),
    ],
)
def test_one_judge_is_kept_as_it_was_before_there_were_several(
    written: Any, judges: tuple[str, ...], kept: str | None
) -> None:
    config = pond_config(judge=written)
    assert config.judge == judges
    assert config.to_dict()["judge"] == (list(judges) if len(judges) > 1 else kept)
    again = parse_config(yaml.safe_load(config.to_yaml()))
    assert again == config
    assert changed_keys(config, again) == ()
    assert changed_keys(config, pond_config(judge="another")) == ("judge",)
    assert config.encoders == ("pond", *judges)


def test_the_code_of_every_judge_is_named() -> None:
    config = pond_config(judge=["pond-judge", "mine.eyes:One", "/eyes/two.py:Two"])
    assert config.names_code() == ("mine.eyes:One", "/eyes/two.py:Two")


@pytest.mark.parametrize(
    ("real", "own"), [({"kind": "pond"}, {}), ({"path": "/photos"}, {"real.test_share": 0.0})]
)
def test_a_config_that_does_not_use_a_later_key_is_what_it_was(
    real: dict[str, Any], own: dict[str, Any]
) -> None:
    """Runs of before there was one go on."""
    config = pond_config(real=real)
    kept = {k: v for k, v in flat(config.to_dict()).items() if not is_free(k)}
    later = {
        "code_folder": None,
        "tune.objective": "gap",
        "generator.ip_adapter": None,
        "generator.variant": None,
        "generator.loras": [],
        "generator.config": None,
        "generator.components": {},
        "generator.embeddings": [],
        "generator.compile": False,
        "generator.attention": "auto",
        "generator.quantize": "none",
        "generator.cache": "none",
        "space.captions": None,
        "space.strength": [],
        "space.ip_adapter_scale": [],
        "space.proposer": None,
        "space.parameters": {},
        "space.class_parameters": {},
        "baseline.parameters": {},
        "generators": {},
        "space.generators": {},
        "baseline.generators": {},
        **own,
    }
    assert {key: kept.pop(key) for key in later} == later
    text = json.dumps(kept, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    assert fingerprint(config) == hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize(
    "own",
    [{"compile": True}, {"attention": "sage"}, {"quantize": "nf4"}, {"cache": "taylorseer"}],
    ids=str,
)
def test_what_is_faster_by_other_images_is_another_generator(own: dict[str, Any]) -> None:
    plain = {"kind": "diffusers", "model": "pond"}
    before, after = pond_config(generator=plain), pond_config(generator={**plain, **own})
    assert changed_keys(before, after) == tuple(f"generator.{key}" for key in own)
    assert fingerprint(before) != fingerprint(after)


def test_a_later_key_of_one_of_several_generators_is_none_either_where_nobody_uses_it() -> None:
    def config(**own: Any) -> Any:
        several = {"a": {"kind": "diffusers", "model": "pond", **own}, "b": {"kind": "m.w:G"}}
        return pond_config(generator=None, generators=several)

    kept = {k: v for k, v in flat(config().to_dict()).items() if not is_free(k)}
    assert kept["generators.a.loras"] == []
    assert fingerprint(config(loras=[])) == fingerprint(config())
    assert fingerprint(config(loras=[{"path": "x/y"}])) != fingerprint(config())


def test_an_adapter_is_part_of_the_generator() -> None:
    def config(**generator: Any) -> Any:
        return pond_config(generator={"kind": "diffusers", "model": "pond", **generator})

    adapter = {"model": "h94/IP-Adapter", "weight_name": "a.safetensors"}
    with_one = config(ip_adapter=adapter)
    other = config(ip_adapter={**adapter, "weight_name": "b.safetensors"})
    assert changed_keys(with_one, other) == ("generator.ip_adapter.weight_name",)
    assert len({fingerprint(one) for one in (config(), with_one, other)}) == 3
