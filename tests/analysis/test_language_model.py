"""Language models as proposers: real models of few weights, through the code that loads any."""

from __future__ import annotations

import json
import logging
import shutil
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_captioners
import tiny_language_models
from PIL import Image

from gapclose.analysis.errors import ProposerError
from gapclose.analysis.language_model import (
    INSTRUCTION,
    SIGHT,
    LanguageModel,
    check_language_model,
    read_prompts,
)
from gapclose.analysis.proposer import Diagnosis, Pixels, sheet

ANSWER = (
    "Here are the prompts:\n",
    "1. **a photo of a brown frog on a leaf**\n",
    '2. "a photo of a frog in the mud"\n',
    "I hope these help!\n",
    "3. a spotted frog, close up",
)
PROMPTS = [
    "a photo of a brown frog on a leaf",
    "a photo of a frog in the mud",
    "a spotted frog, close up",
    "I hope these help!",
]


def blocks(seed: int, n: int = 12) -> tuple[Pixels, ...]:
    """Images of four random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (n, 2, 2, 3), dtype=np.uint8)
    return tuple(np.kron(image, np.ones((16, 16, 1), np.uint8)) for image in small)


def diagnosis(**changes: Any) -> Diagnosis:
    facts: dict[str, Any] = {
        "cls": "n01639765",
        "noun": "frog",
        "gap": 12.3,
        "attributes": (),
        "prompts": (("a photo of a frog", 0.8), ("a photo of a red frog", 0.2)),
        "real": blocks(1),
        "synthetic": blocks(2),
    }
    return Diagnosis(**facts | changes)


INSTRUCTED = INSTRUCTION.format(noun="frog")
QUESTION = f"{diagnosis().text}\n{INSTRUCTED}"
SEEING = f"{diagnosis().text}\n{SIGHT}\n{INSTRUCTED}"


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of words alone that says `ANSWER`."""
    folder = tmp_path_factory.mktemp("llama")
    tiny_language_models.save_llama(folder, ANSWER)
    return folder


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that sees, of random weights, which knows the words of the question."""
    folder = tmp_path_factory.mktemp("seeing")
    tiny_captioners.save_chat(folder, question=SEEING)
    return folder


def load(folder: Path) -> LanguageModel:
    return LanguageModel(f"transformers:{folder}", device="cpu")


def told(model: LanguageModel, asked: Diagnosis, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a model reads when it is asked."""
    network, seen = model._loaded().model, list[Any]()
    generate = network.generate

    def watched(**inputs: Any) -> Any:
        seen.append(inputs)
        return generate(**inputs)

    with monkeypatch.context() as patch:
        patch.setattr(network, "generate", watched)
        model.propose(asked)
    (inputs,) = seen
    return inputs


# ---------------------------------------------------------------- asking


def test_what_a_model_of_words_says_is_proposed(llama: Path) -> None:
    """The question, which holds other lines that would be prompts, is cut off."""
    model = load(llama)
    assert model.propose(diagnosis()) == PROMPTS
    assert model.propose(diagnosis(real=(), synthetic=())) == PROMPTS


