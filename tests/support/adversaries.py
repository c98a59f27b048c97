"""Adversaries: images made to please the tuning embedder alone, and what a panel says of them.

Two kinds. `optimized`: pixels are moved along the embedder's own gradient until their embeddings
are those of real photos. `herded`: of many images of plain prompts those are kept whose embeddings
together look most like real ones. The decision is the loop's own: what a confirmation measures,
and what verdicts make of it. tests/benchmarks/judges.py asks for twenty, a test for two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from modes import make_space
from numpy.typing import NDArray
from pond_config import pond_config

from gapclose.analysis.attributes import DEFAULT_WORDS
from gapclose.analysis.class_gap import ClassGap
from gapclose.analysis.embedding import SHIPPED, Embedder, make_embedder
from gapclose.analysis.kernel import Kernel
from gapclose.generators.pond.renderer import CLASSES, quantize, real_photos, real_scene, render
from gapclose.loop.run.events import FoldEvaluated
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.verdicts import judge
from gapclose.loop.search.trial import Images, Mixture
from gapclose.loop.work.confirmation import Confirmation
from gapclose.loop.work.evaluation import label_agreement_of
from gapclose.loop.work.holdout import Holdout
from gapclose.loop.work.real_data import ClassReference, Fold
from gapclose.loop.work.source_copies import SourceCopies

CLS: Final = "frog"
EMBEDDER: Final = "pond"
NOUNS: Final = {name: name for name in CLASSES}

Pixels = NDArray[np.uint8]
Rows = NDArray[np.float32]


def photos(first: int, n: int, *, cls: str = CLS) -> list[Pixels]:
    """Real photos of a class, from number `first` on."""
    return [photo for _, photo in real_photos(cls, range(first, first + n))]


def noiseless(first: int, n: int) -> list[Pixels]:
    """Scenes such as photos show, without a camera's noise: a generator's own fault."""
    return [
        quantize(render(real_scene(CLS, number), number)) for number in range(first, first + n)
    ]


def checkered(images: Sequence[Pixels], *, depth: int = 16) -> list[Pixels]:
    """Images with a visible fault: every second pixel is brighter by twice the depth."""
    rows, columns = np.mgrid[: images[0].shape[0], : images[0].shape[1]]
    board = (depth * ((rows + columns) % 2 * 2 - 1))[..., None]
    return [np.clip(image + board, 0, 255).astype(np.uint8) for image in images]


def speckled(n: int, *, seed: int) -> list[Pixels]:
    """Gray noise, which shows nothing."""
    rng = np.random.default_rng(seed)
    return [quantize(rng.normal(0.5, 0.08, (32, 32, 3))) for _ in range(n)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The tuning embedder of the pond, and judges by name."""

    embedder: Embedder
    judges: Mapping[str, Embedder]

    @classmethod
    def of(cls, *judges: str) -> Panel:
        """Load them, on the CPU."""
        return cls(
            embedder=make_embedder(EMBEDDER, device="cpu"),
            judges={name: make_embedder(name, device="cpu") for name in judges},
        )

    def see(self, images: Sequence[Pixels]) -> Fold:
        """Embed images by all."""
        names = tuple(f"{number}.png" for number in range(len(images)))
        return Fold(
            paths=tuple(map(Path, names)),
            photos=names,
            rows=self.embedder.embed(images),
            judge_rows={name: its.embed(images) for name, its in self.judges.items()},
        )

    def decide(self, *, tune: Fold, fold: Fold, synthetic: Fold) -> ClassGap:
        """Confirm synthetic images on a fold as a run of one class does.

        Args:
            tune: Photos that the search saw.
            fold: Photos that it did not see.
            synthetic: Fresh images.
        """
        return self.decide_all({CLS: (tune, fold, synthetic)})[CLS]

    def decide_all(self, cases: Mapping[str, tuple[Fold, Fold, Fold]]) -> dict[str, ClassGap]:
        """Confirm each class of a run, and judge them together.

        Args:
            cases: By class, as `decide` has them.
        """
        real = {
            cls: ClassReference(
                name=cls,
                tune=tune,
                folds=(fold,),
                kernel=Kernel.fit(tune.rows),
                judge_kernels={name: Kernel.fit(rows) for name, rows in tune.judge_rows.items()},
            )
            for cls, (tune, fold, _) in cases.items()
        }
        synthesis: Any = SimpleNamespace(rundir=RunDir(Path("nowhere")), embedder=self.embedder)
        confirmation = Confirmation(
            config=pond_config(judge=[*self.judges]),
            synthesis=synthesis,
            evidence=SimpleNamespace(),  # type: ignore[arg-type]
            real=real,
            judges=self.judges,
            copies=SourceCopies(generator=synthesis, real=real),  # of no photos: it has none
            nouns=NOUNS,
            groups=DEFAULT_WORDS,
            floors={},
        )
        return judge(
            {cls: _evaluated(confirmation, real[cls], its[2]) for cls, its in cases.items()}
        )


