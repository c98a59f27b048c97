"""Findings: one sentence a kind, with counts and a few names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from make_run import add_findings, make_run

from gapclose.loop import cli
from gapclose.loop.report.findings import findings
from gapclose.loop.report.summary import Summary
from gapclose.loop.run.notices import RunReported, read_notice


def gap(**keys: Any) -> dict[str, Any]:
    """A gap.json of two classes in which nothing is odd."""
    row = {"closed": True, "ratio": 0.4, "effect": 0.01, "invalid": 0}
    return {"classes": [row | {"name": "frog"}, row | {"name": "ship"}], **keys}


def files(n: int, why: str, *, side: str = "real", folder: str = "") -> list[dict[str, Any]]:
    return [{"path": f"/data/{folder}{i}.png", "side": side, "why": why} for i in range(n)]


def stored(real: str, synthetic: str, was: float | None, now: float | None) -> dict[str, Any]:
    return {
        "real": real, "synthetic": synthetic, "differs": ["quality"], "form": "JPEG quality 30",
        "gap_as_stored": 0.01, "ratio_as_stored": was,
        "gap_in_one_form": 0.001, "ratio_in_one_form": now,
    }  # fmt: skip


def test_a_run_in_which_nothing_is_odd_says_nothing() -> None:
    assert findings(gap()) == []
    empty = ("notes", "other_files", "unreadable", "invalid_images", "repeats", "skipped")
    assert findings(gap(**{key: [] for key in empty})) == []


def test_notes_come_first_and_as_they_are() -> None:
    assert findings(gap(notes=["One.", "Two."], unreadable=files(1, "torn")))[:2] == [
        "One.", "Two."
    ]  # fmt: skip


def test_classes_that_are_stored_alike_share_a_sentence() -> None:
    told = gap(equalized=True)
    told["classes"][0]["stored"] = stored("jpeg 95", "jpeg 30", 11.7, 0.8)
    told["classes"][1]["stored"] = stored("jpeg 95", "jpeg 30", 3.1, 0.3)
    assert findings(told) == [
        "The two sides are stored differently in all 2 classes (JPEG quality): real jpeg 95, "
        "synthetic jpeg 30. As stored the gap is 3.1 to 12 floors; with both as JPEG quality 30 "
        "it is 0.3 to 0.8. Both were put through one form before they were compared."
    ]
    told["classes"][1]["stored"] = None
    assert "in frog (JPEG quality): real" in findings(told)[0]
    told["classes"][0]["stored"] = stored("jpeg 95", "jpeg 30", None, None)
    assert "As stored" not in findings(told)[0]
    told["equalized"] = False
    assert "space.camera" in findings(told)[0]


def test_many_ways_of_storing_are_no_more_than_three_sentences() -> None:
    row = gap()["classes"][0]
    rows = [
        row | {"name": f"c{i}", "stored": stored(f"jpeg {i}", "png", 2.0 + i, 0.5)}
        for i in range(9)
    ]
    said = findings(gap() | {"classes": rows})
    assert len(said) == 3
    assert "in c2, c3, c4 and 4 more, such as c2: real jpeg 2, synthetic png" in said[2]
    assert "is 4.0 to 10 floors; with both as one form it is 0.5." in said[2]


def test_an_older_run_says_what_it_knew_of_storage() -> None:
    said = findings(gap(confounds=["synthetic: png 512x512, real: jpeg 32x32"]))
    assert said == [
        "The two sides were stored differently (synthetic: png 512x512, real: jpeg 32x32). Both "
        "were put through one form before they were compared."
    ]


def test_files_that_were_left_out_are_counted_by_reason_and_named() -> None:
    rows = files(120, "of no class") + files(1, "no image", folder="notes/", side="synthetic")
    said = findings(gap(other_files=rows, n_other_files={"real": 130, "synthetic": 1}))
    assert said == [
        "120 real files were left out (of no class): data/0.png, data/1.png, data/2.png and 117 "
        "more.",
        "10 more real files were left out as well.",
        "1 synthetic file was left out (no image): notes/0.png.",
    ]


def test_every_reason_is_no_line_of_its_own() -> None:
    rows = [row for n in range(1, 8) for row in files(n, f"reason {n}")]
    said = findings(gap(other_files=rows))
    assert len(said) == 4
    assert said[0].startswith("7 real files were left out (reason 7)")
    assert said[3] == "10 more real files were left out as well."


def test_unreadable_and_invalid_images_are_named_with_their_class() -> None:
    torn = [row | {"class": "frog"} for row in files(4, "torn")]
    black = [row | {"class": "frog"} for row in files(2, "one colour", side="synthetic")]
    told = gap(unreadable=torn, invalid_images=black)
    told["classes"][0]["invalid"] = 5
    told["classes"][1]["invalid"] = 1
    assert findings(told) == [
        "4 images cannot be read: frog/0.png (torn), frog/1.png (torn), frog/2.png (torn) and 1 "
        "more.",
        "2 synthetic images were never scored (one colour): frog/0.png and frog/1.png.",
        "4 generated images were invalid and never scored: frog 3 and ship 1.",
    ]


def test_repeats_are_named_by_kind_and_side_the_largest_group_first() -> None:
    def group(n: int, kind: str, side: str = "real", *, counted: bool = False) -> dict[str, Any]:
        copies = [f"/d/{n}-{i}.png" for i in range(n)]
        kept = {"class": "frog", "kept": f"/d/{n}.png", "copies": copies}
        return kept | {"kind": kind, "side": side, "counted": counted}

    exact = [group(n, "exact") for n in range(1, 6)]
    said = findings(
        gap(repeats=[*exact, group(2, "group"), group(9, "near", "synthetic", counted=True)])
    )
    assert said == [
        "15 real images are exact copies of others; each of the 5 groups counts once: frog/5.png "
        "(and 5 like it), frog/4.png (and 4 like it), frog/3.png (and 3 like it) and 2 more.",
        "2 real images are in one group with others; the group counts once: frog/2.png (and 2 "
        "like it).",
        "9 synthetic images are nearly the same as others; this is a sign of a generator that has "
        "collapsed, and the group counts in full: frog/9.png (and 9 like it).",
    ]


def test_one_image_is_spoken_of_as_one() -> None:
    row = {"class": "frog", "kept": "/d/0.png", "copies": ["/d/1.png"], "kind": "exact"}
    (said,) = findings(gap(repeats=[row | {"side": "real", "counted": False}]))
    assert said.startswith("1 real image is an exact copy of another; the group counts once")


def test_why_a_closed_class_is_not_confirmed_is_said() -> None:
    told = gap()
    judged = {"closed": True, "confirmed": False, "objections": ["the judge still sees a gap"]}
    for row in told["classes"]:
        row |= judged | {"before": {"ratio": 9.0}}
    assert findings(told) == [
        "frog and ship: closed, but not confirmed: the judge still sees a gap."
    ]


def test_verdicts_that_a_ratio_does_not_explain_are_said_once() -> None:
    told = gap()
    for row in told["classes"]:
        row |= {"closed": False, "ratio": 0.7}
    same = {"name": "cat", "closed": None, "effect": None, "ratio": None}
    told["classes"].append(same)
    below, untold = findings(told)
    assert below.startswith("frog and ship: open, below its floor (the test sees a difference")
    assert untold == (
        "cat: cannot be told (the embedder gives every image the same features; nothing can be "
        "told)."
    )


def summary_of(tmp_path: Path) -> Summary:
    run = make_run(tmp_path / "run", classes=("frog", "ship", "cat"), per_class=8, tuned=False)
    add_findings(run)
    return Summary.of(run.path, run.path / "report.html")


@pytest.mark.parametrize("terminal", [False, True])
def test_the_console_says_them_after_its_table(
    tmp_path: Path,
    terminal: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summary = summary_of(tmp_path)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    cli._summary(tmp_path / "run", summary.page, as_json=False)
    said = capsys.readouterr().out.splitlines()
    expected = findings(summary.gap)
    assert len(expected) == 14
    first = said.index(f"- {expected[0]}")
    assert said[first : first + len(expected)] == [f"- {sentence}" for sentence in expected]
    assert said[1].rstrip().endswith("open")  # the table comes before them
    assert said[-1] == f"report: {summary.page}"


def test_the_last_json_line_has_classes_and_findings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = summary_of(tmp_path)
    cli._summary(tmp_path / "run", summary.page, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    told = read_notice(line)
    assert isinstance(told, RunReported)
    assert told == summary.notice()
    assert [*told.findings] == findings(summary.gap)
    assert {row.name: row.verdict for row in told.classes} == {
        "frog": "open",
        "ship": "open, below its floor",
        "cat": "cannot be told",
    }
    assert told.path == str(summary.page)
