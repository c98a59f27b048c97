"""The text of a prompt: one way to write it, so that what is generated is what is named."""

from __future__ import annotations

import re
from typing import Final

# The article and the word after it. A hyphen or apostrophe before it makes it part of a word.
_ARTICLE: Final = re.compile(r"(?<![\w'\u2019-])(a|an|A|An) (?=([^\W\d_]+))")
# Written with a vowel, spoken with a consonant ("a unicorn", "a one-way road"), and the reverse.
_CONSONANT_SOUND: Final = re.compile(
    r"(eu|ewe|once$|one(s|self)?$|ubiq|ukulele|unanim|unic|unif|union|uniq|unis|unit|univ|uran"
    r"|urin|us[aeu]|uten|util|utop)"
)
_VOWEL_SOUND: Final = re.compile(r"(heir|honest|honou?r|hour)")


def normalize_prompt(text: str) -> str:
    """Collapse white space and make "a" and "an" agree with the next word.

    "a  automobile" becomes "an automobile", "an blue ship" becomes "a blue ship". Words in
    capitals ("SUV") and numbers keep the article they came with, for only their reader knows how
    they are spoken. A capital "A" counts as an article only where a sentence starts. Applying it
    twice changes nothing.
    """
    text = " ".join(text.split())

    def agree(found: re.Match[str]) -> str:
        article, word = found.group(1), found.group(2)
        starts = found.start() == 0 or text[: found.start()].rstrip().endswith((".", "!", "?"))
        if word.isupper() or (article[0] == "A" and not starts):
            return found.group(0)
        return article[0] + ("n " if _sounds_like_vowel(word.lower()) else " ")

    return _ARTICLE.sub(agree, text)


def _sounds_like_vowel(word: str) -> bool:
    if word[0] in "aeiou":
        return _CONSONANT_SOUND.match(word) is None
    return _VOWEL_SOUND.match(word) is not None
