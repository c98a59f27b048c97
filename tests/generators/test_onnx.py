"""Graphs that draw images from noise: what they take is found out, and truncation is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_files import CLASSES, LATENT, SIDE, write_gan
from scipy.stats import kstest, truncnorm

from gapclose.generators.base import generate_all
from gapclose.generators.distributions import TruncatedNormal
from gapclose.generators.errors import GenerationError, GeneratorConfigError
from gapclose.generators.onnx import OnnxGenerator
from gapclose.generators.recipe import Draw
from gapclose.generators.registry import check_generator, make_generator, settings_of
from gapclose.generators.testing import GeneratorContract, Make

BALL = Draw(prompt="a ball", cls="ball", noun="ball", parameters={"truncation": 1.0})


class TestOnnx(GeneratorContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Make:
        path = write_gan(tmp_path / "gan.onnx", label="integers", named=True)
        return lambda: OnnxGenerator(path)

    @pytest.fixture
    def generator(self, make: Make) -> Any:
        return make()

    @pytest.fixture
    def draws(self) -> Sequence[Draw]:
        return [BALL, replace(BALL, cls="cube"), replace(BALL, parameters={"truncation": 0.4})]


@pytest.mark.parametrize("rows", ["n", 4])
@pytest.mark.parametrize("label", ["", "integers", "one"])
@pytest.mark.parametrize("psi", [None, [], [1]])
def test_inputs_are_found_out(tmp_path: Path, rows: Any, label: str, psi: Any) -> None:
    path = write_gan(tmp_path / "gan.onnx", rows=rows, label=label, psi=psi, named=True)
    generator = OnnxGenerator(path)
    assert set(generator.parameters) == {"truncation"} | ({"psi"} if psi is not None else set())
    own = {"psi": 1.0} if psi is not None else {}
    ball, cube = (Draw(prompt="x", cls=cls, parameters=own) for cls in CLASSES)
    one, other, alone = generate_all(generator, [(ball, range(5)), (cube, range(5)), (ball, [3])])
    assert one.images[0].shape == (SIDE, SIDE, 3)
    assert np.abs(one.images[3].astype(int) - alone.images[0]).max() <= 1
    differ = not np.array_equal(one.images[0], other.images[0])
    assert differ == bool(label), "a class matters where the graph takes one"
    if psi is not None:
        flat = replace(ball, parameters={"psi": 0.0})
        same, scaled = generate_all(generator, [(flat, [1, 2]), (ball, [1, 2])])
        assert np.array_equal(same.images[0], same.images[1]), "nothing is left of the noise"
        assert not np.array_equal(scaled.images[0], scaled.images[1])


def test_noise_is_normal_and_truncation_cuts_it(tmp_path: Path) -> None:
    graph = OnnxGenerator(write_gan(tmp_path / "gan.onnx"))._graph
    plain = np.stack([graph.noise_of(seed, np.inf) for seed in range(400)])
    assert plain.shape == (400, LATENT)
    assert kstest(plain.ravel(), "norm").pvalue > 0.001
    cut = np.stack([graph.noise_of(seed, 0.5) for seed in range(400)])
    assert np.abs(cut).max() <= 0.5
    assert kstest(cut.ravel(), truncnorm(-0.5, 0.5).cdf).pvalue > 0.001
    # What a seed draws changes with the truncation as little as can be.
    assert np.array_equal(np.argsort(cut, axis=0), np.argsort(plain, axis=0))
    assert np.allclose(graph.noise_of(3, 9.0), graph.noise_of(3, np.inf), atol=1e-6)


def test_each_image_may_have_a_truncation_of_its_own(tmp_path: Path) -> None:
    generator = OnnxGenerator(write_gan(tmp_path / "gan.onnx"))
    wide = TruncatedNormal(low=0.1, high=2.0)
    draw = Draw(prompt="x", parameters={"truncation": wide})
    (batch,) = generate_all(generator, [(draw, range(6))])
    singles = [generator.generate(draw.of_seed(seed), [seed]).images[0] for seed in range(6)]
    for image, single in zip(batch.images, singles, strict=True):
        assert np.abs(image.astype(int) - single).max() <= 1


def test_what_it_is(tmp_path: Path) -> None:
    path = write_gan(tmp_path / "gan.onnx", label="one")
    spec = {"kind": "onnx", "model": str(path), "classes": ["ball", "cube"], "license": "MIT"}
    generator = make_generator(spec)
    assert generator.id == "onnx:gan.onnx"
    assert generator.license == "MIT"
    assert generator.source_type == "trainedAlgorithmicMedia"
    before = generator.revision
    assert before is not None
    write_gan(path, label="integers")
    assert make_generator(spec).revision not in (None, before)
    assert settings_of(spec) == frozenset()
    check_generator(spec, draw=BALL, variants={"truncation": BALL}, classes=CLASSES)


@pytest.mark.parametrize(
    ("how", "options", "says"),
    [
        ({}, {"classes": None}, None),
        ({"label": "one"}, {"classes": None}, "generator.classes: .*does not name them"),
        ({"label": "one"}, {"classes": ["ball"]}, "has no class 'cube'; it has ball"),
        ({"cut": "noise"}, {}, r"generator.model: gan.onnx: it takes z; one input is noise"),
        ({"cut": "deep"}, {}, "neither noise, class nor a number"),
        ({"cut": "text"}, {}, r"its input words is a tensor\(string\)"),
        ({"cut": "wild"}, {}, "fix all of it but n"),
        ({}, {"range": (1.0, -1.0)}, "generator.range"),
        ({}, {"batch_size": 0}, "generator.batch_size"),
        ({}, {"device": "tpu"}, "generator.device"),
        ({}, {"device": "cuda"}, "has no CUDA"),
    ],
)
def test_what_cannot_draw_is_refused_at_once(
    tmp_path: Path, how: dict[str, Any], options: dict[str, Any], says: str | None
) -> None:
    path = write_gan(tmp_path / "gan.onnx", **how)
    spec = {"kind": "onnx", "model": str(path), "classes": CLASSES, **options}
    if says is None:
        check_generator(spec, classes=CLASSES)
        return
    with pytest.raises(GeneratorConfigError, match=says) as told:
        check_generator(spec, classes=CLASSES)
    assert len(str(told.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"no graph", b"\x08\x08", None])
def test_what_is_no_graph_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "gan.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GeneratorConfigError, match=r"generator\.model: ") as told:
        check_generator({"kind": "onnx", "model": str(path)})
    assert len(str(told.value).splitlines()) == 1


def test_values_that_it_cannot_take_are_refused(tmp_path: Path) -> None:
    generator = OnnxGenerator(write_gan(tmp_path / "gan.onnx", psi=[]))
    for parameters, says in [
        ({"psi": 1.0, "truncation": 0.0}, "truncation: must be above 0"),
        ({"psi": "wide"}, "psi: must be a number"),
        ({}, "psi: is missing"),
        ({"psi": 1.0, "trunkation": 1.0}, "did you mean truncation"),
    ]:
        with pytest.raises(GeneratorConfigError, match=says):
            generator.generate(Draw(prompt="x", parameters=parameters), [0])
    with pytest.raises(GenerationError, match="images are"):
        OnnxGenerator(write_gan(tmp_path / "flat.onnx", cut="flat")).generate(
            Draw(prompt="x"), [0]
        )
