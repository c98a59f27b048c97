"""A panel of judges, through the decision of a run: whom it refuses, and whom it lets pass.

tests/benchmarks/judges.py asks the same of twenty adversaries and two hundred pairs of real sets.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from adversaries import (
    Panel,
    Pixels,
    checkered,
    herded,
    noiseless,
    optimized,
    parted,
    photos,
)
from random_encoder import write_random_encoder
from rig import quick, written
from spectral import SPECTRAL

from gapclose.analysis.criteria import JudgeAgrees
from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import RunMismatchError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_journal
from gapclose.loop.tuning import tune
from gapclose.loop.work.evidence import Evidence
from gapclose.loop.work.real_data import Fold

N = 100


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Panel:
    """Three judges that are there wherever this runs."""
    folder = tmp_path_factory.mktemp("encoder")
    return Panel.of("pond-judge", write_random_encoder(folder, width=8), SPECTRAL)


@pytest.fixture(scope="module")
def real(panel: Panel) -> Fold:
    return panel.see(photos(0, 900))


@pytest.fixture(scope="module")
def own() -> list[Pixels]:
    """The adversary's own photos."""
    return photos(10_000, 300)


def refused(panel: Panel, real: Fold, images: list[Pixels]) -> None:
    tune, fold = parted(real, sizes=(150, 150), seed=0)
    row = panel.decide(tune=tune, fold=fold, synthetic=panel.see(images))
    assert row.closed is True, "it passes the tuning embedder"
    assert row.confirmed is False
    assert JudgeAgrees().objections(row, agreement=None)


@pytest.mark.slow
def test_images_kept_for_what_the_embedder_sees_are_refused(
    panel: Panel, real: Fold, own: list[Pixels]
) -> None:
    pool = checkered(noiseless(20_000, 400), depth=3)
    rows = panel.embedder.embed(pool)
    refused(panel, real, [pool[i] for i in herded(rows, panel.embedder.embed(own), N)])


@pytest.mark.slow
def test_images_made_by_the_embedders_gradient_are_refused(
    panel: Panel, real: Fold, own: list[Pixels]
) -> None:
    rows = panel.embedder.embed(own)
    chosen = herded(rows, rows, N)
    start = checkered([own[i] for i in chosen])
    refused(panel, real, optimized(start, rows[chosen], steps=12, rate=0.01))


@pytest.mark.slow
def test_real_photos_are_confirmed_against_others(panel: Panel, real: Fold) -> None:
    """Five times; of the least favourable, one may fail by chance."""
    confirmed = 0
    for seed in range(5):
        tune, fold, other = parted(real, sizes=(150, 150, 150), seed=seed)
        row = panel.decide(tune=tune, fold=fold, synthetic=other)
        assert row.judges is not None
        assert [judge["name"] for judge in row.judges] == [*panel.judges]
        confirmed += row.confirmed is True
    assert confirmed >= 4


@pytest.mark.slow
def test_a_run_asks_all_its_judges_and_goes_on_with_them(
    photos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GAPCLOSE_CACHE", str(photos.parent / "cache"))  # nothing is embedded yet
    judges = ["pond-judge", SPECTRAL]
    config = load_config(written(photos.parent / "panel.yaml", photos, judge=judges))
    with quick(), caplog.at_level("INFO", logger="gapclose.analysis.embedding"):
        run = tune(config, out=photos.parent / "panel-run", trust=True)
    loads = [record.getMessage() for record in caplog.records if "encoder" in record.getMessage()]
    assert sorted(loads) == sorted(f"loading the encoder {name}" for name in ["pond", *judges])
    gap = run.gap
    assert (gap["judge"], gap["judges"]) == ("pond-judge", judges)
    rows = [one for row in gap["classes"] for one in (row, row["before"])]
    assert rows
    for row in rows:
        assert [judge["name"] for judge in row["judges"]] == judges
        assert row["judge"] in row["judges"]
    assert "none of the 2 judges sees a gap" in run.report.read_text(encoding="utf-8")
    frog = fold_journal(RunDir.open(run.path).journal_path).of("frog").judged
    assert frog is not None
    kept = Evidence(RunDir.open(run.path)).judge_rows("frog", frog.opened.fold, "tuned")
    assert [seen.shape[1] for seen in kept] == [128, 23]
    before = RunDir.open(run.path).journal_path.read_bytes()
    with quick():
        again = tune(
            config, out=run.path, trust=True
        )  # the same config goes on, and finds no work
    assert RunDir.open(run.path).journal_path.read_bytes().startswith(before)
    assert again.gap["classes"] == gap["classes"]
    other = config.model_copy(update={"judge": tuple(reversed(judges))})
    with pytest.raises(RunMismatchError, match="judge differ"):
        tune(other, out=run.path, trust=True)
