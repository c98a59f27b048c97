"""Gap: how far a class's synthetic images are from its real ones, and how sure we are.

An audit, the controller and confirmation call it with embeddings; it never sees an image and never
loads a model. The gap is compared with the floor (real against real) to look at; `two_sample`
decides. It refuses to score a class with fewer than 20 images on a side, and it never says
"closed" from fewer than 100.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.coverage import (
    coverage_and_duplicates,
    relative_coverage,
    vendi_ratio,
)
from gapclose.analysis.distances import reference_distances
from gapclose.analysis.kernel import Kernel, hollow, pair, quadratic
from gapclose.analysis.two_sample import permutation_p_value

if TYPE_CHECKING:
    from gapclose.analysis.attributes import AttributeGap

__all__ = [
    "ClassGap",
    "Floor",
    "TooFewError",
    "audit_embeddings",
    "benjamini_hochberg",
    "floor_p95",
    "guard_objections",
    "linear_auc",
    "mmd2",
    "with_q",
]

LEVEL = 0.05
MIN_IMAGES = 20
MIN_CLOSED = 100
GUARD_SHARE = 0.8
_Z_POWER_80 = 0.8416212335729143
_SPLIT_CHUNK = 256
_ONE_POINT = 1e-6  # of 1 - the mean kernel: rounding alone reaches 1e-7


class TooFewError(ValueError):
    """A side has too few images to be scored: add images, or report the class as skipped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassGap:
    """One class's row of gap.json (schema 1), in its order; None is what was not computed.

    Attributes:
        name: the class.
        n_real: readable real images, all of them, also where fewer entered the tests.
        n_synthetic: the same of synthetic images.
        gap: unbiased MMD^2, may be slightly negative; lower is better.
        floor_p95: what the same estimator says of real against real at these sizes, 95th
            percentile.
        ratio: gap / floor_p95, to look at, never a test. None where the floor is 0.
        effect: gap / (1 - mean kernel of two real images). None where real is one point.
        detectable: the gap seen with 80 % power at these sizes.
        p_value: by permutation, several kernels together (`two_sample`).
        q_value: Benjamini-Hochberg over the run's scored classes (`with_q`); of a class alone, its
            p-value.
        closed: False if q <= 0.05, else None ("too few to tell") under 100 images a side, or where
            every image of both sides has one embedding ("cannot be told"; `effect` is None), else
            True.
        confirmed: set after tuning, by confirmation.
        auc: of a linear probe that tells the sides apart, cross-validated; 0.5 is none.
        precision: share of synthetic images among real ones.
        recall: share of real images that synthetic ones reach.
        density: as precision, weighed by how many real images are near.
        coverage: share of real images with a synthetic image near.
        vendi_ratio: diversity of synthetic over real at one n.
        label_agreement: share of synthetic images that a classifier takes for this class.
        spectrum_gap: distance of the mean power spectra, over its real-real floor.
        duplicates: synthetic images that are near-copies of real ones.
        invalid: synthetic images that show nothing; counted, never scored.
        judge: the same figures in the judge's embedding (`as_judge`).
        attributes: words whose shares differ.
        invalid_real: as `invalid`, of real images.
        repeats: by side, images that repeat another one; left out.
        stored: how the sides' files differ, and the gap without it; None if they do not.
        witness: by side, the images most unlike the other one, most unlike first; of a class that
            is open.
        guards: precision, recall, density, coverage over real-real at one n.
        reference: KID, FID and a CMMD-compatible figure, for comparison with other tools.
        spectrum: frequency, real and synthetic mean log power.
        zeroshot: per side, agreement and counts by label and confidence.
        standard_error: of the gap, by the jackknife over images.
        objections: what keeps a closed class from being confirmed, in words.
        before: the same row for the baseline recipe, after tuning.
    """

    name: str
    n_real: int
    n_synthetic: int
    gap: float
    floor_p95: float
    ratio: float | None
    effect: float | None
    detectable: float | None
    p_value: float
    q_value: float | None = None
    closed: bool | None = None
    confirmed: bool | None = None
    auc: float | None = None
    precision: float | None = None
    recall: float | None = None
    density: float | None = None
    coverage: float | None = None
    vendi_ratio: float | None = None
    label_agreement: float | None = None
    spectrum_gap: float | None = None
    duplicates: int | None = None
    invalid: int = 0
    judge: Mapping[str, float | None] | None = None
    attributes: tuple[AttributeGap, ...] | None = None
    invalid_real: int = 0
    repeats: Mapping[str, int] | None = None
    stored: Mapping[str, Any] | None = None
    witness: Mapping[str, Sequence[str]] | None = None
    guards: Mapping[str, float] | None = None
    reference: Mapping[str, float] | None = None
    spectrum: Mapping[str, Sequence[float]] | None = None
    zeroshot: Mapping[str, Any] | None = None
    standard_error: float | None = None
    objections: tuple[str, ...] = ()
    before: ClassGap | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as JSON: plain numbers, None if missing or not finite, `before` only if set."""
        out: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "before":
                if value is not None:
                    out["before"] = value.to_json()
            elif field.name == "attributes":
                out["attributes"] = None if value is None else [row.to_json() for row in value]
            else:
                out[field.name] = _plain(value)
        return out

    def as_judge(self) -> dict[str, float | None]:
        """What a row in the judge's embedding gives as `judge` of the tuning embedder's row."""
        return {
            "gap": self.gap,
            "floor_p95": self.floor_p95,
            "ratio": self.ratio,
            "effect": self.effect,
            "p_value": self.p_value,
            "q_value": self.q_value,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """Gaps of real against real, kept so that each trial's ratio costs one division.

    Attributes:
        half: images in each half of a split.
        p95: 95th percentile of the gap of two halves.
        sd: standard deviation of the gap of two halves.
        widest: largest eigenvalue of the covariance in the kernel's space.
    """

    half: int
    p95: float
    sd: float
    widest: float

    @classmethod
    def fit(cls, real: ArrayLike, *, kernel: Kernel, splits: int = 200, seed: int = 0) -> Floor:
        """Split real images into random halves of h = n // 2, `splits` times, on one Gram matrix.

        Args:
            real: (n, d), n >= 4; at most a few thousand.
            kernel: frozen.
            splits: >= 200 for a percentile worth the name.
            seed: of the splits.

        Raises:
            ValueError: n < 4, or NaN.
        """
        return cls.of_gram(kernel.gram(real), splits=splits, seed=seed)

    @classmethod
    def of_gram(cls, gram: NDArray[np.float64], *, splits: int = 200, seed: int = 0) -> Floor:
        """As `fit`, from the Gram matrix (n, n) of real images, which is not changed.

        Raises:
            ValueError: n < 4.
        """
        n = len(gram)
        half = n // 2
        if half < 2:
            raise ValueError(f"real: a floor needs at least 4 images, there are {n}")
        centred, row_sums, total = hollow(gram)
        random = np.random.default_rng(seed)
        gaps = np.empty(splits, dtype=np.float64)
        for start in range(0, splits, _SPLIT_CHUNK):
            columns = min(_SPLIT_CHUNK, splits - start)
            order = np.argsort(random.random((n, columns), dtype=np.float32), axis=0)
            signs = np.zeros((n, columns), dtype=np.float32)
            np.put_along_axis(signs, order[:half], 1.0, axis=0)
            np.put_along_axis(signs, order[half : 2 * half], -1.0, axis=0)
            # With s = +1, -1 for the halves: s'Ks = aa + bb - 2 ab, and over the 2h images used aa
            # + bb + 2 ab = T.
            difference = quadratic(centred, signs)
            used = np.full(columns, total)
            if n % 2:
                used -= 2.0 * row_sums[order[-1]]
            within, cross = (used + difference) / 2.0, (used - difference) / 4.0
            gaps[start : start + columns] = within / (half * (half - 1)) - 2.0 * cross / half**2
        return cls(
            half=half,
            p95=float(np.quantile(gaps, 0.95)),
            sd=float(gaps.std()),
            widest=_largest_eigenvalue(gram, random),
        )

    def floor_p95(self, *, n_real: int, n_synthetic: int) -> float:
        """The floor at these sizes: p95 times (1/n_real + 1/n_synthetic) / (2/h)."""
        return self.p95 * self._scale(n_real, n_synthetic)

    def ratio(self, gap: float, *, n_real: int, n_synthetic: int) -> float | None:
        """Gap over floor; None where the floor is not above 0 (real is one point)."""
        floor = self.floor_p95(n_real=n_real, n_synthetic=n_synthetic)
        return gap / floor if floor > 0 else None

    def detectable(self, *, n_real: int, n_synthetic: int) -> float:
        """The gap that a test of it at level 0.05 sees with 80 % power, d = floor + 0.84 sd(d).

        `two_sample` has more than this one statistic to go by and mostly sees less.

        The estimate is taken as normal about its gap. Its variance is what it has without a gap
        plus 4 d v (1/n_real + 1/n_synthetic), v being the largest eigenvalue of the real images'
        covariance in the kernel's space: the case of a mean that moves along the direction in
        which real images vary most. A gap spread over other directions is seen a little sooner.
        """
        scale = self._scale(n_real, n_synthetic)
        floor, spread = self.p95 * scale, _Z_POWER_80 * self.sd * scale
        slope = _Z_POWER_80**2 * 4.0 * self.widest * (1.0 / n_real + 1.0 / n_synthetic)
        middle = floor + slope / 2.0
        return middle + math.sqrt(max(middle**2 - floor**2 + spread**2, 0.0))

    def _scale(self, n_real: int, n_synthetic: int) -> float:
        return (1.0 / n_real + 1.0 / n_synthetic) * self.half / 2.0


def mmd2(*, real: ArrayLike, synthetic: ArrayLike, kernel: Kernel) -> float:
    """Unbiased MMD^2 (JMLR 13:723, eq. 3): 0 in expectation for equal sides, may be negative.

    Args:
        real: (n_real, d), n_real >= 2.
        synthetic: (n_synthetic, d), n_synthetic >= 2.
        kernel: frozen from real images.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=2)
    return (
        kernel.mean_distinct(left) + kernel.mean_distinct(right) - 2.0 * kernel.mean(left, right)
    )


