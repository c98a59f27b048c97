"""The command line: typer commands over the public functions, nothing else.

`main` is the console script. Exit codes: 0 done, 2 the user's input is wrong (one line, no
traceback), 130 interrupted, 1 anything else. What a command needs is imported inside it, so
that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gapclose.loop.report.progress import JsonReporter, TerminalReporter
    from gapclose.loop.report.status import Status
    from gapclose.loop.run.reporter import Reporter, SilentReporter

__all__ = ["app", "main"]

# An error of the loop's that the user can mend says `exit_code = 2` itself. The rooms below know
# nothing of exit codes, and importing their errors here would cost `--help` numpy: by name.
_USER_ERRORS = frozenset(
    {"EmbedderError", "GeneratorConfigError", "RealDataError", "UnreadableImageError"}
)
_FAILURES = frozenset({"GenerationError"})  # nothing of the config: exit 1, and no traceback
# A library's own writing, of what a file system only ever says to who writes.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_RESUMABLE = ("tune", "demo", "audit")


class _Commands(TyperGroup):
    """Turns what a command raises into an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Runs the command, then says in one line what the user can mend."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            line = "interrupted"
            if ctx.invoked_subcommand in _RESUMABLE:
                again = f"gapclose {shlex.join(sys.argv[1:])}"
                line += f"; what is done is kept, this goes on with it: {again}"
            typer.echo(line, err=True)
            raise typer.Exit(130) from None
        except Exception as error:
            error = _told(error)
            code = _exit_code(error)
            if code is None:
                raise
            typer.echo(f"error: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(code) from None


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


def _path(value: Path | None) -> Path | None:
    """A path as a shell reads it: none does so in `--out=~/x`."""
    from gapclose.loop.config.schema import expanded

    return None if value is None else Path(expanded(str(value)))


def _embedder(value: str | None) -> str | None:
    from gapclose.loop.config.schema import local_embedder

    return None if value is None else local_embedder(value)


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
    bool, typer.Option("--trust", help="let a run made elsewhere import the code it names")
]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="RUN", help="run folder", callback=_path)] = Path(
        "runs/pond"
    ),
    budget: _Budget = None,
) -> None:
    """Do the whole job on the embedded world, offline."""
    from gapclose.loop.config.schema import load_config

    config = load_config("pond", _overrides(None, budget))
    with _reporter() as reporter:
        from gapclose.loop.export import drop_outdated
        from gapclose.loop.export import export as export_
        from gapclose.loop.tuning import tune as tune_

        tune_(config, out=out, reporter=reporter)
        page = _report(out)
        data = out / "export"
        drop_outdated(out, data)
        if not data.exists():
            reporter.event("stage", name="export")
            export_(out, data, per_class=20, progress=_exporting(reporter))
    _summary(out, page)
    _say("export", data)


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
    from gapclose.loop.config.starter_config import write_starter_config

    typer.echo(f"{write_starter_config(real_dir, out)}: look it over, then gapclose tune {out}")


