"""The command line: typer commands over the public functions, nothing else.

`main` is the console script. Exit codes: 0 done, 2 the user's input is wrong (one line, no
traceback), 130 interrupted, 1 anything else. What a command needs is imported inside it, so
that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
import time
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from gapclose.loop.errors import OUR_ERRORS, ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

    from gapclose.loop.progress.line_reporter import LineReporter
    from gapclose.loop.progress.live_table import LiveTable
    from gapclose.loop.report.status import Status

__all__ = ["app", "main"]

_RESUMABLE = ("tune", "demo", "audit", "validate", "export")
_LOG_WIDTH = 120
_LONGEST = 2000  # characters of an error


class _Commands(TyperGroup):
    """Commands whose exceptions become an exit code and one line."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, then say in one line what the user can fix."""
        # A damaged photo makes Pillow print a line for each of its tags; it is listed anyway.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            line = "interrupted"
            if ctx.invoked_subcommand in _RESUMABLE:
                again = f"gapclose {shlex.join(sys.argv[1:])}"
                line += f"; what is done is kept, this goes on with it: {again}"
            _echo(line, err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            ours = _as_ours(error)
            if not isinstance(ours, OUR_ERRORS):
                raise
            said = " ".join(str(ours).split())
            shown = said if len(said) <= _LONGEST else f"{said[: _LONGEST - 4]} ..."
            _echo(f"error: {shown}", err=True)
            raise typer.Exit(ours.exit_code) from None


app = typer.Typer(
    name="gapclose",
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Tunes a synthetic-image generator until, class by class, its images can no longer be "
    "told from the real ones.",
)


def _echo(text: str, *, err: bool = False) -> None:
    """Print a line: classes, paths and errors may hold what would command a terminal."""
    from gapclose.analysis.unseen import one_line

    typer.echo(one_line(text), err=err)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        _echo(f"gapclose {version('gapclose')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="which it is")
    ] = False,
) -> None:
    pass


def _path(value: Path | None) -> Path | None:
    """Read a path as a shell would: none does so in `--out=~/x`."""
    from gapclose.loop.config.paths import expanded

    return None if value is None else Path(expanded(str(value)))


def _embedder(value: str | None) -> str | None:
    from gapclose.loop.config.paths import local_embedder

    return None if value is None else local_embedder(value)


def _embedders(values: list[str] | None) -> list[str] | None:
    return [name for value in values or () if (name := _embedder(value))] or None


_Run = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder", callback=_path)]
_Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="RUN", help="run folder; one under runs/ by default", callback=_path
    ),
]
_Budget = Annotated[
    str | None, typer.Option(metavar="TIME", help="time for all sessions, such as 8h or 30m")
]
_Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="override one key of the config; repeatable"),
]
_Trust = Annotated[
    bool,
    typer.Option("--trust", help="let a run made elsewhere use the code and files it names"),
]
_Json = Annotated[
    bool,
    typer.Option("--json", help="events as JSON lines on stdout, and nothing else there"),
]
_Embedder = Annotated[
    str | None,
    typer.Option(
        metavar="E",
        help="pond, open_clip:NAME/TAG, onnx:PATH, transformers:ID ... "
        "[the config's, or open_clip:ViT-B-32/laion2b_s34b_b79k]",
        callback=_embedder,
    ),
]
_Judge = Annotated[
    list[str] | None,
    typer.Option(
        metavar="E",
        help="another embedder, to confirm; repeatable, then all must agree",
        callback=_embedders,
    ),
]
_Real = Annotated[Path | None, typer.Option(metavar="DIR", help="real images", callback=_path)]
_Synthetic = Annotated[
    Path | None, typer.Option(metavar="DIR", help="synthetic images", callback=_path)
]


class _FailOn(StrEnum):
    OPEN = "open"