def floor_p95(
    real: ArrayLike, *, n_synthetic: int, kernel: Kernel, splits: int = 200, seed: int = 0
) -> float:
    """95th percentile of the gap over half-splits of real, rescaled to (n_real, n_synthetic).

    Raises:
        ValueError: fewer than 4 real images, or NaN.
    """
    n_real = len(np.asarray(real))
    fitted = Floor.fit(real, kernel=kernel, splits=splits, seed=seed)
    return fitted.floor_p95(n_real=n_real, n_synthetic=n_synthetic)


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """False discovery rate q-values in the order given, by the step-up rule.

    Raises:
        ValueError: a p-value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size == 0:
        return []
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must lie in [0, 1]")
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) / np.arange(1, len(p) + 1))
    q = np.empty_like(p)
    q[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return [float(value) for value in q]


def linear_auc(*, real: ArrayLike, synthetic: ArrayLike, folds: int = 5, seed: int = 0) -> float:
    """Area under the ROC curve of a ridge probe for synthetic, mean over held-out folds.

    0.5 is what equal distributions give in expectation; each fold is ranked apart, because ranking
    across folds is biased below 0.5. The ridge is a tenth of the mean squared coordinate, which
    keeps n near d from interpolating.

    Args:
        real: (n_real, d), n_real >= folds.
        synthetic: (n_synthetic, d), n_synthetic >= folds.
        folds: >= 2.
        seed: of the folds.

    Raises:
        ValueError: fewer images than folds on a side, two widths, or NaN.
    """
    left, right = pair(real, synthetic, least=folds)
    points = np.concatenate([left, right]).astype(np.float64)
    is_synthetic = np.repeat([False, True], [len(left), len(right)])
    random = np.random.default_rng(seed)
    fold = np.concatenate(
        [random.permutation(np.arange(len(side)) % folds) for side in (left, right)]
    )
    areas = []
    for held_out in range(folds):
        train, test = fold != held_out, fold == held_out
        scores = points[test] @ _ridge_direction(points[train], is_synthetic[train])
        areas.append(_auc(real=scores[~is_synthetic[test]], synthetic=scores[is_synthetic[test]]))
    return float(np.mean(areas))


def audit_embeddings(
    *,
    real: ArrayLike,
    synthetic: ArrayLike,
    name: str = "all",
    kernel: Kernel | None = None,
    seed: int = 0,
    permutations: int = 999,
    n_test: int = 2_000,
    guards: bool = True,
    splits: int = 1_000,
    label_agreement: float | None = None,
    invalid: int = 0,
) -> ClassGap:
    """Everything that one class's embeddings say about its gap.

    At most `n_test` images a side, chosen by `seed`, enter the gap, its floor and its test; the
    guards look at all. `q_value` and `closed` are those of a run of this class alone; `with_q`
    sets them for a run of several.

    Args:
        real: (n_real, d).
        synthetic: (n_synthetic, d); other seeds than any image that a setting was chosen by.
        name: the class.
        kernel: frozen; None fits it on `real`.
        seed: of thinning, splits, permutations and folds.
        permutations: `permutations_for(n_classes)` in a run.
        n_test: most images a side in tests.
        guards: also probe, coverage, diversity and duplicates.
        splits: half-splits of the floor.
        label_agreement: share of the synthetic images that a classifier takes for the class, if
            one was asked.
        invalid: images the generator returned unusable, passed through.

    Raises:
        TooFewError: fewer than 20 images on a side.
        ValueError: two widths, or NaN.
    """
    _check_enough(real, synthetic, name)
    left, right = pair(real, synthetic, least=MIN_IMAGES)
    kernel = Kernel.fit(left) if kernel is None else kernel
    random = np.random.default_rng(seed)
    tested_real, tested_synthetic = _thin(left, n_test, random), _thin(right, n_test, random)
    n_real, n_synthetic = len(tested_real), len(tested_synthetic)
    gram = kernel.gram(np.concatenate([tested_real, tested_synthetic]))
    within = gram[:n_real, :n_real]
    mean_real = (within.sum() - n_real) / (n_real * (n_real - 1))
    mean_synthetic = (gram[n_real:, n_real:].sum() - n_synthetic) / (
        n_synthetic * (n_synthetic - 1)
    )
    gap = float(mean_real + mean_synthetic - 2.0 * gram[:n_real, n_real:].mean())
    floor = Floor.of_gram(within, splits=splits, seed=seed)
    spread = float(1.0 - mean_real)
    p_value = permutation_p_value(
        real=tested_real, synthetic=tested_synthetic, permutations=permutations, seed=seed
    )
    row = ClassGap(
        name=name,
        n_real=len(left),
        n_synthetic=len(right),
        gap=gap,
        floor_p95=floor.floor_p95(n_real=n_real, n_synthetic=n_synthetic),
        ratio=floor.ratio(gap, n_real=n_real, n_synthetic=n_synthetic),
        effect=gap / spread if spread > _ONE_POINT else None,
        detectable=floor.detectable(n_real=n_real, n_synthetic=n_synthetic),
        p_value=p_value,
        standard_error=_standard_error(gram, n_real),
        label_agreement=label_agreement,
        invalid=invalid,
    )
    if guards:
        figures, copies = coverage_and_duplicates(real=left, synthetic=right)
        row = replace(
            row,
            auc=linear_auc(real=tested_real, synthetic=tested_synthetic, seed=seed),
            precision=figures.precision,
            recall=figures.recall,
            density=figures.density,
            coverage=figures.coverage,
            vendi_ratio=vendi_ratio(real=left, synthetic=right, seed=seed),
            duplicates=copies,
            guards=relative_coverage(real=left, synthetic=right, seed=seed).to_json(),
            reference=reference_distances(real=left, synthetic=right),
        )
    return with_q([row])[0]


def with_q(gaps: Sequence[ClassGap]) -> list[ClassGap]:
    """The rows of one run with `q_value` and `closed` set, in the order given."""
    q_values = benjamini_hochberg([row.p_value for row in gaps])
    return [
        replace(row, q_value=q, closed=_closed(q, row))
        for row, q in zip(gaps, q_values, strict=True)
    ]


def guard_objections(gap: ClassGap) -> list[str]:
    """What guards say against a class without a gap, such as one that copies real images.

    Precision, recall, coverage and the Vendi ratio (diversity) must be at least 0.8 of what real
    images reach at the same n, and near-copies at most 1 % of the synthetic images. Nothing where
    the guards were not computed.
    """
    named = ("precision", "recall", "coverage")
    shares = {key: (gap.guards or {}).get(key, 1.0) for key in named}
    shares["diversity"] = 1.0 if gap.vendi_ratio is None else gap.vendi_ratio
    told = [
        f"{name} is {share:.2f} of that of real images"
        for name, share in shares.items()
        if share < GUARD_SHARE
    ]
    copies = gap.duplicates or 0
    if copies > 0.01 * gap.n_synthetic:
        told.append(f"{copies} of {gap.n_synthetic} images are near-copies of real ones")
    return told


def _closed(q_value: float, row: ClassGap) -> bool | None:
    if q_value <= LEVEL:
        return False
    if row.effect is None:  # one point on both sides: an embedder that sees nothing tells nothing
        return None
    return True if min(row.n_real, row.n_synthetic) >= MIN_CLOSED else None


def _standard_error(gram: NDArray[np.float64], n_real: int) -> float:
    """Of the unbiased MMD^2 by the delete-one jackknife of each side (Efron & Stein 1981).

    It errs to the safe side: where there is no gap, it is up to twice the variance.

    Args:
        gram: (n_real + n_synthetic, same) of both sides, ones on the diagonal.
        n_real: how many rows are real.
    """
    variance = 0.0
    for own, other in ((slice(None, n_real), slice(n_real, None)),
                       (slice(n_real, None), slice(None, n_real))):  # fmt: skip
        n, m = len(gram[own, own]), len(gram[other, other])
        within, across = gram[own, own].sum(axis=1) - 1.0, gram[own, other].sum(axis=1)
        without = (within.sum() - 2.0 * within) / ((n - 1) * (n - 2))
        without -= 2.0 * (across.sum() - across) / ((n - 1) * m)
        variance += float((n - 1) * without.var())
    return math.sqrt(variance)


def _largest_eigenvalue(gram: NDArray[np.float64], random: np.random.Generator) -> float:
    """Of the centred Gram matrix over n, by 30 products of power iteration, good to a percent."""
    n = len(gram)
    vector = random.normal(size=n)
    value = 0.0
    for _ in range(30):
        vector -= vector.mean()
        length = float(np.linalg.norm(vector))
        if length < 1e-12:
            return 0.0
        vector /= length
        product = gram @ vector
        value = float(vector @ product)
        vector = product
    return max(value / n, 0.0)


def _ridge_direction(
    points: NDArray[np.float64], is_synthetic: NDArray[np.bool_]
) -> NDArray[np.float64]:
    centred = points - points.mean(axis=0)
    n, width = centred.shape
    target = is_synthetic - is_synthetic.mean()
    ridge = max(0.1 * float((centred**2).sum()) / width, 1e-12)
    direction: NDArray[np.float64]
    if n < width:
        dual = np.linalg.solve(centred @ centred.T + ridge * np.eye(n), target)
        direction = centred.T @ dual
    else:
        direction = np.linalg.solve(
            centred.T @ centred + ridge * np.eye(width), centred.T @ target
        )
    return direction


def _auc(*, real: NDArray[np.float64], synthetic: NDArray[np.float64]) -> float:
    ordered = np.sort(real)
    below = np.searchsorted(ordered, synthetic, side="left")
    up_to = np.searchsorted(ordered, synthetic, side="right")
    return float((below + up_to).mean() / (2 * len(real)))


def _thin(
    points: NDArray[np.float32], n_most: int, random: np.random.Generator
) -> NDArray[np.float32]:
    if len(points) <= n_most:
        return points
    return points[np.sort(random.choice(len(points), n_most, replace=False))]


def _check_enough(real: ArrayLike, synthetic: ArrayLike, name: str) -> None:
    for what, side in (("real", real), ("synthetic", synthetic)):
        n = len(np.asarray(side))
        if n < MIN_IMAGES:
            raise TooFewError(
                f"class {name}: too few, {n} {what} images where {MIN_IMAGES} are needed; "
                "add images"
            )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Sequence):
        return [_plain(entry) for entry in value]
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None
