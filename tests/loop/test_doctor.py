from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gapclose.loop.doctor import Check, diagnose, find_mongod


@pytest.mark.slow  # imports torch
def test_every_line_has_a_verdict_and_what_is_missing_a_remedy(tmp_path: Path) -> None:
    checks = list(diagnose(runs=tmp_path / "not" / "yet"))
    names = [check.name for check in checks]
    assert {
        "GPU",
        "mongod",
        "disk",
        "cache",
        "packages",
        "map",
        "weights pond/sd",
        "encoders",
    } <= set(names)
    for check in checks:
        assert check.line().startswith("ok " if check.ok else "missing ")
        assert "\n" not in check.line()
        assert check.ok or check.remedy
    assert not (tmp_path / "not").exists()


def test_it_recommends_encoders_with_their_licences_and_warns_of_one() -> None:
    from gapclose.loop import doctor

    assert doctor._encoders().line() == (
        "ok       encoders: to tune open_clip:ViT-B-16-SigLIP2/webli (Apache 2.0) or "
        "open_clip:PE-Core-B-16/meta (Apache 2.0), to judge transformers:facebook/dinov2-large "
        "(Apache 2.0); never one family for both; DINOv3: DINOv3 License, which restricts uses; "
        "access is gated"
    )


def test_a_card_is_named_with_what_it_has_the_memory_for() -> None:
    from gapclose.loop import doctor

    said = doctor._card("NVIDIA GeForce RTX 3060", 12 * 2**30, True)
    assert said.startswith("NVIDIA GeForce RTX 3060, 12 GiB, bfloat16; models that fit in full: ")
    assert "with offload: model: " in said
    assert "no bfloat16 of its own" in doctor._card("Tesla T4", 15 * 2**30, False)


def test_a_line() -> None:
    check = Check(name="GPU", ok=False, found="none", remedy="buy one")
    assert check.line() == "missing  GPU: none; buy one"


def test_mongod_is_found_without_importing_fiftyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FIFTYONE_DATABASE_URI", raising=False)
    before = "fiftyone" in sys.modules
    found = find_mongod()
    assert found is None or Path(found).name == "mongod"
    assert ("fiftyone" in sys.modules) == before


def test_a_database_uri_is_used_and_its_password_not_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from gapclose.loop import doctor

    monkeypatch.setenv("FIFTYONE_DATABASE_URI", "mongodb://me:secret@db")
    assert find_mongod() == "mongodb://me:secret@db"
    check = doctor._mongod()
    assert check.ok
    assert "secret" not in check.line()


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("cannot cache function 'f': no locator available"), "set NUMBA_CACHE_DIR"),
        (ImportError("libomp.so: no such file\nmore"), "install umap-learn anew"),
    ],
)
def test_a_map_that_cannot_be_drawn_is_found_with_its_remedy(
    error: Exception, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapclose.loop import doctor

    def fails(name: str) -> None:
        raise error

    monkeypatch.setattr(doctor.importlib, "import_module", fails)
    line = doctor._map().line()
    assert line.startswith(f"missing  map: umap cannot be loaded: {str(error).splitlines()[0]}; ")
    assert remedy in line
    assert "\n" not in line
