"""What a saved pipeline makes of each setting of a draw: alive, dropped or refused, or a lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from gapclose.generators.base import SETTINGS, generate_all
from gapclose.generators.diffusion import DiffusersGenerator
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.families import FAMILIES, PLAIN
from gapclose.generators.images import Pixels
from gapclose.generators.recipe import Draw
from gapclose.generators.schedulers import SCHEDULERS

LIE: Final = "LIE"
OTHERS: Final = {
    "negative_prompt": "blurry frog",
    "guidance_scale": 7.0,
    "num_inference_steps": 5,
}
SIDE: Final = 64
PROMPTS: Final = {
    "text": ("a photo of a red frog", "a ship on the grey sea at night"),
    "label": ("Tree_Frog", "ship"),
    "nothing": ("frog", "ship"),
}
Row = dict[str, str]


def row_of(pipeline: Any, folder: Path) -> Row:
    """Save a pipeline, load it as a generator, and try everything that a draw may say to it.

    Returns:
        Setting -> "alive", "dropped" (no effect, and never searched), "refused", or what is wrong,
        which begins with `LIE`.
    """
    pipeline.save_pretrained(folder)
    reads = FAMILIES.get(type(pipeline).__name__, PLAIN).reads
    side = SIDE if reads == "text" else None  # of the others each makes one size
    generator = DiffusersGenerator(str(folder), size=side, device="cpu", batch_size=4)
    try:
        generator.check()
    except GeneratorConfigError as error:
        return {"class": f"refused: {error}"}
    prompt, other = PROMPTS[reads]
    plain = Draw(prompt=prompt, guidance_scale=3.0, num_inference_steps=3)
    tried = _Tried(generator, plain)
    row = {setting: tried.setting(setting) for setting in OTHERS}
    row["scheduler"] = tried.schedulers()
    row["none"] = tried.no_guidance()
    row["batch"] = tried.batch(other)
    row["prompt"] = tried.prompt(other, is_read=reads != "nothing")
    row["size"] = tried.size(side or tried.image.shape[0])
    return row


class _Tried:
    def __init__(self, generator: DiffusersGenerator, plain: Draw) -> None:
        self.generator, self.plain = generator, plain
        state = torch.random.get_rng_state()
        self.image = self.one(plain)
        self.keeps_random = bool(torch.equal(state, torch.random.get_rng_state()))

    def one(self, draw: Draw, seed: int = 3) -> Pixels:
        (batch,) = generate_all(self.generator, [(draw, [seed])])
        assert batch.invalid == (None,), f"{batch.invalid[0]} under {draw}"
        return batch.images[0]

    def _outcome(self, draw: Draw) -> Pixels | str:
        try:
            return self.one(draw)
        except GeneratorConfigError:
            return "refused"
        except (GenerationError, AssertionError) as error:
            return f"{LIE}: {error}"

    def setting(self, name: str) -> str:
        """Compare two values of a setting, with what the generator says of it."""
        found = self._outcome(replace(self.plain, **{name: OTHERS[name]}))
        takes = name in self.generator.settings
        if isinstance(found, str):
            return found if not takes or found != "refused" else f"{LIE}: taken, and refused"
        moves = not np.array_equal(found, self.image)
        if moves != takes:
            return f"{LIE}: {'moves' if moves else 'dead'}, and is {'' if takes else 'not '}taken"
        return "alive" if takes else "dropped"

    def schedulers(self) -> str:
        """Try every scheduler that a draw may name; those that are taken must make images."""
        usable, same = [], 0
        for name in SCHEDULERS:
            try:
                self.generator.check_schedulers([name])
            except GeneratorConfigError:
                continue
            found = self._outcome(replace(self.plain, scheduler=name))
            if isinstance(found, str):
                return f"{LIE}: {name} {found}"
            usable.append(name)
            same += np.array_equal(found, self.image)
        takes = "scheduler" in self.generator.settings
        if takes and len(usable) > 2 and same == len(usable):
            return f"{LIE}: all are one"
        if not takes:
            refused = self._outcome(replace(self.plain, scheduler="ddim"))
            return "refused" if isinstance(refused, str) and refused == "refused" else LIE
        return ", ".join(usable) or "its own"

    def no_guidance(self) -> str:
        """See that a negative prompt does nothing at guidance 1, where there is none."""
        if not {"negative_prompt", "guidance_scale"} <= {*self.generator.settings}:
            return "-"
        one = replace(self.plain, guidance_scale=1.0)
        found = [self._outcome(replace(one, negative_prompt=text)) for text in ("", "blurry frog")]
        if any(isinstance(its, str) for its in found):
            return f"{LIE}: {found}"
        alike = np.array_equal(found[0], found[1])
        return "at 1" if alike else f"{LIE}: guides at 1"

    def prompt(self, text: str, *, is_read: bool) -> str:
        """See that another prompt makes another image, where prompts are read."""
        moves = not np.array_equal(self.one(replace(self.plain, prompt=text)), self.image)
        if moves != is_read:
            return f"{LIE}: {'moves' if moves else 'dead'}"
        return "alive" if is_read else "ignored"

    def batch(self, text: str) -> str:
        """Compare images of a batch of several prompts with the same ones alone."""
        other = replace(self.plain, prompt=text)
        jobs = [(self.plain, [3, 4]), (other, [3])]
        try:
            first, second = generate_all(self.generator, jobs)
        except GenerationError as error:
            return f"{LIE}: {error}"
        alone = [self.image, self.one(self.plain, 4), self.one(other)]
        pairs = zip((*first.images, *second.images), alone, strict=True)
        worst = max(int(np.abs(a.astype(int) - b).max()) for a, b in pairs)
        if not self.keeps_random:
            return f"{LIE}: torch's random numbers change"
        return "alike" if worst <= 1 else f"{LIE}: they differ by {worst}"

    def size(self, side: int) -> str:
        """Ask for sizes: each is made as asked, or refused."""
        if self.image.shape != (side, side, 3):
            return f"{LIE}: {self.image.shape}"
        said = []
        for asked in (side + 8, side + 36, 2 * side):
            found = self._outcome(replace(self.plain, size=asked))
            if isinstance(found, str) and found != "refused":
                return f"{asked}: {found}"
            if not isinstance(found, str) and found.shape != (asked, asked, 3):
                return f"{LIE}: {found.shape} of {asked}"
            said.append("refused" if isinstance(found, str) else str(asked))
        return ", ".join(said)


def is_silent(row: Row) -> list[str]:
    """Return what of a row is not so."""
    return [f"{key}: {said}" for key, said in row.items() if LIE in said]


assert {*OTHERS} | {"scheduler"} == {*SETTINGS}
