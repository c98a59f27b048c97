"""Plain YAML: text <-> lists, dicts, numbers and words, with YAML 1.2's idea of a plain value.

`off`, `no` and `on` are words, 1:30 is one, 1e-3 is a number, and a key stands once.
"""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from gapclose.analysis.unseen import UNSEEN
from gapclose.loop.errors import ConfigError

__all__ = ["dump_yaml", "parse_yaml"]

REPEATED: Final = 2_000_000
"""Characters that aliases may add to a text: words of thousands of classes, and no bomb."""

_CORE: Final = "tag:yaml.org,2002:"


def parse_yaml(text: str, *, where: str) -> Any:
    """Read YAML.

    Args:
        text: YAML.
        where: The file or option that it is of.

    Raises:
        ConfigError: It is none, or is tagged as what it is not, nested too deeply, or made far
            longer by its aliases; the line is named.
    """
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        loader.check(node, most=2 * len(text) + REPEATED)
        return loader.construct_document(node)
    except RecursionError:
        raise ConfigError("this is no YAML: it is nested too deeply", where=where) from None
    except yaml.reader.ReaderError as error:
        why = f"a character that cannot be seen (U+{ord(text[error.position]):04X}); take it out"
        at = text.count("\n", 0, error.position) + 1
        raise ConfigError(f"this is no YAML: {why}", where=where, line=at) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        why = " ".join(str(getattr(error, "problem", None) or error).split())
        line = None if mark is None else mark.line + 1
        raise ConfigError(f"this is no YAML: {why}", where=where, line=line) from None
    finally:
        if loader is not None:
            loader.dispose()


def dump_yaml(plain: dict[str, Any]) -> str:
    """Write YAML that `parse_yaml` reads back as it was, in ASCII where a letter is not seen."""
    options: dict[str, Any] = {"Dumper": _Dumper, "sort_keys": False, "width": 99}
    text: str = yaml.dump(plain, allow_unicode=True, **options)
    return yaml.dump(plain, allow_unicode=False, **options) if UNSEEN.search(text) else text


class _Loader(yaml.SafeLoader):
    def check(self, root: Any, *, most: int) -> None:
        """Refuse tags that contradict their values, and aliases that recur or multiply.

        A text of some hundred characters can stand for more than a memory holds.

        Args:
            root: Of the document, not constructed yet.
            most: Characters, every alias written out.
        """
        lengths: dict[int, int | None] = {}  # None while what lies below is looked at

        def length(node: Any) -> int:
            if id(node) in lengths:
                if (known := lengths[id(node)]) is None:
                    raise _refused(node, "an alias of a node that contains it")
                return known
            lengths[id(node)] = None
            self._check_tag(node)
            if isinstance(node, yaml.ScalarNode):
                total = len(node.value)
            elif isinstance(node, yaml.SequenceNode):
                total = sum(map(length, node.value))
            else:
                total = sum(length(part) for pair in node.value for part in pair)
            if total > most:
                raise _refused(node, "aliases make it far longer than it looks; write it out")
            lengths[id(node)] = total + 1
            return total + 1

        length(root)

    def _check_tag(self, node: Any) -> None:
        """Check that a tag, which may be written, is what the value would have without one."""
        plain = self.resolve(type(node), node.value, (True, False))  # type: ignore[no-untyped-call]
        as_text = isinstance(node, yaml.ScalarNode) and node.tag == f"{_CORE}str"
        as_float = (node.tag, plain) == (f"{_CORE}float", f"{_CORE}int")
        if node.tag != plain and not as_text and not as_float:
            tag = node.tag.replace(_CORE, "!!")
            raise _refused(node, f"the value here is no {tag}; leave the tag out")

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key.value, str):
                raise _refused(key, "a key must be one word")
            if key.value in seen:
                raise _refused(key, f"the key {key.value} stands here twice")
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)

    def construct_decimal(self, node: Any) -> int:
        """Read 08 as 8: SafeLoader takes a leading 0 for octal, and fails there."""
        try:
            return int(node.value)
        except ValueError:  # Python reads no more than some thousand digits
            raise _refused(node, "a number of too many digits") from None

    def construct_text(self, node: Any) -> str:
        """Read a word; of surrogates, which JSON writes in pairs, a single one is refused."""
        text: str = node.value
        if text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text):
            return text
        try:
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            said = "an escape of half a character; write the character itself"
            raise _refused(node, said) from None


def _refused(node: Any, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


_Loader.add_constructor(f"{_CORE}int", _Loader.construct_decimal)
_Loader.add_constructor(f"{_CORE}str", _Loader.construct_text)


class _Dumper(yaml.SafeDumper):
    """Quotes every word that the loader above, or a YAML 1.1 reader, takes for something else."""

    def represent_text(self, text: str) -> Any:
        """Write line breaks that other text keeps, and YAML would fold, as escapes."""
        style = '"' if any(letter in text for letter in "\x85\u2028\u2029") else None
        return self.represent_scalar(f"{_CORE}str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)


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
            f"{_CORE}{_tag}", re.compile(f"^(?:{_pattern})$"), list(_first)
        )
