"""The plan of the house, held: flat packages, arrows one way, a wheel with everything in it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOMS = ("loop", "generators", "analysis", "configs")
# The generators and the analysis never meet; the loop is above both.
MAY_IMPORT = {"loop": {"generators", "analysis", "configs"}}
# The rooms inside loop, in the order that arrows point: each may import those before it. What lies
# in loop itself is above them all.
CHAIN = ("config", "run", "search", "schedule", "work", "validation")
# Beside the chain: these read what a run has written, or are told it, and start no work.
READERS = {
    "report": {"config", "run"},
    "progress": {"config", "run", "report"},
    "app": {"config", "run", "report"},
}
# What a run has become is written anew for others: above both, and nothing in a room imports it.
WRITERS = {"exporting": {*CHAIN, "report", "app"}}
ROOMS_BELOW = {room: {*CHAIN[:n]} for n, room in enumerate(CHAIN)} | READERS | WRITERS
# Below all rooms: it imports nothing of loop's.
BELOW_ALL = "errors"
# Who alone imports these: packages that are slow to import, or whose types must not spread.
OWNERS = {
    "optuna": {
        "loop/search/space.py",
        "loop/search/generator_part.py",
        "loop/search/optuna_distributions.py",
        "loop/search/optuna_record.py",
        "loop/search/study_storage.py",
        "loop/search/importance.py",
        "loop/search/shares.py",
    },
    "fiftyone": {"loop/app/database.py", "loop/app/viewer.py", "loop/app/views.py"},
    "umap": {"analysis/projection.py"},
    "onnxruntime": {"analysis/onnx.py", "generators/onnx.py"},
    "pytest": {"analysis/testing.py", "generators/testing.py"},
}
FORBIDDEN = {"utils", "helpers", "manager", "core", "common", "util", "misc"}


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    for room in ROOMS:
        for file in sorted((root / room).rglob("*.py")):
            # Examples are other programs' scripts, to be copied, and none of our modules.
            if "examples" not in file.relative_to(root).parts:
                yield room, file


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def named_modules(tree: ast.AST) -> Iterator[str]:
    """Modules of loop that text names, to be started as a program or loaded on demand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from re.findall(r"^gapclose\.loop[\w.]*", node.value)


def packages(root: Path) -> set[str]:
    """Every folder with Python in it, as it is imported."""
    folders = {file.parent.relative_to(root).as_posix() for _, file in modules(root)}
    return {f"gapclose.{folder.replace('/', '.')}" for folder in folders}


def test_packages_are_named_by_nouns(root: Path) -> None:
    for room, file in modules(root):
        assert len(file.relative_to(root / room).parts) <= 2, f"{file.relative_to(root)}: too deep"
        assert not {file.stem, file.parent.name} & FORBIDDEN, file


def test_arrows_point_one_way(root: Path) -> None:
    for room, file in modules(root):
        for name in imports(ast.parse(file.read_text(encoding="utf-8"))):
            parts = name.split(".")
            if parts[0] == "gapclose" and parts[1] != room:
                assert parts[1] in MAY_IMPORT.get(room, set()), (
                    f"{file.relative_to(root)} imports {name}"
                )


def reaching_up(root: Path) -> dict[str, set[str]]:
    """Files in loop's rooms with the rooms they import and must not; "top" is loop itself."""
    found: dict[str, set[str]] = {}
    for file in sorted((root / "loop").rglob("*.py")):
        room = file.parent.name
        if file.parent == root / "loop" and file.stem != BELOW_ALL:
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for name in [*imports(tree), *named_modules(tree)]:
            parts = name.split(".")
            if parts[:2] != ["gapclose", "loop"] or parts[2:3] == [BELOW_ALL]:
                continue
            other = parts[2] if len(parts) > 2 and (root / "loop" / parts[2]).is_dir() else "top"
            if other not in ROOMS_BELOW.get(room, set()) | {room}:
                found.setdefault(file.relative_to(root).as_posix(), set()).add(other)
    return found


def test_arrows_inside_the_loop_point_one_way(root: Path) -> None:
    folders = {file.parent.name for file in (root / "loop").glob("*/*.py")}
    assert folders == {*ROOMS_BELOW}, "a room without a place in the order"
    assert reaching_up(root) == {}


