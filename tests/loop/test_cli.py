from __future__ import annotations

import errno
import inspect
import json
import logging
import os
import re
import resource
import statistics
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from histories import TRIAL
from make_run import make_run
from make_validation import make_validation
from rig import quick

from gapclose.analysis.errors import EmbedderError, RealDataError
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.pond.renderer import write_real
from gapclose.loop import cli
from gapclose.loop.config.reading import parse_config
from gapclose.loop.errors import ConfigError, RunMismatchError, UnwritableError, ViewerError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.joining import create_run
from gapclose.loop.run.notices import RunReported, Task, TaskStarted, read_notice

HEAVY = (
    *("torch", "numpy", "pydantic", "yaml", "rich", "diffusers", "transformers", "open_clip"),
    *("umap", "fiftyone", "optuna", "sklearn", "scipy", "onnxruntime", "plotly", "PIL"),
)
POND: dict[str, Any] = {
    "real": {"kind": "pond"},
    "generator": {"kind": "diffusers", "model": "pond"},
    "embedder": "pond",
}
COMMANDS = (
    *("demo", "init", "audit", "tune", "status", "report", "export", "validate"),
    *("compare", "app", "doctor"),
)


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gapclose", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    code = caught.value.code
    return 0 if code is None else int(code)


def stand_in(monkeypatch: pytest.MonkeyPatch, raised: BaseException) -> None:
    """A loop that only fails: what is tested is what the command line makes of it."""

    def fail(*_: Any, **__: Any) -> None:
        raise raised

    controller: Any = types.ModuleType("gapclose.loop.tuning")
    controller.tune = fail
    auditing: Any = types.ModuleType("gapclose.loop.auditing")
    auditing.audit_config = auditing.audit_folders = fail
    auditing.EMBEDDER = "pond"
    validating: Any = types.ModuleType("gapclose.loop.validating")
    validating.validate_run = validating.validate_folders = fail
    for module in (controller, auditing, validating):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def test_help_names_every_command_and_no_unfinished_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    page = capsys.readouterr().out
    listed = [line.split()[0] for line in page.partition("Commands:")[2].splitlines() if line]
    assert listed == list(COMMANDS)