def test_what_a_model_of_words_is_told(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(llama)
    inputs = told(model, diagnosis(), monkeypatch)
    (tokens,) = inputs["input_ids"]
    assert model._tokenizer.decode(tokens) == f"<|user|>{QUESTION}<|end|><|assistant|>"
    assert inputs["max_new_tokens"] == 400
    assert "pixel_values" not in inputs
    for part in ("12.3 times", '"a photo of a red frog" makes 20%', "names the frog", "8 prompts"):
        assert part in QUESTION


def test_a_model_that_sees_is_shown_the_real_photos_first(
    seeing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(seeing)
    inputs = told(model, diagnosis(), monkeypatch)
    pictures = [Image.fromarray(sheet(blocks(seed))) for seed in (1, 2)]
    expected = model._process(images=[pictures], text=["<image><image>"], return_tensors="pt")[
        "pixel_values"
    ]
    assert inputs["pixel_values"].tolist() == expected.tolist()
    (tokens,) = inputs["input_ids"]
    plain = [*tiny_captioners.splitted("User :"), *tiny_captioners.splitted(SEEING)]
    words = model._tokenizer.decode(tokens, skip_special_tokens=True).split()
    assert words == [*plain, ":"], "after it the assistant begins"
    assert (tokens == model._tokenizer.bos_token_id).sum() == 1, "the template has written it"


def test_a_model_that_sees_answers_as_in_transformers_itself(seeing: Path) -> None:
    import torch
    import transformers as hf

    processor = hf.AutoProcessor.from_pretrained(seeing)
    pictures = [Image.fromarray(sheet(blocks(seed))) for seed in (1, 2)]
    content = [{"type": "image", "image": picture} for picture in pictures]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [*content, {"type": "text", "text": SEEING}]}],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    model = hf.AutoModelForImageTextToText.from_pretrained(seeing).eval()
    with torch.no_grad():
        written = model.generate(**inputs, max_new_tokens=400, do_sample=False)
    new = written[0][inputs["input_ids"].shape[1] :]
    answer = processor.tokenizer.decode(new, skip_special_tokens=True)
    assert answer
    said = load(seeing).propose(diagnosis())
    assert said == read_prompts(answer, noun="frog")
    assert said != load(seeing).propose(diagnosis(real=blocks(3)))


