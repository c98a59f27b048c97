"""Saved views and the workspace of a run's dataset: what the App offers when it opens.

The viewer calls it when it builds a dataset.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gapclose.loop.app.names import slugify

__all__ = [
    "BRAIN_KEY",
    "WORKSPACE",
    "save_class_views",
    "save_cluster_views",
    "save_workspace",
]

BRAIN_KEY: Final = "clip_umap"
WORKSPACE: Final = "gapclose"
_COLORS: Final = {
    "real": "#2f6fb0",
    "synthetic": "#c2571a",
    "baseline": "#c2571a",
    "tuned": "#0f8068",
}


def _view_names(classes: Sequence[str]) -> dict[str, str]:
    """Name each class so that FiftyOne accepts the slug: not empty, and no other's."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for number, cls in enumerate(classes):
        name = cls if cls.isascii() and slugify(cls) else f"class-{number:03d} {cls}"
        if slugify(name) in taken:
            name = f"class-{number:03d} {cls}"
        taken.add(slugify(name))
        names[cls] = name
    return names


def save_class_views(
    dataset: Any, rows: Sequence[Mapping[str, Any]], scored: Sequence[Mapping[str, Any]]
) -> None:
    """Save a view of each class, and one of each open class with the telling images first.

    Args:
        dataset: Whose views they replace.
        rows: Of samples.jsonl.
        scored: The classes of gap.json.
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


def save_cluster_views(
    dataset: Any, rows: Sequence[Mapping[str, Any]], clusters: Sequence[Mapping[str, Any]]
) -> None:
    """Save a view of each cluster, as "frog: mostly synthetic, green frog (740)"."""
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


def save_workspace(fo: Any, dataset: Any) -> None:
    """Save samples and histograms beside the map, and the colours of sides and stages."""
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
