"""Thumbnails: which images a page shows, and how they fit into it with no network.

The report calls it. Images are chosen at random with a fixed seed, never picked. Small ones keep
every pixel; large ones shrink. An image that cannot be read any more (the user's photos may have
moved) is a gap in the sheet, not an error.
"""

from __future__ import annotations

import base64
import io
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.trust import ShownFiles

__all__ = ["MAX_POINTS", "STAGES", "Samples", "read_thumbnail", "sprite", "to_uri"]

SHEET_EDGE: Final = 96  # pixels: the longer edge of a shown image, at most
_LOSSLESS_EDGE: Final = 48  # up to here every pixel counts: chroma subsampling would show

STAGES: Final = ("real", "baseline", "tuned")
MAX_POINTS: Final = 20_000  # on the map; more are thinned out evenly, which the page says
_SEED: Final = 0

Cell = Image.Image | None
Row = Mapping[str, Any]


def read_thumbnail(path: Path, *, edge: int = SHEET_EDGE) -> Cell:
    """Read an image as RGB, its longer edge at most `edge` pixels; None if it cannot be read."""
    from gapclose.analysis.decode import read_rgb
    from gapclose.analysis.errors import UnreadableImageError

    try:
        image = Image.fromarray(read_rgb(path))
    except (UnreadableImageError, UnidentifiedImageError, OSError, ValueError):
        return None
    if max(image.size) > edge:
        image.thumbnail((edge, edge), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return image


def to_uri(image: Image.Image, *, quality: int | None = None) -> str:
    """Encode as a WebP data URI; lossless if `quality` is None and the image is small."""
    stream = io.BytesIO()
    lossless = quality is None and max(image.size) <= _LOSSLESS_EDGE
    if lossless:
        image.save(stream, "WEBP", lossless=True, quality=80, method=4, exact=True)
    else:
        image.save(stream, "WEBP", quality=quality or 85, method=4)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def sprite(cells: Sequence[Cell], *, edge: int, quality: int) -> dict[str, object]:
    """Lay thumbnails out in one image, row by row, each centred in an `edge` x `edge` cell.

    Returns:
        `src` (data URI), `columns`, `rows`; cell i is at column i % columns, row i // columns.
    """
    columns = max(1, math.ceil(math.sqrt(len(cells))))
    rows = max(1, math.ceil(len(cells) / columns))
    board = Image.new("RGB", (columns * edge, rows * edge), (128, 128, 128))
    for index, cell in enumerate(cells):
        if cell is None:
            continue
        image = cell
        if max(image.size) > edge:
            image = image.copy()
            image.thumbnail((edge, edge), Image.Resampling.LANCZOS)
        left = index % columns * edge + (edge - image.width) // 2
        top = index // columns * edge + (edge - image.height) // 2
        board.paste(image, (left, top))
    return {"src": to_uri(board, quality=quality), "columns": columns, "rows": rows}


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """The rows of samples.jsonl by class and stage, with their place on the map."""

    shown: ShownFiles
    rows: list[dict[str, Any]]
    xy: NDArray[np.float32] | None
    groups: dict[tuple[str, str], list[int]]
    thinned: tuple[int, int] | None  # (shown, all) if the map shows a part only

    @classmethod
    def read(cls, run: RunDir, *, trust: bool = False) -> Samples:
        """Read samples.jsonl and the map, if the map is one of these samples.

        Args:
            run: The run.
            trust: Show what it names outside of its folder, wherever it was made.
        """
        rows = run.samples()
        xy = _read_map(run, len(rows))
        groups: dict[tuple[str, str], list[int]] = {}
        for index, row in enumerate(rows):
            groups.setdefault((row["class"], row["stage"]), []).append(index)
        thinned = (MAX_POINTS, len(rows)) if len(rows) > MAX_POINTS else None
        shown = ShownFiles.of(run, trust=trust)
        return cls(shown=shown, rows=rows, xy=xy, groups=groups, thinned=thinned)

    @property
    def has_map(self) -> bool:
        """Whether there is a map of these samples."""
        return self.xy is not None

    @property
    def n_withheld(self) -> int:
        """Images outside of the run folder that it may not show."""
        return sum(
            Path(row["path"]).is_absolute() and self.shown.find(row["path"]) is None
            for row in self.rows
        )

    def _chosen(self, name: str, stage: str, n: int) -> list[int]:
        """Choose at most n of a class and stage, at random but the same on every call."""
        members = self.groups.get((name, stage), [])
        if len(members) <= n:
            return members
        return random.Random(f"{_SEED}/{name}/{stage}/{n}").sample(members, n)

    def _image(self, index: int, edge: int) -> Cell:
        return self._read(self.rows[index]["path"], edge)

    def _read(self, name: str, edge: int) -> Cell:
        path = self.shown.find(name)
        return None if path is None else read_thumbnail(path, edge=edge)

    def strip(self, paths: Sequence[str], *, small: bool) -> list[dict[str, Any]]:
        """Return images by path, as data URIs; those that cannot be read any more are left out."""
        cells = [(path, self._read(path, 64 if small else 96)) for path in paths]
        return [
            {
                "src": to_uri(cell, quality=88 if small else None),
                "title": Path(path).name,
                "pixels": max(cell.size) <= 48,
            }
            for path, cell in cells
            if cell is not None
        ]

    def sheets(self, name: str, n: int, *, small: bool, tuned: bool) -> list[dict[str, Any]]:
        """Return the images that stand side by side, per stage, with what made them."""
        titles = {
            "real": "Real",
            "baseline": "Before" if tuned else "Synthetic",
            "tuned": "After",
        }
        sheets = []
        for stage in STAGES:
            members = self.groups.get((name, stage), [])
            if not members:
                continue
            images, lost = [], 0
            for index in self._chosen(name, stage, n):
                cell = self._image(index, 64 if small else 96)
                if cell is None:
                    lost += 1
                    continue
                row = self.rows[index]
                images.append(
                    {
                        "src": to_uri(cell, quality=88 if small else None),
                        "title": _caption(row),
                        "pixels": max(cell.size) <= 48,
                    }
                )
            sheets.append(
                {
                    "stage": stage,
                    "title": titles[stage],
                    "images": images,
                    "n": len(members),
                    "lost": lost,
                }
            )
        return sheets

    def points(self, name: str) -> dict[str, Any] | None:
        """Place a class on the map: coordinates, stage codes, captions, a sprite of thumbnails."""
        if self.xy is None:
            return None
        share = min(1.0, MAX_POINTS / max(1, len(self.rows)))
        chosen: list[int] = []
        for stage in STAGES:
            wanted = math.ceil(share * len(self.groups.get((name, stage), [])))
            chosen += self._chosen(name, stage, wanted)
        if not chosen:
            return None
        many = len(self.rows) > 4000
        edge, quality = (32, 60) if many else (48, 75)
        cells = [self._image(index, edge) for index in chosen]
        largest = max((max(cell.size) for cell in cells if cell is not None), default=1)
        edge = min(edge, largest)
        captions = [_caption(self.rows[index]) for index in chosen]
        table = sorted(set(captions))
        place = {caption: number for number, caption in enumerate(table)}
        return {
            "x": [round(float(self.xy[i, 0]), 3) for i in chosen],
            "y": [round(float(self.xy[i, 1]), 3) for i in chosen],
            "stage": [STAGES.index(self.rows[i]["stage"]) for i in chosen],
            "caption": [place[caption] for caption in captions],
            "captions": table,
            "sprite": sprite(cells, edge=edge, quality=quality),
            "outliers": [k for k, i in enumerate(chosen) if self.rows[i].get("outlier")],
        }

    def outliers(self, n: int) -> list[dict[str, Any]]:
        """Return real images that are outliers of their class, the farthest first, at most n."""
        rows = [row for row in self.rows if row.get("outlier")]
        found: list[dict[str, Any]] = []
        for row in sorted(rows, key=lambda row: -row["outlier"]):
            cell = self._read(row["path"], 64)
            if cell is not None and len(found) < n:
                found.append(
                    {
                        "src": to_uri(cell),
                        "pixels": max(cell.size) <= 48,
                        "name": Path(row["path"]).name,
                        "class": row["class"],
                        "label": None if row.get("label") == row["class"] else row.get("label"),
                        "distance": row["outlier"],
                    }
                )
        return found


def _caption(row: Row) -> str:
    if row["stage"] == "real":
        return Path(str(row["path"])).name
    parts = [str(row["prompt"])] if row.get("prompt") else [Path(str(row["path"])).name]
    if row.get("seed") is not None:
        parts.append(f"seed {row['seed']}")
    return ", ".join(parts)


def _read_map(run: RunDir, n: int) -> NDArray[np.float32] | None:
    try:
        xy = np.asarray(run.read_arrays("projection.safetensors")["xy"], np.float32)
    except (FileNotFoundError, RunDamagedError, KeyError):
        return None
    # A map of other images (samples were written, the fit was cut off) would mislead.
    return xy if xy.shape == (n, 2) and n and np.isfinite(xy).all() else None
