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
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from gapclose.analysis.kernel import rows, squared_distances

__all__ = ["Repeat", "Thumbnails", "alike", "find_repeats", "thumbnail"]

Kind = Literal["exact", "near", "group"]
Thumbnails = Callable[[Sequence[int]], NDArray[np.float32]]
"""Rows -> their thumbnails, (n, EDGE, EDGE)."""

EDGE: Final = 32
"""Pixels of a thumbnail's side."""
# Embeddings choose which pairs are looked at: of 1,000 CIFAR-10 photos of a class a quarter have
# another within this share of the median distance, and nine in ten crops that are shifted by up
# to two pixels have a sibling there.
_NEAR: Final = 0.4
_FARTHER: Final = 0.6
_MANY: Final = 0.02
_NEIGHBORS: Final = 5  # of each image, at most: chains do the rest
# Gradients that correlate so much are of one photo: among those pairs of different CIFAR-10 photos
# 1 % reach 0.4 to 0.6, shifted crops 0.95, JPEGs of quality 30 0.85, crops of nine tenths 0.75.
_ALIKE: Final = 0.7
# Rendered scenes and digits are all alike (random pairs of the pond's frogs: 0.57 in the median,
# 0.75 in the upper tenth). There repeats are what lies far beyond that, on Fisher's scale.
_BEYOND: Final = 5.0
_MOST: Final = 0.98
_RANDOM: Final = 100  # images whose pairs tell how alike a class is
_SHIFT: Final = 6  # pixels of a thumbnail
_PADDED: Final = (next_fast_len(EDGE + 2 * _SHIFT, real=True),) * 2
_TILE: Final = 2_048
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
) -> list[Repeat]:
    """Find the repeats among the images of one class and side.

    Files that are equal; images of one group; and images whose embeddings are near and whose
    thumbnails agree up to a shift, a mirroring, brightness and compression. Chains are one repeat.

    Args:
        digests: Per image, of its file. The smallest of a repeat's names what is kept, so that it
            depends neither on names nor on order.
        embeddings: (n, d).
        thumbnails: Asked for the images that may be near repeats, and no others.
        groups: Per image what it belongs to, or None.

    Returns:
        Each image is in one of them at most; the largest first.
    """
    points = rows(embeddings)
    n = len(points)
    if n < 2:
        return []
    first: dict[Hashable, int] = {}
    links: list[tuple[int, int]] = []
    said: list[Hashable | None] = [None] * n if groups is None else list(groups)
    for i, (digest, group) in enumerate(zip(digests, said, strict=True)):
        keys: list[Hashable] = [digest] if group is None else [digest, ("group", group)]
        links += [(first.setdefault(key, i), i) for key in keys]
    links += _near_pairs(points, digests, thumbnails)
    ends = np.asarray(links, dtype=np.int64).T
    graph = coo_array((np.ones(ends.shape[1], dtype=bool), (ends[0], ends[1])), shape=(n, n))
    _, labels = connected_components(graph, directed=False)
    found = []
    order = np.argsort(labels, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(members) > 1:
            mine = [int(i) for i in members]
            kept = min(mine, key=lambda i: (digests[i], i))
            copies = tuple(i for i in mine if i != kept)
            found.append(Repeat(kind=_kind(mine, digests, said), kept=kept, copies=copies))
    return sorted(found, key=lambda repeat: (-len(repeat.copies), repeat.kept))


def thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey levels of an (h, w, 3) image at one small size, (EDGE, EDGE)."""
    small = Image.fromarray(image).convert("L").resize((EDGE, EDGE), Image.Resampling.BICUBIC)
    return np.asarray(small, dtype=np.float32)


def alike(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Correlation of the gradients of two thumbnails at their best shift, mirrored or not.

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


def _near_pairs(
    points: NDArray[np.float32], digests: Sequence[bytes], thumbnails: Thumbnails
) -> list[tuple[int, int]]:
    found = _alike_pairs(_candidates(points, within=_NEAR), digests, thumbnails)
    if not found:
        return []
    limit = _limit(len(points), thumbnails)
    if sum(score >= limit for *_, score in found) > _MANY * len(points):
        # Where there are some, there are more, and further off.
        found += _alike_pairs(_candidates(points, within=_FARTHER), digests, thumbnails)
    return [(i, j) for i, j, score in found if score >= limit]


def _limit(n: int, thumbnails: Thumbnails) -> float:
    """How much two images of the class must be alike to be one: far more than any two are."""
    random = np.random.default_rng(0)
    shown = thumbnails(np.sort(random.permutation(n)[:_RANDOM]).tolist())
    left, right = np.triu_indices(len(shown), 1)
    some = np.sort(random.permutation(len(left))[: 10 * _RANDOM])
    scores = np.clip(alike(shown[left[some]], shown[right[some]]), 0.0, 0.999)
    middle, high = np.arctanh(np.quantile(scores, (0.5, 0.9)))
    return max(_ALIKE, min(_MOST, float(np.tanh(middle + _BEYOND * (high - middle)))))


def _alike_pairs(
    candidates: Sequence[tuple[int, int]], digests: Sequence[bytes], thumbnails: Thumbnails
) -> list[tuple[int, int, float]]:
    """Those that look the same enough to be looked at once more, with how much."""
    pairs = [(i, j) for i, j in candidates if digests[i] != digests[j]]
    if not pairs:
        return []
    wanted = sorted({i for pair in pairs for i in pair})
    place = {row: at for at, row in enumerate(wanted)}
    shown = thumbnails(wanted)
    found: list[tuple[int, int, float]] = []
    for start in range(0, len(pairs), _PAIRS):
        chunk = pairs[start : start + _PAIRS]
        left, right = ([place[i] for i in side] for side in zip(*chunk, strict=True))
        scores = alike(shown[left], shown[right]).tolist()
        scored = zip(chunk, scores, strict=True)
        found += [(i, j, score) for (i, j), score in scored if score >= _ALIKE]
    return found


def _candidates(points: NDArray[np.float32], *, within: float) -> list[tuple[int, int]]:
    """Each row with its nearest few, within a share of the median distance."""
    points = points - points.mean(axis=0, dtype=np.float64).astype(np.float32)
    few = points[:: -(-len(points) // _TILE)]
    apart = squared_distances(few)[np.triu_indices(len(few), 1)]
    limit = within**2 * float(np.median(apart))
    pairs = set()
    for i in range(0, len(points), _TILE):
        block = points[i : i + _TILE]
        best_d = np.empty((len(block), 0), dtype=np.float32)
        best_j = np.empty((len(block), 0), dtype=np.int64)
        for j in range(0, len(points), _TILE):
            squared = squared_distances(block, points[j : j + _TILE])
            if i == j:
                np.fill_diagonal(squared, np.inf)
            keep = min(_NEIGHBORS, squared.shape[1])
            at = np.argpartition(squared, keep - 1, axis=1)[:, :keep]
            best_d = np.concatenate([best_d, np.take_along_axis(squared, at, axis=1)], axis=1)
            best_j = np.concatenate([best_j, at + j], axis=1)
            if best_d.shape[1] > _NEIGHBORS:
                at = np.argpartition(best_d, _NEIGHBORS - 1, axis=1)[:, :_NEIGHBORS]
                best_d = np.take_along_axis(best_d, at, axis=1)
                best_j = np.take_along_axis(best_j, at, axis=1)
        for row, column in zip(*np.nonzero(best_d <= limit), strict=True):
            a, b = i + int(row), int(best_j[row, column])
            pairs.add((min(a, b), max(a, b)))
    return sorted(pairs)


def _kind(
    members: Sequence[int], digests: Sequence[bytes], groups: Sequence[Hashable | None]
) -> Kind:
    if len({digests[i] for i in members}) == 1:
        return "exact"
    told = {groups[i] for i in members}
    return "group" if len(told) == 1 and None not in told else "near"


def _gradients(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, EDGE, EDGE) -> (n, 2, EDGE, EDGE)."""
    down, right = np.gradient(images, axis=(1, 2))
    return np.stack([down, right], axis=1)


def _spectra(gradients: NDArray[np.float32]) -> NDArray[np.complex64]:
    return np.asarray(rfft2(gradients, s=_PADDED), dtype=np.complex64)


def _overlapping(
    a: NDArray[np.float32], b: NDArray[np.float32], cross: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Correlation where both overlap, at the shift of the largest cross-correlation."""
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
