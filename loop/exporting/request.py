"""An export request: what a data set is to hold, as a person asks for it.

It refuses what no run could give, before a run is opened.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gapclose.loop.config.hints import nearest
from gapclose.loop.errors import ConfigError
from gapclose.loop.exporting.real_photos import WAYS

__all__ = ["FORMATS", "PURPOSES", "ExportRequest"]

FORMATS: Final = ("imagefolder",)
PURPOSES: Final = ("probe", "scratch")
"""What an export trains: something on an encoder's features, or a network from nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportRequest:
    """What is asked for; attributes as the arguments of `export`."""

    per_class: int | None
    purpose: str
    balance: bool
    per_group: int | None
    real: Path | None
    with_real: str
    image_format: str

    def check(self) -> None:
        """Refuse what no run could give.

        Raises:
            ConfigError: It names the option.
        """
        for option, word, words in (
            ("--format", self.image_format, FORMATS),
            ("--for", self.purpose, PURPOSES),
            ("--with-real", self.with_real, WAYS),
        ):
            if word not in words:
                raise ConfigError(f"unknown {word!r}; {nearest(word, words)}", where=option)
        if self.per_class is None and not self.balance:
            raise ConfigError("give a number of images, or --balance", where="--per-class")
        for option, number in (("--per-class", self.per_class), ("--per-group", self.per_group)):
            if number is not None and number < 1:
                raise ConfigError(f"got {number}, expected at least 1", where=option)
        if self.per_group is not None and not self.balance:
            raise ConfigError("fills up rare groups with --balance; add it", where="--per-group")
        if self.real is not None and not self.needs_photos:
            raise ConfigError("names photos for --balance or --with-real; add one", where="--real")

    def check_imageless(self) -> None:
        """Refuse whatever says anything of images: the YAML of mixtures has none.

        Raises:
            ConfigError: It names the option.
        """
        for option, said in (
            ("--per-class", self.per_class is not None),
            ("--for", self.purpose != PURPOSES[0]),
            ("--balance", self.balance),
            ("--per-group", self.per_group is not None),
            ("--real", self.real is not None),
            ("--with-real", self.with_real != "none"),
            ("--format", self.image_format != FORMATS[0]),
        ):
            if said:
                raise ConfigError(
                    "is for images, and the YAML of mixtures has none; leave it out, or name a "
                    "folder",
                    where=option,
                )

    @property
    def needs_photos(self) -> bool:
        """Whether real photos are counted, or lie beside."""
        return self.balance or self.with_real != "none"
