"""Attacks on configs: bombs, values of any kind at any key, paths and code."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import yaml
from run_attacks import CONTROLS
from watched import Case
from worlds import World, config_of, copied

__all__ = ["config_case_of"]

BUDGET: Final = "2s"
DIGITS: Final = "9" * 5000

# Every key of the schema, with a value that is right, or None where another key must change too.
KEYS: Final[dict[str, Any]] = {
    **{"real.path": None, "real.kind": "pond", "real.per_class": None, "real.seed": None},
    **{"real.confirm_share": 0.5, "real.test_share": 0.1, "classes": "all", "code_folder": None},
    **{"generator.kind": None, "generator.model": None, "generator.revision": None},
    **{"generator.dtype": "auto", "generator.device": "auto", "generator.size": 32},
    **{"generator.batch_size": 8, "generator.safety_checker": "off", "embedder": "pond"},
    **{"judge": "pond-judge", "space.prompt": "a {class}", "space.slots": {"a": ["b"]}},
    **{"space.nouns": {"frog": ["toad"]}, "space.negative_prompt": "", "space.scheduler": "ddim"},
    **{"space.guidance_scale": [1, 2], "space.num_inference_steps": [4, 8]},
    **{"space.camera.resize": 32, "space.camera.kernel": "area", "space.camera.noise": [0, 0.1]},
    **{"space.camera.jpeg_quality": [70, 90], "space.camera.saturation": [1.0, 1.1]},
    **{"space.captions": "words", "space.strength": 0.5, "space.ip_adapter_scale": 0.5},
    **{"space.proposer": "attributes", "baseline.prompt": "a {class}", "baseline.scheduler": "x"},
    **{"baseline.negative_prompt": "", "baseline.guidance_scale": 1.0, "baseline.camera": {}},
    **{"baseline.num_inference_steps": 4, "tune.objective": "gap", "tune.budget": "2s"},
    **{"tune.trials": 1, "tune.images": 8, "tune.images_per_trial": 2, "tune.seed": 0},
    **{"confirm.images": 20, "storage": None, "attributes": {"color": ["a", "b"]}},
    **{"device": "cpu", "unknown": 1, "tune.unknown": 1},
}
VALUES: Final[tuple[Any, ...]] = (
    *(None, True, -1, 0, 10**12, 10**30, 10**400, 1e300, float("nan"), float("inf"), -0.0, ""),
    *(" ", "x" * 5000, "n" * 300, CONTROLS, "\x00", "\x1b[2J", "\u202egorf", [], {}, [[[]]]),
    *(
        [None],
        {"": None},
        {1: 2},
        {"a": {"b": {"c": []}}},
        "..",
        "/",
        "~",
        "~nobody/x",
        "/dev/zero",
    ),
    *("{", "{class", "{class.__class__}", "{0}", "{class!r:>99999999}", "%s%s%s", "$(touch x)"),
    *(
        ["a"] * 50_000,
        list(range(3000)),
        "2026-01-01",
        "1e999",
        "=1",
        "*",
        "&a",
        "!!python/name:x",
    ),
)


def config_case_of(number: int, seed: int, folder: Path, world: World) -> Case:
    """Write a hostile config, and begin a run with it."""
    rng = random.Random(f"configs:{seed}:{number}")
    copied(world.bases[0].cache, folder / "cache")
    (folder / "work").mkdir()
    attack = ATTACKS[number % len(ATTACKS)]
    text, options, said = attack(rng, world)
    path = folder / "hostile.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    command = rng.choice(["tune", "tune", "tune", "audit", "init"])
    out = str(folder / "work/out")
    if attack is _hostile_out:
        out, command = options.pop(), rng.choice(["tune", "audit", "init"])
    if attack is _given:
        mixtures = folder / "mixtures.yaml"
        path.replace(mixtures)
        path.write_text(_dumped(_short(world)), encoding="utf-8")
        command, options = "tune", ["--like", str(mixtures)]
    if command == "init":
        real = str(path) if rng.random() < 0.2 else str(world.photos)
        words = [
            "init",
            real,
            "-o",
            out if attack is _hostile_out else str(folder / "work/c.yaml"),
        ]
    elif command == "audit":
        words = ["audit", str(path), "--out", out]
    else:
        words = ["tune", str(path), "--out", out, *options]
        if "tune.budget" not in said and "--budget" not in words:
            words += ["--budget", BUDGET]
    return Case(
        name=f"configs:{number}",
        what=f"{attack.__name__.strip('_')} {said}",
        words=words,
        folder=folder,
        reads=(world.photos,),
    )


def _short(world: World) -> dict[str, Any]:
    tune = {"budget": None, "trials": 1, "images_per_trial": 2, "seed": 0}
    return config_of(world.photos, classes=["frog"], tune=tune, confirm={"images": 20})


def _dumped(data: Any) -> str:
    # One long text needs no folding, which takes minutes.
    return yaml.dump(data, allow_unicode=True, width=10**9)


# --------------------------------------------------------------------------------- the attacks

Attacked = tuple[str, list[str], str]
Attack = Callable[[random.Random, World], Attacked]


def _with(world: World, key: str, value: Any) -> Attacked:
    """A config with this value of a dotted key."""
    data = _short(world)
    *above, last = key.split(".")
    place = data
    for name in above:
        place = place.setdefault(name, {})
    place[last] = value
    return _dumped(data), [], f"{key} = {ascii(value)[:40]}"


def _any_value(rng: random.Random, world: World) -> Attacked:
    return _with(world, rng.choice([*KEYS]), rng.choice(VALUES))


def _wrong_kind(rng: random.Random, world: World) -> Attacked:
    """A right value of another key."""
    return _with(
        world, rng.choice([*KEYS]), rng.choice([v for v in KEYS.values() if v is not None])
    )


def _whole_section(rng: random.Random, world: World) -> Attacked:
    data = _short(world)
    key = rng.choice([*data])
    data[key] = rng.choice(VALUES)
    if rng.random() < 0.3:
        del data[key]
    return _dumped(data), [], f"{key} = {ascii(data.get(key))[:40]}"


def _pond_numbers(rng: random.Random, world: World) -> Attacked:
    data = _short(world)
    key = rng.choice(["per_class", "seed", "confirm_share"])
    data["real"] = {"kind": "pond", "per_class": 40, key: rng.choice(VALUES[:12])}
    return _dumped(data), [], f"real.{key} = {ascii(data['real'][key])[:40]}"


def _set_option(rng: random.Random, world: World) -> Attacked:
    values = [
        *("tune.trials=" + DIGITS, "=", "tune", "tune.=1", ".=1", "a.b.c.d=1", "tune.trials=[[[["),
        *("tune=*a", "real.path=\x1b[2J", "classes=" + "[" * 5000, "tune.seed=1e999", "x" * 9000),
        *("generator.kind=os:system", "tune.trials=!!python/object:os.system", "a" * 300 + "=1"),
        *("classes=[frog, frog]", "classes=['\x1b[2J']", "classes=[" + "n" * 300 + "]"),
        *("confirm.images=1e30", "tune.budget=" + DIGITS, "tune.budget=1e400", "=\u202e"),
        *("space.guidance_scale=[.nan, .inf]", "real={path: {path: {path: x}}}", "tune.trials=\n"),
    ]
    value = rng.choice(values)
    return _dumped(_short(world)), ["--set", value], ascii(value)[:50]


def _budget_option(rng: random.Random, world: World) -> Attacked:
    value = rng.choice([DIGITS, "1e400", "-1", "8x", "nan", "inf", "\x1b[2J", "h", "0s", "1e-400"])
    return _dumped(_short(world)), ["--budget", value], ascii(value)[:40]


def _alias_bomb(rng: random.Random, world: World) -> Attacked:
    shape = rng.choice(["list", "map", "text", "merge"])
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    if shape in ("map", "merge"):
        lines = ["a0: &a0 {a: x, b: x, c: x, d: x}"]
    if shape == "text":
        lines = [f"a0: &a0 {'x' * 100_000}"]
    for level in range(1, 30):
        below = f"*a{level - 1}"
        if shape == "map":
            row = "{" + ", ".join(f"k{n}: {below}" for n in range(9)) + "}"
        elif shape == "merge":
            row = f"{{<<: [{', '.join([below] * 9)}], n{level}: x}}"
        else:
            row = f"[{', '.join([below] * 9)}]"
        lines.append(f"a{level}: &a{level} {row}")
    return _dumped(_short(world)) + "\n".join(lines) + "\n", [], shape


def _nested(rng: random.Random, world: World) -> Attacked:
    n = rng.choice([500, 5000, 200_000])
    text = rng.choice(["a: " + "[" * n, "{a: " * n, "- " * n + "x", "[" * n + "]" * n, "? " * n])
    return text, [], f"{n} deep: {text[:6]}"


def _tags(rng: random.Random, world: World) -> Attacked:
    pwned = world.canary.folder / "pwned"
    lines = [
        f"x: !!python/object/apply:os.system ['touch {pwned}']",
        f"x: !!python/object/new:os.system [touch {pwned}]",
        *(
            "x: !!python/name:os.system",
            "x: !!python/module:os",
            "x: !!binary ////",
            "x: !!set {a}",
        ),
        *("x: !!timestamp now", "x: !!int x", "x: !!float 1e999999", "x: !!bool maybe", "x: !y z"),
        *("x: !!int 0x" + "f" * 9999, "x: " + DIGITS, "x: 1e" + DIGITS, "%YAML 9.9\n---\nx: 1"),
        *("x: &a [*a]", "&a x: *a", "x: !!omap [a: 1]", "<<: 1", "? [a, b]\n: c", "x: *nothing"),
        *("---\na: 1\n---\nb: 2", "x: 'open", "\tx: 1", "x: \x07", "@x: 1", "x: >999999999\n y"),
    ]
    line = rng.choice(lines)
    return (
        f"{line}\n{_dumped(_short(world))}" if rng.random() < 0.5 else line,
        [],
        ascii(line)[:50],
    )


def _bytes(rng: random.Random, world: World) -> Attacked:
    texts = ["", "\0" * 9999, "\ufeff", "\udcff\udcfe", "\ud800", "#" * 3_000_000, " " * 3_000_000]
    text = rng.choice([*texts, "x", "7", "[]", "- a", "null", "'", "\r\r\r", "\u2028", "\x85"])
    return text, [], ascii(text[:12])


def _paths(rng: random.Random, world: World) -> Attacked:
    canary = world.canary.folder
    path = rng.choice(
        [
            *("/dev/zero", "/dev/full", str(canary / "pipe"), "n" * 300, "a/" * 3000, "\0", "."),
            *("/proc/self", "/proc/self/mem", "", "~nobody-at-all/x", "x\x1b[2J", "/root/\u202e"),
        ]
    )
    data = _short(world)
    keys: list[tuple[str, Any]] = [
        ("real", {"path": path}),
        ("generator", {"kind": "folder", "path": path}),
        ("generator", {"kind": "diffusers", "model": path}),
        ("generator", {"kind": f"{path}.py:Class"}),
        ("generator", {"kind": f"{path}:Class"}),
        ("embedder", f"open_clip:local-dir:{path}"),
        ("embedder", f"onnx:{path}"),
        ("embedder", f"transformers:{path}"),
        ("embedder", f"./{path}.py:Class"),
        ("judge", f"onnx:{path}"),
        ("space", {"prompt": "a {class}", "captions": f"{path}.jsonl"}),
        ("space", {"prompt": "a {class}", "proposer": f"transformers:{path}"}),
        ("storage", f"sqlite:///{path}"),
        ("storage", path),
        ("code_folder", path),
    ]
    key, value = rng.choice(keys)
    data[key] = value
    return _dumped(data), [], f"{key} = {ascii(value)[:70]}"


def _code(rng: random.Random, world: World) -> Attacked:
    """Code that is not there, is no class, or is what no config should be able to call."""
    names = [
        *("os:system", "no.such:Class", "antigravity:x", "drawn:NoSuch", "drawn:os", "..x:Y"),
        *(
            "drawn:_image",
            "builtins:exec",
            "x" * 300 + ":Y",
            "this:s",
            "a b:c",
            "drawn:",
            ":Drawn",
        ),
        *("./no.py:X", "__main__:main", "gapclose.loop.cli:app", "worlds:HERE", "pickle:loads"),
    ]
    data = _short(world)
    name = rng.choice(names)
    key = rng.choice(["generator", "generator", "embedder", "judge", "space"])
    values = {"generator": {"kind": name}, "space": {"prompt": "a {class}", "proposer": name}}
    data[key] = values.get(key, name)
    return _dumped(data), rng.choice([[], ["--trust"]]), f"{key} = {name[:40]}"


def _hostile_out(rng: random.Random, world: World) -> Attacked:
    outs = [
        *(
            "n" * 256,
            "a/" * 2100,
            "/dev/null",
            "hostile.yaml/x",
            "/proc/x",
            "x\x1b[2J",
            "x\ny",
            "",
        ),
        *("\udcff", "/dev/full", "../work", ".", "x" * 255, "~nobody-at-all/x", "\u202egorf"),
    ]
    out = rng.choice(outs)
    return _dumped(_short(world)), [out], f"--out {ascii(out)[:40]}"


def _given(rng: random.Random, world: World) -> Attacked:
    """Mixtures for `--like`, of which something is wrong."""
    recipe: dict[str, Any] = {"weight": 1.0, "prompt": "a photo of a frog", "guidance_scale": 3.0}
    data: dict[str, Any] = {
        **{"schema": 1, "run": "x", "generator": "drawn:Drawn", "embedder": "pond"},
        "classes": {"frog": {"confirmed": True, "ratio": 1.0, "recipes": [recipe]}},
    }
    value = rng.choice(VALUES)
    places: list[tuple[dict[str, Any], list[str]]] = [
        (data, [*data]),
        (data["classes"], ["frog", "x" * 300, "../..", "\x1b[2J"]),
        (data["classes"]["frog"], ["confirmed", "ratio", "recipes", "unknown"]),
        (recipe, [*recipe, "photos", "strength", "camera", "scheduler", "num_inference_steps"]),
        (recipe, ["weight", "prompt", "negative_prompt"]),
    ]
    place, keys = rng.choice(places)
    key = rng.choice(keys)
    place[key] = value
    return _dumped(data), [], f"{key[:20]} = {ascii(value)[:40]}"


ATTACKS: Final[tuple[Attack, ...]] = (
    *(_any_value, _any_value, _any_value, _any_value, _any_value, _any_value, _wrong_kind),
    *(_whole_section, _pond_numbers, _set_option, _set_option, _budget_option, _alias_bomb),
    *(_nested, _tags, _tags, _bytes, _paths, _paths, _paths, _code, _code, _hostile_out, _given),
    _given,
)
