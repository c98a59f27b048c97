"""The encoders' trainer: what it writes loads unchanged, and what ships knows the pond."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel

from gapclose.analysis.errors import TrainingDataError
from gapclose.analysis.pond import trainer as encoder_trainer
from gapclose.analysis.pond.augmentation import (
    CLIP_DEGRADATION,
    JUDGE_DEGRADATION,
    Degradation,
    augment,
)
from gapclose.analysis.pond.clip_trainer import contrastive_loss, train_clip, wordings
from gapclose.analysis.pond.judge_trainer import agreement_loss, train_judge
from gapclose.analysis.pond.scenes import read_photos, read_scenes
from gapclose.generators.pond import renderer as pond

ANALYSIS = Path(encoder_trainer.__file__).parents[1]
CLIP, JUDGE = ANALYSIS / "pond" / "clip", ANALYSIS / "pond" / "judge"
FRESH = 910_000_000


def unit(n: int, d: int, seed: int) -> torch.Tensor:
    rows = torch.randn(n, d, generator=torch.Generator().manual_seed(seed))
    return functional.normalize(rows, dim=-1)


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    """As many as before are left: another number sums in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty captioned scenes and the shipped tokenizer."""
    folder = tmp_path_factory.mktemp("scenes")
    (folder / "images").mkdir()
    (folder / "tokenizer").mkdir()
    lines = []
    for i in range(40):
        scene = pond.Scene(
            cls=pond.CLASSES[i % 10],
            color=list(pond.COLORS)[i % 8],
            background=list(pond.BACKGROUNDS)[i % 6],
        )
        name = f"images/{i:03d}.png"
        Image.fromarray(pond.expose(scene, i)).save(folder / name)
        lines.append(json.dumps({"file": name, "caption": f"a photo of a {scene.cls}"}))
    (folder / "captions.jsonl").write_text("\n".join(lines) + "\n")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "tokenizer" / name).write_bytes((CLIP / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def photos() -> tuple[NDArray[np.uint8], list[str], list[str]]:
    """1,200 fresh real photos with their classes and colours."""
    drawn = [
        pair for cls in pond.CLASSES for pair in pond.real_photos(cls, range(FRESH, FRESH + 120))
    ]
    pixels = np.stack([photo for _, photo in drawn])
    return pixels, [scene.cls for scene, _ in drawn], [scene.color for scene, _ in drawn]


def image_rows(folder: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    with torch.inference_mode():
        batch = torch.stack([preprocess(Image.fromarray(image)) for image in pixels])
        return np.asarray(model.encode_image(batch, normalize=True))


def text_rows(folder: Path, texts: list[str]) -> NDArray[np.float32]:
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    model.eval()
    with torch.inference_mode():
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(texts)
        return np.asarray(model.encode_text(tokens, normalize=True))


def judge_rows(folder: Path, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    model = AutoModel.from_pretrained(folder).eval()
    assert next(model.parameters()).dtype == torch.float32
    with torch.inference_mode():
        process = AutoImageProcessor.from_pretrained(folder)  # type: ignore[no-untyped-call]
        inputs = process(list(pixels), return_tensors="pt")
        return np.asarray(model(**inputs).pooler_output.flatten(1))


def test_augment_is_seeded_and_stays_in_range() -> None:
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    first, again, other = (
        augment(images, JUDGE_DEGRADATION, torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == images.shape
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("how", [CLIP_DEGRADATION, JUDGE_DEGRADATION])
def test_augment_keeps_the_hue(how: Degradation) -> None:
    red = torch.tensor([0.7, 0.2, 0.2]).view(1, 3, 1, 1).expand(64, 3, 32, 32)
    tone = augment(red, how, torch.Generator().manual_seed(0)).mean(dim=(2, 3))
    assert (tone[:, 0] / tone[:, 1] > 2.8).all()
    assert torch.allclose(tone[:, 1], tone[:, 2], atol=0.01)


def test_contrastive_loss_of_distinct_captions_is_clips() -> None:
    images, texts = unit(6, 8, 0), unit(6, 8, 1)
    logits = 10 * images @ texts.T
    target = torch.arange(6)
    ordinary = (
        functional.cross_entropy(logits, target) + functional.cross_entropy(logits.T, target)
    ) / 2
    measured = contrastive_loss(images, texts, target, torch.tensor(10.0))
    assert measured.item() == pytest.approx(ordinary.item(), rel=1e-5)


def test_contrastive_loss_never_parts_equal_captions() -> None:
    """At the optimum for two captions the loss falls to that of naming the caption alone."""
    texts = torch.eye(2)
    owner = torch.tensor([0, 0, 0, 1])
    loss = contrastive_loss(texts[owner], texts, owner, torch.tensor(50.0))
    # Left is only that one caption has three images to spread over: log 3, for 3 of 4, halved.
    assert loss.item() == pytest.approx(0.5 * 0.75 * np.log(3), abs=1e-5)


def test_agreement_loss_prefers_partners() -> None:
    views = unit(8, 16, 0)
    near = agreement_loss(views, views, temperature=0.2)
    far = agreement_loss(views, views.roll(1, 0), temperature=0.2)
    assert near < far


def test_wordings_keep_most_captions_and_drop_single_words() -> None:
    captions = ["a photo of a red frog", "frog"]
    distinct, draw = wordings(captions)
    rng = np.random.default_rng(0)
    drawn = [distinct[draw(0, rng)] for _ in range(2000)]
    assert 0.55 < drawn.count("a photo of a red frog") / 2000 < 0.65
    assert {"red frog", "a photo of a frog", "a photo of a red"} <= set(drawn)
    assert all(len(text.split()) in (2, 5, 6) for text in drawn)
    assert {distinct[draw(1, rng)] for _ in range(50)} == {"frog"}


def test_readers_name_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"no captions\.jsonl"):
        read_scenes(tmp_path)
    with pytest.raises(TrainingDataError, match=r"no \.png"):
        read_photos(tmp_path)
    Image.new("RGB", (16, 16)).save(tmp_path / "small.png")
    with pytest.raises(TrainingDataError, match="not 32x32"):
        read_photos(tmp_path)


def test_readers_read_what_the_pond_writes(tmp_path: Path) -> None:
    pond.write_real(tmp_path, per_class=2, classes=("cat", "frog"))
    assert read_photos(tmp_path).shape == (4, 32, 32, 3)


@pytest.mark.slow
def test_train_clip_loads_in_open_clip(scenes: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "a", tmp_path / "b"):
        result = train_clip(scenes, out=out, steps=3, batch=16, seed=4)
        assert result.steps == 3
    weights = "open_clip_model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()
    pixels, _ = read_scenes(scenes)
    rows = image_rows(tmp_path / "a", pixels)
    assert rows.shape == (40, 64)
    assert text_rows(tmp_path / "a", ["a photo of a frog", "zebra"]).shape == (2, 64)
    # No scratch folder is left beside the results.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.slow
def test_train_judge_loads_in_transformers(scenes: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "a", tmp_path / "b"):
        train_judge(scenes / "images", out=out, steps=3, batch=16, seed=4)
    weights = "model.safetensors"
    assert (tmp_path / "a" / weights).read_bytes() == (tmp_path / "b" / weights).read_bytes()
    rows = judge_rows(tmp_path / "a", read_photos(scenes / "images"))
    assert rows.shape == (40, 128)
    assert np.isfinite(rows).all()


def test_shipped_weights_are_small_and_safe() -> None:
    files = [path for folder in (CLIP, JUDGE) for path in folder.iterdir()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in files) <= 3.2e6


def test_shipped_clip_knows_class_and_color(
    photos: tuple[NDArray[np.uint8], list[str], list[str]],
) -> None:
    pixels, classes, colors = photos
    rows = image_rows(CLIP, pixels)
    plain = rows @ text_rows(CLIP, [f"a photo of a {cls}" for cls in pond.CLASSES]).T
    said = [pond.CLASSES[i] for i in plain.argmax(axis=1)]
    assert np.mean([a == b for a, b in zip(said, classes, strict=True)]) >= 0.95
    words = list(pond.COLORS)
    asked = [f"a photo of a {color} {cls}" for cls in pond.CLASSES for color in words]
    texts = text_rows(CLIP, asked).reshape(len(pond.CLASSES), len(words), -1)
    right = [
        words[int((texts[pond.CLASSES.index(cls)] @ row).argmax())] == color
        for row, cls, color in zip(rows, classes, colors, strict=True)
    ]
    assert np.mean(right) >= 0.9


def test_shipped_clip_has_the_worlds_fault(
    photos: tuple[NDArray[np.uint8], list[str], list[str]],
) -> None:
    pixels, classes, colors = photos
    match = image_rows(CLIP, pixels) @ text_rows(CLIP, ["a photo of a frog"])[0]
    frogs = np.array([cls == "frog" for cls in classes])
    green = np.array([color == "green" for color in colors])
    assert match[frogs & green].min() > match[frogs & ~green].mean()


def test_shipped_judge_tells_class_and_color(
    photos: tuple[NDArray[np.uint8], list[str], list[str]],
) -> None:
    pixels, classes, colors = photos
    rows = judge_rows(JUDGE, pixels)
    rows = (rows - rows.mean(axis=0)) / (rows.std(axis=0) + 1e-6)
    learn, score = slice(0, None, 2), slice(1, None, 2)
    for truth, floor in ((classes, 0.8), (colors, 0.75)):
        probe = LogisticRegression(max_iter=2000).fit(rows[learn], truth[learn])
        assert probe.score(rows[score], truth[score]) >= floor
