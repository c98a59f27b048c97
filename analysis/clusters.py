"""Clusters: groups of a class's images that are mostly synthetic, or mostly real.

What an analyst does with a lasso on a picture, in the embedding space itself. A tree is grown over
both sides of a class without knowing which is which; a group is a branch of it that holds far more
of one side than chance gives, where chance is the same tree with its labels dealt out again
(a tree-based scan statistic, Kulldorff et al. 2003, doi 10.1111/1541-0420.00039). Finding and
testing use the same images, so the test asks how high the *best* branch of the whole run would
score by chance. An audit and confirmation call it; it never sees a two-dimensional picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gapclose.analysis.kernel import pair
from gapclose.analysis.significance import LEVEL

__all__ = ["Cluster", "find_clusters"]

LEAST = 8  # images; fewer prove nothing against some hundred branches
MOST = 8  # clusters a class and side, the most telling ones
ODDS = 2.0  # by which a side is over-represented: the rest of a class that lost a group is not one
WIDTH = 64  # principal directions that the tree is grown on, at most
LEAVES = 600  # a class of more images is first gathered into so many small heaps
MOST_LEAVES = 2_000  # up to here every image is a leaf
_CHUNK = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One group of one class.

    Attributes:
        cls: the class.
        side: the one that is more frequent here than in the class.
        real: indices of its real images among the class's, ascending.
        synthetic: indices of its synthetic images among the class's, ascending.
        q_value: chance that any branch of any class of the run scores as high, by permutation;
            the family-wise error rate, which bounds the false discovery rate.
    """

    cls: str
    side: Literal["real", "synthetic"]
    real: tuple[int, ...]
    synthetic: tuple[int, ...]
    q_value: float

    @property
    def size(self) -> int:
        """Images of both sides."""
        return len(self.real) + len(self.synthetic)


@dataclass(frozen=True, slots=True)
class _Tree:
    """Branches over the pooled images of a class; a branch is a range of `order`.

    Attributes:
        order: (n,) image indices, leaf after leaf; real images first in the numbering.
        start: (m,) of each branch in `order`.
        stop: (m,) of each branch in `order`.
        n_real: of the n images.
    """

    order: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    n_real: int


def find_clusters(
    classes: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    permutations: int = 999,
    seed: int = 0,
) -> list[Cluster]:
    """Find the groups of every class in which one side is over-represented, worst first.

    A branch of s images of which k are of its frequent side scores s KL(k / s || p), p being
    that side's share of the class: how much likelier the branch is if it has a rate of its own.
    Whatever the size and the share, the score of the best branch is held against the best branch
    of all classes under permutation. The odds of its side must be twice those of the class.
    Branches do not overlap: the best is taken, then the best of what neither holds it nor lies
    within it.

    Args:
        classes: class -> (real (n_real, d), synthetic (n_synthetic, d)), >= 2 images a side.
        permutations: of the labels within each class, side sizes kept.
        seed: of the permutations and of the heaps of large classes.

    Raises:
        ValueError: fewer than two images on a side, two widths, or NaN.
    """
    trees: dict[str, _Tree] = {}
    highest = np.zeros(permutations)
    for number, (cls, (real, synthetic)) in enumerate(classes.items()):
        left, right = pair(real, synthetic, least=2)
        points = np.concatenate([left, right])
        trees[cls] = tree = _grow(points, len(left), seed=seed)
        random = np.random.default_rng([seed, number])
        np.maximum(highest, _permuted_best(tree, permutations, random), out=highest)
    found: list[tuple[float, Cluster]] = []
    ranked = np.sort(highest)
    for cls, tree in trees.items():
        is_synthetic = (tree.order >= tree.n_real).astype(np.int64)[None, :]
        scores, odds = (figures[0] for figures in _scores(tree, is_synthetic))
        synthetic_more = odds > 1.0
        reached = permutations - np.searchsorted(ranked, scores - 1e-9, side="left")
        q_values = (1 + reached) / (1 + permutations)
        with np.errstate(divide="ignore"):
            far = np.maximum(odds, 1.0 / odds) >= ODDS
        candidates = np.flatnonzero((q_values <= LEVEL) & far)
        counts = {True: 0, False: 0}
        for branch in _apart(tree, candidates[np.argsort(-scores[candidates])]):
            more = bool(synthetic_more[branch])
            counts[more] += 1
            if counts[more] > MOST:
                continue
            images = np.sort(tree.order[tree.start[branch] : tree.stop[branch]])
            cluster = Cluster(
                cls=cls,
                side="synthetic" if more else "real",
                real=tuple(int(i) for i in images[images < tree.n_real]),
                synthetic=tuple(int(i) - tree.n_real for i in images[images >= tree.n_real]),
                q_value=float(q_values[branch]),
            )
            found.append((float(scores[branch]), cluster))
    return [cluster for _, cluster in sorted(found, key=lambda item: -item[0])]


