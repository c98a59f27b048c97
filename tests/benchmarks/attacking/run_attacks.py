"""Attacks on run folders: what a disk, a careless copy or a hostile sender makes of one."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml
from watched import CONFIG, MARK, Case
from worlds import EXPORTED, Base, World, config_of, copied

__all__ = ["run_case_of"]

Attack = Callable[[random.Random, Path, World], str]

JSON: Final = ("gap.json", "mixtures.json", "state.json", "environment.json")
LINES: Final = ("journal.jsonl", "trials.jsonl", "samples.jsonl")
OTHERS: Final = ("config.yaml", "study.db", "projection.safetensors", "report.html")
LEFT: Final = ("tags.json", "errors.log", "lock", "validation.json")
NESTED: Final = 100_000
_OFTEN: Final = ("report", "export")

CONTROLS: Final = "\x1b[31mred\x1b]0;owned\x07\x9b2J\u202e\u2028\r\x00\ud800"
WRONG: Final[tuple[Any, ...]] = (
    *(None, True, -1, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 5000, CONTROLS),
    *([], {}, [[]], [None], {"": None}, ["../../.."], "/etc/passwd", "../../../canary/secret.txt"),
)


def run_case_of(number: int, seed: int, folder: Path, world: World) -> Case:
    """Damage a copy of a run, and choose what is asked of it then.

    Args:
        number: Of the case; attacks and commands take turns by it.
        seed: Of the session.
        folder: Of the case, new.
        world: What there is to damage.
    """
    rng = random.Random(f"runs:{seed}:{number}")
    base = rng.choices(world.bases, weights=[4, 2, 3, 1, 2])[0]
    run = copied(base.run, folder / "run")
    elsewhere = rng.random() < 0.3
    if elsewhere:
        (folder / "cache").mkdir()
        for path in base.cache.iterdir():
            if path.name != CONFIG:
                copied(path, folder / "cache" / path.name) if path.is_dir() else None
    else:
        copied(base.cache, folder / "cache")
    attack = ATTACKS[number % len(ATTACKS)]
    said = [_attacked(attack, rng, run, world)]
    if rng.random() < 0.15:
        said.append(_attacked(rng.choice(ATTACKS), rng, run, world))
    words = _command(rng, base, run, folder, world)
    what = f"{base.name}{' from elsewhere' if elsewhere else ''}: {'; '.join(said)}"
    return Case(
        name=f"runs:{number}",
        what=what,
        words=words,
        folder=folder,
        reads=(world.photos,),
        run=run,
        code=not elsewhere or (words[0] == "tune" and "--like" in words),
        plain_user=attack in _PERMISSIONS,
        confirmed=frozenset().union(*base.confirmed.values()) if words[0] == "export" else None,
        mixtures=base.mixtures if words[0] == "export" else None,
    )


def _attacked(attack: Attack, rng: random.Random, run: Path, world: World) -> str:
    try:
        said = attack(rng, run, world)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        said = f"not possible ({type(error).__name__})"  # another attack came first
    return f"{attack.__name__.strip('_')} {said}"


def _command(rng: random.Random, base: Base, run: Path, folder: Path, world: World) -> list[str]:
    """Choose a command line."""
    (folder / "work").mkdir()
    kind = rng.choice(["status", "json", "report", "export", "yaml", "tune", "like", *_OFTEN])
    if kind == "tune" and base.name == "golden-with":
        kind = "report"  # its generator takes minutes
    if kind == "tune":
        shutil.copy2(base.config or base.run / "config.yaml", folder / "config.yaml")
        changes = ["--set", f"tune.trials={rng.choice([2, 3])}"] if base.config else []
        return ["tune", str(folder / "config.yaml"), "--out", str(run), *changes]
    if kind == "like":
        tune = {"budget": None, "trials": 1, "images_per_trial": 4}
        data = config_of(world.photos, classes=["frog"], tune=tune, confirm={"images": 20})
        (folder / "like.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        out = str(folder / "work/new")
        return ["tune", str(folder / "like.yaml"), "--like", str(run), "--out", out]
    if kind == "export":
        many = not base.name.startswith("golden") and rng.random() < 0.4
        options = ["--only-confirmed"] if rng.random() < 0.2 else []
        n = str(EXPORTED[many])
        return ["export", str(run), str(folder / "work/out"), "--per-class", n, *options]
    if kind == "yaml":
        return ["export", str(run), str(folder / "work/out.yaml")]
    return ["status", str(run), "--json"] if kind == "json" else [kind, str(run)]


# --------------------------------------------------------------------------------- the attacks


def _any_file(rng: random.Random, run: Path) -> Path:
    """A file that is there, or one that might be; journals and verdicts more often than images."""
    named = [*JSON, *LINES, *LINES, *OTHERS, *LEFT]
    found = sorted(run.rglob("*.png")) + sorted(run.rglob("*.safetensors"))
    if found and rng.random() < 0.25:
        return rng.choice(found)
    return run / rng.choice(named)


def _there(rng: random.Random, run: Path, names: tuple[str, ...] = ()) -> Path:
    paths = [path for name in names or (*JSON, *LINES, *OTHERS) if (path := run / name).is_file()]
    return rng.choice(paths)


def _instead(path: Path) -> Path:
    """Make place for something else."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _replace(path: Path, data: bytes) -> None:
    _instead(path).write_bytes(data)


