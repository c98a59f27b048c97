from __future__ import annotations

import modes
import numpy as np

from gapclose.loop.search.feedback import Selection, feedback_prompts
from gapclose.loop.search.prior import word_prior


def test_what_is_wanted_more_of_names_the_prompts_to_try() -> None:
    space = modes.make_space()
    rng = np.random.default_rng(0)
    real = modes.mixed({"brown": 0.6, "red": 0.4}, 60, rng)
    prior = word_prior(space, real, modes.Reader())

    def selected(wanted: dict[str, float], unwanted: dict[str, float]) -> Selection:
        rows = [modes.mixed(shares, 40, rng) for shares in (wanted, unwanted)]
        return Selection(cls="frog", images=40, wanted=rows[0], unwanted=rows[1])

    more_red = selected({"brown": 0.5, "red": 0.5}, {"brown": 1.0})
    red = feedback_prompts(space, prior, modes.Reader(), more_red)
    assert [prompt["color"] for prompt in red] == ["red"]
    # A template that has no place for the word would not bring it.
    two = modes.make_space(prompt=["a plain frog", "a {color} frog"])
    red = feedback_prompts(two, prior, modes.Reader(), more_red)
    assert [two.prompt(prompt) for prompt in red] == ["a red frog"]
    assert feedback_prompts(space, prior, modes.Blind(), more_red) == []
    alike = selected({"brown": 0.5, "red": 0.5}, {"brown": 0.5, "red": 0.5})
    assert feedback_prompts(space, prior, modes.Reader(), alike) == []
    shown = Selection(cls="frog", images=2, wanted=real[:2], unwanted=real[:0])
    assert (
        feedback_prompts(space, prior, modes.Reader(), shown) == []
    )  # nothing to hold it against
