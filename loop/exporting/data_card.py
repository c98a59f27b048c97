"""The data card: README.md of an exported data set, for people, `datasets` and the Hub.

`export` calls it. Its YAML head says which files are the data and what their columns are, so that
`load_dataset(OUT)` infers neither a split nor a label from the name of a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from gapclose.analysis.unseen import one_line
from gapclose.generators.base import Generator
from gapclose.generators.licenses import terms_of
from gapclose.generators.several import each_of
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.exporting.tempering import Tempering

__all__ = ["CardClass", "data_card", "photos_gone"]

_NAMED: Final = 5  # prompts that a line names

# Of the identifiers that the Hub knows, those that images come under. It refuses any other.
_LICENSES: Final = frozenset(
    {"apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "mpl-2.0", "unlicense",
     "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1", "lgpl-3.0", "wtfpl", "zlib",
     "openrail", "openrail++", "creativeml-openrail-m", "bigscience-openrail-m",
     "bigcode-openrail-m", "deepfloyd-if-license", "openmdw-1.0", "cc", "cc0-1.0", "cc-by-2.0",
     "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nd-4.0",
     "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
     "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "odc-by", "pddl",
     "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0", "c-uda"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class CardClass:
    """A line of the card's table.

    Attributes:
        name: The class.
        folder: Where its images lie.
        images: How many.
        recipes: How many recipes they come from.
        ratio: The gap in floors, None where it was not measured.
        confirmed: Whether the class is confirmed.
        outside: Images that stand for no mixture: of even prompts, or of rare groups.
        n_real: Real photos that it has; None where they were not counted.
    """

    name: str
    folder: str
    images: int
    recipes: int
    ratio: float | None
    confirmed: bool
    outside: int = 0
    n_real: int | None = None


def data_card(
    classes: Sequence[CardClass],
    examples: Sequence[Mapping[str, Any]],
    *,
    generator: Generator,
    config: RunConfig,
    beside: bool = False,
    tempering: Tempering | None = None,
    gone: int = 0,
) -> str:
    """Return the card's text.

    Args:
        classes: In the table's order.
        examples: Lines of metadata.jsonl that show every key and every type of value in it.
        generator: What generated the images.
        config: The run's.
        beside: Whether the real photos that are counted lie beside.
        tempering: How the share of even prompts was chosen, where it was.
        gone: Photos that images would have been made from, and which are not there any more.
    """
    licence = "; ".join(_licence(its.license, name) for name, its in each_of(generator).items())
    renamed = any(row.folder != row.name for row in classes)
    lines = [
        "---",
        _head(classes, examples, licence=None if beside else generator.license, beside=beside)
        + "---",
        "",
        "# Synthetic images, tuned by gapclose",
        "",
        f"Every {'synthetic ' if beside else ''}image here was made by a program. Each carries "
        f"the IPTC/XMP DigitalSourceType `{generator.source_type}`; `metadata.jsonl` says what "
        "made it, so that it can be made again.",
        "",
        *_real_lines(beside=beside),
        *_photo_lines(examples, gone),
        f"* Generator: {_cell(generator.id)}, revision {_cell(generator.revision or 'unknown')}",
        f"* The generator's licence: {licence}",
        f"* Tuned with: {_cell(config.embedder)}",
        f"* Judged with: {_cell(', '.join(config.judge) or 'nothing')}",
        "",
        "`datasets.load_dataset` with this folder gives one split, `train`, whose `label` is a "
        "`ClassLabel`; `torchvision.datasets.ImageFolder` numbers the classes alike. "
        '`load_dataset("imagefolder", data_dir=...)` does not read this card: there `label` is '
        "the class's name.",
        "",
    ]
    if renamed:
        lines += [
            "A class whose name a file system or a loader would trip over lies in a folder whose "
            "name is percent-encoded, as in a URL; `label` in `metadata.jsonl` is the class.",
            "",
        ]
    lines += [
        "Ratio is the gap between real and synthetic over what two sets of real images differ by "
        "at most, 19 times in 20. Confirmed: closed on images and photos the search never saw; "
        f"{_agreed(len(config.judge))}the guards pass.",
        "",
        *_tempering_lines(tempering),
        *_table(classes, renamed=renamed),
    ]
    return "\n".join(lines) + "\n"


def _licence(licence: str | None, generator: str | None) -> str:
    """Say what a generator's images come under, and what it says of training."""
    said = _cell(licence or "unknown: look it up before you share these images")
    if (terms := terms_of(licence)) is not None:
        said = f"{said}; {terms.said}"
    return said if generator is None else f"{_cell(generator)}: {said}"


def _agreed(judges: int) -> str:
    if not judges:
        return ""
    return f"the {'judge sees' if judges == 1 else 'judges see'} no gap either, and "


def _real_lines(*, beside: bool) -> list[str]:
    if not beside:
        return []
    return [
        "Beside them lie real photos: their `side` is `real`, their names begin with `real-`, and "
        "`content` is the sha256 of the file. Their licence is not known here: look it up before "
        "you share them.",
        "",
    ]


def photos_gone(n: int) -> str:
    """Say how many source photos were gone when an export was made."""
    return f"{n:,} {'photo is' if n == 1 else 'photos are'} gone"


def _photo_lines(examples: Sequence[Mapping[str, Any]], gone: int) -> list[str]:
    """Say what images owe to single real photos, whose licence may reach them."""
    owed = [row for row in examples if "photo" in row]
    if not owed:
        return []
    pictures = any(_from_picture(row["recipe"]["draw"]) for row in owed)
    what = "pictures of real photos" if pictures else "captions of real photos"
    left = f" {photos_gone(gone)}: images of the others stand for them." if gone else ""
    return [
        f"Some are made from {what}, one photo each: `photo` is the start of the sha256 of its "
        "file, `photo_path` its place among the real photos. Their licence is not known here: "
        f"look it up before you share these images.{left}",
        "",
    ]