@app.command()
def audit(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG]", help="audits its baseline recipe", callback=_path),
    ] = None,
    real: Annotated[
        Path | None, typer.Option(metavar="DIR", help="real images", callback=_path)
    ] = None,
    synthetic: Annotated[
        Path | None, typer.Option(metavar="DIR", help="synthetic images", callback=_path)
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="E",
            help="pond, open_clip:NAME/TAG, onnx:PATH, transformers:ID ... "
            "[the config's, or open_clip:ViT-B-32/laion2b_s34b_b79k]",
            callback=_embedder,
        ),
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(metavar="E", help="a second embedder, to confirm", callback=_embedder),
    ] = None,
    out: _Out = None,
) -> None:
    """Report the gap of each class, and tune nothing.

    Of images that exist (--real DIR --synthetic DIR), or of a config's baseline (CONFIG).
    """
    from gapclose.loop.config.schema import ConfigError, load_config

    if config is not None:
        if real or synthetic:
            raise ConfigError("audit: give a CONFIG, or --real and --synthetic, not both")
        words = {"embedder": embedder, "judge": judge}
        changes = [f"{key}={json.dumps(word)}" for key, word in words.items() if word]
        loaded = load_config(config, changes)
        out = out or Path("runs") / config.stem
        with _reporter() as reporter:
            from gapclose.loop.auditing import audit_config

            audit_config(loaded, out=out, reporter=reporter)
            page = _report(out)
    else:
        if real is None or synthetic is None:
            missing = "--real" if real is None else "--synthetic"
            raise ConfigError(f"audit: {missing} is missing; give both folders, or a CONFIG")
        out = out or Path("runs") / f"audit-{synthetic.resolve().name}"
        with _reporter() as reporter:
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
    _summary(out, page)


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
    trust: _Trust = False,
) -> None:
    """Close the gap overnight; the same again resumes."""
    from gapclose.loop.config.schema import load_config

    # A mistake is told at once: the controller brings packages that take seconds to import.
    loaded = load_config(config, _overrides(set_, budget))
    out = out or Path("runs") / config.stem
    with _reporter() as reporter:
        from gapclose.loop.tuning import tune as tune_

        run = tune_(loaded, out=out, trust=trust, reporter=reporter)
        page = _report(out)
    _summary(out, page)
    if not run.gap["classes"]:
        typer.echo(f"error: no class could be scored: {run.state['stopped_because']}", err=True)
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
            typer.echo(json.dumps(now.to_json(), ensure_ascii=False))
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
    """Until there is a run: whoever has just started one need not time its first second."""
    from gapclose.loop.run.folder import appears

    said = False
    while not appears(run):
        if not said:
            typer.echo(f"{run}: no run is there yet; waiting for it, Ctrl-C ends that", err=True)
        said = True
        time.sleep(1.0)


def _watched(run: Path) -> Iterator[Status]:
    """A run's status every second, until two in a row say that it does not go on.

    A run that is being made has nobody at work on it for a moment.
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
def report(run: _Run, trust: _Trust = False) -> None:
    """Rebuild report.html, and gap.json if it is not there, from the run folder."""
    from gapclose.loop.report.page import write_report
    from gapclose.loop.report.projections import open_run

    if not open_run(run).has("gap.json"):
        with _reporter() as reporter:
            from gapclose.loop.remeasure import remeasure

            remeasure(run, trust=trust, reporter=reporter)
    typer.echo(str(write_report(run)))


@app.command()
def export(
    run: _Run,
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="the data set's folder, new", callback=_path)
    ],
    per_class: Annotated[int, typer.Option(metavar="N", min=1, help="images per class")],
    image_format: Annotated[str, typer.Option("--format", help="imagefolder")] = "imagefolder",
    only_confirmed: Annotated[
        bool, typer.Option("--only-confirmed", help="leave out classes that are not confirmed")
    ] = False,
    trust: _Trust = False,
) -> None:
    """Write the improved data set, with provenance."""
    with _reporter() as reporter:
        from gapclose.loop.export import export as export_

        export_(
            run,
            out,
            per_class=per_class,
            image_format=image_format,
            only_confirmed=only_confirmed,
            trust=trust,
            progress=_exporting(reporter),
        )
    _say("export", out)


@app.command(name="app")
def app_(
    run: _Run,
    port: Annotated[int, typer.Option(min=1, max=65535, help="where it listens")] = 5151,
    address: Annotated[
        str, typer.Option(help="what it binds to; others than this machine only if you say so")
    ] = "127.0.0.1",
) -> None:
    """Open a run in the FiftyOne App."""
    from gapclose.loop.app.viewer import open_app
    from gapclose.loop.run.folder import RunDir

    RunDir.open(run)  # a wrong path is told first
    typer.echo(f"opening at http://{address}:{port}; Ctrl-C ends it")
    open_app(run, port=port, address=address)


@app.command()
def doctor() -> None:
    """Say what this machine lacks: GPU, mongod, disk ..."""
    from gapclose.loop.doctor import diagnose

    for check in diagnose():
        typer.echo(check.line())


def main() -> NoReturn:
    """Runs the command line and exits; anything that is no user error shows its traceback."""
    app(prog_name="gapclose")
    raise SystemExit(0)


def _exit_code(error: Exception) -> int | None:
    """The exit code of an error that the user can mend, or None."""
    ours = [kind for kind in type(error).__mro__ if kind.__module__.startswith("gapclose.")]
    if any(kind.__name__ in _USER_ERRORS for kind in ours):
        return 2
    if any(kind.__name__ in _FAILURES for kind in ours):
        return 1
    code = getattr(error, "exit_code", None)
    return code if ours and isinstance(code, int) else None


def _told(error: Exception) -> Exception:
    """An error of ours in place of a library's that could not write."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        from gapclose.loop.run.files import UnwritableError

        where = error.filename or "a file"
        return UnwritableError(error.errno, error.strerror, str(where))
    return error


