"""The viewer: a run as a FiftyOne dataset, and the App that opens on it.

`gapclose app` calls it; `refresh` runs it to read what a person tagged. It reads the run folder
and writes nothing there but tags.json; nothing here scores or generates, and nothing is served
but through the gate. fiftyone is imported in this folder alone.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.app.database import import_fiftyone
from gapclose.loop.app.gate import Gate
from gapclose.loop.app.names import dataset_name
from gapclose.loop.app.server import listen, reached_at, serve
from gapclose.loop.app.shown import name_of, shown_files
from gapclose.loop.app.views import (
    BRAIN_KEY,
    WORKSPACE,
    save_class_views,
    save_cluster_views,
    save_workspace,
)
from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.report.contents import GAP
from gapclose.loop.report.projections import open_run, read_verdicts
from gapclose.loop.run.files import read_arrays, read_bytes, to_json
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.tags import read_tags, write_tags

if TYPE_CHECKING:
    import fiftyone as fo

__all__ = [
    "SIMILARITY_KEY",
    "build_dataset",
    "dataset_name",
    "open_app",
    "pull_tags",
]

SIMILARITY_KEY: Final = "clip_similarity"
_LIST_FILES: Final = "@voxel51/operators/list_files"
_VERSION: Final = 4  # of what build_dataset makes; a dataset of an older one is made again


def open_app(
    run: Path,
    *,
    port: int = 5151,
    address: str = "127.0.0.1",
    trust: bool = False,
    opened: Callable[[str], None],
) -> NoReturn:
    """Open a run in the FiftyOne App: samples, the map coloured by side, histograms.

    FiftyOne's server runs in this process, behind the gate, and FiftyOne's sessions are not used:
    they would start a server without one, and have no token to talk to ours.

    Args:
        run: A run folder with samples.
        port: Where the App's server listens.
        address: What it binds to; only this machine by default.
        trust: Show the images that a run from elsewhere names outside of its folder.
        opened: Is told the address that the person opens; it holds the token.

    Raises:
        ConfigError: If there is no run, it has no samples yet, or the port is not free.
        ViewerError: If FiftyOne has no database here.
        KeyboardInterrupt: When it has been ended.
    """
    listener = listen(address, port)
    try:
        dataset = build_dataset(run)
        folder = RunDir.open(run)
        gate = Gate(
            _application(),
            token=(token := secrets.token_urlsafe(32)),
            address=address,
            port=port,
            shown=shown_files(folder, folder.samples(), trust=trust),
            page=f"/datasets/{dataset.name}?workspace={WORKSPACE}",
        )
        opened(f"http://{reached_at(address)}:{port}/?token={token}")
        serve(gate, listener)
    finally:
        listener.close()
    raise KeyboardInterrupt


def _application() -> Any:
    """Return FiftyOne's server, set up as its own main module does."""
    os.environ["FIFTYONE_SERVER"] = "1"
    import fiftyone as fo
    from fiftyone.operators.permissions import ManagedOperators
    from fiftyone.server.app import app

    fo.config.singleton_cache = False
    # The one operator of FiftyOne's own that reads the disk: it lists any folder.
    ManagedOperators.has_operator = lambda _, uri: uri != _LIST_FILES
    return app


def build_dataset(run: Path) -> fo.Dataset:
    """Make or update the persistent dataset of a run; one sample per image shown.

    A dataset that was built from the same samples is left as it is. Otherwise its samples are made
    anew, and the tags that a person gave them are kept.

    Raises:
        ConfigError: If there is no run, or it has no samples yet.
        RunDamagedError: If its samples.jsonl names what is no path in a run.
        ViewerError: If FiftyOne has no database here.
    """
    folder = open_run(run, verdicts=False)  # they are read below, which compares them
    rows = folder.samples()
    if not rows:
        raise ConfigError(
            "has no images to look at yet (no samples.jsonl); let `gapclose tune` "
            "or `audit` finish first",
            where=folder.path,
        )
    _check_paths(folder, rows)
    points = _stored(folder.file("projection.safetensors"), "xy", len(rows))
    embeddings = _stored(folder.embeddings_path("samples"), "embeddings", len(rows))
    gap = read_verdicts(folder).files.get(GAP, {})
    scored, clusters = gap.get("classes") or (), gap.get("clusters") or ()
    stamp = _stamp(folder, scored, clusters)
    fo = import_fiftyone()
    name = dataset_name(folder.path)
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        if dataset.info.get("gapclose") == stamp:
            write_tags(folder, _tags(folder, dataset), dataset=name)
            return dataset
    else:
        dataset = fo.Dataset(name, persistent=True)
    tags = _tags(folder, dataset)
    # On disk before they leave the dataset, which is not read until it is stamped again.
    write_tags(folder, tags, dataset=name)
    dataset.info.pop("gapclose", None)
    dataset.save()
    dataset.clear()
    for key in (BRAIN_KEY, SIMILARITY_KEY):
        if dataset.has_brain_run(key):
            dataset.delete_brain_run(key)
    # None is held: FiftyOne would bring each live sample up to date after every bulk write.
    samples = (_sample(fo, folder, row, tags) for row in rows)
    dataset.add_samples(samples, dynamic=False, progress=False, num_samples=len(rows))
    if points is not None and points.shape[1] == 2:
        _add_map(dataset, points)
    if embeddings is not None:
        _add_similarity(dataset, embeddings)
    save_class_views(dataset, rows, scored)
    save_cluster_views(dataset, rows, clusters)
    save_workspace(fo, dataset)
    # The stamp comes last: a build that was cut off is made again.
    dataset.info["gapclose"] = stamp
    dataset.save()
    return dataset