def _apart(tree: _Tree, ranked: NDArray[np.int64]) -> list[int]:
    """Drop branches that share images with one before, in the order given."""
    kept: list[int] = []
    for branch in ranked:
        start, stop = tree.start[branch], tree.stop[branch]
        if all(stop <= tree.start[k] or start >= tree.stop[k] for k in kept):
            kept.append(int(branch))
    return kept


def _permuted_best(
    tree: _Tree, permutations: int, random: np.random.Generator
) -> NDArray[np.float64]:
    """Score the best branch under each of so many random labellings."""
    n = len(tree.order)
    best = np.zeros(permutations)
    if not len(tree.start):
        return best
    for start in range(0, permutations, _CHUNK):
        block = min(_CHUNK, permutations - start)
        uniform = random.random((block, n), dtype=np.float32)
        chosen = np.argpartition(uniform, tree.n_real - 1, axis=1)[:, tree.n_real :]
        labels = np.zeros((block, n), dtype=np.int32)
        np.put_along_axis(labels, chosen, 1, axis=1)
        best[start : start + block] = _scores(tree, labels)[0].max(axis=1)
    return best


def _scores(
    tree: _Tree, labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Score branches (labellings, branches), with synthetic's odds over those in the class.

    Args:
        tree: its branches.
        labels: (labellings, n) 1 where the image at that place of `order` is synthetic.
    """
    n = len(tree.order)
    sums = np.zeros((len(labels), n + 1), dtype=np.int32)
    np.cumsum(labels, axis=1, out=sums[:, 1:])
    hits = (sums[:, tree.stop] - sums[:, tree.start]).astype(np.float64)
    size = (tree.stop - tree.start).astype(np.float64)
    share = 1.0 - tree.n_real / n
    with np.errstate(divide="ignore", invalid="ignore"):
        ours = np.where(hits > 0, hits * np.log(hits / (size * share)), 0.0)
        misses = size - hits
        theirs = np.where(misses > 0, misses * np.log(misses / (size * (1.0 - share))), 0.0)
        odds = (hits / misses) / (share / (1.0 - share))
    return ours + theirs, odds


def _grow(points: NDArray[np.float32], n_real: int, *, seed: int) -> _Tree:
    """Grow an average-linkage tree over the images, or over heaps of them if there are many."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import pdist

    # Shuffled: where distances tie (copies of one image), the tree joins by row number, and real
    # rows come first.
    shuffled = np.random.default_rng(seed).permutation(len(points))
    flat = _principal(points)[shuffled]
    leaf_of = _heaps(flat, seed) if len(flat) > MOST_LEAVES else np.arange(len(flat))
    counts = np.bincount(leaf_of)
    sums = np.zeros((len(counts), flat.shape[1]))
    np.add.at(sums, leaf_of, flat)
    if len(counts) == 1:  # one point
        nothing = np.zeros(0, np.int64)
        return _Tree(np.arange(len(points)), nothing, nothing, n_real)
    merges = linkage(pdist(sums / counts[:, None]), method="average")
    leaves = len(counts)
    children = merges[:, :2].astype(np.int64)
    # Depth-first, so that every branch is a range of places.
    order: list[int] = []
    first, last = np.zeros(2 * leaves - 1, np.int64), np.zeros(2 * leaves - 1, np.int64)
    stack: list[tuple[int, bool]] = [(2 * leaves - 2, False)]
    while stack:
        node, done = stack.pop()
        if done:
            last[node] = len(order)
            continue
        first[node] = len(order)
        stack.append((node, True))
        if node < leaves:
            order.append(node)
        else:
            stack.extend((int(child), False) for child in children[node - leaves])
    places = np.concatenate([[0], np.cumsum(counts[order])])
    rank = np.empty(leaves, np.int64)
    rank[order] = np.arange(leaves)
    images = shuffled[np.argsort(rank[leaf_of], kind="stable")]
    start, stop = places[first], places[last]
    size = stop - start
    kept = (size >= LEAST) & (size < len(points))
    return _Tree(images, start[kept], stop[kept], n_real)


def _principal(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Project on the directions of most variance: (n, at most WIDTH)."""
    centred: NDArray[np.float32] = points - points.mean(axis=0)
    if centred.shape[1] <= WIDTH:
        return np.asarray(centred)
    _, vectors = np.linalg.eigh((centred.T @ centred).astype(np.float64))
    return np.asarray(centred @ vectors[:, -WIDTH:].astype(np.float32))


def _heaps(flat: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Assign every image a heap (n,) by k-means, numbered without gaps."""
    from sklearn.cluster import MiniBatchKMeans

    # Random starts: k-means++ takes longer than all the rest, for heaps that are joined anyway.
    model = MiniBatchKMeans(
        LEAVES, init="random", batch_size=4_096, n_init=1, max_iter=10, random_state=seed
    )
    _, heaps = np.unique(model.fit_predict(flat), return_inverse=True)
    return heaps.astype(np.int64)