_Failing = Annotated[
    _FailOn | None, typer.Option("--fail-on", help="exit 3 where a class is open, for CI")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="run folder", callback=_path)] = Path(
        "runs/pond"
    ),
    budget: _Budget = None,
    as_json: _Json = False,
) -> None:
    """Do the whole job on the embedded world, offline."""
    from gapclose.loop.config.reading import load_config

    config = load_config("pond", _overrides(None, budget))
    data = out / "export"
    with _reporter(as_json) as reporter:
        from gapclose.loop.export import drop_outdated
        from gapclose.loop.export import export as export_
        from gapclose.loop.tuning import tune as tune_

        tune_(config, out=out, reporter=reporter)
        page = _report(out)
        drop_outdated(out, data)
        if not data.exists():
            export_(out, data, per_class=20, reporter=reporter)
    _summary(out, page, as_json=as_json)
    if not as_json:
        _echo(f"export: {data}")


@app.command()
def init(
    real_dir: Annotated[
        Path,
        typer.Argument(
            metavar="REAL_DIR", help="a folder of class folders with photos", callback=_path
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="the file to write", callback=_path)
    ] = Path("config.yaml"),
) -> None:
    """Write a starter config for a folder of photos."""
    from gapclose.loop.init_config import write_starter_config

    _echo(f"{write_starter_config(real_dir, out)}: look it over, then gapclose tune {out}")


@app.command()
def audit(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="audits its baseline recipe", callback=_path),
    ] = None,
    real: _Real = None,
    synthetic: _Synthetic = None,
    embedder: _Embedder = None,
    judge: _Judge = None,
    out: _Out = None,
    fail_on: _Failing = None,
    as_json: _Json = False,
) -> None:
    """Report the gap of each class, and tune nothing.

    Of images that exist (--real DIR --synthetic DIR), or of a config's baseline (CONFIG).
    """
    if config is not None:
        if real or synthetic:
            raise ConfigError("audit: give a CONFIG, or --real and --synthetic, not both")
        out = out or Path("runs") / config.stem
        _audit_config(config, embedder, judge, out, as_json=as_json)
        _fail_on_gaps(fail_on, out)
        return
    if real is None or synthetic is None:
        missing = "--real" if real is None else "--synthetic"
        raise ConfigError(f"audit: {missing} is missing; give both folders, or a CONFIG")
    out = out or Path("runs") / f"audit-{_name(synthetic)}"
    with _reporter(as_json) as reporter:
        from gapclose.loop.auditing import EMBEDDER, audit_folders

        audit_folders(
            real=real,
            synthetic=synthetic,
            embedder=embedder or EMBEDDER,
            judge=judge,
            out=out,
            reporter=reporter,
        )
        page = _report(out)
    _summary(out, page, as_json=as_json)
    _fail_on_gaps(fail_on, out)


def _name(folder: Path) -> str:
    from gapclose.loop.config.paths import resolved

    return resolved(folder).name


def _fail_on_gaps(fail_on: _FailOn | None, run: Path) -> None:
    """End with exit code 3 where a class has a gap, if that is asked for."""
    from gapclose.loop.report.run_view import Run

    rows = Run.open(run).gap["classes"] if fail_on is _FailOn.OPEN else ()
    if found := [row["name"] for row in rows if row["closed"] is False]:
        _echo(f"open: {', '.join(found)}", err=True)
        raise SystemExit(3)


def _audit_config(
    config: Path, embedder: str | None, judge: list[str] | None, out: Path, *, as_json: bool
) -> None:
    from gapclose.loop.config.reading import load_config

    words = {"embedder": embedder, "judge": judge}
    changes = [f"{key}={json.dumps(word)}" for key, word in words.items() if word]
    loaded = load_config(config, changes)
    with _reporter(as_json) as reporter:
        from gapclose.loop.auditing import audit_config

        audit_config(loaded, out=out, reporter=reporter)
        page = _report(out)
    _summary(out, page, as_json=as_json)


