"""Time and memory of an audit of 100,000 + 100,000 embeddings, and of the map of 20,000.

    python tests/benchmarks/scale.py [--per-class 10000] [--only audit|doubling|rivals|map]

Embeddings are random, of width 512, in ten classes; the second side has a group of its own in
one class. Tests look at n_test images a side, guards and clusters at all. Rivals run on the same
arrays in the same process.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from prdc import compute_prdc
from torch_fidelity.metric_kid import kid_features_to_metric

from gapclose.analysis.class_gap import with_q
from gapclose.analysis.clusters import find_clusters
from gapclose.analysis.coverage import coverage
from gapclose.analysis.distances import kid
from gapclose.analysis.gap import audit_embeddings
from gapclose.analysis.projection import fit_umap

Rows = NDArray[np.float32]
WIDTH, CLASSES = 512, 10
_passed = True


def say(what: str, target: str, value: float, met: bool | None, unit: str) -> None:
    """One row of the table."""
    global _passed
    _passed &= met is not False
    mark = {True: "yes", False: "NO", None: ""}[met]
    print(f"| {what:<58} | {target:>9} | {value:>8.2f} {unit:<5} | {mark:>3} |", flush=True)


def side(n: int, *, cls: int, seed: int) -> Rows:
    """Unit rows (n, 512) of one class: some thirty directions carry most of the variance."""
    rng = np.random.default_rng([cls, seed])
    scales = (1.0 / np.arange(1, WIDTH + 1) ** 0.5).astype(np.float32)
    rows = rng.standard_normal((n, WIDTH), dtype=np.float32) * scales
    rows += np.random.default_rng(cls).standard_normal(WIDTH, dtype=np.float32) * scales
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def audit_all(per_class: int) -> None:
    """What an audit computes from embeddings, for ten classes."""
    pairs = {
        str(c): (side(per_class, cls=c, seed=1), side(per_class, cls=c, seed=2))
        for c in range(CLASSES)
    }
    group = side(per_class // 20, cls=99, seed=3)
    pairs["0"][1][: len(group)] = group
    start = time.perf_counter()
    gaps = with_q(
        [audit_embeddings(real=a, synthetic=b, name=name) for name, (a, b) in pairs.items()]
    )
    middle = time.perf_counter()
    clusters = find_clusters(pairs)
    end = time.perf_counter()
    n = CLASSES * per_class
    say(f"audit of {n:,} + {n:,} x {WIDTH}", "<= 180", end - start, end - start <= 180, "s")
    say("    of it numbers and guards", "", middle - start, None, "s")
    say("    of it clusters", "", end - middle, None, "s")
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    say("    largest memory of the process, data included", "<= 4", gib, gib <= 4, "GiB")
    seen = [gap.name for gap in gaps if gap.closed is False], {c.cls for c in clusters}
    assert seen == (["0"], {"0"}), f"the planted group was missed: {seen}"


def doubling(per_class: int) -> None:
    """The same of one class, and of one with twice as many images."""
    took = []
    for n in (per_class // 2, per_class):
        pair = side(n, cls=1, seed=1), side(n, cls=1, seed=2)

        def work(pair: tuple[Rows, Rows] = pair) -> None:
            audit_embeddings(real=pair[0], synthetic=pair[1])
            find_clusters({"one": pair})

        took.append(seconds(work))
    factor = took[1] / took[0]
    say(
        f"{per_class // 2:,} to {per_class:,} images a class", "<= 4.5", factor, factor <= 4.5, "x"
    )


def rivals(n: int = 5_000) -> None:
    """Ours beside torch-fidelity's KID and prdc on the same arrays; the better of two runs."""
    real, synthetic = side(n, cls=1, seed=1), side(n, cls=1, seed=2)
    tensors = torch.from_numpy(real), torch.from_numpy(synthetic)
    works: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        f"kid() over torch-fidelity's, n = {n:,}": (
            lambda: kid(real=real, synthetic=synthetic),
            lambda: kid_features_to_metric(
                *tensors, kid_subsets=1, kid_subset_size=n, verbose=False
            ),
        ),
        f"coverage() over prdc's, n = {n:,}": (
            lambda: coverage(real=real, synthetic=synthetic),
            lambda: compute_prdc(real_features=real, fake_features=synthetic, nearest_k=5),
        ),
    }
    for what, (ours, theirs) in works.items():
        mine = min(seconds(ours) for _ in range(2))
        other = min(seconds(theirs) for _ in range(2))
        say(f"time of {what}", "<= 1", mine / other, mine <= other, "x")


def picture(n: int = 20_000) -> None:
    """The map of so many embeddings, and the page that shows it."""
    import plotly.graph_objects as go  # type: ignore[import-untyped]

    points = np.concatenate([side(n // CLASSES, cls=c, seed=1) for c in range(CLASSES)])
    start = time.perf_counter()
    xy = fit_umap(points)
    middle = time.perf_counter()
    figure = go.Figure(go.Scattergl(x=xy[:, 0], y=xy[:, 1], mode="markers"))
    assert len(figure.to_html()) > n
    took = time.perf_counter() - start
    say(f"UMAP of {n:,} x {WIDTH} and its picture", "<= 120", took, took <= 120, "s")
    say("    of it UMAP", "", middle - start, None, "s")


def main() -> None:
    """Print the table; exit 1 if a row misses its target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-class", type=int, default=10_000)
    parser.add_argument("--only", choices=["audit", "doubling", "rivals", "map"])
    options = parser.parse_args()
    print(f"| {'what':<58} | {'target':>9} | {'measured':>14} | met |")
    print(f"|{'-' * 60}|{'-' * 11}|{'-' * 16}|-----|")
    # Memory first, before a rival has taken any.
    steps: dict[str, Callable[[], None]] = {
        "audit": lambda: audit_all(options.per_class),
        "doubling": lambda: doubling(options.per_class),
        "rivals": rivals,
        "map": picture,
    }
    for name, step in steps.items():
        if options.only in (None, name):
            step()
    raise SystemExit(0 if _passed else 1)


if __name__ == "__main__":
    main()