def _link_to_a_secret(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    secrets = ["secret.txt", "secret.json", "secret.jsonl", "torn.jsonl", "secret.yaml"]
    secret = world.canary.folder / rng.choice([*secrets, "secret.db", "photos/frog/0.png"])
    _instead(path).symlink_to(secret)
    return f"{path.relative_to(run)} -> {secret.name}"


def _link_to_a_copy_outside(rng: random.Random, run: Path, world: World) -> str:
    """What lies at the other end is right: only the place is not."""
    path = _there(rng, run)
    outside = run.parent / "elsewhere"
    outside.mkdir(exist_ok=True)
    shutil.move(path, outside / path.name)
    path.symlink_to(outside / path.name)
    return path.name


def _link_to_a_name_that_is_free(rng: random.Random, run: Path, world: World) -> str:
    path = run / rng.choice([*JSON, *LINES, *OTHERS, *LEFT])
    _instead(path).symlink_to(world.canary.folder / "empty" / "made-by-a-command")
    return path.name


def _linked_folder(rng: random.Random, run: Path, world: World) -> str:
    name = rng.choice(["images", "embeddings", "real", "images/frog", "validation"])
    target = world.canary.folder / rng.choice(["empty", "photos", "photos/frog"])
    _instead(run / name).symlink_to(target)
    return f"{name} -> {target.name}"


def _self_link(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    if rng.random() < 0.3:
        path = run / rng.choice(["images", "embeddings", "images/frog"])
    _instead(path).symlink_to(path.name)
    return str(path.relative_to(run))


def _link_to_a_device(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    device = rng.choice(["/dev/zero", "/dev/zero", "/dev/full", "/proc/self/mem"])
    _instead(path).symlink_to(device)
    return f"{path.relative_to(run)} -> {device}"


def _pipe(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    os.mkfifo(_instead(path))
    return str(path.relative_to(run))


def _link_to_a_pipe(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    _instead(path).symlink_to(world.canary.folder / "pipe")
    return str(path.relative_to(run))


def _folder_for_a_file(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    _instead(path).mkdir()
    if rng.random() < 0.5:
        (path / "x").write_text("x", encoding="utf-8")
    return str(path.relative_to(run))


def _file_for_a_folder(rng: random.Random, run: Path, world: World) -> str:
    name = rng.choice(["images", "embeddings", "images/frog"])
    _replace(run / name, b"no folder")
    return name


def _truncated(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run) if rng.random() < 0.7 else _any_file(rng, run)
    data = path.read_bytes()
    cut = rng.randrange(len(data))
    _replace(path, data[:cut])
    return f"{path.relative_to(run)} to {cut} bytes"


def _emptied(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    _replace(path, b"\0" * 4096 if rng.random() < 0.3 else b"")
    return str(path.relative_to(run))


def _keys(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from _keys(value[key], (*at, key))
    elif isinstance(value, list):
        for number in range(min(len(value), 3)):
            yield from _keys(value[number], (*at, number))


def _set(value: Any, at: tuple[Any, ...], new: Any) -> None:
    for key in at[:-1]:
        value = value[key]
    value[at[-1]] = new


def _dumped(value: Any) -> bytes:
    return json.dumps(value).encode()


def _some_value(
    rng: random.Random, run: Path, new: Any, *, names: tuple[str, ...] = (), texts: bool = False
) -> str:
    """Put a value in the place of another, somewhere in a JSON file or in some lines."""
    path = _there(rng, run, names or (*JSON, *LINES))
    if path.suffix == ".json":
        rows = [json.loads(path.read_bytes())]
        chosen = [0]
    else:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        chosen = rng.sample(range(len(rows)), min(len(rows), rng.choice([1, 1, 3])))
    places = []
    for number in chosen:
        found = [at for at in _keys(rows[number]) if not texts or _is_text(rows[number], at)]
        at = rng.choice(found)
        _set(rows[number], at, new)
        places.append(f"{number}:{'.'.join(map(str, at))}")
    end = b"\n" if path.suffix == ".jsonl" else b""
    _replace(path, b"\n".join(map(_dumped, rows)) + end)
    return f"{path.name} {', '.join(places)} = {ascii(new)[:40]}"


def _is_text(value: Any, at: tuple[Any, ...]) -> bool:
    for key in at:
        value = value[key]
    return isinstance(value, str)


def _wrong_type(rng: random.Random, run: Path, world: World) -> str:
    return _some_value(rng, run, rng.choice(WRONG))


def _wrong_verdict(rng: random.Random, run: Path, world: World) -> str:
    return _some_value(rng, run, rng.choice(WRONG), names=("gap.json", "mixtures.json"))


def _whole_file_wrong(rng: random.Random, run: Path, world: World) -> str:
    path = run / rng.choice([*JSON, *LEFT])
    value = rng.choice(WRONG)
    _replace(path, _dumped(value))
    return f"{path.name} = {ascii(value)[:40]}"


def _nested(rng: random.Random, run: Path, world: World) -> str:
    path = run / rng.choice([*JSON, *LINES, *LEFT, "config.yaml"])
    opened, closed = rng.choice([("[", "]"), ('{"a":', "}")])
    inner = "1" if opened != "[" else ""
    _replace(path, (opened * NESTED + inner + closed * NESTED + "\n").encode())
    return path.name


def _huge_number(rng: random.Random, run: Path, world: World) -> str:
    new = rng.choice([10**19, 10**400, -(10**30), 1e308, 2**63, 10**12])
    return _some_value(rng, run, new)


def _digits(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run, (*JSON, *LINES))
    data = path.read_bytes()
    found = [*re.finditer(rb"(?<=[ :\[])\d+(?:\.\d+)?(?=[,}\]\n])", data)]
    at = rng.choice(found)
    new = rng.choice([b"9" * 5000, b"1e999", b"-1e999", b"NaN", b"Infinity", b"-0"])
    _replace(path, data[: at.start()] + new + data[at.end() :])
    return f"{path.name} at {at.start()} = {new[:12].decode()}"


def _surrogate(rng: random.Random, run: Path, world: World) -> str:
    return _some_value(rng, run, "half \ud83d of one", texts=True)


def _controls(rng: random.Random, run: Path, world: World) -> str:
    new = rng.choice([CONTROLS, "\x1b]8;;http://x\x07link\x1b]8;;\x07", "a\nb\rc", "\x00"])
    return _some_value(rng, run, f"frog{new}", texts=True)


def _controls_everywhere(rng: random.Random, run: Path, world: World) -> str:
    """The class has a name that no terminal should be shown, in every file."""
    name = rng.choice(
        ["frog\x1b[2J", "frog\x9b31m", "fr\u202egorf", "frog\x07", "frog\x1b]0;x\x07"]
    )
    for path in [run / file for file in (*JSON, *LINES)]:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            _replace(path, text.replace('"frog"', json.dumps(name)).encode())
    return ascii(name)


def _markup(rng: random.Random, run: Path, world: World) -> str:
    name = rng.choice(["<script>alert(1)</script>", "[bold red]x[/bold red]", "[/]", "a/../b"])
    for path in [run / file for file in (*JSON, *LINES)]:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            _replace(path, text.replace('"frog"', json.dumps(name)).encode())
    return ascii(name)


def _flipped_bit(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run) if rng.random() < 0.6 else _any_file(rng, run)
    data = bytearray(path.read_bytes())
    said = []
    for _ in range(rng.choice([1, 1, 8])):
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        said.append(at)
    _replace(path, bytes(data))
    return f"{path.relative_to(run)} at {said}"


def _flipped_image(rng: random.Random, run: Path, world: World) -> str:
    """A bit of each image that confirmed."""
    paths = sorted((run / "images").rglob("confirm-*/tuned/*.png")) or sorted(run.rglob("*.png"))
    for path in paths:
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        _replace(path, bytes(data))
    return f"{len(paths)} images"


def _exchanged_images(rng: random.Random, run: Path, world: World) -> str:
    """Whole and right images, and others than those that confirmed."""
    frogs, ships = (sorted((run / "images" / name).rglob("*.png")) for name in ("frog", "ship"))
    others = ships or sorted((world.photos / "ship").iterdir())
    for path, other in zip(frogs, others * 9, strict=False):
        _replace(path, other.read_bytes())
    return f"{len(frogs)} frogs"


def _foreign_sample(rng: random.Random, run: Path, world: World) -> str:
    new = rng.choice(
        [
            str(world.canary.folder / "photos/frog/0.png"),
            str(world.canary.folder / "secret.txt"),
            "../" * 12 + str(world.canary.folder / "photos/frog/1.png").lstrip("/"),
            "images/../../../canary/photos/frog/0.png",
            "/dev/zero",
            str(world.canary.folder / "pipe"),
            "\0",
            "a" * 5000,
        ]
    )
    path = run / "samples.jsonl"
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    for row in rows if rng.random() < 0.5 else rng.sample(rows, 5):
        row["path"] = new
    _replace(path, b"".join(_dumped(row) + b"\n" for row in rows))
    return ascii(new)[-60:]


def _foreign_path(rng: random.Random, run: Path, world: World) -> str:
    """Another place in a text of the journal or the verdicts: a class, a fingerprint, a photo."""
    new = rng.choice([str(world.canary.folder), "../../../canary", "..", "/", "a/b", "a\\b"])
    return _some_value(rng, run, new, texts=True, names=(*JSON, "journal.jsonl", "trials.jsonl"))


def _renamed_class(rng: random.Random, run: Path, world: World) -> str:
    name = rng.choice(
        ["../../../canary/empty", str(world.canary.folder / "empty"), "..", "n" * 240]
    )
    for path in [run / file for file in (*JSON, *LINES)]:
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            _replace(path, text.replace('"frog"', json.dumps(name)).encode())
    return name[:40]


def _config_edited(rng: random.Random, run: Path, world: World) -> str:
    canary = world.canary.folder
    changes: list[tuple[str, Any]] = [
        ("storage", f"sqlite:///{canary}/empty/made.db"),
        ("storage", f"sqlite:///{canary}/secret.db"),
        ("storage", "postgresql://127.0.0.1:9/x"),
        ("storage", "redis://127.0.0.1:9/0"),
        ("code_folder", str(canary / "code")),
        ("generator", {"kind": "canary_code:Evil"}),
        ("generator", {"kind": f"{canary}/code/canary_code.py:Evil"}),
        ("generator", {"kind": "folder", "path": str(canary / "photos")}),
        ("generator", {"kind": "diffusers", "model": str(canary / "empty")}),
        ("real", {"path": str(canary / "photos")}),
        ("real", {"path": "/dev/zero"}),
        ("real", {"path": str(canary / "pipe")}),
        ("embedder", f"open_clip:local-dir:{canary}/empty"),
        ("embedder", f"transformers:{canary}/empty"),
        ("embedder", f"onnx:{canary}/secret.db"),
        ("embedder", f"{canary}/code/canary_code.py:Evil"),
        ("judge", f"{canary}/code/canary_code.py:Evil"),
        ("space", {"prompt": "a {class}", "captions": str(canary / "secret.jsonl")}),
        ("attributes", {MARK.lower(): ["a", "b"]}),
    ]
    path = run / "config.yaml"
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    key, value = rng.choice(changes)
    data[key] = value
    if "canary_code:" in str(value) and "/" not in str(value):
        data["code_folder"] = str(canary / "code")
    _replace(path, yaml.safe_dump(data).encode())
    said = f"{key} = {value}"
    if rng.random() < 0.5:  # what makes a report load models again
        for name in rng.sample(
            ["gap.json", "report.html", "study.db", "projection.safetensors"], 2
        ):
            (run / name).unlink(missing_ok=True)
            said += f", no {name}"
    return said


def _removed(rng: random.Random, run: Path, world: World) -> str:
    names = rng.sample([*JSON, *LINES, *OTHERS, "images", "embeddings"], rng.choice([1, 2, 3]))
    for name in names:
        _instead(run / name)
    return ", ".join(names)


def _no_mixtures(rng: random.Random, run: Path, world: World) -> str:
    _instead(run / "mixtures.json")
    return ""


def _sparse(rng: random.Random, run: Path, world: World) -> str:
    path = _any_file(rng, run)
    _instead(path)
    with path.open("wb") as file:
        file.truncate(20 * 10**9)
    return str(path.relative_to(run))


def _sparse_end(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run)
    _replace(path, path.read_bytes())  # no case may change what others are made of
    with path.open("r+b") as file:
        file.truncate(20 * 10**9)
    return path.name


def _read_only(rng: random.Random, run: Path, world: World) -> str:
    for path in run.rglob("*"):
        if not path.is_symlink() and path.suffix != ".png":
            path.chmod(0o555 if path.is_dir() else 0o444)
    run.chmod(0o555)
    return ""


def _unreadable(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run)
    if rng.random() < 0.3:
        path = run / rng.choice(["images", "embeddings", "images/frog"])
    path.chmod(0)
    return path.name


def _line_doubled(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run, LINES)
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    lines.insert(rng.randrange(len(lines) + 1), lines[at])
    _replace(path, b"".join(lines))
    return f"{path.name} line {at + 1}"


def _line_dropped(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run, LINES)
    lines = path.read_bytes().splitlines(keepends=True)
    at = rng.randrange(len(lines))
    del lines[at]
    _replace(path, b"".join(lines))
    return f"{path.name} line {at + 1} of {len(lines) + 1}"


def _lines_exchanged(rng: random.Random, run: Path, world: World) -> str:
    path = _there(rng, run, LINES)
    lines = path.read_bytes().splitlines(keepends=True)
    one, two = rng.sample(range(len(lines)), 2)
    lines[one], lines[two] = lines[two], lines[one]
    _replace(path, b"".join(lines))
    return f"{path.name} lines {one + 1} and {two + 1}"


def _of_another_run(rng: random.Random, run: Path, world: World) -> str:
    """Verdicts of one run beside mixtures of another."""
    name = rng.choice(
        ["mixtures.json", "mixtures.json", "gap.json", "gap.json", "state.json", "journal.jsonl"]
    )
    had_journal = (run / "journal.jsonl").is_file()
    shutil.copy2(world.other.run / name, _instead(run / name))
    return f"{name}{' beside a journal' if had_journal else ''}"


def _mixtures_of_the_other_class(rng: random.Random, run: Path, world: World) -> str:
    path = run / "mixtures.json"
    data = json.loads(path.read_bytes())
    classes = data["classes"]
    classes["frog"], classes["ship"] = classes["ship"], classes["frog"]
    _replace(path, _dumped(data))
    return ""


def _confirmed_by_hand(rng: random.Random, run: Path, world: World) -> str:
    """Weights or recipes of what was confirmed, changed."""
    path = run / "mixtures.json"
    data = json.loads(path.read_bytes())
    for mixture in data["classes"].values():
        row = mixture["recipes"][0]
        row["recipe"]["draw"]["guidance_scale"] = 1.5
        if rng.random() < 0.5:
            row.pop("fingerprint", None)
    _replace(path, _dumped(data))
    return ""


_PERMISSIONS: Final = (_read_only, _unreadable)
ATTACKS: Final[tuple[Attack, ...]] = (
    *(_link_to_a_secret, _link_to_a_secret, _link_to_a_copy_outside, _link_to_a_name_that_is_free),
    *(_linked_folder, _self_link, _link_to_a_device, _pipe, _link_to_a_pipe, _folder_for_a_file),
    *(_file_for_a_folder, _truncated, _truncated, _emptied, _wrong_type, _wrong_type),
    *(_wrong_verdict, _wrong_verdict, _whole_file_wrong, _nested, _huge_number, _digits),
    *(_surrogate, _controls, _controls_everywhere, _markup, _flipped_bit, _flipped_bit),
    *(_flipped_image, _exchanged_images, _foreign_sample, _foreign_sample, _foreign_path),
    *(_renamed_class, _config_edited, _config_edited, _removed, _no_mixtures, _sparse),
    *(_sparse_end, _read_only, _unreadable, _line_doubled, _line_dropped, _line_dropped),
    *(_lines_exchanged, _of_another_run, _of_another_run, _mixtures_of_the_other_class),
    _confirmed_by_hand,
)