@app.command()
def tune(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG", help="a YAML file, or the name of one that ships", callback=_path
        ),
    ],
    out: _Out = None,
    budget: _Budget = None,
    set_: _Set = None,
    like: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="begin with what another run ended with: its folder, or the YAML of its mixtures",
            callback=_path,
        ),
    ] = None,
    trust: _Trust = False,
    as_json: _Json = False,
) -> None:
    """Close the gap overnight; the same again resumes."""
    from gapclose.loop.config.reading import load_config

    # Mistakes are reported at once: the session's imports take seconds.
    loaded = load_config(config, _overrides(set_, budget))
    out = out or Path("runs") / config.stem
    with _reporter(as_json) as reporter:
        from gapclose.loop.tuning import tune as tune_

        run = tune_(loaded, out=out, like=like, trust=trust, reporter=reporter)
        page = _report(out)
    _summary(out, page, as_json=as_json)
    if not run.gap["classes"]:
        why = run.state["stopped_because"]
        _echo(f"error: no class could be scored: {why}", err=True)
        raise SystemExit(1)


@app.command()
def status(
    run: _Run,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="until the run is done, or stops; waits for one to appear"),
    ] = False,
) -> None:
    """Say where a run stands, and how long it will take."""
    from gapclose.loop.report.status import read_status, render_status

    if watch:
        _wait_for(run)
    if as_json:
        for now in _watched(run) if watch else (read_status(run),):
            _echo(json.dumps(now.to_json()))
        return
    from rich.console import Console

    console = Console()
    if not watch:
        console.print(render_status(read_status(run)))
        return
    from rich.live import Live

    with Live(render_status(read_status(run)), console=console, auto_refresh=False) as live:
        for now in _watched(run):
            live.update(render_status(now), refresh=True)


def _wait_for(run: Path) -> None:
    """Wait until there is a run, which may have been started only just now."""
    from gapclose.loop.run.joining import appears

    said = False
    while not appears(run):
        if not said:
            _echo(f"{run}: no run is there yet; waiting for it, Ctrl-C ends that", err=True)
        said = True
        time.sleep(1.0)


def _watched(run: Path) -> Iterator[Status]:
    """Yield a run's status every second, until two in a row say that it does not go on.

    A run that is being made is held by no process for a moment.
    """
    from gapclose.loop.report.status import read_status

    ended = 0
    while ended < 2:
        now = read_status(run)
        yield now
        ended = 0 if now.goes_on else 2 if now.stage == "done" else ended + 1
        if ended < 2:
            time.sleep(1.0)


@app.command()
def report(run: _Run, trust: _Trust = False, as_json: _Json = False) -> None:
    """Write report.html anew, and gap.json where it is lost."""
    with _reporter(as_json) as reporter:
        from gapclose.loop.report.page import write_report
        from gapclose.loop.report.projections import open_run
        from gapclose.loop.run.notices import ReportWritten, Task, TaskStarted

        if not open_run(run).has("gap.json"):
            from gapclose.loop.remeasure import remeasure

            remeasure(run, trust=trust, reporter=reporter)
        reporter.tell(TaskStarted(task=Task.REPORTING))
        page = str(write_report(run, trust=trust))
        if as_json:
            reporter.tell(ReportWritten(path=page))
    if not as_json:
        _echo(page)


