"""Export orders: how many images of which recipes a data set is to hold, class by class.

`export` asks it, and `data_set` makes them. Here a request meets a run: what its real photos lack,
and how much is drawn from even prompts.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gapclose.analysis.embedding import Embedder, TextEmbedder, make_embedder
from gapclose.generators.base import Generator
from gapclose.loop.errors import ConfigError
from gapclose.loop.exporting.balance import Lack, group_orders, lacks_of
from gapclose.loop.exporting.even_prompts import even_prompts
from gapclose.loop.exporting.plan import ClassPlan, Order
from gapclose.loop.exporting.real_photos import read_real
from gapclose.loop.exporting.request import ExportRequest
from gapclose.loop.exporting.tempering import Tempering
from gapclose.loop.exporting.tempering_choice import choose_tempering
from gapclose.loop.report.text import in_short
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.search.space import Space
from gapclose.loop.work.sides import Side

__all__ = ["ExportOrders", "plan_orders"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOrders:
    """All that is to be written.

    Attributes:
        orders: By class.
        photos: The real ones, where they are counted or lie beside.
        tempering: Where even prompts have a share.
    """

    orders: Mapping[str, Sequence[Order]]
    photos: Side | None = None
    tempering: Tempering | None = None


def plan_orders(
    run: RunDir,
    plans: Sequence[ClassPlan],
    generator: Generator,
    request: ExportRequest,
    *,
    reporter: Reporter,
) -> ExportOrders:
    """Count what is missing, choose how prompts are mixed, and order the images.

    Args:
        run: What is exported.
        plans: Its classes.
        generator: Its generator.
        request: What is asked for.
        reporter: Receives the progress.

    Raises:
        ConfigError: Nothing is missing, or the run cannot give what is asked for.
        RealDataError: The real photos are needed, and cannot be used.
        GenerationError: The generator failed.
    """
    config = run.config()
    spaces = {plan.name: Space.of(config, plan.name) for plan in plans}
    photos, embedder, lacks = None, None, dict[str, Lack]()
    if request.needs_photos:
        embedder = make_embedder(config.embedder, device=config.device)
        if request.per_group is not None and not isinstance(embedder, TextEmbedder):
            raise ConfigError(
                f"groups are read by a text encoder, which {config.embedder} has not; leave it "
                "out",
                where="--per-group",
            )
        photos = read_real(
            run, [*spaces], embedder=embedder, reporter=reporter, folder=request.real
        )
        if request.balance:
            lacks = _lacks(photos, spaces, request, embedder)
    targets = [lack.n_real + lack.images for lack in lacks.values()]
    most = max([request.per_class or 0, *targets])
    tempering = None
    if request.purpose == "scratch":
        tempering = choose_tempering(
            run,
            plans,
            generator,
            per_class=most,
            reporter=reporter,
            embedder=embedder,
            side=None if request.real else photos,  # networks are tested on the run's own
        )
        _warn_tempered(tempering)
    orders = {
        plan.name: _class_orders(
            plan,
            spaces[plan.name],
            lacks.get(plan.name, Lack(n_real=0, images=most, groups={})),
            tempering,
            seed=config.tune.seed,
        )
        for plan in plans
    }
    return ExportOrders(orders=orders, photos=photos, tempering=tempering)


def _class_orders(
    plan: ClassPlan, space: Space, lack: Lack, tempering: Tempering | None, *, seed: int
) -> list[Order]:
    """Order the groups that a class lacks, and the rest from its mixture and even prompts."""
    share, even = 0.0, None
    lost: tuple[str, ...] = ()
    if tempering is not None:
        share, lost = tempering.share, tempering.lost.get(plan.name, ())
    if share or lack.groups:  # of thousands of prompts it takes a moment
        even = even_prompts(space, plan.mixture, seed=seed, without=lost)
    groups = group_orders(plan, lack, space, even=even)
    left = max(0, lack.images - sum(order.images for order in groups))
    return [*groups, *plan.orders(left, even=even, share=share)]


def _lacks(
    photos: Side, spaces: Mapping[str, Space], request: ExportRequest, embedder: Embedder
) -> dict[str, Lack]:
    """Count what each class lacks.

    Raises:
        ConfigError: None lacks anything.
    """
    if beside := {*photos.images.classes} - {*spaces}:
        logger.warning("%s", in_short(dict.fromkeys(sorted(beside), "not exported")))
    lacks = lacks_of(
        photos,
        spaces,
        per_class=request.per_class,
        per_group=request.per_group,
        embedder=embedder,
    )
    if not any(lack.images or lack.groups for lack in lacks.values()):
        least = min(lack.n_real for lack in lacks.values())
        raise ConfigError(
            f"nothing to make: every class has {least} real photos or more; give a --per-class "
            "above that",
            where="--balance",
        )
    return lacks


def _warn_tempered(tempering: Tempering) -> None:
    if tempering.share:
        logger.warning(
            "%.0f %% of the images come from even prompts, outside of what was confirmed; they "
            "have confirmed: false",
            100 * tempering.share,
        )