def test_a_model_that_sees_is_told_of_no_pictures_where_there_are_none(
    seeing: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(seeing)
    inputs = told(model, diagnosis(real=()), monkeypatch)
    assert "pixel_values" not in inputs
    words = model._tokenizer.decode(inputs["input_ids"][0], skip_special_tokens=True)
    assert "picture" not in words
    assert "8 prompts" in words


def test_what_a_model_prefers_is_overruled_in_silence(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "llama"
    shutil.copytree(llama, folder)
    settings = json.loads((folder / "generation_config.json").read_text())
    settings |= {"do_sample": True, "temperature": 9.0, "top_k": 3, "max_length": 20}
    (folder / "generation_config.json").write_text(json.dumps(settings))
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    assert load(folder).propose(diagnosis()) == PROMPTS
    warned = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert warned == [], "a warning would tear the run's display"


@pytest.mark.parametrize(
    ("begins", "answer", "prompts"),
    [
        ("<think>\n", ["A red frog?\n", "</think>\n", "a brown frog"], ["a brown frog"]),
        ("<think>\n", ["A red frog?\n", "Or a green frog"], []),
        ("{% if enable_thinking is false %}!{% endif %}", ["a brown frog"], ["a brown frog"]),
    ],
)
def test_thoughts_are_no_prompts(
    tmp_path: Path, begins: str, answer: list[str], prompts: list[str]
) -> None:
    template = tiny_language_models.TEMPLATE.replace("<|assistant|>", f"<|assistant|>{begins}")
    folder = tmp_path / "thinker"
    tiny_language_models.save_llama(folder, answer, template=template)
    assert load(folder).propose(diagnosis()) == prompts


# ---------------------------------------------------------------- memory


def test_weights_are_loaded_at_the_first_question_and_once(llama: Path) -> None:
    model = load(llama)
    assert model._writer is None
    model.propose(diagnosis())
    first = model._writer
    assert first is not None
    model.propose(diagnosis())
    assert model._writer is first


def test_what_is_let_go_of_is_in_no_memory_and_comes_back(llama: Path) -> None:
    model = load(llama)
    model.propose(diagnosis())
    assert model._writer is not None
    weights = weakref.ref(model._writer.model.lm_head.weight)
    assert weights() is not None
    model._let_go()
    assert weights() is None
    assert model.propose(diagnosis()) == PROMPTS


def test_nothing_stays_on_an_accelerator(llama: Path) -> None:
    """`meta` is a device, too, though nothing can be computed on it."""
    model = LanguageModel(f"transformers:{llama}", device="meta")
    assert model._loaded().model.lm_head.weight.device.type == "meta"
    with pytest.raises(RuntimeError, match="meta"):
        model.propose(diagnosis())
    assert model._writer is None


def test_less_memory_than_it_takes(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model = load(llama)

    def in_little_memory(**_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model._loaded().model, "generate", in_little_memory)
        with pytest.raises(ProposerError, match="memory is out on cpu; choose a smaller") as out:
            model.propose(diagnosis())
    assert out.value.__context__ is None, "its traceback would hold on to the tensors"
    assert model.propose(diagnosis()) == PROMPTS


# ---------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("answer", "prompts"),
    [
        ("a brown frog\n\na frog on mud\n", ["a brown frog", "a frog on mud"]),
        ("1. a brown frog\n2) a frog\n(3) a toad frog", ["a brown frog", "a frog", "a toad frog"]),
        ("- a brown frog\n* a wet frog\n• a frog", ["a brown frog", "a wet frog", "a frog"]),
        ("Prompts:\n\n1. a brown frog", ["a brown frog"]),
        ("**Prompts**\n\n- **a brown frog** on mud", ["a brown frog on mud"]),
        ("## Prompts for frogs\n### Prompt 12\na frog", ["a frog"]),
        ("### Prompt 1: a frog\n### 2. a wet frog", ["a frog", "a wet frog"]),
        (
            "Prompt 1: a big frog\n**Prompt 2:** a wet frog\nPrompt: a red frog\nPrompt 4 - frog",
            ["a big frog", "a wet frog", "a red frog", "frog"],
        ),
        ('Sure! Here are 8 prompts that would bring brown frogs:\n\n"a frog."', ["a frog."]),
        (
            "1. **Brown Frog:** a photo of a brown frog\n2. **Mud**: a frog on mud",
            ["a photo of a brown frog", "a frog on mud"],
        ),
        (
            "**1. a brown frog**\n**2.** a wet frog\n3. *a red frog*",
            ["a brown frog", "a wet frog", "a red frog"],
        ),
        ("```text\na brown frog\n```\nLet me know!", ["a brown frog", "Let me know!"]),
        ('[\n  "a brown frog",\n  "a frog on mud"\n]', ["a brown frog", "a frog on mud"]),
        (
            "\u201ca frog\u201d\n\u2018a wet frog\u2019\n'a frog's leg'\n\u00aba red frog\u00bb",
            ["a frog", "a wet frog", "a frog's leg", "a red frog"],
        ),
        (
            '"frog" and "toad"\na frog by a sign "No"',
            ['"frog" and "toad"', 'a frog by a sign "No"'],
        ),
        ("`a brown frog`\n---\n***\n> a frog", ["a brown frog", "a frog"]),
        ("<think>Brown frogs?\na red frog</think>\na brown frog", ["a brown frog"]),
        ("<think>\n\n</think>\n\na brown frog", ["a brown frog"]),
        ("<think>a red frog\na green frog", []),
        ("a Frog\nA frog.\na frog", ["a Frog"]),
        (
            "a bullfrog\na brown pond\na frog\nFrogs in rain",
            ["a frog", "Frogs in rain", "a bullfrog", "a brown pond"],
        ),
        (
            "35mm photo of a frog\n1.5 m from a frog\n3 frogs\n12:30, a frog",
            ["35mm photo of a frog", "1.5 m from a frog", "3 frogs", "12:30, a frog"],
        ),
        ("1. a frog, 4k, (wet:1.2), f/2.8", ["a frog, 4k, (wet:1.2), f/2.8"]),
        ("  a   brown\tfrog  \r\n", ["a brown frog"]),
        ("", []),
        ("1.\n-\n...\n", []),
    ],
)
def test_what_chat_models_say(answer: str, prompts: list[str]) -> None:
    assert read_prompts(answer, noun="frog") == prompts


def test_eight_prompts_are_kept_and_a_remark_makes_room() -> None:
    lines = [f"{i}. a frog of kind {i}" for i in range(1, 9)]
    expected = [f"a frog of kind {i}" for i in range(1, 9)]
    assert read_prompts("\n".join(["Of course!", *lines]), noun="frog") == expected
    more = [*lines, "9. a frog of kind 9"]
    assert read_prompts("\n".join(more), noun="frog") == expected


def test_a_long_prompt_ends_after_a_word() -> None:
    (prompt,) = read_prompts("a frog " + "in the rain " * 40, noun="frog")
    assert 280 < len(prompt) <= 300
    assert prompt.split()[-1] in ("in", "the", "rain")
    exact = "frog " * 59 + "frogs"
    assert read_prompts(exact, noun="frog") == [exact]
    assert read_prompts("x" * 400, noun="frog") == ["x" * 300]


# ---------------------------------------------------------------- what is refused


def refused(folder: Path | str, match: str, *, loads: bool = False) -> None:
    """It is refused in one line, before anything is loaded or when what it is asked by is."""
    name = folder if isinstance(folder, str) else f"transformers:{folder}"
    check: Callable[[str], object] = LanguageModel if loads else check_language_model
    with pytest.raises(ProposerError, match=match) as told:
        check(name)
    assert "\n" not in str(told.value)
    assert str(told.value).startswith(f"proposer {name!r}: ")


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_what_is_not_there(tmp_path: Path, llama: Path, vit_folder: Path) -> None:
    refused("transformers:", "write transformers:ID-or-PATH, of a model that chats")
    refused(tmp_path / "none", "does not exist; give the model's folder")
    refused(tmp_path, "has no config.json")
    refused(vit_folder, "has no tokenizer_config.json; save its tokenizer there")
    folder = copied(llama, tmp_path)
    (folder / "model.safetensors").unlink()
    refused(folder, r"needs its weights as model.safetensors \(found: none")


def test_a_hub_model_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("transformers:gapclose/none", "gapclose/none is not in the local cache")


def test_a_hub_model_in_the_cache(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    repo = tmp_path / "models--some--llama"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc")
    shutil.copytree(llama, repo / "snapshots" / "abc")
    check_language_model("transformers:some/llama")


def test_pickled_weights(llama: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = copied(llama, tmp_path)
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    refused(folder, r"found: pytorch_model\.bin; pickled weights are refused")


@pytest.mark.parametrize("model_type", ["llama", "of_my_own"])
def test_code_of_a_model_is_never_run(llama: Path, tmp_path: Path, model_type: str) -> None:
    folder, ran = copied(llama, tmp_path), tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\n"
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    (folder / "own.py").write_text(code)
    for file in ("config.json", "tokenizer_config.json"):
        content = json.loads((folder / file).read_text())
        auto = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")
        content["auto_map"] = {name: "own.Own" for name in auto}
        if file == "config.json":
            content["model_type"] = model_type
        (folder / file).write_text(json.dumps(content))
    if model_type == "llama":
        assert load(folder).propose(diagnosis()) == PROMPTS
    else:
        refused(folder, "cannot be loaded", loads=True)
    assert not ran.exists()


def test_a_model_that_does_not_chat(
    captioner_folders: dict[str, Path], llama: Path, tmp_path: Path
) -> None:
    refused(captioner_folders["blip"], "no chat template", loads=True)
    tiny_language_models.save_llama(tmp_path / "bare", ANSWER, template=None)
    refused(tmp_path / "bare", "no chat template", loads=True)
    folder = copied(llama, tmp_path)
    (folder / "config.json").write_text('{"model_type": "t5"}')
    refused(folder, "is no language model but t5; give one that chats", loads=True)


def test_weights_that_lack_tensors(llama: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = copied(llama, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(folder)
    with pytest.raises(ProposerError, match=r"lack 1 tensors \(model.norm.weight") as lacking:
        model.propose(diagnosis())
    assert lacking.value.__context__ is None, "its traceback would hold on to the tensors"


def test_a_device_that_is_not_there(llama: Path) -> None:
    with pytest.raises(ProposerError, match="'gpu7': not on this machine"):
        LanguageModel(f"transformers:{llama}", device="gpu7")
