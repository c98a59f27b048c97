"""diffusers, family by family: no setting of a draw is taken in silence and does nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_transformer_families
import tiny_unet_families
from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING
from family_table import is_silent, row_of

from gapclose.generators.base import SETTINGS
from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.families import FAMILIES
from gapclose.generators.registry import settings_of

# NumPy and diffusers themselves say what will change in each family: nothing here can.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

BUILDERS: dict[str, Any] = {**tiny_unet_families.FAMILIES, **tiny_transformer_families.FAMILIES}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("LatentConsistencyModelPipeline", {"negative_prompt"}),
        ("FluxPipeline", {"negative_prompt"}),
        ("FluxPipeline, few steps", {"negative_prompt", "guidance_scale"}),
        ("KandinskyV22CombinedPipeline", {"scheduler"}),
        ("StableDiffusionXLPipeline", set()),
    ],
)
def test_what_a_saved_model_does_not_take_is_known_without_loading_it(
    name: str, lacks: set[str], tmp_path: Path
) -> None:
    builders = {**BUILDERS, **tiny_unet_families.VARIANTS}
    builders[name]().save_pretrained(tmp_path)
    spec = {"kind": "diffusers", "model": str(tmp_path)}
    assert {*SETTINGS} - settings_of(spec) == lacks


@pytest.mark.slow
def test_guidance_that_was_distilled_away_is_dropped(tmp_path: Path) -> None:
    row = row_of(tiny_unet_families.VARIANTS["FluxPipeline, few steps"](), tmp_path)
    assert is_silent(row) == [], row
    assert row["guidance_scale"] == "dropped"


@pytest.mark.slow
@pytest.mark.parametrize("name", BUILDERS)
def test_each_setting_is_alive_or_refused_or_dropped(name: str, tmp_path: Path) -> None:
    row = row_of(BUILDERS[name](), tmp_path)
    assert is_silent(row) == [], row


def test_every_text_to_image_class_of_diffusers_is_tried_or_refused() -> None:
    kinds = {kind.__name__: kind for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    for name in kinds.keys() - BUILDERS.keys():
        with pytest.raises(GeneratorConfigError, match=name):
            Checkpoint(model="x/y").check_task(kinds[name])
    assert {*FAMILIES} <= {*BUILDERS}
