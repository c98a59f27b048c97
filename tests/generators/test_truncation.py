"""Long prompts: diffusers' warning of every batch is said once, without the text."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gapclose.generators import truncation
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.recipe import Draw


def test_that_prompts_are_cut_is_said_once_and_without_them(
    tiny: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(truncation._ONCE, "_said", False)
    generator = DiffusersGenerator(str(tiny), device="cpu", batch_size=2)
    long = "a photo of a frog " * 60
    with caplog.at_level(logging.WARNING):
        for seed in range(3):
            for word in ("brown", "gray"):
                draw = Draw(prompt=f"{long} and {word}", num_inference_steps=2)
                generator.generate(draw, [seed])
    told = [record.getMessage() for record in caplog.records]
    assert [said for said in told if "text encoder" in said] == [truncation._SAID]
    assert not any("gray" in said or "truncated" in said for said in told)


def test_other_warnings_pass(caplog: pytest.LogCaptureFixture) -> None:
    class Made:
        pass

    truncation.warn_once_of_truncation(Made())
    logger = logging.getLogger(Made.__module__)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            logger.warning("something else: %s", 3)
    assert [record.getMessage() for record in caplog.records] == ["something else: 3"] * 2
