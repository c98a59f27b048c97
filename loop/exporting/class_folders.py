"""Class folders: the name of each class's folder in a data set that other programs read.

`export` calls it. A class is its own folder, OUT/frog. Where a file system or a reader would
refuse a name, skip it, merge it with another or take it for a split, the characters that matter
are percent-encoded: OUT/trai%6E. `urllib.parse.unquote` gives the class back.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection
from typing import Final

__all__ = ["class_folders"]

_LONGEST: Final = 140  # bytes: encrypted home folders take 143, a whole path on Windows 260

# What no file name holds on Windows, what ends a line somewhere, and the escape itself. A leading
# dot hides a folder, two leading underscores hide it from `datasets`, and Windows drops trailing
# dots and spaces.
_CHARACTER: Final = re.compile(
    r'[<>:"/\\|?*%\x00-\x1f\x7f-\x9f\u2028\u2029]|\A[. ]|\A_(?=_)|[. ]\Z'
)
_CHARACTER_OF_TWIN: Final = re.compile(rf"{_CHARACTER.pattern}|[A-Z]|[^\x00-\x7f]")
# What is a name of its own: splits, by the words and separators of `datasets.data_files`; devices
# on Windows; files that lie, or mean something, beside the class folders (FiftyOne reads
# `_unlabeled` as no class, `datasets` refuses a folder with a `state.json`).
_WORD: Final = re.compile(
    r"(?<![^-._ 0-9])(?:train|training|validation|valid|dev|val|test|testing|eval|evaluation)"
    r"(?![^-._ 0-9])"
    r"|\A(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(?=\s*(?:\.|\Z))"
    r"|\A(?:readme\.md|metadata\.jsonl|state\.json|_unlabeled)\Z",
    re.IGNORECASE,
)


def class_folders(classes: Collection[str]) -> dict[str, str]:
    """Name a folder for each class: the class itself, unless that is not safe everywhere.

    No two are equal where case and Unicode normal form do not count (macOS, Windows). Of such
    twins ("Cat", "cat") all but a plain lower-case one are escaped. A name that is too long is cut
    and ends in "%~" and a digest, which nothing decodes.
    """
    caseless = Counter(map(_caseless, classes))
    return {name: _folder(name, twin=caseless[_caseless(name)] > 1) for name in classes}


def _caseless(name: str) -> str:
    """Return a key, equal for what some file system holds to be one name (Unicode, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _folder(name: str, *, twin: bool) -> str:
    folder = (_CHARACTER_OF_TWIN if twin else _CHARACTER).sub(_escape_last, name)
    folder = _WORD.sub(_escape_last, folder) or "%"
    if len(folder.encode()) <= _LONGEST:
        return folder
    mark = "%~" + hashlib.sha256(name.encode()).hexdigest()[:16]
    return folder.encode()[: _LONGEST - len(mark)].decode(errors="ignore") + mark


def _escape_last(found: re.Match[str]) -> str:
    """Percent-encode the last character of the match: no separator follows a word."""
    return found[0][:-1] + "".join(f"%{byte:02X}" for byte in found[0][-1].encode())