@pytest.mark.parametrize(
    ("room", "line", "reached"),
    [
        ("config", "from gapclose.loop.run.files import kept", "run"),
        ("run", "import gapclose.loop.search.space", "search"),
        ("search", "from gapclose.loop import schedule", "schedule"),
        ("schedule", "def f():\n    from gapclose.loop.work import trials", "work"),
        ("work", "from gapclose.loop.report import text", "report"),
        ("work", "from gapclose.loop.session import Session", "top"),
        ("report", "from gapclose.loop.work.sides import Side", "work"),
        ("report", "from gapclose.loop.search.trial import Mixture", "search"),
        ("report", "from gapclose.loop.app import viewer", "app"),
        ("app", "from gapclose.loop import cli", "top"),
        ("work", "from gapclose.loop.schedule.decide import View", None),
        ("app", "from gapclose.loop.report import text", None),
        ("run", "from gapclose.loop.run import state", None),
        ("config", "from gapclose.loop.errors import ConfigError", None),
        ("run", "COMMAND = ['-m', 'gapclose.loop.app.viewer']", "app"),
    ],
)
def test_an_arrow_that_points_up_is_seen(
    tmp_path: Path, room: str, line: str, reached: str | None
) -> None:
    for name in ROOMS_BELOW:
        (tmp_path / "loop" / name).mkdir(parents=True)
    (tmp_path / "loop" / "session.py").touch()
    (tmp_path / "loop" / room / "x.py").write_text(line)
    expected = {} if reached is None else {f"loop/{room}/x.py": {reached}}
    assert reaching_up(tmp_path) == expected


def test_the_errors_below_all_rooms_import_none(tmp_path: Path) -> None:
    (tmp_path / "loop" / "config").mkdir(parents=True)
    errors = tmp_path / "loop" / f"{BELOW_ALL}.py"
    errors.write_text("from gapclose.loop.config.schema import RunConfig")
    assert reaching_up(tmp_path) == {"loop/errors.py": {"config"}}


def test_packages_with_one_owner_are_imported_there_only(root: Path) -> None:
    for _, file in modules(root):
        name = file.relative_to(root).as_posix()
        for imported in imports(ast.parse(file.read_text(encoding="utf-8"))):
            package = imported.split(".")[0]
            assert name in OWNERS.get(package, {name}), f"{name} imports {package}"


def test_every_module_opens_with_its_noun(root: Path) -> None:
    for _, file in modules(root):
        assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file.name


def test_pyproject_lists_every_package_and_the_links_exist(root: Path) -> None:
    tools = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(tools["packages"]) == packages(root)
    assert tools["package-dir"] == {f"gapclose.{room}": room for room in ROOMS}
    for room in ROOMS:
        link = root / "tests" / "_typing" / "gapclose" / room
        assert link.is_symlink()
        assert link.resolve() == root / room


def test_constraints_are_names_and_versions_that_pyproject_admits(root: Path) -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = (root / "constraints.txt").read_text().splitlines()
    pins: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith("#"):
            name, equals, version = line.partition("==")
            assert equals, line
            assert "/" not in line, line
            pins[canonicalize_name(name)] = version
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(pins[canonicalize_name(wanted.name)]), text
    for package in ("torch", "torchvision", "diffusers", "optuna", "fiftyone", "open-clip-torch"):
        assert package in pins


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_everything_that_ships(
    root: Path, tmp_path: Path
) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *ROOMS, "pyproject.toml", "README.md", "LICENSE"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("no git checkout to build the wheel from")
    names = [name for name in listed.stdout.split("\0") if name and (root / name).is_file()]
    for name in names:  # building in the tree would leave build/ behind
        copy = tmp_path / "tree" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((root / name).read_bytes())
    quiet = ["-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *quiet, str(tmp_path / "tree")], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    missing = {f"gapclose/{n}" for n in names if n.startswith(ROOMS)} - inside
    assert not missing
    assert any(name.endswith("licenses/LICENSE") for name in inside)


def test_no_file_is_opened_by_any_format_that_pillow_has(root: Path) -> None:
    """Pillow runs Ghostscript for PostScript, whatever a file is called: formats are listed."""
    opened = []
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "Image.open":
                    listed = any(word.arg == "formats" for word in node.keywords)
                    streamed = ast.unparse(node.args[0]) == "stream"  # what we have just encoded
                    if not listed and not streamed and "pond" not in path.parts:
                        opened.append(f"{path.relative_to(root)}:{node.lineno}")
    assert opened == []