def _overrides(changes: list[str] | None, budget: str | None) -> list[str]:
    return [*(changes or []), *([f"tune.budget={budget}"] if budget is not None else [])]


@contextlib.contextmanager
def _reporter() -> Iterator[SilentReporter | JsonReporter | TerminalReporter]:
    """The reporter of this process, which is also told what the rooms below load."""
    from gapclose.loop.report.progress import make_reporter

    log = logging.getLogger("gapclose")
    before = log.level, log.propagate
    with make_reporter() as reporter:
        handler = _Loading(reporter)
        log.addHandler(handler)
        log.setLevel(logging.INFO)
        log.propagate = False  # some library gives the root a handler, and all would be said twice
        reporter.event("stage", name="loading packages")
        try:
            yield reporter
        finally:
            log.removeHandler(handler)
            log.setLevel(before[0])
            log.propagate = before[1]


class _Loading(logging.Handler):
    """Shows what is said at INFO: what takes long. The rest goes where it went without it."""

    def __init__(self, reporter: Reporter) -> None:
        super().__init__()
        self._reporter = reporter

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.WARNING:
            self._reporter.event("start", message=record.getMessage())
        elif logging.lastResort is not None:
            logging.lastResort.handle(record)


def _exporting(reporter: Reporter) -> Callable[[int, int], None]:
    return lambda done, total: reporter.event("progress", what="exported", done=done, total=total)


def _report(run: Path) -> Path:
    """The run's page, built anew unless the run has just done so."""
    from gapclose.loop.report.page import write_report

    page, gap = run / "report.html", run / "gap.json"
    fresh = page.is_file() and gap.is_file() and page.stat().st_mtime >= gap.stat().st_mtime
    return page if fresh else write_report(run)


def _summary(run: Path, page: Path) -> None:
    """What came out: a table on a terminal, else one line per class; then what was found."""
    from gapclose.loop.report.findings import findings
    from gapclose.loop.report.text import verdict, was_tuned
    from gapclose.loop.run.folder import RunDir

    gap = RunDir.open(run).read_json("gap.json")
    state = RunDir.open(run).read_json("state.json")
    if sys.stdout.isatty():
        from rich.console import Console

        from gapclose.loop.report.status import gap_table

        Console().print(gap_table(gap))
    else:
        keys = ("ratio", "optimism", "effect", "q_value", "closed", "confirmed")
        for row in gap["classes"]:
            line = {"event": "gap", "class": row["name"], **{key: row.get(key) for key in keys}}
            line["verdict"] = verdict(row, tuned=was_tuned(gap["classes"]))
            typer.echo(json.dumps(line, ensure_ascii=False))
    for sentence in findings(gap):
        told = json.dumps({"event": "finding", "message": sentence}, ensure_ascii=False)
        typer.echo(f"- {sentence}" if sys.stdout.isatty() else told)
    if why := state.get("stopped_because"):
        _say("stopped", why, event="stopped")
    _say("report", page)


def _say(what: str, words: object, *, event: str = "written") -> None:
    """Where something lies, or why: words on a terminal, else a JSON line."""
    if sys.stdout.isatty():
        typer.echo(f"{what}: {words}")
    else:
        typer.echo(json.dumps({"event": event, what: str(words)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