@app.command()
def export(
    run: _Run,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            help="the data set's folder, new; or a new .yaml, for the mixtures alone",
            callback=_path,
        ),
    ],
    per_class: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="images per class; with --balance real and synthetic ones together, as many as "
            "the largest class has by default",
        ),
    ] = None,
    purpose: Annotated[
        str,
        typer.Option(
            "--for",
            metavar="probe|scratch",
            help="what is trained on it: a probe on an encoder's features, or a network from "
            "scratch, for which even prompts are mixed in as far as that helps",
        ),
    ] = "probe",
    balance: Annotated[
        bool, typer.Option("--balance", help="only what the real photos lack")
    ] = False,
    per_group: Annotated[
        int | None,
        typer.Option(
            metavar="M",
            min=1,
            help="with --balance, fill up the rare groups of a class, such as red frogs, to M",
        ),
    ] = None,
    real: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="photos to balance; the run's by default", callback=_path
        ),
    ] = None,
    with_real: Annotated[
        str,
        typer.Option(metavar="link|copy", help="put the real photos beside, and mark them"),
    ] = "none",
    image_format: Annotated[str, typer.Option("--format", help="imagefolder")] = "imagefolder",
    only_confirmed: Annotated[
        bool, typer.Option("--only-confirmed", help="leave out classes that are not confirmed")
    ] = False,
    trust: _Trust = False,
    as_json: _Json = False,
) -> None:
    """Write the improved data set, with provenance; or its recipes, as YAML."""
    with _reporter(as_json) as reporter:
        from gapclose.loop.export import export as export_

        export_(
            run,
            out,
            per_class=per_class,
            purpose=purpose,
            balance=balance,
            per_group=per_group,
            real=real,
            with_real=with_real,
            image_format=image_format,
            only_confirmed=only_confirmed,
            trust=trust,
            reporter=reporter,
        )
    if not as_json:
        _echo(f"export: {out}")


@app.command()
def validate(
    run: Annotated[
        Path | None, typer.Argument(metavar="[RUN]", help="a run folder", callback=_path)
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="real photos that nothing has seen", callback=_path),
    ] = None,
    real: _Real = None,
    synthetic: _Synthetic = None,
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="cnn, linear, lenet, vgg16, timm:NAME; repeatable [linear and cnn]",
        ),
    ] = None,
    per_class: Annotated[int, typer.Option(metavar="N", min=2, help="training images")] = 200,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, max=100, help="trainings of a draw")
    ] = 3,
    draws: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="draws of images")] = 2,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="time to train, such as 2h [no limit]")
    ] = None,
    embedder: _Embedder = None,
    judge: _Judge = None,
    out: _Out = None,
    fail_on: Annotated[
        _FailOn | None,
        typer.Option(
            "--fail-on",
            help="exit 3 where a class's recall falls short of real photos', for CI",
        ),
    ] = None,
    trust: _Trust = False,
    as_json: _Json = False,
) -> None:
    """Say what images are worth: train classifiers on them, test them on real photos.

    Of a run's images (RUN), before and after; or of images that exist (--real DIR --synthetic DIR
    --test DIR), which are audited first.
    """
    how: dict[str, Any] = {"per_class": per_class, "seeds": seeds, "draws": draws}
    how |= {"budget": _seconds(budget), "test": test}
    if classifier:
        how["classifiers"] = classifier
    if run is not None:
        if any((real, synthetic, embedder, judge, out)):
            raise ConfigError(
                "validate: --real, --synthetic, --embedder, --judge and --out are for folders; a "
                "RUN has its own"
            )
        _validate(run, fail_on, as_json=as_json, trust=trust, **how)
        return
    for option, folder in (("--real", real), ("--synthetic", synthetic), ("--test", test)):
        if folder is None:
            raise ConfigError(f"validate: {option} is missing; give all three folders, or a RUN")
    assert synthetic is not None, "none is missing"
    out = out or Path("runs") / f"validate-{_name(synthetic)}"
    how |= {"real": real, "synthetic": synthetic, "judge": judge}
    if embedder is not None:
        how["embedder"] = embedder
    _validate(out, fail_on, as_json=as_json, **how)


def _validate(run: Path, fail_on: _FailOn | None, *, as_json: bool, **how: Any) -> None:
    """Validate a run, or folders into a run; print what came of it."""
    with _reporter(as_json) as reporter:
        from gapclose.loop.validating import validate_folders, validate_run

        if "real" in how:
            validate_folders(out=run, reporter=reporter, **how)
        else:
            validate_run(run, reporter=reporter, **how)
    from gapclose.loop.report.worth_summary import WorthSummary, short_classes

    summary = WorthSummary.of(run, run / "report.html")
    if as_json:
        _summary(run, summary.page, as_json=True)
    else:
        summary.print(_console())
    if fail_on is _FailOn.OPEN and (short := short_classes(summary.file)):
        said = [f"{name} ({', '.join(by)})" for name, by in short.items()]
        _echo(f"short of real photos: {', '.join(said)}", err=True)
        raise SystemExit(3)