def pull_tags(run: Path) -> None:
    """Write RUN/tags.json from the run's dataset; leaves it as it is if there is no dataset.

    Raises:
        ConfigError: If there is no run.
        ViewerError: If FiftyOne has no database here.
    """
    folder = open_run(run)
    name = dataset_name(folder.path)
    fo = import_fiftyone()
    if fo.dataset_exists(name):
        write_tags(folder, _tags(folder, fo.load_dataset(name)), dataset=name)


def _stamp(run: RunDir, *told: Sequence[Mapping[str, Any]]) -> str:
    """Hash samples, map, classes and clusters, and how a dataset is built from them."""
    digest = hashlib.sha256(str(_VERSION).encode())
    for name in ("samples.jsonl", "projection.safetensors"):
        try:
            digest.update(read_bytes(run.file(name)))
        except FileNotFoundError:
            digest.update(b"-")
    digest.update(to_json(told).encode())
    return digest.hexdigest()


def _tags(run: RunDir, dataset: Any) -> dict[str, list[str]]:
    """Return what a person tagged, by image; an unfinished dataset has the file's tags."""
    if "gapclose" not in dataset.info:
        return read_tags(run)
    rows = zip(*dataset.values(["filepath", "tags"]), strict=True)
    return {run.relative(path): tags for path, tags in rows if tags}


def _check_paths(run: RunDir, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuse rows that name no image of a run; one that is gone by now is let pass."""
    for number, row in enumerate(rows, 1):
        try:
            path = run.resolve(row["path"])
        except RunDamagedError:
            raise
        except ValueError:
            why = "names no image of a run, so somebody has edited it; restore the file"
            raise RunDamagedError(run.path / "samples.jsonl", why, number) from None
        if path.exists() and not path.is_file():  # FiftyOne would wait for a pipe
            why = "is no regular file; remove it"
            raise RunDamagedError(path, why)


def _sample(fo: Any, run: RunDir, row: Mapping[str, Any], tags: Mapping[str, list[str]]) -> Any:
    path = name_of(run, row)
    fields = {
        "class": row["class"],
        "side": row["side"],
        "stage": row["stage"],
        "split": row.get("split"),
        "clusters": [str(number) for number in row.get("clusters") or ()] or None,
        "recipe": row.get("recipe"),
        "seed": row.get("seed"),
        "prompt": row.get("prompt"),
        "guidance_scale": _float(row.get("guidance_scale")),
        "num_inference_steps": row.get("num_inference_steps"),
        "scheduler": row.get("scheduler"),
        "generator": row.get("generator"),
    }
    for name, value in (row.get("parameters") or {}).items():
        fields[f"parameter_{name}"] = float(value) if type(value) is int else value
    camera = row.get("camera") or {}
    fields |= {
        "camera_resize": camera.get("resize"),
        "camera_kernel": camera.get("kernel"),
        "camera_jpeg_quality": camera.get("jpeg_quality"),
        "camera_noise": _float(camera.get("noise")),
        "camera_saturation": _float(camera.get("saturation")),
    }
    if row.get("label") is not None:
        read = fo.Classification(label=row["label"], confidence=_float(row.get("confidence")))
        fields["zeroshot"] = read
    fields["nearest_real"] = _float(row.get("nearest_real"))
    fields["outlier"] = _float(row.get("outlier"))
    fields["witness"] = _float(row.get("witness"))
    present = {key: value for key, value in fields.items() if value is not None}
    return fo.Sample(filepath=path, tags=tags.get(row["path"], []), **present)


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _stored(path: Path, key: str, n: int) -> NDArray[np.float64] | None:
    """Read an array (n, d) of the run's samples; None if there is none, or it is of others."""
    try:
        rows = np.asarray(read_arrays(path)[key], np.float64)
    except (FileNotFoundError, RunDamagedError, KeyError):
        return None
    return rows if rows.ndim == 2 and len(rows) == n and np.isfinite(rows).all() else None


def _add_similarity(dataset: Any, embeddings: NDArray[np.float64]) -> None:
    """Add the index behind the App's "sort by similarity"."""
    import fiftyone.brain as fob

    # The default backend keeps the rows in the dataset and compares them by scikit-learn.
    fob.compute_similarity(
        dataset, embeddings=embeddings, brain_key=SIMILARITY_KEY, backend="sklearn"
    )


def _add_map(dataset: Any, points: NDArray[np.float64]) -> None:
    import fiftyone.brain as fob

    spread = points.max() - points.min() if len(points) else 0.0
    fob.compute_visualization(
        dataset,
        points=points,
        method="manual",
        brain_key=BRAIN_KEY,
        create_index=bool(spread > 0),  # lasso by index; Mongo refuses one of no area
        progress=False,
    )


if __name__ == "__main__":
    # Fails in one line, which `refresh` repeats.
    try:
        pull_tags(Path(sys.argv[1]))
    except ValueError as error:
        raise SystemExit(str(error)) from None
