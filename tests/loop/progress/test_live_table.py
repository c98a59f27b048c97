from __future__ import annotations

import io

from histories import class_state, progress, run_state, tried, verdict
from rich.console import Console

from gapclose.loop.progress.live_table import LiveTable
from gapclose.loop.run.events import VerdictsReached
from gapclose.loop.run.notices import Task, TaskStarted, WarningRaised
from gapclose.loop.run.reporter import Reporter


def test_the_live_table_shows_classes_rate_and_time_left() -> None:
    console = Console(width=100, force_terminal=True, file=io.StringIO(), record=True)
    with LiveTable(console) as table:
        assert isinstance(table, Reporter)
        for images, gap in ((8, 0.5), (16, 0.25)):
            frog = class_state(trials=images // 8, images=images)
            state = run_state({"frog": frog}, used=10.0, budget=310.0)
            found = progress(gap=gap, floor=0.25 / 12)
            table.follow(tried("frog", images // 8 - 1, progress=found), state)
        verdicts = {"ship": verdict(closed=True, confirmed=True)}
        table.follow(VerdictsReached(verdicts=verdicts), state)
        embedding = TaskStarted(task=Task.EMBEDDING, side="real")
        table.tell(embedding)
        table.tell(embedding.advanced(3, 9_000))
        table.tell(WarningRaised(message="[b]odd[/b] class"))
        console.print(table._render())
    page = console.export_text()
    frog_row = next(line for line in page.splitlines() if line.startswith("frog"))
    assert frog_row.split() == ["frog", "0.2500", "12.0", "2", "16"]
    ship_row = next(line for line in page.splitlines() if line.startswith("ship"))
    assert ship_row.split()[-1] == "confirmed"
    for words in ("images/s", "5m 00s left", "embedding real photos: 3 of 9,000"):
        assert words in page
    assert "warning: [b]odd[/b] class" in page


def test_without_a_class_only_what_is_under_way_is_shown() -> None:
    console = Console(width=100, force_terminal=True, file=io.StringIO(), record=True)
    with LiveTable(console) as table:
        table.tell(TaskStarted(task=Task.LOADING_PACKAGES))
        console.print(table._render())
    page = console.export_text()
    assert "loading packages · 0s so far" in page
    assert "ratio" not in page