def _from_picture(draw: Mapping[str, Any]) -> bool:
    return "strength" in draw or "ip_adapter_scale" in draw


def _tempering_lines(tempering: Tempering | None) -> list[str]:
    """Say how much is drawn from even prompts, and what was measured."""
    if tempering is None:
        return []
    told = ", ".join(
        f"{100 * accuracy:.1f} % at {100 * share:.0f} %"
        for share, accuracy in tempering.accuracies.items()
    )
    lines = [
        f"For networks from scratch: {100 * tempering.share:.0f} % of a class's images come from "
        "all its prompts evenly, the others from its mixture. Only the others are what was "
        "confirmed; `confirmed` is false for the first.",
        "",
        f"Chosen on {tempering.photos} photos that the search had seen; networks trained on "
        f"{tempering.images} images a class tell right, by the share of even prompts: {told}. The "
        "smallest share is taken that is as good as the best but for noise.",
        "",
    ]
    for name, prompts in tempering.lost.items():
        left = "; ".join(map(_cell, prompts[:_NAMED]))
        more = len(prompts) - _NAMED
        lines += [
            f"{_cell(name)}: without prompts whose images are not told as the class: {left}"
            f"{f' and {more} more' if more > 0 else ''}.",
            "",
        ]
    return lines


def _table(classes: Sequence[CardClass], *, renamed: bool) -> list[str]:
    """Return a line for each class; with real photos, how many it has and has together."""
    counted = any(row.n_real is not None for row in classes)
    columns = ["class", *(["folder"] if renamed else []), *(["real"] if counted else [])]
    columns += ["synthetic" if counted else "images", *(["together"] if counted else [])]
    columns += ["recipes", "ratio", "confirmed"]
    words = {"class", "folder", "confirmed"}
    lines = [
        f"| {' | '.join(columns)} |",
        f"|{'|'.join('---' if column in words else '---:' for column in columns)}|",
    ]
    for row in classes:
        n_real = row.n_real or 0
        confirmed = "yes" if row.confirmed else "no"
        if row.confirmed and row.outside:
            confirmed = f"{row.images - row.outside} of {row.images}"
        cells = {
            "class": _cell(row.name),
            "folder": _cell(row.folder),
            "real": n_real,
            "synthetic": row.images,
            "images": row.images,
            "together": n_real + row.images,
            "recipes": row.recipes,
            "ratio": "" if row.ratio is None else f"{row.ratio:.2f}",
            "confirmed": confirmed,
        }
        lines.append(f"| {' | '.join(str(cells[column]) for column in columns)} |")
    return lines


def _cell(text: str) -> str:
    """Escape text so that it cannot break out of a line or a table."""
    return " ".join(re.sub(r"[\\`*_\[\]<>|]", lambda m: f"\\{m[0]}", one_line(text)).split())


# ------------------------------------------------------------------------------------- YAML head


class _Name(str):
    """A class, always quoted: YAML 1.1 and 1.2 disagree on what is a number or a truth value."""


class _Dumper(yaml.SafeDumper):
    """YAML with quoted classes."""


_Dumper.add_representer(
    _Name,
    lambda dumper, name: dumper.represent_scalar("tag:yaml.org,2002:str", str(name), style='"'),
)


def _head(
    classes: Sequence[CardClass],
    examples: Sequence[Mapping[str, Any]],
    *,
    licence: str | None,
    beside: bool,
) -> str:
    held = [row for row in classes if row.images or (beside and row.n_real)]
    there = sorted(held, key=lambda row: row.folder)
    names = [row.name for row in there]  # in torchvision's order
    label = {"class_label": {"names": {str(i): _Name(name) for i, name in enumerate(names)}}}
    known = [{"name": "image", "dtype": "image"}, {"name": "label", "dtype": label}]
    files = ["*/*.png", *(["*/real-*"] if beside else [])]
    rest = [{k: v for k, v in row.items() if k not in ("file_name", "label")} for row in examples]
    head = {
        **({"license": licence} if licence in _LICENSES else {}),
        "task_categories": ["image-classification"],
        "tags": ["synthetic"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [{"split": "train", "path": ["metadata.jsonl", *files]}],
                # Those of `dataset_info` give way to what `datasets` infers from the metadata.
                "features": known + _type(rest)["struct"],
            }
        ],
    }
    # ASCII, since a reader that splits lines as Python does would cut a class at U+2028.
    return yaml.dump(head, Dumper=_Dumper, sort_keys=False, allow_unicode=False)


def _type(values: Sequence[Any]) -> dict[str, Any]:
    """Return the feature of `datasets`, as its YAML spells it, for all these values of a key."""
    values = [value for value in values if value is not None]
    kinds = {type(value) for value in values}
    if kinds == {dict}:
        keys = dict.fromkeys(key for value in values for key in value)
        fields = [{"name": key, **_type([value.get(key) for value in values])} for key in keys]
        return {"struct": fields}
    if kinds == {list}:
        return {"list": _type([item for value in values for item in value])}
    if not kinds:
        return {"dtype": "null"}
    if kinds == {bool}:
        return {"dtype": "bool"}
    if kinds == {int}:
        return {"dtype": "int64"}
    return {"dtype": "float64" if kinds <= {int, float} else "string"}
