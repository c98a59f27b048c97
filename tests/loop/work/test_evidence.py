from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save

from gapclose.loop.errors import RunDamagedError, UnwritableError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.search.recording import Recording
from gapclose.loop.search.trial import Images
from gapclose.loop.work.evidence import Evidence, digests_of

# Of each kind: how it is kept, read, and named.
KINDS: dict[str, tuple[Callable[[Evidence, Images], None], Callable[[Evidence], Images], str]] = {
    "trial": (
        lambda e, i: e.keep_trial("tree frog", 7, i),
        lambda e: e.trial("tree frog", 7),
        "tree frog-00007",
    ),
    "camera": (
        lambda e, i: e.keep_camera("tree frog", i),
        lambda e: e.camera("tree frog"),
        "tree frog-camera",
    ),
    "fold": (
        lambda e, i: e.keep_fold("tree frog", 2, "tuned", i),
        lambda e: e.fold("tree frog", 2, "tuned"),
        "tree frog-confirm-2-tuned",
    ),
}


def images(n: int = 5, *, seed: int = 0) -> Images:
    rows = np.random.default_rng(seed).normal(size=(n, 3)).astype(np.float32)
    return Images(
        embeddings=rows,
        recipes=tuple(i % 2 for i in range(n)),
        seeds=tuple(15_000_000 + i for i in range(n)),
    )


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    return Evidence(RunDir(tmp_path))


def assert_same(one: Images, other: Images) -> None:
    assert (one.recipes, one.seeds) == (other.recipes, other.seeds)
    assert {type(seed) for seed in one.seeds} <= {int}
    assert one.embeddings.dtype == np.float32
    assert one.embeddings.tobytes() == other.embeddings.tobytes()
    assert one.embeddings.shape == other.embeddings.shape


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [5, 1, 0])
def test_what_is_kept_is_read_back_to_the_bit(evidence: Evidence, kind: str, n: int) -> None:
    keep, read, name = KINDS[kind]
    keep(evidence, images(n))
    assert_same(read(evidence), images(n))
    (file,) = (evidence.rundir.path / "embeddings").iterdir()
    assert file.name == f"{name}.safetensors"
    keep(evidence, images(n, seed=1))  # what was cut off is done again
    assert_same(read(evidence), images(n, seed=1))