@app.command()
def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="run folders; of one, its several generators"),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object")] = False,
) -> None:
    """Hold runs, or the generators of a run, side by side: gap, judges, worth, cost, licence."""
    from gapclose.loop.report.comparison import compare as compare_runs

    found = compare_runs([its for run in runs if (its := _path(run)) is not None])
    if as_json:
        _echo(json.dumps(found.to_json()))
    else:
        found.show(_console())


@app.command(name="app")
def app_(
    run: _Run,
    port: Annotated[int, typer.Option(min=1, max=65535, help="where it listens")] = 5151,
    address: Annotated[
        str, typer.Option(help="what it binds to; others than this machine only if you say so")
    ] = "127.0.0.1",
    trust: _Trust = False,
) -> None:
    """Open a run in the FiftyOne App."""
    from gapclose.loop.app.viewer import open_app
    from gapclose.loop.run.folder import RunDir

    RunDir.open(run)  # a wrong path is reported first
    _echo(f"preparing {run} for the App")
    open_app(
        run,
        port=port,
        address=address,
        trust=trust,
        opened=lambda url: _echo(f"open {url} in a browser; Ctrl-C ends it"),
    )


@app.command()
def doctor() -> None:
    """Say what this machine lacks: GPU, mongod, disk ..."""
    from gapclose.loop.doctor import diagnose

    for check in diagnose():
        _echo(check.line())


def main() -> NoReturn:
    """Run the command line and exit; anything that is no user error shows its traceback."""
    app(prog_name="gapclose")
    raise SystemExit(0)


def _as_ours(error: Exception) -> Exception:
    """Return an error of ours in place of a library's where the machine is to blame."""
    from gapclose.loop.run.faults import machines_fault

    return machines_fault(error) or error


def _seconds(budget: str | None) -> float | None:
    """Read a time as a config's budget is read.

    Raises:
        ConfigError: It is none.
    """
    from gapclose.loop.config.values import parse_seconds

    if budget is None or budget == "null":
        return None
    try:
        return parse_seconds(budget)
    except ValueError as error:
        raise ConfigError(str(error), where="--budget") from None


def _overrides(changes: list[str] | None, budget: str | None) -> list[str]:
    return [*(changes or []), *([f"tune.budget={budget}"] if budget is not None else [])]


@contextlib.contextmanager
def _reporter(as_json: bool) -> Iterator[LineReporter | LiveTable]:
    """Open the reporter of this process, which receives what libraries log as well."""
    from gapclose.loop.progress.log_capture import captured_logs
    from gapclose.loop.progress.reporters import open_reporter
    from gapclose.loop.run.notices import Task, TaskStarted

    with open_reporter(as_json=as_json) as reporter, captured_logs(reporter):
        reporter.tell(TaskStarted(task=Task.LOADING_PACKAGES))
        yield reporter


def _report(run: Path) -> Path:
    """Return the run's page, built anew unless the run has just done so."""
    from gapclose.loop.report.page import write_report

    page, gap = run / "report.html", run / "gap.json"
    fresh = page.is_file() and gap.is_file() and page.stat().st_mtime >= gap.stat().st_mtime
    return page if fresh else write_report(run)


def _summary(run: Path, page: Path, *, as_json: bool) -> None:
    """Print the result: a table and sentences, or the last JSON line."""
    from gapclose.loop.progress.reporters import make_reporter
    from gapclose.loop.report.summary import Summary

    summary = Summary.of(run, page)
    if as_json:
        make_reporter(as_json=True).tell(summary.notice())
    else:
        summary.print(_console())


def _console() -> Console:
    """Open the console that results are printed on; a log is no terminal to be fitted into."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=_LOG_WIDTH)


if __name__ == "__main__":
    main()