def test_it_says_which_version_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out == f"gapclose {version('gapclose')}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, command, "--help") == 0
    assert f"gapclose {command}" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, gapclose.loop.cli as cli\nsys.argv = ['gapclose', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().splitlines()[-1] == "[]"


def test_help_takes_less_than_half_a_second_of_one_core() -> None:
    """Of the processor's time: a busy machine's clock says nothing of us."""

    def spent() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    seconds = []
    for _ in range(5):
        began = spent()
        done = subprocess.run(
            [sys.executable, "-m", "gapclose.loop.cli", "--help"], capture_output=True, check=True
        )
        seconds.append(spent() - began)
        assert done.stdout
    assert statistics.median(seconds) < 0.5


@pytest.mark.parametrize(
    "words",
    [
        ["tune", "none.yaml"],
        ["tune", "pond", "--set", "space.guidence_scale=3"],
        ["tune", "pond", "--budget", "soon"],
        ["tune", "pond", "--like", "none"],
        ["audit"],
        ["audit", "--real", "a"],
        ["audit", "pond", "--real", "a", "--synthetic", "b"],
        ["status", "none"],
        ["report", "none"],
        ["export", "none", "out", "--per-class", "3"],
        ["export", "none", "out.yaml"],
        ["export", "none", "out.yaml", "--per-class", "3"],
        ["init", "none"],
        ["validate"],
        ["validate", "none", "--test", "x"],
        ["validate", "none", "--budget", "soon"],
        ["validate", "none", "--classifier", "lenot"],
        ["validate", "none", "--real", "a", "--synthetic", "b"],
        ["validate", "none", "--judge", "pond-judge"],
        ["validate", "--real", "a", "--test", "b"],
        ["validate", "--real", "a", "--synthetic", "b", "--test", "c"],
    ],
    ids=" ".join,
)
def test_wrong_input_is_exit_2_and_one_line_and_leaves_nothing(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(monkeypatch, *words) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert "Traceback" not in told.err + told.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        *(["tun"], ["tune"], ["export", "r", "o", "--per-class", "x"]),
        *(["validate", "r", "--per-class", "1"], ["validate", "r", "--draws", "0"]),
        *(["validate", "r", "--fail-on", "closed"], ["audit", "--fail-on", ""]),
    ],
)
def test_usage_errors_are_exit_2(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, *words) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [ConfigError, RealDataError, EmbedderError, GeneratorConfigError, ViewerError]
)
def test_errors_the_user_can_mend_are_one_line(
    error: Callable[[str], Exception],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in(monkeypatch, error("what\n  where: remedy"))
    assert call(monkeypatch, "tune", "pond") == 2
    assert capsys.readouterr().err == "error: what where: remedy\n"


def test_an_error_made_from_one_of_them_counts_too(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in(monkeypatch, type("Derived", (RunMismatchError,), {})(Path("x"), ["y"]))
    assert call(monkeypatch, "tune", "pond") == 2


@pytest.mark.parametrize(
    "error", [ValueError("x"), OSError("x"), FileNotFoundError(errno.ENOENT, "x", "y")]
)
def test_anything_else_keeps_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(monkeypatch, error)
    monkeypatch.setattr(sys, "argv", ["gapclose", "tune", "pond"])
    with pytest.raises(type(error)):
        cli.main()


FULL = {
    "the generator fails": (GenerationError("no\nimages"), "error: no images\n"),
    "our own writing": (
        UnwritableError(errno.EIO, "Input/output error", "run/state.json"),
        "error: run/state.json: cannot be written: Input/output error; look at the disk, then the "
        "same command goes on\n",
    ),
    "a library's writing": (
        OSError(errno.ENOSPC, "No space left on device", "run/real/1.png"),
        "error: run/real/1.png: cannot be written: No space left on device; free some space, then "
        "the same command goes on\n",
    ),
    "a quota": (
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        "error: a file: cannot be written: Disk quota exceeded; free some space, then the same "
        "command goes on\n",
    ),
    "a disk that is read-only now": (
        OSError(errno.EROFS, "Read-only file system", "run/lock"),
        "error: run/lock: cannot be written: Read-only file system; make it writable, then the "
        "same command goes on\n",
    ),
}


@pytest.mark.parametrize("case", FULL)
def test_what_is_no_fault_of_the_config_is_one_line_and_exit_1(
    case: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    error, line = FULL[case]
    stand_in(monkeypatch, error)
    for words in (["tune", "pond"], ["audit", "pond"], ["demo"]):
        assert call(monkeypatch, *words) == 1
        assert capsys.readouterr().err == line


@pytest.mark.parametrize("words", [["tune", "{}/c.yaml"], ["audit", "{}/c.yaml"]], ids=str)
@pytest.mark.parametrize("spelling", ["~/runs/r", "$PLACE/runs/r", "${PLACE}/runs/r"])
def test_paths_are_read_as_a_shell_reads_them(
    words: list[str],
    spelling: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: dict[str, Any] = {}
    stand_in(monkeypatch, KeyboardInterrupt())
    for module in ("tuning", "auditing"):
        for name in ("tune", "audit_config"):
            if hasattr(sys.modules[f"gapclose.loop.{module}"], name):
                monkeypatch.setattr(sys.modules[f"gapclose.loop.{module}"], name, noting(given))
    (tmp_path / "c.yaml").write_text(
        "real: {path: ~/photos}\ngenerator: {kind: diffusers, model: $PLACE/sd}\n"
        "embedder: onnx:~/e.onnx\njudge: transformers:${PLACE}/j\n"
        "storage: sqlite:///~/s.db\nspace: {prompt: 'a {class}'}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", str(tmp_path))
    where = spelling.partition("/")[0]
    assert call(monkeypatch, words[0], words[1].format(where), f"--out={spelling}") == 130
    config = given["config"]
    assert given["out"] == tmp_path / "runs/r"
    assert config.real.path == str(tmp_path / "photos")
    assert config.generator.model == str(tmp_path / "sd")
    assert (config.embedder, config.judge) == (
        f"onnx:{tmp_path}/e.onnx",
        (f"transformers:{tmp_path}/j",),
    )
    assert config.storage == f"sqlite:///{tmp_path}/s.db"


def noting(given: dict[str, Any]) -> Callable[..., None]:
    def note(config: Any, **options: Any) -> None:
        given.update(options, config=config)
        raise KeyboardInterrupt

    return note


@pytest.mark.parametrize(
    "words",
    [
        ["tune", "pond", "--out", "$NOWHERE/x"],
        ["tune", "pond", "--set", "real={path: $NOWHERE/x}"],
        ["tune", "${NOWHERE}/c.yaml"],
        ["audit", "--real", "$NOWHERE/a", "--synthetic", "b"],
        ["audit", "--real", "a", "--synthetic", "b", "--embedder", "onnx:$NOWHERE/e.onnx"],
        ["status", "$NOWHERE"],
        ["export", "r", "$NOWHERE/out", "--per-class", "1"],
        ["init", "a", "-o", "$NOWHERE/c.yaml"],
    ],
    ids=" ".join,
)
def test_a_variable_that_is_not_set_is_named(
    words: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NOWHERE", raising=False)
    assert call(monkeypatch, *words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "the environment variable NOWHERE is not set" in told
    assert told.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_status_waits_for_a_run_that_is_about_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r"
    steps: list[Callable[[], object]] = [
        path.mkdir,  # as `tune` makes one, step by step
        (path / "lock").touch,
        lambda: create_run(path, parse_config(POND)),
        lambda: RunDir(path).write_json("state.json", {"stage": "done"}),
    ]
    monkeypatch.setattr(cli.time, "sleep", lambda _: steps.pop(0)())
    assert call(monkeypatch, "status", str(path), "--json", "--watch") == 0
    told = capsys.readouterr()
    assert told.err == f"{path}: no run is there yet; waiting for it, Ctrl-C ends that\n"
    # Nobody held it for a moment, while it was being made: that ends no watch.
    assert [json.loads(line)["stage"] for line in told.out.splitlines()] == ["new", "done"]


def test_a_watch_ends_at_once_on_ctrl_c_and_where_no_run_can_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.time, "sleep", interrupt)
    assert call(monkeypatch, "status", str(tmp_path / "none"), "--watch") == 130
    assert "Traceback" not in capsys.readouterr().err
    (tmp_path / "photo.jpg").touch()
    assert call(monkeypatch, "status", str(tmp_path), "--watch") == 2
    assert "is no run" in capsys.readouterr().err


def test_a_watch_of_a_run_that_nobody_goes_on_with_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    create_run(tmp_path / "r", parse_config(POND))
    monkeypatch.setattr(cli.time, "sleep", lambda _: None)
    assert call(monkeypatch, "status", str(tmp_path / "r"), "--json", "--watch") == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert call(monkeypatch, "status", str(tmp_path / "r"), "--watch") == 0
    assert "not running" in capsys.readouterr().out


def test_what_takes_long_at_the_start_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load(*_: Any, **__: Any) -> None:
        log = logging.getLogger("gapclose.analysis.embedding")
        log.info("loading the encoder %s", "pond")
        log.warning("slow")
        warnings.warn("odd", RuntimeWarning, stacklevel=1)
        raise KeyboardInterrupt

    stand_in(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.modules["gapclose.loop.tuning"], "tune", load)
    # As open_clip does; nothing is to be said twice.
    root = logging.StreamHandler()
    logging.getLogger().addHandler(root)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert call(monkeypatch, "tune", "pond") == 130
    finally:
        logging.getLogger().removeHandler(root)
    told = capsys.readouterr()
    assert [re.sub(r"^\d\d:\d\d ", "", line) for line in told.out.splitlines()] == [
        "loading packages",
        "loading the encoder pond",
        "warning: slow",
        "warning: odd (RuntimeWarning)",
    ]
    assert all(re.match(r"\d\d:\d\d ", line) for line in told.out.splitlines())
    assert [line for line in told.err.splitlines() if "interrupted" not in line] == []
    log = logging.getLogger("gapclose")
    assert (log.handlers, log.level, log.propagate) == ([], logging.NOTSET, True)


def test_in_json_what_is_printed_meanwhile_goes_elsewhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def chatty(*_: Any, **__: Any) -> None:
        sys.stdout.write("frog number 1 of 8\n")
        raise KeyboardInterrupt

    stand_in(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.modules["gapclose.loop.tuning"], "tune", chatty)
    assert call(monkeypatch, "tune", "pond", "--json") == 130
    told = capsys.readouterr()
    assert [read_notice(line).kind for line in told.out.splitlines()] == ["task_started"]
    assert told.err.startswith("frog number 1 of 8\n")


@pytest.fixture(scope="module")
def two_ponds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ponds")
    for seed, side in enumerate(("real", "synthetic")):
        write_real(folder / side, per_class=24, seed=seed, classes=("frog", "ship"))
    return folder


def audit_of(folder: Path) -> list[str]:
    sides = ["--real", str(folder / "real"), "--synthetic", str(folder / "synthetic")]
    return ["audit", *sides, "--embedder", "pond"]


@pytest.mark.slow
def test_json_lines_are_all_that_an_audit_prints(two_ponds: Path) -> None:
    """In a process of its own, as in CI: what its packages print while they load counts too."""
    words = [*audit_of(two_ponds), "--out", str(two_ponds / "json"), "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "gapclose.loop.cli", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    notices = [read_notice(line) for line in done.stdout.splitlines()]
    assert all(isinstance(json.loads(line)["time"], float) for line in done.stdout.splitlines())
    assert done.stderr == ""
    tasks = [notice.task for notice in notices if isinstance(notice, TaskStarted)]
    wanted = [Task.LOADING_PACKAGES, Task.COMPARING_FOLDERS, Task.EMBEDDING, Task.TESTING]
    assert [task for task in dict.fromkeys(tasks) if task in wanted] == wanted
    *_, last = notices
    assert isinstance(last, RunReported)
    assert {row.name for row in last.classes} == {"frog", "ship"}
    assert Path(last.path).is_file()


@pytest.mark.slow
def test_off_a_terminal_a_person_can_read_an_audit(
    two_ponds: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [*audit_of(two_ponds), "--out", str(two_ponds / "plain")]
    with quick():
        assert call(monkeypatch, *words) == 0
    told = capfd.readouterr()
    assert told.err == ""
    said = told.out.splitlines()
    table = next(i for i, line in enumerate(said) if line.startswith("class "))
    assert all(re.match(r"\d\d:\d\d \w", line) for line in said[:table])
    for words in ("loading packages", "embedding real photos", "testing each class"):
        assert any(line[6:] == words for line in said[:table]), words
    assert said[table + 1].split()[0] in ("frog", "ship")
    assert said[-1] == f"report: {two_ponds / 'plain' / 'report.html'}"


def test_a_stranger_with_an_exit_code_is_no_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = type("Stranger", (Exception,), {"exit_code": 2, "__module__": "elsewhere"})
    stand_in(monkeypatch, stranger("x"))
    monkeypatch.setattr(sys, "argv", ["gapclose", "tune", "pond"])
    with pytest.raises(stranger):
        cli.main()


def test_ctrl_c_says_how_to_resume(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, KeyboardInterrupt())
    assert call(monkeypatch, "tune", "pond", "--out", "my run") == 130
    assert "gapclose tune pond --out 'my run'" in capsys.readouterr().err
    assert call(monkeypatch, "audit", "--real", "a", "--synthetic", "b") == 130
    assert call(monkeypatch, "validate", "my run", "--test", "t") == 130
    assert "gapclose validate 'my run' --test t" in capsys.readouterr().err


@pytest.mark.parametrize("closed", [False, True])
def test_a_gap_fails_an_audit_where_that_is_asked_for(
    closed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def audit_folders(*, out: Path, **_: Any) -> None:
        make_run(out, classes=("frog", "ship"), per_class=4, tuned=False, closed=closed)

    stand_in(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.modules["gapclose.loop.auditing"], "audit_folders", audit_folders)
    words = ["audit", "--real", "a", "--synthetic", "b", "--out"]
    assert call(monkeypatch, *words, str(tmp_path / "0")) == 0
    code = call(monkeypatch, *words, str(tmp_path / "1"), "--fail-on", "open")
    assert (code, capsys.readouterr().err) == ((0, "") if closed else (3, "open: frog, ship\n"))


@pytest.mark.parametrize("closed", [False, True])
def test_a_gap_fails_an_audit_of_a_config_too(
    closed: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def audit_config(_: Any, *, out: Path, **__: Any) -> None:
        make_run(out, classes=("frog", "ship"), per_class=4, tuned=False, closed=closed)

    stand_in(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.modules["gapclose.loop.auditing"], "audit_config", audit_config)
    assert call(monkeypatch, "audit", "pond", "--out", str(tmp_path / "0")) == 0
    words = ["audit", "pond", "--fail-on", "open", "--out"]
    code = call(monkeypatch, *words, str(tmp_path / "1"))
    assert (code, capsys.readouterr().err) == ((0, "") if closed else (3, "open: frog, ship\n"))


def test_a_class_name_forges_no_line_of_an_audit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def audit_folders(*, out: Path, **_: Any) -> None:
        make_run(out, classes=("frog",), per_class=4, tuned=False, names={"frog": "a\nopen: b"})

    stand_in(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.modules["gapclose.loop.auditing"], "audit_folders", audit_folders)
    words = ["audit", "--real", "a", "--synthetic", "b", "--fail-on", "open", "--out"]
    assert call(monkeypatch, *words, str(tmp_path / "run")) == 3
    assert capsys.readouterr().err == "open: a open: b\n"


SHORT: dict[str, Any] = {"classifier": "cnn", "arm": "tuned", "class": "frog", "shortfall": 0.2}


@pytest.mark.parametrize(("p_value", "code"), [(0.01, 3), (0.2, 0)])
def test_a_class_that_falls_short_fails_a_validation_where_that_is_asked_for(
    p_value: float,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    recalls = dict.fromkeys(("tuned", "real", "few"), (0.5, 0.5))
    short = [SHORT | {"adjusted_p_value": p_value}, SHORT | {"adjusted_p_value": 0, "arm": "few"}]

    def validate_run(path: Path, **_: Any) -> None:
        how: dict[str, Any] = {"classes": ("frog", "ship"), "width": 0.1, "n": 9, "groups": []}
        found = make_validation(recalls, shortfalls=short, **how)
        RunDir(path).write_json("validation.json", found)

    stand_in(monkeypatch, KeyboardInterrupt())
    monkeypatch.setattr(sys.modules["gapclose.loop.validating"], "validate_run", validate_run)
    run = make_run(tmp_path / "run", classes=("frog", "ship"), per_class=4)
    assert call(monkeypatch, "validate", str(run.path), "--test", "t", "--fail-on", "open") == code
    told = capsys.readouterr()
    assert told.err == ("short of real photos: frog (cnn)\n" if code else "")
    assert re.search(r"tuned +9 +50\.0\s%\s\(40\.0.60\.0\)", told.out)
    assert told.out.splitlines()[-1] == f"report: {run.path / 'report.html'}"
    # In JSON the last line is what a tuning ends with.
    assert call(monkeypatch, "validate", str(run.path), "--test", "t", "--json") == 0
    *_, last = capsys.readouterr().out.splitlines()
    assert isinstance(read_notice(last), RunReported)


def test_validate_reads_its_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[dict[str, Any]] = []

    def note(*path: Path, **how: Any) -> None:
        given.append({**how, "path": path} if path else how)
        raise KeyboardInterrupt

    stand_in(monkeypatch, KeyboardInterrupt())
    for name in ("validate_run", "validate_folders"):
        monkeypatch.setattr(sys.modules["gapclose.loop.validating"], name, note)
    words = ["--test", "t", "--classifier", "cnn", "--classifier", "timm:resnet18"]
    assert call(monkeypatch, "validate", "r", *words, "--budget", "1h30m", "--trust") == 130
    assert call(monkeypatch, "validate", "--real", "a", "--synthetic", "b/c", "--test", "t") == 130
    run, folders = ({k: v for k, v in one.items() if k != "reporter"} for one in given)
    assert run == {
        "path": (Path("r"),),
        "test": Path("t"),
        "classifiers": ["cnn", "timm:resnet18"],
        "budget": 5400.0,
        "trust": True,
        **{"per_class": 200, "seeds": 3, "draws": 2},
    }
    assert folders == {
        "real": Path("a"),
        "synthetic": Path("b/c"),
        "test": Path("t"),
        "judge": None,
        "out": Path("runs/validate-c"),
        "budget": None,
        **{"per_class": 200, "seeds": 3, "draws": 2},
    }


def test_the_numbers_of_validate_are_those_that_it_takes() -> None:
    """They stand in the command line too: to import them would make `--help` slow."""
    from gapclose.loop import validating

    given = inspect.signature(cli.validate).parameters
    taken = inspect.signature(validating.validate_run).parameters
    for name in ("per_class", "seeds", "draws"):
        assert given[name].default == taken[name].default
        (option,) = get_type_hints(cli.validate, include_extras=True)[name].__metadata__
        for number in (option.min - 1, *([] if option.max is None else [option.max + 1])):
            with pytest.raises(ConfigError, match=f"got {number}"):
                validating.validate_run("none", **{name: number})
        for number in (option.min, *([] if option.max is None else [option.max])):
            with pytest.raises(ConfigError, match="none"):  # no such run: the number is taken
                validating.validate_run("none", **{name: number})


def test_status_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = create_run(tmp_path / "r", parse_config(POND))
    run.append_line(
        "trials.jsonl",
        {**TRIAL, "images_total": 8, "mixture_gap": 0.5},
    )
    assert call(monkeypatch, "status", str(run.path), "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["stage"] == "new"
    assert told["classes"][0]["images"] == 8
    assert call(monkeypatch, "status", str(run.path)) == 0
    assert "frog" in capsys.readouterr().out


def test_init_then_tune_reads_what_init_wrote(
    shared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    photos = str(shared / "data" / "cifar10" / "test")
    assert call(monkeypatch, "init", photos, "-o", "mine.yaml") == 0
    assert "gapclose tune mine.yaml" in capsys.readouterr().out
    assert call(monkeypatch, "init", photos, "-o", "mine.yaml") == 2
    assert "exists already" in capsys.readouterr().err
    stand_in(monkeypatch, KeyboardInterrupt())
    assert call(monkeypatch, "tune", "mine.yaml") == 130
