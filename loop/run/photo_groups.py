"""Photo groups: tune photos of a class that are alike, each with its caption if it has one.

A recipe may name one: every seed is then given the caption, or the picture, of one of its photos.
A group is a file of the run folder named by its content, so that whatever names it in the journal
goes on to mean the same photos. `loop/work` makes them; here they are kept and read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gapclose.loop.errors import RunDamagedError
from gapclose.loop.run.files import to_json
from gapclose.loop.run.folder import RunDir

__all__ = ["ALL_PHOTOS", "PhotoGroup", "keep_group", "read_group"]

ALL_PHOTOS: Final = "all photos"
"""The group that holds every tune photo of a class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhotoGroup:
    """Some photos of a class's tune split.

    Attributes:
        cls: The class.
        name: "all photos", or "group 3".
        captions: Photo, by its content as `photo_id`, -> its caption; None of one without.
        digest: Of all this: 16 hex digits.
    """

    cls: str
    name: str
    captions: Mapping[str, str | None]
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        """Hash the content.

        Raises:
            ValueError: It has no photo.
        """
        if not self.captions:
            raise ValueError(f"{self.cls}: {self.name} has no photos")
        content = hashlib.sha256(to_json(self.to_json()).encode()).hexdigest()
        object.__setattr__(self, "digest", content[:16])

    def __len__(self) -> int:
        """Return the number of photos."""
        return len(self.captions)

    def pick(self, seed: int) -> str:
        """Return the photo that a seed is given, the same one every time.

        Each is as likely as any other, whatever other seeds are given: images that go through the
        photos in turn would scatter less than independent ones do, which the unbiased MMD^2
        counts on.
        """
        drawn = hashlib.sha256(f"{self.digest} {seed}".encode()).digest()
        return [*self.captions][int.from_bytes(drawn[:8]) % len(self.captions)]

    def to_json(self) -> dict[str, Any]:
        """Return plain values; `from_json` inverts it."""
        photos = [{"photo": photo, "caption": text} for photo, text in self.captions.items()]
        return {"class": self.cls, "name": self.name, "photos": photos}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> PhotoGroup:
        """Invert `to_json`.

        Raises:
            ValueError, TypeError, LookupError: It is of another shape.
        """
        captions = {row["photo"]: row["caption"] for row in plain["photos"]}
        if not all(isinstance(text, str | None) for text in captions.values()):
            raise TypeError("a caption is text or null")
        return cls(cls=plain["class"], name=plain["name"], captions=captions)


def keep_group(run: RunDir, group: PhotoGroup) -> None:
    """Write a group into a run folder, before the journal names it.

    Raises:
        UnwritableError: It cannot be written.
    """
    run.write_json(_file(group.digest), group.to_json())


def read_group(run: RunDir, digest: str) -> PhotoGroup:
    """Read a group of a run folder.

    Raises:
        RunDamagedError: It is gone, or is not what its name says.
    """
    try:
        group = PhotoGroup.from_json(run.read_json(_file(digest)))
    except (OSError, ValueError, TypeError, LookupError):
        group = None
    if group is None or group.digest != digest:
        said = "is missing or damaged; restore it from a copy, or start anew with --out"
        raise RunDamagedError(run.path / _file(digest), said)
    return group


def _file(digest: str) -> str:
    return f"photo_groups/{digest}.json"
