"""Captioners: real image-to-text models of random weights, through the code that loads any."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_captioners
from PIL import Image

from gapclose.analysis.captioner import (
    INSTRUCTION,
    Pixels,
    TransformersCaptioner,
    captioner_identity,
    check_captioner,
    make_captioner,
)
from gapclose.analysis.errors import CaptionerError

KINDS = ("blip", "encoder-decoder", "chat")


def pictures(*sizes: tuple[int, int]) -> list[Pixels]:
    """Blocks of random colours, of these heights and widths."""
    rng = np.random.default_rng(3)
    small = rng.integers(0, 256, (len(sizes), 2, 2, 3), dtype=np.uint8)
    return [
        np.kron(block, np.ones((height // 2, width // 2, 1), np.uint8))
        for block, (height, width) in zip(small, sizes, strict=True)
    ]


MANY = pictures((32, 32), (20, 70), (64, 64), (30, 90), (48, 32), (16, 16), (40, 60))


def load(folder: Path) -> TransformersCaptioner:
    captioner = make_captioner(f"transformers:{folder}", device="cpu")
    assert isinstance(captioner, TransformersCaptioner)
    return captioner


def of_transformers(folder: Path, image: Pixels) -> str:
    """What the model says of one image, as the documentation of transformers has it done."""
    import torch
    import transformers as hf

    model = hf.AutoModelForImageTextToText.from_pretrained(folder).eval()
    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    picture = Image.fromarray(image)
    start = 0
    if folder.name == "chat":
        content = [{"type": "image", "image": picture}, {"type": "text", "text": INSTRUCTION}]
        inputs = hf.AutoProcessor.from_pretrained(folder).apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
        start = inputs["input_ids"].shape[1]
    else:
        inputs = hf.AutoImageProcessor.from_pretrained(folder)(picture, return_tensors="pt")
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=96, do_sample=False)
    return " ".join(tokenizer.decode(written[0][start:], skip_special_tokens=True).split())


@pytest.mark.parametrize("kind", KINDS)
def test_captions_are_those_of_transformers_itself(
    captioner_folders: dict[str, Path], kind: str
) -> None:
    captioner = load(captioner_folders[kind])
    for image in MANY[:3]:
        assert captioner.caption([image]) == [of_transformers(captioner_folders[kind], image)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_caption_does_not_depend_on_the_other_images(
    captioner_folders: dict[str, Path], kind: str
) -> None:
    captioner = load(captioner_folders[kind])
    alone = [captioner.caption([image])[0] for image in MANY]
    assert len(set(alone)) >= 5, "what is written is of the image"
    assert captioner.caption(MANY) == alone
    assert captioner.caption(MANY[::-1]) == alone[::-1]
    assert captioner.caption([]) == []


def test_what_a_model_prefers_is_overruled_in_silence(
    captioner_folders: dict[str, Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "chat"
    shutil.copytree(captioner_folders["chat"], folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 5.0, "num_beams": 3, "max_new_tokens": 2}
    settings |= {"max_length": 20}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    expected = load(captioner_folders["chat"]).caption(MANY)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert load(folder).caption(MANY) == expected
    told = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert told == [], "a warning would tear the run's display"


def test_less_at_once_where_memory_is_out(
    captioner_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    captioner = load(captioner_folders["blip"])
    expected = captioner.caption(MANY)
    model = captioner._writer.model
    generate, sizes, most = model.generate, [], 2

    def in_little_memory(*, pixel_values: Any, **options: Any) -> Any:
        sizes.append(len(pixel_values))
        if len(pixel_values) > most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return generate(pixel_values=pixel_values, **options)

    monkeypatch.setattr(model, "generate", in_little_memory)
    assert captioner.caption(MANY) == expected
    assert sizes == [7, 3, 1, 1, 1, 1, 1, 1, 1], "what was too many is not tried again"
    most = 0
    with pytest.raises(CaptionerError, match="memory is out at one image a time"):
        captioner.caption(MANY)


def test_the_identity_is_of_the_content(
    captioner_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(captioner_folders["chat"], folder)
    name = f"transformers:{folder}"
    first = captioner_identity(name)
    assert first == captioner_identity(f"transformers:{captioner_folders['chat']}")
    assert load(folder).identity() == first
    assert captioner_identity(f"transformers:{captioner_folders['blip']}") != first
    for file in ("chat_template.jinja", "tokenizer.json", "generation_config.json"):
        text = (folder / file).read_text()
        (folder / file).write_text(text + " ")
        assert captioner_identity(name) != first, file
        (folder / file).write_text(text)
    assert captioner_identity(name) == first


# ---------------------------------------------------------------- what is refused


def refused(folder: Path | str, match: str, *, loads: bool = False) -> None:
    """It is refused in one line, before it is loaded or when it is."""
    name = folder if isinstance(folder, str) else f"transformers:{folder}"
    check: Callable[[str], object] = make_captioner if loads else check_captioner
    with pytest.raises(CaptionerError, match=match) as told:
        check(name)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(f"captioner {name!r}: ")


@pytest.mark.parametrize("name", ["blip", "transformers:", "open_clip:ViT-B-32/openai", ""])
def test_a_name_that_is_none(name: str) -> None:
    refused(name, "write transformers:ID-or-PATH")


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    refused(tmp_path / "none", "does not exist; give the model's folder")
    refused(tmp_path, "has no config.json")


def test_a_hub_model_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("transformers:gapclose/none", "gapclose/none is not in the local cache")


def test_a_hub_model_in_the_cache_is_known_by_its_commit(
    captioner_folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repo = tmp_path / "models--some--blip"
    (repo / "refs").mkdir(parents=True)
    identities = set()
    for commit in ("abc", "def"):
        shutil.copytree(captioner_folders["blip"], repo / "snapshots" / commit)
        (repo / "refs" / "main").write_text(commit)
        identities.add(captioner_identity("transformers:some/blip"))
        assert captioner_identity(f"transformers:some/blip@{commit}") in identities
    assert len(identities) == 2


def test_pickled_weights(captioner_folders: dict[str, Path], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "blip"
    shutil.copytree(captioner_folders["blip"], folder)
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    refused(folder, r"found: pytorch_model\.bin; pickled weights are refused")


@pytest.mark.parametrize("model_type", ["idefics3", "of_my_own"])
def test_code_of_a_model_is_never_run(
    captioner_folders: dict[str, Path], tmp_path: Path, model_type: str
) -> None:
    folder, ran = tmp_path / "chat", tmp_path / "ran"
    shutil.copytree(captioner_folders["chat"], folder)
    code = f"open({str(ran)!r}, 'w').close()\n"
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    (folder / "own.py").write_text(code)
    auto = ("AutoConfig", "AutoModelForImageTextToText", "AutoProcessor", "AutoTokenizer")
    for file in ("config.json", "processor_config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text())
        content["auto_map"] = {name: "own.Own" for name in auto}
        if file == "config.json":
            content["model_type"] = model_type
        (folder / file).write_text(json.dumps(content))
    if model_type == "idefics3":
        assert load(folder).caption(MANY) == load(captioner_folders["chat"]).caption(MANY)
    else:
        refused(folder, "cannot be loaded", loads=True)
    assert not ran.exists()


def test_a_model_that_writes_nothing(vit_folder: Path) -> None:
    refused(vit_folder, "is no image-to-text model but vit", loads=True)


def test_a_model_that_nothing_tells_how_to_ask(tmp_path: Path) -> None:
    tiny_captioners.save_chat(tmp_path, template=None)
    refused(tmp_path, "no chat template", loads=True)


def test_a_template_that_shows_no_image(
    captioner_folders: dict[str, Path], tmp_path: Path
) -> None:
    """Else each photo would get the same caption."""
    folder = tmp_path / "chat"
    shutil.copytree(captioner_folders["chat"], folder)
    template = tiny_captioners.CHAT.replace("<image>", "photo")
    (folder / "chat_template.jinja").write_text(template)
    refused(folder, "cannot caption an image: ValueError", loads=True)


def test_weights_that_lack_tensors(captioner_folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "blip"
    shutil.copytree(captioner_folders["blip"], folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(key for key in weights if "vision" in key and key.endswith("weight")))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, "lack 1 tensors", loads=True)


def test_a_device_that_is_not_there(captioner_folders: dict[str, Path]) -> None:
    with pytest.raises(CaptionerError, match="'gpu7': not on this machine"):
        make_captioner(f"transformers:{captioner_folders['blip']}", device="gpu7")
