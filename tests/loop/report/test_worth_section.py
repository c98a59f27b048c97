"""The section on worth: what it places where, and the page that holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from make_run import make_run
from make_validation import CLASSES, RECALLS, make_validation
from rich.console import Console

from gapclose.loop.report.contents import MIXTURES, VALIDATION, mixtures_key
from gapclose.loop.report.page import write_report
from gapclose.loop.report.status import read_status, render_status
from gapclose.loop.report.summary import Summary
from gapclose.loop.report.validation_file import ValidationFile
from gapclose.loop.report.worth import Worth
from gapclose.loop.report.worth_section import worth_section
from gapclose.loop.report.worth_summary import WorthSummary, short_classes
from gapclose.loop.run.folder import RunDir

NASTY = '<b>frog & "co" `x`'


def section(*args: Any, **kwargs: Any) -> dict[str, Any]:
    return worth_section(Worth.of(ValidationFile.model_validate(make_validation(*args, **kwargs))))


def test_the_quoted_classifier_comes_first() -> None:
    made = section(classifiers=["linear:pond-judge", "cnn"])
    assert [(block["title"], block["what"]) for block in made["blocks"]] == [
        ("A small CNN", "learns its own features"),
        ("A linear probe", "on the features of pond-judge"),
    ]
    assert made["how"].startswith(
        "Classifiers, trained on each kind of images and tested on 600 real photos that no "
        "search saw: 3 trainings on each of 2 draws of images."
    )
    assert "1 training on each of 1 draw of" in section(seeds=1, draws=1)["how"]
    alone = "of one {} alone, what another would change is in none of them."
    assert section(seeds=1, draws=1)["how"].endswith(alone.format("training"))
    assert section(seeds=3, draws=1)["how"].endswith(alone.format("draw"))
    assert "alone" not in made["how"]


def test_bars_lie_on_one_axis() -> None:
    made = section(width=0.02)
    (block,) = made["blocks"]
    plain, tuned, even, real = block["arms"]
    assert [arm["title"] for arm in (plain, tuned, even, real)] == [
        "plain", "tuned", "every prompt evenly", "real photos"
    ]  # fmt: skip
    assert plain["at"] == pytest.approx(100 * (0.5 - 0.4) / 0.6, abs=0.01)
    low, high = plain["span"]
    assert low < plain["at"] < high
    assert block["ceiling"] == real["at"]
    assert plain["interval"] == "48.0\N{EN DASH}52.0"
    assert (tuned["worst"], tuned["worst_recall"]) == ("dog", 0.55)
    assert [arm["is_primary"] for arm in block["arms"]] == [False, True, False, False]
    assert [round(at) for at, _ in made["ticks"]] == [0, 33, 67, 100]
    assert [text.split("\N{THIN SPACE}")[0] for _, text in made["ticks"]] == [
        "40", "60", "80", "100"
    ]  # fmt: skip


@pytest.mark.parametrize("lowest", [0.0, 0.03, 0.31, 0.55, 0.72, 0.89, 0.97, 0.999])
def test_every_axis_has_a_few_round_ticks(lowest: float) -> None:
    made = section({"synthetic": (lowest,) * 3, "real": (1.0,) * 3}, width=0.0)
    at = [at for at, _ in made["ticks"]]
    assert at == sorted(at)
    assert at[-1] == 100
    assert 2 <= len(at) <= 6
    (block,) = made["blocks"]
    assert all(0 <= arm["at"] <= 100 for arm in block["arms"])


def test_classes_come_by_what_they_fall_short() -> None:
    (block,) = section()["blocks"]
    assert [(row["name"], row["shortfall"], row["significant"]) for row in block["classes"]] == [
        ("dog", "+25.0", True), ("frog", "+5.0", False), ("cat", "0.0", False)
    ]  # fmt: skip
    assert block["folded"] is False
    many = [f"class {n}" for n in range(13)]
    recalls = {arm: (0.5,) * 13 for arm in ("tuned", "real")}
    assert section(recalls, classes=many)["blocks"][0]["folded"]
    (bare,) = section({"tuned": RECALLS["tuned"]})["blocks"]
    assert [row["name"] for row in bare["classes"]] == [*CLASSES]


# ---------------------------------------------------------------------------------------- page


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    folder = tmp_path_factory.mktemp("worth")
    return make_run(folder / "run", classes=CLASSES, per_class=3, names={"frog": NASTY})


def validated(run: RunDir, **more: Any) -> str:
    """Return the page of a run that was validated."""
    classes = (*CLASSES[:2], NASTY)
    shortcuts = [
        {"feature": "noise", "real": 0.2, "synthetic": 0.9, "by_real_rule": 0.4, "p_value": 0.001,
         "objection": "noise tells <i>them</i> apart"},
        {"feature": "size", "real": 0.3, "synthetic": 0.3, "by_real_rule": 0.3, "p_value": 1.0,
         "objection": None},
    ]  # fmt: skip
    of = {"mixtures": mixtures_key(run.read_json(MIXTURES)["classes"])} | more
    run.write_json(VALIDATION, make_validation(classes=classes, shortcuts=shortcuts, **of))
    return write_report(run.path).read_text(encoding="utf-8")


def test_the_page_says_it_first(run: RunDir) -> None:
    page = validated(run)
    head = page[page.index("<h1>") : page.index("</header>")]
    assert "<h1>Trained on the plain images, a small CNN recognises 50.0" in head
    assert head.index("</h1>") < head.index("The gap of ") < head.index("What next?")
    assert "<code>tune.objective: worth</code>" in head
    assert "What the images are worth" in page
    assert "What the images are worth" not in _without_validation(run)


def _without_validation(run: RunDir) -> str:
    run.remove(VALIDATION)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "<h1>The gap of " in page
    return page


def test_names_and_objections_stay_text(run: RunDir) -> None:
    page = validated(run)
    assert "<b>" not in page.split("<script>")[0]
    assert "&lt;b&gt;frog &amp; &#34;co&#34; `x`" in page
    assert "<i>them" not in page
    assert page.count("noise tells &lt;i&gt;them&lt;/i&gt; apart") >= 2


def test_no_line_ends_before_a_unit(run: RunDir) -> None:
    page = validated(run)
    assert "50.0\N{NARROW NO-BREAK SPACE}%" in page[page.index("<h1>") : page.index("</h1>")]


LITTLE = '{"arms": [{"classifier": "cnn", "arm": "tuned"}, {"classifier": "cnn", "arm": "real"}]}'


@pytest.mark.parametrize("text", ["{", '{"arms": 1}', LITTLE])
def test_a_damaged_validation_leaves_the_page_whole(run: RunDir, text: str) -> None:
    (run.path / VALIDATION).write_text(text)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "<h1>The gap of " in page
    assert "validation.json is damaged and was left out: run <code>gapclose validate" in page


def test_a_validation_of_other_classes_is_left_out(run: RunDir) -> None:
    run.write_json(VALIDATION, make_validation())
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "validation.json is of other classes than this run" in page
    assert 'id="worth"' not in page


def test_an_outdated_validation_does_not_speak_first(run: RunDir) -> None:
    page = validated(run, mixtures="0" * 32)
    assert "<h1>The gap of " in page
    assert "What next?" not in page
    assert "validated before the last session" in page
    assert 'id="worth"' in page
    assert "<h1>Trained on" in validated(run)


def test_an_audit_that_was_tuned_since_does_not_speak_first(run: RunDir) -> None:
    page = validated(run, mixtures=None)
    assert "<h1>The gap of " in page
    assert "validated before the last session" in page


def test_the_dashed_line_is_named_as_what_it_is() -> None:
    (block,) = section()["blocks"]
    assert block["ceiling_title"] == "as many real photos"
    made = make_validation()
    for row in made["arms"]:
        row["n_per_class"] -= 50 * (row["arm"] == "real")
    (fewer,) = worth_section(Worth.of(ValidationFile.model_validate(made)))["blocks"]
    assert fewer["ceiling_title"] == "real photos"


def test_the_page_names_the_dashed_line(run: RunDir) -> None:
    assert '<i class="dash"></i> as many real photos</span>' in validated(run)
    made = run.read_json(VALIDATION)
    for row in made["arms"]:
        row["n_per_class"] -= 50 * (row["arm"] == "real")
    run.write_json(VALIDATION, made)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert '<i class="dash"></i> real photos</span>' in page
    assert "as many real" not in page


def test_a_run_that_nothing_was_tuned_in_has_its_sentence_too(tmp_path: Path) -> None:
    audit = make_run(tmp_path / "run", classes=CLASSES, per_class=3, tuned=False)
    made = make_validation({arm: RECALLS[arm] for arm in ("baseline", "even", "real")})
    assert made["primary"] == "baseline"
    audit.write_json(VALIDATION, made)
    page = write_report(audit.path).read_text(encoding="utf-8")
    said = page[page.index("<h1>") : page.index("</h1>")].replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "Trained on the plain images, a small CNN recognises 50.0 % of real photos" in said
    assert "on as many real ones 85.0 %; frog falls short most, 10 against 85 %." in said


# ------------------------------------------------------------------------------------- console


def test_no_name_makes_a_line_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = "frog\nopen: cat\x1b[2J"
    run = make_run(tmp_path / "run", classes=CLASSES, per_class=3, names={"frog": forged})
    made = make_validation(classes=(*CLASSES[:2], forged), classifiers=["timm:a\nopen: b"])
    made["mixtures"] = mixtures_key(run.read_json(MIXTURES)["classes"])
    run.write_json(VALIDATION, made)
    console, page = Console(width=200), Path("report.html")
    WorthSummary.of(run.path, page).print(console)
    Summary.of(run.path, page).print(console)
    console.print(render_status(read_status(run.path)))
    said = capsys.readouterr().out
    assert said.count("frog open: cat") >= 3
    assert not [line for line in said.splitlines() if line.startswith("open: ")]
    assert "\x1b" not in said


def test_the_classes_that_fall_short_are_those_of_the_primary_arm() -> None:
    made = make_validation(classifiers=("cnn", "linear:pond"))
    row = {"classifier": "cnn", "shortfall": 0.5, "adjusted_p_value": 0.001}
    made["shortfalls"] += [row | {"arm": "even", "class": "cat"},
                           row | {"arm": "tuned", "class": "frog"}]  # fmt: skip
    file = ValidationFile.model_validate(made)
    assert short_classes(file) == {"dog": ("cnn", "linear:pond"), "frog": ("cnn",)}
    of_even = file.model_copy(update={"primary": "even"})
    assert short_classes(of_even) == {"cat": ("cnn",)}


def test_status_and_the_summary_give_the_accuracies(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    validated(run)
    line = "worth: a small CNN recognises of real photos, trained on baseline 50.0"
    status = read_status(run.path)
    assert status.accuracies["cnn"]["tuned"] == pytest.approx(0.75)
    assert status.to_json()["accuracies"]["cnn"]["real"] == pytest.approx(0.85)
    console = Console(width=200)
    console.print(render_status(status))
    assert line in capsys.readouterr().out
    summary = Summary.of(run.path, Path("report.html"))
    summary.print(console)
    assert f"- {line}" in capsys.readouterr().out
    assert summary.notice().findings[-1].startswith(line)


def test_an_outdated_validation_is_no_status(run: RunDir) -> None:
    validated(run, mixtures="0" * 32)
    assert read_status(run.path).accuracies == {}
    assert "validated before the last session" in Summary.of(run.path, Path("r")).worth[0]
    run.remove(VALIDATION)
    assert read_status(run.path).accuracies == {}
    assert Summary.of(run.path, Path("r")).worth == ()
