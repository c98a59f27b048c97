"""Evaluation: embeddings of real and synthetic, class by class -> the rows of `gap.json`.

Audits and confirmations call it with whatever images they have. It takes the numbers and the
words from `analysis`; it generates nothing and writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from gapclose.analysis.attributes import compare_words
from gapclose.analysis.class_gap import ClassGap, jointly
from gapclose.analysis.embedding import Embedder, TextEmbedder
from gapclose.analysis.gap import audit_embeddings
from gapclose.analysis.kernel import Kernel
from gapclose.analysis.spectrum import compare_spectra
from gapclose.analysis.two_sample import permutations_for
from gapclose.analysis.witness import witness
from gapclose.analysis.zeroshot import zero_shot

Rows = NDArray[np.float32]

WITNESSES: Final = 12  # images a side that a class's row names
SMALL_EFFECT: Final = 0.02  # and below: what an embedder's training photos make up
FEWEST_ALIKE: Final = 3  # classes that say something together


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeInput:
    """One class's images as one judge sees them.

    Attributes:
        real: (n, d).
        synthetic: (m, d).
        kernel: Frozen from real images.
    """

    real: Rows
    synthetic: Rows
    kernel: Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationInput:
    """One class's images as embeddings.

    Attributes:
        judges: By judge, in the config's order, the same images in its embedding.
        real_paths: Of the rows of `real`, as samples.jsonl has them.
        synthetic_paths: Of the rows of `synthetic`.
        repeats: By side, images that are left out because they repeat another one.
    """

    cls: str
    noun: str
    real: Rows
    synthetic: Rows
    kernel: Kernel
    judges: Mapping[str, JudgeInput] = field(default_factory=dict)
    invalid: int = 0
    invalid_real: int = 0
    repeats: Mapping[str, int] | None = None
    real_spectra: Rows | None = None
    synthetic_spectra: Rows | None = None
    real_paths: tuple[str, ...] = ()
    synthetic_paths: tuple[str, ...] = ()


def measure(
    e: EvaluationInput,
    *,
    embedder: Embedder,
    groups: Mapping[str, Sequence[str]],
    nouns: Mapping[str, str],
    classes: int,
    seed: int = 0,
) -> ClassGap:
    """Score one class; its q-values are those of the class alone.

    Args:
        e: Its images, >= 20 a side.
        embedder: The tuning embedder; one with a text side gives words and label agreement.
        groups: Attribute groups and their words.
        nouns: Class -> noun of every class of the run, for label agreement.
        classes: Of the run, which settle how many permutations its tests need.
        seed: Of permutations and splits.
    """
    permutations = permutations_for(classes)
    text = embedder if isinstance(embedder, TextEmbedder) else None
    gap = audit_embeddings(
        real=e.real,
        synthetic=e.synthetic,
        name=e.cls,
        kernel=e.kernel,
        permutations=permutations,
        seed=seed,
        invalid=e.invalid,
    )
    gap = replace(gap, invalid_real=e.invalid_real, repeats=e.repeats)
    if text is not None:
        gap = _with_words(gap, e, text=text, groups=groups, nouns=nouns)
    if e.real_spectra is not None and e.synthetic_spectra is not None:
        spectra = compare_spectra(real=e.real_spectra, synthetic=e.synthetic_spectra, seed=seed)
        curves = {
            "frequency": spectra.frequency,
            "real": spectra.real,
            "synthetic": spectra.synthetic,
        }
        gap = replace(gap, spectrum_gap=spectra.gap, spectrum=curves)
    seen = {
        judge: audit_embeddings(
            real=its.real,
            synthetic=its.synthetic,
            name=e.cls,
            kernel=its.kernel,
            # Their p-values are corrected over the judges of a class, too.
            permutations=permutations_for(classes * len(e.judges)),
            seed=seed,
            guards=False,
        )
        for judge, its in e.judges.items()
    }
    gap = gap.judged_by(seen)
    return replace(gap, witness=_most_unlike(e)) if gap.closed is False else gap


def _with_words(
    gap: ClassGap,
    e: EvaluationInput,
    *,
    text: TextEmbedder,
    groups: Mapping[str, Sequence[str]],
    nouns: Mapping[str, str],
) -> ClassGap:
    """Add what only an embedder with a text side can measure: labels, and attribute words."""
    words = compare_words(
        real=e.real, synthetic=e.synthetic, text=text, noun=e.noun, groups=groups
    )
    gap = replace(gap, attributes=tuple(words))
    if len(nouns) < 2:
        return gap
    real = zero_shot(e.real, text, cls=e.cls, nouns=nouns)
    synthetic = zero_shot(e.synthetic, text, cls=e.cls, nouns=nouns)
    read = {"n_labels": len(nouns), "real": real.to_json(), "synthetic": synthetic.to_json()}
    return replace(gap, label_agreement=synthetic.agreement, zeroshot=read)


def evaluate(
    inputs: Sequence[EvaluationInput],
    *,
    embedder: Embedder,
    groups: Mapping[str, Sequence[str]],
    nouns: Mapping[str, str],
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[ClassGap]:
    """Score every class; q-values over all of them.

    Args:
        inputs: The classes to score, >= 20 images a side each.
        embedder: As for `measure`, as are the others.
        groups: Attribute groups and their words.
        nouns: Class -> noun of every class of the run.
        seed: Of permutations and splits.
        progress: Called with (classes done, classes in all).
    """
    gaps = []
    for done, e in enumerate(inputs, start=1):
        gaps.append(
            measure(
                e, embedder=embedder, groups=groups, nouns=nouns, classes=len(inputs), seed=seed
            )
        )
        if progress is not None:
            progress(done, len(inputs))
    return jointly(gaps)


def witness_scores(evidence: Sequence[EvaluationInput]) -> dict[str, float]:
    """Return how unlike the other side each image is, by its path; larger is more unlike."""
    scores: dict[str, float] = {}
    for e in evidence:
        real, synthetic = witness(real=e.real, synthetic=e.synthetic, kernel=e.kernel)
        for paths, values in ((e.real_paths, real), (e.synthetic_paths, synthetic)):
            scores |= {p: round(float(v), 5) for p, v in zip(paths, values, strict=False)}
    return scores


def _most_unlike(e: EvaluationInput) -> dict[str, list[str]]:
    scores = witness_scores([e])
    sides = {"real": e.real_paths, "synthetic": e.synthetic_paths}
    return {
        side: sorted(paths, key=lambda path: -scores[path])[:WITNESSES]
        for side, paths in sides.items()
    }


def notes_of(gaps: Sequence[ClassGap]) -> list[str]:
    """Return notes on all classes: many small gaps at once are mostly the embedder's.

    An encoder lies closer to the photos that it was trained on than to others of the same kind,
    in every class a little. CIFAR-10's train against its test photos, in a ResNet trained on the
    former: 7 of 10 classes open, effects up to 0.007.
    """
    open_ = [gap for gap in gaps if gap.closed is False]
    largest = max((gap.effect or math.inf for gap in open_), default=math.inf)
    if len(gaps) < FEWEST_ALIKE or len(open_) < len(gaps) / 2 or largest > SMALL_EFFECT:
        return []
    return [
        f"{len(open_)} of {len(gaps)} classes have a gap, and all of them a small one (effect at "
        f"most {largest:.3f}): an embedder that was trained on one of the two sides would show "
        "gaps of this size between any photos and those; repeat the audit with another embedder"
    ]


def label_agreement_of(
    embeddings: Rows, *, cls: str, embedder: Embedder, nouns: Mapping[str, str]
) -> float | None:
    """Return the share of images that the text side takes for their class; None without one."""
    if not isinstance(embedder, TextEmbedder) or len(nouns) < 2:
        return None
    return zero_shot(embeddings, embedder, cls=cls, nouns=nouns).agreement
