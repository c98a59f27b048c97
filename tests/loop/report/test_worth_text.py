"""The first sentence of a validated run, its advice and observations: exact words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from make_validation import RECALLS, make_validation

from gapclose.loop.report.text import bare, from_to, interval, percent, points
from gapclose.loop.report.validation_file import ValidationFile
from gapclose.loop.report.worth import Worth
from gapclose.loop.report.worth_advice import next_steps
from gapclose.loop.report.worth_observations import observations
from gapclose.loop.report.worth_text import accuracy_lines, classifier_name, worth_sentence

AS_GOOD = {arm: RECALLS[arm] for arm in ("baseline", "even", "real")} | {"tuned": RECALLS["real"]}
FEW = AS_GOOD | {"few": (0.6, 0.5, 0.4), "few+tuned": (0.9, 0.9, 0.9)}
HIGH = {"baseline": (0.99, 0.995, 1), "tuned": (0.99, 1, 1), "real": (1, 0.995, 1)}


def worth_of(*args: Any, **kwargs: Any) -> Worth:
    return Worth.of(ValidationFile.model_validate(make_validation(*args, **kwargs)))


def plain(sentences: Sequence[str]) -> list[str]:
    spaced = [sentence.replace("\N{THIN SPACE}", " ") for sentence in sentences]
    return [sentence.replace("\N{MINUS SIGN}", "-") for sentence in spaced]


def sentence_of(*args: Any, **kwargs: Any) -> str:
    return plain([worth_sentence(worth_of(*args, **kwargs))])[0]


@pytest.mark.parametrize(
    ("recalls", "more", "sentence"),
    [
        (RECALLS, {}, "Trained on the plain images, a small CNN recognises 50.0 % of real photos, "
         "on the tuned ones 75.0 %, on as many real ones 85.0 %; frog 10 → 80 %."),
        (RECALLS, {"classifiers": ["linear:pond-judge"]}, "Trained on the plain images, a linear "
         "probe recognises 50.0 % of real photos, on the tuned ones 75.0 %, on as many real ones "
         "85.0 %; frog 10 → 80 %."),
        (RECALLS, {"width": 0.3}, "Tuning gained nothing: trained on the plain images, a small "
         "CNN recognises 50.0 % of real photos, on the tuned ones 75.0 % (+25.0 points, -5.0 to "
         "+55.0), on as many real ones 85.0 %."),
        (RECALLS | {"tuned": (0.4, 0.4, 0.4)}, {}, "Tuning made the images worth less: trained on "
         "the plain images, a small CNN recognises 50.0 % of real photos, on the tuned ones "
         "40.0 % (-10.0 points, -11.0 to -9.0), on as many real ones 85.0 %."),
        ({"synthetic": RECALLS["tuned"], "real": RECALLS["real"]}, {}, "Trained on the synthetic "
         "images, a small CNN recognises 75.0 % of real photos, on as many real ones 85.0 %; dog "
         "falls short most, 55 against 80 %."),
        ({"baseline": RECALLS["baseline"], "real": RECALLS["real"]}, {}, "Trained on the plain "
         "images, a small CNN recognises 50.0 % of real photos, on as many real ones 85.0 %; frog "
         "falls short most, 10 against 85 %."),
        ({"synthetic": RECALLS["tuned"]}, {}, "Trained on the synthetic images, a small CNN "
         "recognises 75.0 % of real photos."),
        (HIGH, {"too_easy": ["cnn"]}, "Too easy to tell: trained on the plain images, a small CNN "
         "already recognises 99.5 % of real photos, on the tuned ones 99.7 %, on as many real "
         "ones 99.8 %."),
    ],
)  # fmt: skip
def test_the_first_sentence(recalls: Any, more: dict[str, Any], sentence: str) -> None:
    assert sentence_of(recalls, **more) == sentence


def test_a_network_is_quoted_before_a_probe() -> None:
    both = sentence_of(classifiers=["linear:pond", "timm:resnet18"])
    assert both.startswith("Trained on the plain images, resnet18 recognises")
    names = ["linear:a", "lenet", "vgg16", "timm:resnet18"]
    assert [classifier_name(name) for name in names] == [
        "a linear probe", "LeNet", "VGG16", "resnet18"
    ]  # fmt: skip


@pytest.mark.parametrize("recalls", [RECALLS, AS_GOOD])
def test_fewer_real_photos_are_not_called_as_many(recalls: Any) -> None:
    def words(fewer: int) -> list[str]:
        validation = make_validation(recalls)
        for row in validation["arms"]:
            row["n_per_class"] -= fewer * (row["arm"] == "real")
        worth = Worth.of(ValidationFile.model_validate(validation))
        return [worth_sentence(worth), *next_steps(worth), *observations(worth.headline)]

    said = words(0)
    assert sum("as many real" in line for line in said) == (2 if recalls is RECALLS else 3)
    assert words(50) == [line.replace("as many real", "real") for line in said]


SHORT = (
    "dog still falls 25 points short of real photos (black dog: 28 %): start a new run with "
    "`tune.objective: worth`, which goes there first, or add real photos."
)
EVEN = RECALLS | {"even": (0.9, 0.8, 0.9)}
WITHOUT_EVEN = {arm: RECALLS[arm] for arm in ("baseline", "real")}
PROBE = {"feature": "noise", "real": 0.3, "synthetic": 0.9, "by_real_rule": 0.5,
         "p_value": 0.001, "objection": None}  # fmt: skip


@pytest.mark.parametrize(
    ("recalls", "more", "steps"),
    [
        (RECALLS, {}, [SHORT]),
        (AS_GOOD, {}, ["No class falls short of as many real photos beyond chance: `gapclose "
                       "export` the images."]),
        (AS_GOOD, {"shortfalls": []}, []),
        (EVEN, {}, ["A classifier that learns its own features does better with every prompt "
                    "evenly (86.7 against 75.0 %): `gapclose export --for scratch` tempers the "
                    "shares.", SHORT]),
        (EVEN, {"classifiers": ["linear:pond"]}, [
            "A linear probe does better with every prompt evenly (86.7 against 75.0 %): the "
            "shares of the mixtures are not right yet, so give `gapclose tune` more --budget.",
            SHORT]),
        (EVEN, {"width": 0.5, "shortfalls": []}, []),
        (FEW, {}, ["No class falls short of as many real photos beyond chance: `gapclose export` "
                   "the images."]),
        (HIGH, {"too_easy": ["cnn"]}, ["To tell them apart, validate with fewer images a class "
                                       "(`--per-class 50`)."]),
        (HIGH, {"too_easy": ["cnn"], "n": 40}, ["To tell them apart, validate with fewer images a "
                                                "class (`--per-class 20`)."]),
        (AS_GOOD, {"too_easy": ["cnn"]}, [
            "Real photos are not worth more than the plain images beyond chance: more test "
            "photos, or more trainings (`--seeds`, `--draws`), tell whether there is more to "
            "gain."]),
        (EVEN, {"shortcuts": [PROBE | {"feature": "size"},
                              PROBE | {"objection": "noise tells the classes apart"}]},
         ["A shortcut is in the images: noise tells the classes apart.",
          "A classifier that learns its own features does better with every prompt evenly "
          "(86.7 against 75.0 %): `gapclose export --for scratch` tempers the shares."]),
        ({"synthetic": RECALLS["tuned"], "real": RECALLS["real"]}, {}, [
            "dog still falls 25 points short of real photos (black dog: 28 %): vary its images, "
            "or add real photos."]),
        ({"baseline": RECALLS["baseline"], "even": RECALLS["even"]}, {}, [
            "Every prompt evenly does better (60.0 against 50.0 %): let `gapclose tune` search."]),
        (WITHOUT_EVEN | {"tuned": (0.6, 0.55, 0.1)}, {"groups": []}, [
            "frog still falls 75 points short of real photos, and 2 more classes fall short, too: "
            "start a new run with `tune.objective: worth`, which goes there first, or add real "
            "photos."]),
        (WITHOUT_EVEN | {"tuned": (0.9, 0.55, 0.1)}, {"groups": []}, [
            "frog still falls 75 points short of real photos, and dog falls short, too: start a "
            "new run with `tune.objective: worth`, which goes there first, or add real photos."]),
    ],
)  # fmt: skip
def test_what_to_do_next(recalls: Any, more: dict[str, Any], steps: list[str]) -> None:
    assert plain(next_steps(worth_of(recalls, **more))) == steps


def test_observations_of_a_tuned_run() -> None:
    worth = worth_of(
        RECALLS,
        recovered={"cnn": 0.714},
        reverse=[{"classifier": "cnn", "arm": arm, "accuracy": share}
                 for arm, share in (("baseline", 0.98), ("tuned", 0.93))],
    )  # fmt: skip
    assert plain(observations(worth.classifiers[0])) == [
        "Tuned against every prompt evenly: better (+15.0 points, +14.0 to +16.0).",
        "Tuned against the plain images: better (+25.0 points, +24.0 to +26.0).",
        "Tuned against as many real photos: worse (-10.0 points, -11.0 to -9.0).",
        "Share of the way from the plain images to real photos: 71 %.",
        "dog lost most by tuning: 60 → 55 %.",
        "Worst group of the plain images: black dog (40 test photos), 30 → 28 % with the tuned "
        "ones.",
        "dog, the worst class, is taken for frog 34 %, cat 11 %.",
        "The other way round, trained on real photos it recognises of the images (GAN-test): "
        "plain 98.0 %, tuned 93.0 %. That sees what is wrong in them, not what is missing.",
    ]


def test_observations_of_folders() -> None:
    worth = worth_of({"synthetic": RECALLS["tuned"], "real": RECALLS["real"]}, width=0.3)
    assert plain(observations(worth.classifiers[0])) == [
        "Synthetic against as many real photos: not told apart (-10.0 points, -40.0 to +20.0).",
        "Worst group of the synthetic images: black dog (40 test photos), 28 %; with real photos "
        "40 %.",
        "dog, the worst class, is taken for frog 34 %, cat 11 %.",
    ]


def test_what_images_bring_to_few_photos_is_an_observation() -> None:
    told = "20 real photos a class reach 50.0 % alone, and 90.0 % with the tuned images added."
    assert told in plain(observations(worth_of(FEW).headline))
    unsure = plain(observations(worth_of(FEW, width=0.25).headline))
    assert not any("added" in line for line in unsure)
    assert unsure  # of the rest something is said


@pytest.mark.parametrize(("share", "how"), [(1.35, "all"), (-0.2, "none"), (0.5, "50 %")])
def test_the_share_of_the_way(share: float, how: str) -> None:
    said = plain(observations(worth_of(recovered={"cnn": share}).classifiers[0]))
    assert f"Share of the way from the plain images to real photos: {how}." in said


def test_the_consoles_line() -> None:
    lines = plain(accuracy_lines(worth_of(classifiers=["cnn", "linear:pond"]).accuracies))
    figures = "baseline 50.0 %, tuned 75.0 %, even 60.0 %, real 85.0 %"
    assert lines == [
        f"worth: a small CNN recognises of real photos, trained on {figures}",
        f"worth: a linear probe recognises of real photos, trained on {figures}",
    ]


def test_shares_never_round_into_another_claim() -> None:
    assert plain([percent(0.9996, 1), percent(1.0, 1), percent(0.9994, 1)]) == [
        "> 99.9 %", "100.0 %", "99.9 %"
    ]  # fmt: skip
    assert plain([percent(0.0004, 1), percent(0.0, 1), bare(0.123, 1)]) == [
        "< 0.1 %", "0.0 %", "12.3"
    ]  # fmt: skip
    assert plain([from_to(0.004, 1.0)]) == ["< 1 → 100 %"]
    assert interval(0.48, 0.5204) == "48.0\N{EN DASH}52.0"
    assert [points(value) for value in (0.134, -0.02, 0.0002, None)] == [
        "+13.4", "\N{MINUS SIGN}2.0", "0.0", "\N{EN DASH}"
    ]  # fmt: skip
