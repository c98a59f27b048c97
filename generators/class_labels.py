"""Class labels: what pipelines draw that read no prompt, one of their labels or one kind of image.

`pipeline` makes a call's arguments of draws by it, `diffusion` checks a run's prompts. A label is
what the whole prompt says: a prompt with words around it would say what has no effect.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from gapclose.generators.configs import INDEX, Configs
from gapclose.generators.errors import GeneratorConfigError
from gapclose.generators.families import FAMILIES, PLAIN

__all__ = ["check_prompts", "find_label", "label_arguments", "saved_labels"]

_KEY: Final = "space.prompt"


def saved_labels(configs: Configs) -> dict[str, int]:
    """Return the number of each label of a saved pipeline, as diffusers' DiTPipeline has them."""
    named = configs.read(INDEX).get("id2label")
    labels = {}
    for number, names in named.items() if isinstance(named, dict) else ():
        for name in str(names).split(","):  # synonyms
            labels[name.strip()] = int(number)
    return labels


def find_label(labels: Mapping[str, int], prompt: str, *, kind: str) -> int:
    """Return the number of the label that a prompt is.

    Args:
        labels: Number by name.
        prompt: Case makes no difference, nor do underscores for blanks.
        kind: The pipeline's class.

    Raises:
        GeneratorConfigError: It is none; the nearest is named.
    """
    if not labels:
        raise GeneratorConfigError(
            f"this {kind} was saved without the names of its labels; add them to its {INDEX}: "
            '"id2label": {"0": "frog", ...}',
            key="generator.model",
        )
    plain = {_plain(name): number for name, number in labels.items()}
    if (found := plain.get(_plain(prompt))) is not None:
        return found
    near = difflib.get_close_matches(_plain(prompt), plain, n=1, cutoff=0.0)
    # A label that stands in the prompt is nearer than one of a like length.
    inside = [name for name in plain if name in _plain(prompt)]
    raise GeneratorConfigError(
        f"a {kind} draws one of its labels, and {prompt!r} is none; the nearest is "
        f"{max(inside, key=len, default=near[0])!r} (the prompt is the label alone: '{{class}}', "
        "and space.nouns names those of classes that are called otherwise)",
        key=_KEY,
    )


def check_prompts(configs: Configs, prompts: Iterable[str]) -> None:
    """Refuse prompts that a saved pipeline draws nothing of, or that it would not tell apart.

    Args:
        configs: Of the pipeline; one that is not at hand is not asked.
        prompts: All that draws may have; not looked at where the pipeline reads any text.

    Raises:
        GeneratorConfigError: One is no label; or there are several, and it reads none.
    """
    kind = getattr(configs.saved_class(), "__name__", "")
    reads = FAMILIES.get(kind, PLAIN).reads
    if reads == "label":
        labels = saved_labels(configs)
        for prompt in prompts:
            find_label(labels, prompt, kind=kind)
    elif reads == "nothing" and len(few := _first_two(prompts)) > 1:
        raise GeneratorConfigError(
            f"a {kind} reads no prompt and draws one kind of image; {few[0]!r} and {few[1]!r} "
            "would be the same, so name one class and one prompt",
            key=_KEY,
        )


def label_arguments(pipeline: Any, prompts: Sequence[str]) -> dict[str, Any]:
    """Return what a pipeline's call takes instead of prompts.

    Raises:
        GeneratorConfigError: As `find_label`.
    """
    kind = type(pipeline).__name__
    if FAMILIES.get(kind, PLAIN).reads == "nothing":
        return {"batch_size": len(prompts)}
    return {"class_labels": [find_label(pipeline.labels, prompt, kind=kind) for prompt in prompts]}


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").casefold().split())


def _first_two(prompts: Iterable[str]) -> list[str]:
    found: list[str] = []
    for prompt in prompts:
        if prompt not in found:
            found.append(prompt)
        if len(found) > 1:
            break
    return found
