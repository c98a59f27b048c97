"""Plain YAML: text <-> lists, dicts, numbers and words, with YAML 1.2's idea of a plain value.

`off`, `no` and `on` are words, 1:30 is one, 1e-3 is a number, and a key stands once.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from gapclose.loop.errors import ConfigError

__all__ = ["dump_yaml", "parse_yaml"]


def parse_yaml(text: str, *, where: str) -> Any:
    """Read YAML.

    Args:
        text: YAML.
        where: The file or option that it is of.

    Raises:
        ConfigError: It is none; the line is named.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        line = None if mark is None else mark.line + 1
        raise ConfigError(f"this is no YAML: {why}", where=where, line=line) from None


def dump_yaml(plain: dict[str, Any]) -> str:
    """Write YAML that `parse_yaml` reads back as it was."""
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=99)


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise yaml.MarkedYAMLError(
                    problem="a key must be one word", problem_mark=key.start_mark
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key.value} stands here twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_decimal(self, node: Any) -> int:
        """Read 08 as 8: SafeLoader takes a leading 0 for octal, and fails there."""
        try:
            return int(node.value)
        except ValueError:  # Python reads no more than some thousand digits
            raise yaml.MarkedYAMLError(
                problem="a number of too many digits", problem_mark=node.start_mark
            ) from None

    def construct_text(self, node: Any) -> str:
        """Read a word; half of a surrogate pair, which only an escape can write, is refused."""
        text: str = node.value
        if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
            return text
        raise yaml.MarkedYAMLError(
            problem="an escape of half a character; write the character itself",
            problem_mark=node.start_mark,
        )


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)
_Loader.add_constructor("tag:yaml.org,2002:str", _Loader.construct_text)


class _Dumper(yaml.SafeDumper):
    """Quotes every word that the loader above, or a YAML 1.1 reader, takes for something else."""


# Only the resolvers named here: SafeLoader's own are YAML 1.1.
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+0123456789."),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
        )
