"""Photos: the real images that a config names, checked before anything is written.

`tune` and `audit` begin with them. Whatever a person can have got wrong in the config is reported
here: the photo folder, the classes, the encoders, the device, the generator.
"""

from __future__ import annotations

from dataclasses import dataclass

from gapclose.analysis.embedding import check_embedders
from gapclose.analysis.image_folder import ImageSet
from gapclose.analysis.proposer import check_proposer
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.config.sources import PondReal
from gapclose.loop.run.folder import RunDir
from gapclose.loop.run.journal import fold_run
from gapclose.loop.run.notices import Task, TaskStarted
from gapclose.loop.run.reporter import Reporter
from gapclose.loop.work.photo_groups import check_captions
from gapclose.loop.work.real_data import check_device, check_real, rendered_pond
from gapclose.loop.work.run_generators import check_drawn


@dataclass(frozen=True, slots=True, kw_only=True)
class Photos:
    """The real images of a run, and its classes.

    Attributes:
        images: What was scanned; None for the pond, which is rendered later.
        classes: Those of the run, in its order.
    """

    images: ImageSet | None
    classes: tuple[str, ...]

    @classmethod
    def check(cls, config: RunConfig, before: RunDir, reporter: Reporter) -> Photos:
        """Check all that a config names.

        Args:
            config: Of the run.
            before: The run folder, which may not be there.
            reporter: Receives what is being checked.

        Raises:
            ConfigError, RealDataError, EmbedderError, GeneratorConfigError: The user's input is
                wrong; nothing has been written.
        """
        reporter.tell(TaskStarted(task=Task.READING_PHOTOS))
        images, classes = check_real(config)
        reporter.tell(TaskStarted(task=Task.CHECKING))
        check_embedders(*config.encoders)
        check_device(config)
        if config.space.proposer is not None:
            check_proposer(config.space.proposer)
        known = fold_run(before).groups if before.holds_tuning else {}
        check_captions(config, images, [name for name in classes if name not in known])
        check_drawn(config, () if before.holds_images else classes)
        return cls(images=images, classes=classes)

    def ready(self, config: RunConfig, rundir: RunDir, reporter: Reporter) -> ImageSet:
        """Return the images, rendered first for the pond; the run's lock is held."""
        if self.images is not None:
            return self.images
        assert isinstance(config.real, PondReal), "only a pond has no images beforehand"
        reporter.tell(TaskStarted(task=Task.RENDERING))
        return rendered_pond(rundir, config.real, self.classes)
