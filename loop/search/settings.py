"""The settings that a class's prompts share: which to try, and what each would change of the gap.

`phases` asks it between the first prompts and the others, and `absorbing` hands it what a trial
generated. A trial generates images that the bank holds already once more, with their seeds, under
other settings: what changes is the settings' doing, and is held against what the mixture still
lacks. It generates nothing itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from gapclose.loop.search.atoms import Atoms
from gapclose.loop.search.copies import Copies
from gapclose.loop.search.optuna_distributions import coordinates, nearest
from gapclose.loop.search.optuna_record import Observation, derive_seed, propose
from gapclose.loop.search.score import Score
from gapclose.loop.search.space import Params, Space
from gapclose.loop.search.trial import Images

Rows = NDArray[np.float32]

REDRAWS: Final = 8  # of settings that were tried before
STARTUP: Final = 6  # trials before TPE starts


@dataclass(slots=True)
class SettingsStage:
    """Paired trials of settings.

    Attributes:
        space: Of the class.
        reference: The settings that the bank's prompts were generated at.
        seed: Of the run.
        copies: Of the class's images: settings that copy photos are not chosen.
        winner: The settings that were chosen; None before.
        done: Trials, failed ones too.
    """

    space: Space
    reference: Params
    seed: int
    copies: Copies = field(default_factory=Copies)
    winner: Params | None = None
    done: int = 0
    _asked: list[Params] = field(default_factory=list)
    _pairs: list[tuple[dict[str, str], int]] = field(default_factory=list)  # words, seed
    _known: dict[int, NDArray[np.float32]] = field(default_factory=dict)  # seed -> reference row
    _tried: list[tuple[Params, Images]] = field(default_factory=list)

    @property
    def shared(self) -> Params:
        """The settings that the class's prompts share."""
        return self.reference if self.winner is None else self.winner

    def pair(self, atoms: Atoms, images: int) -> bool:
        """Choose the images that every trial generates again, unless they are chosen.

        Args:
            atoms: Those that a trial tried are chosen among.
            images: How many.

        Returns:
            Whether there are any to try settings on.
        """
        if not self.paired:
            tried = [(self._words(params), number) for params, number in atoms.tried()]
            weights = [float(atoms.weights[number]) for _, number in tried]
            self.pair_with(atoms.bank, tried, weights, images)
        return self.paired

    def pair_as(self, atoms: Atoms, seeds: Set[int]) -> None:
        """Take the images that a trial generates again for those of every trial, unless chosen.

        Args:
            atoms: Those that a trial tried are looked at.
            seeds: Of the images.
        """
        if self.paired:
            return
        self._pairs, self._known = [], {}
        for params, number in atoms.tried():
            rows, its = atoms.bank.rows_of(number)
            chosen = [i for i, seed in enumerate(its.tolist()) if seed in seeds]
            self._keep(self._words(params), rows[chosen], its[chosen])

    def pair_with(
        self,
        bank: Score,
        atoms: Sequence[tuple[dict[str, str], int]],
        weights: Sequence[float],
        images: int,
    ) -> None:
        """Choose the images that every trial generates again, at random by their prompts' weights.

        In exact shares they would say too little of what settings spoil; see `Mixture.jobs`.

        Args:
            bank: That holds them.
            atoms: Words of each prompt, and the number of its atom.
            weights: Of the atoms.
            images: How many.
        """
        self._pairs, self._known = [], {}
        if not atoms:
            return
        shares = np.asarray(weights) + 1e-3
        rng = np.random.default_rng(derive_seed(self.seed, self.space.cls, "pairs"))
        counts = rng.multinomial(images, shares / shares.sum())
        for (words, atom), count in zip(atoms, counts, strict=True):
            rows, seeds = bank.rows_of(atom)
            self._keep(words, rows[:count], seeds[:count])

    def _keep(self, words: dict[str, str], rows: Rows, seeds: NDArray[np.int64]) -> None:
        for row, seed in zip(rows, seeds.tolist(), strict=True):
            self._pairs.append((words, seed))
            self._known[seed] = row

    def _words(self, params: Params) -> dict[str, str]:
        return {slot: word for slot, word in params.items() if slot in self.space.words}

    @property
    def paired(self) -> bool:
        """Whether images were chosen, and enough of them to score settings by."""
        return len(self._pairs) >= 2

    def jobs(self) -> list[tuple[dict[str, str], tuple[int, ...]]]:
        """Return the words and seeds of a trial."""
        found: list[tuple[dict[str, str], tuple[int, ...]]] = []
        for words in dict.fromkeys(tuple(w.items()) for w, _ in self._pairs):
            seeds = tuple(s for w, s in self._pairs if tuple(w.items()) == words)
            found.append((dict(words), seeds))
        return found

    def wants(self, most: int, hints: Sequence[Params]) -> bool:
        """Return whether there are trials left to it.

        Args:
            most: Trials that it may have; with hints about half of them, but all hints are tried
                if there is room.
            hints: Settings that won in other classes.
        """
        return self.done < (min(most, max(len(hints), most // 2)) if hints else most)

    def propose(
        self, bank: Score, weights: NDArray[np.float64], hints: Sequence[Params]
    ) -> Params | None:
        """Return settings to try: those that won in other classes, then TPE's proposals.

        The same images under the same settings say nothing new: None where no others turn up.
        """
        points, values = self.scores(bank, weights)
        tried = [self.reference, *self._asked]
        for hint in hints:
            if hint not in tried and not self.copies.at(hint.get("strength")):
                return hint
        past = [Observation(params=p, value=float(v)) for p, v in zip(points, values, strict=True)]
        for again in range(REDRAWS):
            seed = derive_seed(self.seed, self.space.cls, "settings", self.done, again)
            params = propose(self.space.settings, past, seed=seed, startup=STARTUP)
            if params not in tried and not self.copies.at(params.get("strength")):
                return params
        return None

    def note(self, params: Params) -> None:
        """Count a trial of settings, whatever comes of it."""
        self.done += 1
        self._asked.append(params)

    def absorb(self, params: Params, images: Images) -> None:
        """Keep a trial's images, those whose reference is known."""
        keep = [i for i, seed in enumerate(images.seeds) if seed in self._known]
        self._tried.append((params, images.at(keep)))

    def scores(
        self, bank: Score, weights: NDArray[np.float64]
    ) -> tuple[list[Params], NDArray[np.float64]]:
        """Estimate what all settings tried would change of the score of a mixture.

        Args:
            bank: All images of the class.
            weights: Of the mixture, whose images have the reference's settings.

        Returns:
            The settings, the reference first, and the change for each.
        """
        points, values = [self.reference], [0.0]
        for params, images in self._tried:
            if len(images) >= 2:
                before = np.stack([self._known[seed] for seed in images.seeds])
                points.append(params)
                # Settings leave a seed its photo: before and after have one source.
                changed = bank.change(
                    weights, before, images.embeddings, images.seeds, sources=images.sources
                )
                values.append(changed)
        return points, np.asarray(values)

    def best(self, bank: Score, weights: NDArray[np.float64]) -> tuple[Params, float]:
        """Return the settings with the best smoothed score, and their gain over the reference.

        The gain is of the smoothed scores, too: the best raw one is the luckiest.
        """
        points, values = self.scores(bank, weights)
        smoothed = smooth(
            np.asarray([coordinates(self.space.settings, p) for p in points]), values
        )
        own = [i for i, point in enumerate(points) if not self.copies.at(point.get("strength"))]
        best = min(own, key=smoothed.__getitem__) if own else 0
        return points[best], float(smoothed[0] - smoothed[best])

    def avoid_copies(self) -> None:
        """Replace more of the pictures where the chosen settings turn out to copy them."""
        if self.winner is not None and self.copies.at(self.winner.get("strength")):
            least = nearest(self.space.settings["strength"], self.copies.least())
            self.winner = {**self.winner, "strength": least}

    def pick(self, atoms: Atoms, *, least: float) -> None:
        """Choose the settings that promise most; those at hand, where none gains the least."""
        self.winner = self.reference
        if self.done and self.paired:
            best, gain = self.best(atoms.bank, atoms.weights)
            if gain >= least:
                self.winner = best


def smooth(
    points: NDArray[np.float64], values: Sequence[float] | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Smooth the noise of scores away by a Gaussian process over the settings.

    Picking the lowest raw score picks the luckiest trial (the winner's curse).

    Args:
        points: (n, d), `coordinates` of each trial's settings.
        values: Per trial; lower is better.

    Returns:
        (n,) posterior means at the tried settings; the raw values where n < 5.
    """
    y = np.asarray(values, dtype=np.float64)
    if len(y) < 5 or np.ptp(y) == 0:
        return y
    kernel = ConstantKernel(1.0, (0.05, 20.0)) * Matern(0.7, (0.2, 5.0), nu=2.5)
    kernel += WhiteKernel(0.1, (1e-3, 2.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit(points, y)
    return np.asarray(process.predict(points), dtype=np.float64)
