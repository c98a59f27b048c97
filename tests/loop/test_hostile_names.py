"""A class, a file or a run may be called anything: nothing of it commands a terminal or a page."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_run import make_run
from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]
from rig import here

from gapclose.analysis.unseen import UNSEEN
from gapclose.loop.cli import main
from gapclose.loop.run.folder import RunDir

HOSTILE = "fr\x1b]0;owned\x07\x9b2J\u202eog"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    path = tmp_path_factory.mktemp("hostile") / "run\x1b[2J"
    made = make_run(
        path,
        classes=("frog", "truck"),
        per_class=6,
        names={"frog": HOSTILE},
        config={"generator": {"kind": "make_run:Renderer"}},
    )
    made.write_json("state.json", made.read_json("state.json") | {"stopped_because": HOSTILE})
    return made


def assert_seen(text: str) -> None:
    assert "owned" in text, "the name itself is told"
    assert UNSEEN.search(text) is None


@pytest.mark.parametrize("words", [(), ("--json",)])
def test_the_console_shows_it_as_text(
    run: RunDir,
    words: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.argv", ["gapclose", "status", str(run.path), *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert_seen(capfd.readouterr().out)


def test_the_page_shows_it_as_text(run: RunDir) -> None:
    code, err = here("report", run.path)
    assert code == 0
    assert UNSEEN.search(err) is None
    page = (run.path / "report.html").read_text(encoding="utf-8")
    data = page[page.index('id="data">') + 10 :]
    assert UNSEEN.search(str(json.loads(data[: data.index("</script>")]))) is None
    assert_seen(page.replace(get_plotlyjs().replace("</script", "<\\/script"), ""))


def test_an_export_holds_it_escaped(run: RunDir, tmp_path: Path) -> None:
    code, err = here("export", run.path, tmp_path / "out", "--per-class", 2, "--trust")
    assert code == 0, err
    assert UNSEEN.search(err) is None
    for name in ("README.md", "metadata.jsonl"):
        assert_seen((tmp_path / "out" / name).read_text(encoding="utf-8"))
    rows = map(json.loads, (tmp_path / "out" / "metadata.jsonl").read_text().splitlines())
    assert {row["label"] for row in rows} == {HOSTILE, "truck"}  # as the user called it


def test_the_yaml_of_its_mixtures_holds_it_escaped(run: RunDir, tmp_path: Path) -> None:
    code, err = here("export", run.path, tmp_path / "out.yaml")
    assert code == 0, err
    assert_seen((tmp_path / "out.yaml").read_text(encoding="utf-8"))


def test_an_error_shows_it_as_text(run: RunDir, tmp_path: Path) -> None:
    for words in (
        ("export", run.path, run.path),
        ("status", tmp_path / "no\x1b[2J"),
        ("tune", tmp_path / "c\x1b[2J.yaml"),
    ):
        code, err = here(*words)
        assert code == 2
        assert len(err.splitlines()) == 1
        assert UNSEEN.search(err) is None
