"""Repeats: images of one class and side that show the same thing, and so count as one.

Copies, crops and re-saved versions of one photo are not independent, and a test that takes them
for independent sees gaps that are not there. Audits and the controller ask it before they score or
split. It finds by content; it drops nothing itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from scipy.fft import fft2, irfft2, next_fast_len, rfft2
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.neighbors import NearestNeighbors

from gapclose.analysis.kernel import rows, squared_distances

__all__ = [
    "Repeat",
    "Thumbnails",
    "alike",
    "find_repeats",
    "likeness_of_others",
    "signatures",
    "thumbnail",
]

Kind = Literal["exact", "near", "group"]
Thumbnails = Callable[[Sequence[int]], NDArray[np.float32]]
"""Rows -> their thumbnails, (n, EDGE, EDGE)."""

EDGE: Final = 32
"""Pixels of a thumbnail's side."""
# Embeddings choose which pairs are compared: of 1,000 CIFAR-10 photos of a class a quarter have
# another within this share of the median distance, and nine in ten crops that are shifted by up
# to two pixels have a sibling there.
_NEAR: Final = 0.4
_MANY: Final = 0.01  # of the images; above that all of them are compared
_NEIGHBORS: Final = 5  # of each image, at most: chains do the rest
# Gradients that correlate so much are of one photo: among those pairs of different CIFAR-10 photos
# 1 % reach 0.4 to 0.6, shifted crops 0.95, JPEGs of quality 30 0.85, crops of nine tenths 0.75.
_ALIKE: Final = 0.7
_RARE: Final = 0.001  # of the pairs of different photos
_SIMILAR: Final = 0.35  # cosine of two signatures, below which gradients need not be compared
# Rendered scenes and digits are all alike (random pairs of the pond's frogs: 0.57 in the median,
# 0.75 in the upper tenth). There repeats are what lies far beyond that, on Fisher's scale.
_BEYOND: Final = 6.0
_MOST: Final = 0.995
_FIXED: Final = 0.9  # of the median pair: a camera that stands still, no picture of which repeats
_RANDOM: Final = 100  # images whose pairs tell how alike a class is
_SHIFT: Final = 6  # pixels of a thumbnail
_PADDED: Final = (next_fast_len(EDGE + 2 * _SHIFT, real=True),) * 2
_MEDIAN: Final = 2_000  # rows that the median distance is taken of
_PAIRS: Final = 512  # compared at once: bounds the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Images that show the same thing.

    Attributes:
        kind: `exact` (equal files), `near`, or `group` (somebody said so).
        kept: The row that stands for all.
        copies: The other rows.
    """

    kind: Kind
    kept: int
    copies: tuple[int, ...]


def find_repeats(
    *,
    digests: Sequence[bytes],
    embeddings: ArrayLike,
    thumbnails: Thumbnails,
    groups: Sequence[Hashable | None] | None = None,
    seen: Sequence[bool] | None = None,
) -> list[Repeat]:
    """Find the repeats among the images of one class and side.

    First files that are equal, and images of one group; then, among what those leave, images whose
    thumbnails agree up to a shift, a mirroring, brightness and compression. Chains are one repeat.

    Args:
        digests: Per image, of its file. The smallest of a repeat's names what is kept, so that it
            depends neither on names nor on order.
        embeddings: (n, d).
        thumbnails: Asked for the images that may be near repeats; for all if there are many.
        groups: Per image what it belongs to, or None.
        seen: Whether an image was kept before; then it is kept again, whatever has come since.

    Returns:
        Each image is a copy in one of them at most. What a repeat keeps may be a near copy itself.
    """
    points = rows(embeddings)
    n = len(points)
    if n < 2:
        return []
    known = [False] * n if seen is None else seen
    said: list[Hashable | None] = [None] * n if groups is None else list(groups)
    first: dict[Hashable, int] = {}
    same: list[tuple[int, int]] = []
    for i, (digest, group) in enumerate(zip(digests, said, strict=True)):
        keys: list[Hashable] = [digest] if group is None else [digest, ("group", group)]
        same += [(first.setdefault(key, i), i) for key in keys]

    def rank(i: int) -> tuple[bool, bytes, int]:
        return not known[i], digests[i], i

    found, left = [], []
    for members in _components(same, n):
        kept = min(members, key=rank)
        left.append(kept)
        if len(members) > 1:
            kind: Kind = "exact" if len({digests[i] for i in members}) == 1 else "group"
            found.append(_repeat(kind, kept, members))
    left.sort()
    near = _near_pairs(points[left], lambda wanted: thumbnails([left[i] for i in wanted]))
    for members in _components(near, len(left)):
        if len(members) > 1:
            mine = [left[i] for i in members]
            found.append(_repeat("near", min(mine, key=rank), mine))
    return sorted(found, key=lambda repeat: (-len(repeat.copies), repeat.kept))


def _repeat(kind: Kind, kept: int, members: Sequence[int]) -> Repeat:
    return Repeat(kind=kind, kept=kept, copies=tuple(i for i in sorted(members) if i != kept))


def _components(links: Sequence[tuple[int, int]], n: int) -> list[list[int]]:
    """Find the connected components of n things, single ones too."""
    ends = np.asarray(links, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1], dtype=bool), (ends[0], ends[1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    order = np.argsort(labels, kind="stable")
    return [part.tolist() for part in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)]


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Reduce an (h, w, 3) image to grey levels at one small size, (EDGE, EDGE)."""
    small = Image.fromarray(image).convert("L").resize((EDGE, EDGE), Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.float32)


def alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlate the gradients of two thumbnails at their best shift, mirrored or not.

    The shift is that of the largest cross-correlation (of up to six pixels), and the correlation
    is taken where both overlap.

    Args:
        a: (n, EDGE, EDGE).
        b: (n, EDGE, EDGE).

    Returns:
        (n,) in [-1, 1]; brightness does not matter, contrast hardly.
    """
    a_gradients, spectra = _gradients(a), _spectra(_gradients(a))
    out = np.full(len(a), -1.0)
    for other in (b, b[:, :, ::-1]):
        gradients = _gradients(other)
        cross = irfft2((spectra * np.conj(_spectra(gradients))).sum(axis=1), s=_PADDED)
        np.maximum(out, _overlapping(a_gradients, gradients, cross), out=out)
    return out


def likeness_of_others(thumbnails: NDArray[np.float32]) -> float:
    """Return how alike one in a thousand pairs of different photos are, and at least `_ALIKE`.

    It tells a copy of a known photo: nobody has looked for the most alike among many.

    Args:
        thumbnails: (n, EDGE, EDGE) of different photos of a class, n >= 2.
    """
    left, right = np.triu_indices(len(thumbnails), 1)
    scores = np.concatenate(
        [
            alike(thumbnails[left[at : at + _PAIRS]], thumbnails[right[at : at + _PAIRS]])
            for at in range(0, len(left), _PAIRS)
        ]
    )
    return max(_ALIKE, float(np.quantile(scores, 1.0 - _RARE)))


def signatures(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute rows that stay nearly the same when a picture is shifted or mirrored.

    Magnitudes of the windowed Fourier transform, which do not know where things are, of low and
    middle frequencies, damped by a square root. Of 1,000 CIFAR-10 photos of a class, shifted by up
    to four pixels, brightened and compressed, 99 % have their sibling among the nearest five; in
    the features of a ResNet 50 %.

    Args:
        thumbnails: (n, EDGE, EDGE).

    Returns:
        (n, 544), rows of length 1.
    """
    window = np.outer(np.hanning(EDGE + 2)[1:-1], np.hanning(EDGE + 2)[1:-1]).astype(np.float32)
    centred = thumbnails - thumbnails.mean(axis=(1, 2), keepdims=True)
    power = np.abs(fft2(centred * window)) ** 0.5
    down, across = np.meshgrid(np.fft.fftfreq(EDGE), np.fft.fftfreq(EDGE), indexing="ij")
    radius = np.hypot(down, across)
    power *= np.where((radius > 0) & (radius < 0.4), np.sqrt(radius), 0.0).astype(np.float32)
    mirrored = power[:, :, -np.arange(EDGE) % EDGE]
    rows = (power + mirrored)[:, :, : EDGE // 2 + 1].reshape(len(thumbnails), -1)
    rows = rows - rows.mean(axis=0)
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-12), dtype=np.float32)


def _near_pairs(points: NDArray[np.float32], thumbnails: Thumbnails) -> list[tuple[int, int]]:
    """Find pairs of near repeats, enough of them to chain each repeat together."""
    if len(points) < 2:
        return []
    found = _alike_pairs(_candidates(points, within=_NEAR), thumbnails)
    if not found:
        return []
    limit = _limit(points, thumbnails)
    if sum(score >= limit for *_, score in found) > _MANY * len(points):
        # Where there are some, there are more, which the encoder takes for other pictures.
        everything = thumbnails(range(len(points)))
        pairs = _candidates(signatures(everything))
        found += _alike_pairs(pairs, lambda wanted: everything[list(wanted)])
    return [(i, j) for i, j, score in found if score >= limit]


