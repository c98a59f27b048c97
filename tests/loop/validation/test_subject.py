from __future__ import annotations

from pathlib import Path

from pond_config import pond_config

from gapclose.generators.pond.renderer import write_real
from gapclose.loop.run.folder import RunDir
from gapclose.loop.validation.subject import Subject


def test_photos_that_the_run_links_to_are_not_its_own(tmp_path: Path) -> None:
    rundir = RunDir(tmp_path / "run")
    for folder in (tmp_path / "mine", rundir.real_path):
        write_real(folder, per_class=2, classes=("frog",))
    (rundir.real_path / "frog" / "mine.png").symlink_to(tmp_path / "mine" / "frog" / "00000.png")
    subject = Subject(
        rundir=rundir,
        config=pond_config(real={"kind": "pond"}),
        classes=("frog",),
        tuned=None,
        shortcuts=(),
        seen=frozenset(),
    )
    images = subject.real_images()
    assert [path.name for path in images.of("frog")] == ["00000.png", "00001.png"]
    assert images.others == ()