def test_what_is_kept_of_one_thing_is_nothing_elses(evidence: Evidence) -> None:
    names = [
        *(f"{cls}-{number}" for cls in ("frog", "toad") for number in (0, 11)),
        *("frog camera", "toad camera"),
        *(f"frog {fold} {stage}" for fold in (0, 1) for stage in ("baseline", "tuned")),
    ]
    made = {name: images(seed=seed) for seed, name in enumerate(names)}
    for cls in ("frog", "toad"):
        for number in (0, 11):
            evidence.keep_trial(cls, number, made[f"{cls}-{number}"])
        evidence.keep_camera(cls, made[f"{cls} camera"])
    for fold in (0, 1):
        for stage in ("baseline", "tuned"):
            evidence.keep_fold("frog", fold, stage, made[f"frog {fold} {stage}"])
    assert len(list((evidence.rundir.path / "embeddings").iterdir())) == len(names)
    assert_same(evidence.trial("toad", 11), made["toad-11"])
    assert_same(evidence.trial("frog", 0), made["frog-0"])
    assert_same(evidence.camera("frog"), made["frog camera"])
    assert_same(evidence.fold("frog", 1, "baseline"), made["frog 1 baseline"])
    assert_same(evidence.fold("frog", 0, "tuned"), made["frog 0 tuned"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_gone_or_damaged_is_named(evidence: Evidence, kind: str) -> None:
    keep, read, name = KINDS[kind]
    path = evidence.rundir.embeddings_path(name)
    said = f"{path.name}: is gone; restore the file from a copy, or start anew with --out"
    with pytest.raises(RunDamagedError) as told:
        read(evidence)
    assert str(told.value).endswith(said)
    assert str(path) in str(told.value)
    keep(evidence, images())
    whole = path.read_bytes()
    damaged = [whole[:n] for n in (0, 7, 8, 40, len(whole) - 1)] + [b"\xff" * len(whole)]
    arrays = load_file(path)
    for column in arrays:
        damaged.append(save({key: value for key, value in arrays.items() if key != column}))
    for data in damaged:
        path.write_bytes(data)
        with pytest.raises(RunDamagedError, match=r"\.safetensors: is damaged \(") as told:
            read(evidence)
        assert str(path) in str(told.value)
    path.unlink()
    path.mkdir()
    with pytest.raises(RunDamagedError, match="not a regular file"):
        read(evidence)


def test_a_full_disk_leaves_what_was_kept_before(evidence: Evidence) -> None:
    evidence.keep_trial("frog", 0, images())
    with (
        patch("os.fsync", side_effect=OSError(28, "No space left on device")),
        pytest.raises(UnwritableError, match=r"frog-00000\.safetensors: cannot be written"),
    ):
        evidence.keep_trial("frog", 0, images(seed=1))
    assert_same(evidence.trial("frog", 0), images())


def test_a_class_cannot_write_elsewhere(evidence: Evidence) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        evidence.keep_trial("../x", 0, images())
    assert not (evidence.rundir.path.parent / "x-00000.safetensors").exists()


def test_a_recording_is_kept_beside_the_images(evidence: Evidence) -> None:
    noted = Recording(basis="a1b2", numbers=np.array([0.1 + 0.2, 5e-324, -0.0, 1 / 3]))
    evidence.keep_trial("frog", 0, replace(images(), recording=noted))
    kept = evidence.trial("frog", 0)
    assert_same(kept, images())
    assert kept.recording is not None
    assert kept.recording.basis == "a1b2"
    assert kept.recording.numbers.tobytes() == noted.numbers.tobytes()
    evidence.keep_trial("frog", 0, images())
    assert evidence.trial("frog", 0).recording is None


def recorded(basis: str, *numbers: float) -> Recording:
    return Recording(basis=basis, numbers=np.array(numbers))


@pytest.mark.parametrize(
    "before",
    [
        None,
        recorded("other photos", 1.0, 2.0),
        recorded("photos", 1.0),
        recorded("photos", 1, -0.0),
    ],
    ids=["none", "of other photos", "too short", "another bit"],
)
def test_a_recording_that_was_computed_anew_is_rewritten(
    evidence: Evidence, before: Recording | None
) -> None:
    evidence.keep_trial("frog", 3, replace(images(), recording=before))
    new = recorded("photos", 1.0, 0.0)
    evidence.keep_recording("frog", 3, evidence.trial("frog", 3), new)
    kept = evidence.trial("frog", 3)
    assert_same(kept, images())
    assert kept.recording is not None
    assert kept.recording.basis == "photos"
    assert kept.recording.numbers.tobytes() == new.numbers.tobytes()
    (file,) = (evidence.rundir.path / "embeddings").iterdir()
    assert {*load_file(file)} == {
        "embeddings", "recipes", "recorded", "recording-photos", "seeds",
    }  # fmt: skip


def test_a_recording_that_is_as_it_was_is_not_rewritten(evidence: Evidence) -> None:
    same = recorded("photos", 0.1 + 0.2, float("nan"))
    evidence.keep_trial("frog", 3, replace(images(), recording=same))
    with patch.object(RunDir, "write_embeddings") as write:
        evidence.keep_recording("frog", 3, evidence.trial("frog", 3), same)
    assert not write.called


def test_a_disk_that_takes_no_recording_costs_nothing_else(evidence: Evidence) -> None:
    evidence.keep_trial("frog", 3, images())
    for refused in (OSError(28, "No space left on device"), OSError(30, "Read-only file system")):
        with patch("tempfile.mkstemp", side_effect=refused):
            evidence.keep_recording("frog", 3, images(), recorded("photos", 1.0))
    assert_same(evidence.trial("frog", 3), images())
    assert evidence.trial("frog", 3).recording is None


def flipped(data: bytes) -> Iterator[bytes]:
    """The same bytes, another bit flipped each time."""
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bytes(changed)


def test_no_flipped_bit_is_believed(evidence: Evidence) -> None:
    """Of the evidence none passes; the recording is a cache, and is computed again."""
    noted = recorded("photos", 0.25, 3.0)
    made = replace(images(2), drawn=(7, 2**64 - 1), recording=noted)
    digests = evidence.keep_trial("frog", 0, made)
    path = evidence.rundir.embeddings_path("frog-00000")
    whole, refused, unrecorded = path.read_bytes(), 0, 0
    for data in flipped(whole):
        path.write_bytes(data)
        try:
            found = evidence.trial("frog", 0, digests)
        except RunDamagedError:
            refused += 1
            continue
        assert_same(found, made)
        assert found.drawn == made.drawn
        if found.recording is None or found.recording.basis != "photos":
            unrecorded += 1
        else:
            assert found.recording.numbers.tobytes() == noted.numbers.tobytes()
    values = sum(array.nbytes for array in load(whole).values())
    assert refused + unrecorded > 8 * (values - 32)  # all but those of the recording's own digest
    assert unrecorded >= 8 * noted.numbers.nbytes


def test_digests_are_of_the_evidence_and_not_of_the_recording(evidence: Evidence) -> None:
    made = replace(images(), drawn=tuple(range(5)))
    digests = evidence.keep_trial("frog", 0, made)
    assert evidence.keep_trial("frog", 1, replace(made, recording=recorded("a", 1.0))) == digests
    evidence.keep_recording("frog", 0, made, recorded("photos", 1.0))
    assert evidence.trial("frog", 0, digests).recording is not None
    assert digests_of(made) == digests
    for other in (images(seed=1), replace(made, seeds=made.seeds[::-1]),
                  replace(made, recipes=(1,) * 5)):  # fmt: skip
        assert digests_of(replace(other, drawn=made.drawn)).rows != digests.rows
        assert digests_of(replace(other, drawn=made.drawn)).images == digests.images
    assert digests_of(replace(made, drawn=(*range(4), 9))).rows == digests.rows
    assert digests_of(replace(made, drawn=(*range(4), 9))).images != digests.images


def test_of_a_fold_each_part_is_known_by_itself(evidence: Evidence) -> None:
    """What of it is lost takes nothing with it, least of all what vouches for its images."""
    made, rows = replace(images(), shown=tuple(range(5))), images().embeddings
    where = ("frog", 0, "tuned")
    digests = evidence.keep_fold(*where, made, [rows])
    known = dict(zip(made.seeds, range(5), strict=True))
    assert len(evidence.judge_rows(*where, digests)) == 1
    assert evidence.shown(*where, digests) == known
    for judges in ([rows + 1], []):
        evidence.keep_fold(*where, made, judges)
        assert evidence.judge_rows(*where, digests) == ()
        assert len(evidence.judge_rows(*where)) == len(judges)  # nothing says that it is another
        assert evidence.fold(*where, digests).shown == made.shown
        assert evidence.shown(*where, digests) == known
    evidence.keep_fold(*where, replace(made, embeddings=rows + 1), [rows])
    assert len(evidence.judge_rows(*where, digests)) == 1
    assert evidence.shown(*where, digests) == known
    with pytest.raises(RunDamagedError, match="not what the journal names"):
        evidence.fold(*where, digests)
    evidence.keep_fold(*where, replace(made, shown=(0, 1, 2, 3, 5)), [rows])
    assert len(evidence.judge_rows(*where, digests)) == 1
    for read in (evidence.fold, evidence.shown):
        with pytest.raises(RunDamagedError, match="not what the journal names"):
            read(*where, digests)


def test_a_link_in_the_place_of_evidence_is_replaced_and_not_followed(
    evidence: Evidence, tmp_path: Path
) -> None:
    digests = evidence.keep_trial("frog", 0, images())
    path, elsewhere = evidence.rundir.embeddings_path("frog-00000"), tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    with pytest.raises(RunDamagedError, match="is a link or not a regular file"):
        evidence.trial("frog", 0, digests)
    evidence.keep_recording("frog", 0, images(), recorded("photos", 1.0))
    assert not path.is_symlink()
    assert_same(evidence.trial("frog", 0, digests), images())
    assert elsewhere.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": np.arange(4)},
        {"recipes": np.zeros((5, 2), np.int64)},
        {"seeds": np.zeros(5)},
        {"embeddings": np.zeros(5, np.float32)},
        {"drawn": np.zeros(3, np.uint64)},
    ],
)
def test_columns_that_do_not_belong_together_are_damage(
    evidence: Evidence, change: dict[str, np.ndarray[Any, Any]]
) -> None:
    evidence.keep_trial("frog", 0, images())
    path = evidence.rundir.embeddings_path("frog-00000")
    path.write_bytes(save(load_file(path) | change))
    with pytest.raises(RunDamagedError, match="its columns are of"):
        evidence.trial("frog", 0)