def _evaluated(confirmation: Confirmation, real: ClassReference, synthetic: Fold) -> FoldEvaluated:
    """Measure images on the fold of their class, as the event has it that a run journals."""
    n = len(synthetic)
    mixture = Mixture(recipes=(make_space().baseline,), weights=(1.0,), gap_tune=math.nan)
    holdout = Holdout(
        real=real,
        fold=0,
        stage="tuned",
        mixture=mixture,
        images=Images(embeddings=synthetic.rows, recipes=(0,) * n, seeds=tuple(range(n))),
        judge_rows=synthetic.judge_rows,
    )
    row = confirmation.measured(holdout, copies=True).to_json()
    return FoldEvaluated(
        cls=real.name,
        fold=0,
        mixture=mixture.to_json(),
        before=row,
        after=row,
        agreement=label_agreement_of(
            real.folds[0].rows,
            cls=real.name,
            embedder=confirmation.synthesis.embedder,
            nouns=NOUNS,
        ),
        drawn=(),
        images=n,
        seconds=0.0,
    )


def parted(seen: Fold, *, sizes: Sequence[int], seed: int) -> Iterator[Fold]:
    """Yield disjoint parts of what was seen, at random."""
    order = np.random.default_rng(seed).permutation(len(seen))
    ends = np.cumsum(sizes)
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        yield seen.only(order[start:end].tolist())


def herded(pool: Rows, own: Rows, n: int) -> list[int]:
    """Keep n images of a pool by kernel herding (Chen, Welling and Smola, UAI 2010, eq. 8).

    Args:
        pool: (m, d) embeddings of the images there are.
        own: (k, d) of the adversary's own real photos.
        n: How many to keep.

    Returns:
        Their places in the pool.
    """
    kernel = Kernel.fit(own)
    wanted, alike = kernel.gram(pool, own).mean(axis=1), kernel.gram(pool)
    taken: list[int] = []
    drawn = np.zeros(len(pool))
    for _ in range(n):
        score = wanted - drawn / (len(taken) + 1)
        score[taken] = -np.inf
        best = int(score.argmax())
        taken.append(best)
        drawn += alike[:, best]
    return taken


def optimized(start: Sequence[Pixels], targets: Rows, *, steps: int, rate: float) -> list[Pixels]:
    """Move images until the embedder sees them where it sees real photos.

    Adam on each image's squared distance to the embedding of one photo, and then also on the
    batch's mean in the directions of little variance, which the test looks at.

    Args:
        start: n images.
        targets: (n, d) embeddings of the adversary's own real photos.
        steps: Of Adam.
        rate: Its first step, of the full range of a pixel.
    """
    import open_clip

    model = open_clip.create_model(
        SHIPPED[EMBEDDER].removeprefix("open_clip:"), require_pretrained=True, weights_only=True
    )
    model.eval().requires_grad_(False)
    config = model.visual.preprocess_cfg
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    wanted = torch.from_numpy(targets)
    white = _whitening(wanted)
    pixels = torch.from_numpy(np.stack(start)).permute(0, 3, 1, 2).float() / 255.0
    pixels.requires_grad_(True)
    adam = torch.optim.Adam([pixels], lr=rate, betas=(0.9, 0.99))
    fading = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps, eta_min=rate / 50)
    for step in range(steps):
        # As 8 bits hold them; the gradient passes as if they did not.
        stored = pixels + ((pixels * 255.0).round() / 255.0 - pixels).detach()
        rows = torch.nn.functional.normalize(model.encode_image((stored - mean) / std), dim=-1)
        off = rows - wanted
        loss = off.square().sum(dim=-1).mean()
        if step >= 0.3 * steps:
            loss = loss + 0.1 * (off.mean(dim=0) @ white).square().sum()
        adam.zero_grad()
        loss.backward()
        adam.step()
        fading.step()
        with torch.no_grad():
            pixels.clamp_(0.0, 1.0)
    images = (pixels.detach() * 255.0).round().to(torch.uint8).permute(0, 2, 3, 1)
    return [image.numpy() for image in images]


def _whitening(rows: torch.Tensor) -> torch.Tensor:
    """Divide by the spread along each direction, shrunk as `two_sample` shrinks it."""
    centred = rows - rows.mean(dim=0)
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
    shrunk = 0.2 * values.clamp(min=0.0) + 0.8 * values.mean()
    return vectors / shrunk.sqrt()
