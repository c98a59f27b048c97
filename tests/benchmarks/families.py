"""What diffusers' text-to-image pipelines make of a draw: `python tests/benchmarks/families.py`.

Prints a row for each class that diffusers' AutoPipelineForText2Image knows, from tiny pipelines of
random weights: each setting alive, dropped (no effect; never searched) or refused.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "support"))
import tiny_transformer_families
import tiny_unet_families
from diffusers.pipelines.auto_pipeline import AUTO_TEXT2IMAGE_PIPELINES_MAPPING
from family_table import row_of

from gapclose.generators.checkpoint import Checkpoint
from gapclose.generators.errors import GeneratorConfigError

COLUMNS = (
    *("negative_prompt", "guidance_scale", "num_inference_steps"),
    *("batch", "size", "scheduler"),
)


def main() -> None:
    warnings.simplefilter("ignore")
    builders = {**tiny_unet_families.FAMILIES, **tiny_transformer_families.FAMILIES}
    kinds = {kind.__name__: kind for kind in AUTO_TEXT2IMAGE_PIPELINES_MAPPING.values()}
    print(f"{'class':42}" + "".join(f"{name:21}" for name in COLUMNS))
    for name in [*builders, *(kinds.keys() - builders.keys())]:
        if name in builders:
            with tempfile.TemporaryDirectory() as folder:
                row = row_of(builders[name](), Path(folder))
        else:
            try:
                Checkpoint(model=name).check_task(kinds[name])
                row = {"class": "LIE: not tried"}
            except GeneratorConfigError:
                row = {"class": "refused: it draws from pictures, or videos"}
        if "class" in row:
            print(f"{name:42}{row['class']}")
        else:
            print(f"{name:42}" + "".join(f"{row[column]:21}" for column in COLUMNS))


if __name__ == "__main__":
    main()
