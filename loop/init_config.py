"""The starter config: a commented YAML file for a folder of class folders.

`gapclose init` writes it, so that a newcomer changes a few lines and starts. It reads names and
image headers only, and never replaces a file.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from gapclose.analysis.confounds import Confounds, read_confounds
from gapclose.analysis.errors import RealDataError
from gapclose.analysis.families import Role, recommended
from gapclose.analysis.image_folder import ImageSet, scan
from gapclose.generators.licenses import MODELS, terms_of
from gapclose.loop.config.reading import load_config
from gapclose.loop.errors import ConfigError, unwritable
from gapclose.loop.run.files import write_text
from gapclose.loop.work.real_data import FEWEST_TO_TUNE

__all__ = ["starter_text", "write_starter_config"]

log = logging.getLogger(__name__)


def write_starter_config(real: Path | str, out: Path | str = "config.yaml") -> Path:
    """Write a starter config for the images in `real`.

    Returns:
        The file's path.

    Raises:
        RealDataError: If the folder is missing or holds no images, or no class that can be tuned.
        ConfigError: If `out` exists already or cannot be written.
    """
    file = Path(out)
    if file.exists():
        raise ConfigError("exists already; name another file with -o", where=file)
    images = scan(Path(real))
    text = starter_text(images, read_confounds([file.path for file in images.files]))
    try:
        write_text(file, text)
    except OSError as error:
        raise unwritable(file, error, "name another file with -o") from None
    load_config(file)  # what we write, we can read
    for why, n in Counter(other.why for other in images.others).most_common():
        log.warning("%s: %d left out (%s)", images.root, n, why)
    return file


def starter_text(images: ImageSet, form: Confounds) -> str:
    """Return the text of a starter config.

    Args:
        images: the real side.
        form: how its files are stored; decides what the camera does.

    Raises:
        RealDataError: If no class has enough images.
    """
    sizes = {name: len(images.of(name)) for name in images.classes}
    enough = [name for name, n in sizes.items() if n >= FEWEST_TO_TUNE]
    few = [f"{name} ({n})" for name, n in sizes.items() if n < FEWEST_TO_TUNE]
    if not enough:
        raise RealDataError(
            f"no class has {FEWEST_TO_TUNE} images ({', '.join(few[:5])}); tuning needs at least "
            f"{FEWEST_TO_TUNE} per class",
            path=images.root,
        )
    flat = len(sizes) == 1
    return _TEMPLATE.format(
        real=_quoted(os.path.abspath(images.root)),  # noqa: PTH100 - keeps symbolic links
        n_classes=f"{len(sizes)} {'class' if flat else 'classes'}",
        n_images=sum(sizes.values()),
        classes="all" if not few else _list(enough),
        embedder=_embedder("tune"),
        judge=_embedder("judge"),
        few=f"\n# Too few images to tune on: {_comment(', '.join(few))}" if few else "",
        prompt=_quoted("a photo of a {color} {class}{place}"),
        nouns=_nouns(enough),
        resize=_resize(form),
        jpeg="[70, 100]" if form.codecs.count("jpeg") > len(form.codecs) / 2 else "null",
        codec=_comment(str(form)) if form.codecs else "unreadable",
        licences="\n".join(_licences()),
    )


def _embedder(role: Role) -> str:
    """Return the embedder to begin with: the first choice, and in a comment what it is."""
    first = recommended(role)[0]
    return f"{first.example}    # {first.name}, {first.licence}"


def _licences() -> Iterator[str]:
    """Yield comments: what the licences of known models say of images as training data."""
    for models, licence in MODELS:
        if (terms := terms_of(licence)) is not None:
            yield from wrap(
                f"{models}: {terms.said}.", width=97, initial_indent="# ", subsequent_indent="#   "
            )


def _nouns(names: Sequence[str]) -> str:
    lines = []
    for name in names[:200]:
        noun = " ".join(name.replace("_", " ").replace("-", " ").split()) or name
        noun = "photo" if name == "all" and len(names) == 1 else noun
        lines.append(f"    {_quoted(name)}: [{_quoted(noun)}]")
    return "\n".join(lines)


def _resize(form: Confounds) -> str:
    """Return the usual shorter side, which a real camera of this set gave; at most 512."""
    if not form.heights:
        return "null"
    sides = [min(pair) for pair in zip(form.heights, form.widths, strict=True)]
    return str(max(1, min(512, int(statistics.median(sides)))))


def _list(words: Sequence[str]) -> str:
    return "[" + ", ".join(_quoted(word) for word in words) + "]"


def _quoted(text: str) -> str:
    """Quote text as a YAML scalar; JSON's escapes are YAML's, too."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _comment(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)


_TEMPLATE = """\
# gapclose: what to tune, against which photos, for how long.
#   gapclose tune THIS_FILE          runs it (again: goes on where it stopped)
#   gapclose status runs/NAME        says where it stands
# One line is one key; an unknown key or a wrong value is told before anything runs.

# Your photos: {n_classes}, {n_images} images, {codec}.
# Half of them is shown to the search, the other half only tells at the end whether it worked.
# test_share: 0.2 keeps a fifth of them apart first, which only `gapclose validate` looks at.
real: {{path: {real}, confirm_share: 0.5, test_share: 0.0}}
{few}
classes: {classes}                # or some of them: [frog, ship]

# A diffusers text-to-image pipeline: a hub id (pin a revision) or a local folder.
{licences}
generator:
  kind: diffusers
  model: stable-diffusion-v1-5/stable-diffusion-v1-5
  dtype: auto                     # half precision on a GPU
  device: auto
  size: 512                       # what the model was trained at
  batch_size: auto
  safety_checker: keep            # or off, which the run records

# The search is scored with one model and confirmed with another, so that it cannot fool both: of
# another family, and several if you like, [ONE, ANOTHER], which all have to agree.
# Without the hub: open_clip:local-dir:PATH, transformers:PATH, onnx:PATH
embedder: {embedder}
judge: {judge}; or null

# What may vary. Of words, a list is choices. Of numbers, one is fixed, two are a range, more are
# choices. Leave a key out, and it stays as the baseline has it.
space:
  prompt: {prompt}
  slots:                          # every {{slot}} of the prompt but {{class}}; "" is nothing
    color: ["", black, white, gray, brown, red, green, blue, yellow]
    place: ["", " outdoors", " indoors", " on grass", " on a road", " on water", " in snow"]
  nouns:                          # what {{class}} says; several words are choices
{nouns}
  negative_prompt: ["", "drawing, cartoon, painting"]
  guidance_scale: [1.0, 10.0]
  num_inference_steps: [15, 40]
  scheduler: [ddim, dpmsolver++, euler]
  camera:                         # put on every image, as your photos' camera was on them
    resize: {resize}
    kernel: [area, lanczos]
    jpeg_quality: {jpeg}
    noise: [0.0, 0.03]            # of the full range

# Trial 0: the plain way, which everything is compared with.
baseline: {{prompt: "a photo of a {{class}}", guidance_scale: 7.5, num_inference_steps: 30}}

tune:
  objective: gap                  # or worth: the gap times what a classifier loses by it
  budget: 8h                      # in all, over every session; or null
  trials: null                    # limits per class
  images: null
  images_per_trial: 8
  seed: 0
confirm: {{images: 200}}            # fresh images per class for the last word
storage: null                     # SQLite in the run folder; or an Optuna storage URL
"""