def _limit(points: NDArray[np.float32], thumbnails: Thumbnails) -> float:
    """Set how alike two images must be to be one: far more than others of the class are.

    Others are the pairs that are farther apart than most, of which few are repeats even where
    a class is a handful of clips.
    """
    random = np.random.default_rng(0)
    some = np.sort(random.permutation(len(points))[:_RANDOM])
    left, right = np.triu_indices(len(some), 1)
    apart = np.linalg.norm(points[some[left]] - points[some[right]], axis=1)
    far = np.flatnonzero(apart >= np.median(apart))
    chosen = np.sort(random.permutation(far)[: 10 * _RANDOM])
    shown = thumbnails(some.tolist())
    scores = np.clip(alike(shown[left[chosen]], shown[right[chosen]]), 0.0, 0.9999)
    middle, high = np.quantile(scores, (0.5, 0.9))
    if middle > _FIXED:
        return np.inf
    beyond = np.arctanh(middle) + _BEYOND * (np.arctanh(high) - np.arctanh(middle))
    return max(_ALIKE, min(_MOST, float(np.tanh(beyond))))


def _alike_pairs(
    pairs: Sequence[tuple[int, int]], thumbnails: Thumbnails
) -> list[tuple[int, int, float]]:
    """Find pairs alike enough to be compared pixel by pixel, with how much."""
    if not pairs:
        return []
    wanted = sorted({i for pair in pairs for i in pair})
    place = {row: at for at, row in enumerate(wanted)}
    shown = thumbnails(wanted)
    left, right = (np.array([place[i] for i in side]) for side in zip(*pairs, strict=True))
    marks = signatures(shown)
    similar = np.flatnonzero(np.einsum("ij,ij->i", marks[left], marks[right]) >= _SIMILAR)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(similar), _PAIRS):
        some = similar[start : start + _PAIRS]
        chunk = [pairs[i] for i in some]
        scores = alike(shown[left[some]], shown[right[some]]).tolist()
        scored = zip(chunk, scores, strict=True)
        found += [(i, j, score) for (i, j), score in scored if score >= _ALIKE]
    return found


def _candidates(
    points: NDArray[np.float32], *, within: float | None = None
) -> list[tuple[int, int]]:
    """Pair each row with its nearest few, within a share of the median distance if given."""
    nearest = NearestNeighbors(n_neighbors=min(_NEIGHBORS, len(points) - 1), algorithm="brute")
    distances, others = nearest.fit(points).kneighbors()
    limit = np.inf
    if within is not None:
        few = points[:: -(-len(points) // _MEDIAN)]
        apart = squared_distances(few)[np.triu_indices(len(few), 1)]
        limit = within * float(np.sqrt(np.median(apart)))
    at, column = np.nonzero(distances <= limit)
    pairs = np.sort(np.stack([at, others[at, column]], axis=1), axis=1)
    return [(int(i), int(j)) for i, j in np.unique(pairs, axis=0)]


def _gradients(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute gradients: (n, EDGE, EDGE) -> (n, 2, EDGE, EDGE)."""
    down, right = np.gradient(images, axis=(1, 2))
    return np.stack([down, right], axis=1)


def _spectra(gradients: NDArray[np.float32]) -> NDArray[np.complex64]:
    return np.asarray(rfft2(gradients, s=_PADDED), dtype=np.complex64)


def _overlapping(
    a: NDArray[np.float32], b: NDArray[np.float32], cross: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Correlate where both overlap, at the shift of the largest cross-correlation."""
    around = np.arange(-_SHIFT, _SHIFT + 1)
    near = cross[:, around[:, None], around[None, :]].reshape(len(a), -1)
    best = near.argmax(axis=1)
    out = np.empty(len(a), dtype=np.float64)
    for shift in np.unique(best):
        chosen = np.flatnonzero(best == shift)
        dy, dx = (int(around[k]) for k in divmod(int(shift), len(around)))
        x = a[chosen][:, :, max(0, dy) : EDGE + min(0, dy), max(0, dx) : EDGE + min(0, dx)]
        y = b[chosen][:, :, max(0, -dy) : EDGE + min(0, -dy), max(0, -dx) : EDGE + min(0, -dx)]
        energy = np.einsum("nchw,nchw->n", x, x) * np.einsum("nchw,nchw->n", y, y)
        out[chosen] = np.einsum("nchw,nchw->n", x, y) / np.sqrt(np.maximum(energy, 1e-12))
    return out
