"""Families: what a name says of an encoder, and what we recommend."""

from __future__ import annotations

import pytest

from gapclose.analysis.embedding import is_code
from gapclose.analysis.families import LINES, ROLES, line_of, recommended, same_family


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("open_clip:ViT-B-16-SigLIP2/webli", "SigLIP 2"),
        ("transformers:google/siglip2-base-patch16-224", "SigLIP 2"),
        ("open_clip:ViT-B-16-SigLIP/webli", "SigLIP"),
        ("open_clip:PE-Core-B-16/meta", "PE-Core"),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", "CLIP"),
        ("transformers:openai/clip-vit-base-patch32", "CLIP"),
        ("pond", "CLIP"),
        ("transformers:facebook/dinov2-large", "DINOv2"),
        ("transformers:facebook/dinov2-with-registers-base@v1", "DINOv2"),
        ("transformers:facebook/dinov3-vitl16-pretrain-lvd1689m", "DINOv3"),
        ("transformers:facebook/dino-vits16", "DINO"),
        # Of a file or folder its own name counts, and no folder above it.
        ("transformers:/models/clip/dinov2-large", "DINOv2"),
        ("onnx:/home/dino/clip-b32.onnx", "CLIP"),
        ("onnx:/home/clip/resnet56.onnx", None),
        ("open_clip:local-dir:/models/mine", "CLIP"),
        ("pond-judge", None),
        ("transformers:microsoft/resnet-50", None),
        ("clips.eye:Clip", None),
        ("/eyes/clip.py:Eye", None),
    ],
)
def test_a_name_tells_the_line(name: str, line: str | None) -> None:
    found = line_of(name)
    assert (None if found is None else found.name) == line


def test_those_that_learnt_alike_are_of_one_family() -> None:
    clip, siglip = "open_clip:ViT-B-32/openai", "open_clip:ViT-B-16-SigLIP2/webli"
    dino, next_dino = "transformers:facebook/dinov2-base", "transformers:facebook/dinov3-vits16"
    assert same_family(clip, siglip) == same_family(siglip, clip) == "image-text"
    assert same_family(dino, next_dino) == "self-distilled"
    assert same_family(siglip, dino) is None
    assert same_family("pond", "pond-judge") is None  # nobody knows


def test_what_is_recommended_is_free_and_of_two_families() -> None:
    chosen = {role: recommended(role) for role in ROLES}
    assert [line.name for line in chosen["tune"]] == ["SigLIP 2", "PE-Core"]
    assert [line.name for line in chosen["judge"]] == ["DINOv2"]
    assert all(line.licence == "Apache 2.0" for lines in chosen.values() for line in lines)
    families = [{line.family for line in lines} for lines in chosen.values()]
    assert not families[0] & families[1]


def test_the_examples_are_names_of_their_own_lines() -> None:
    import open_clip

    examples = {line.name: line.example for line in LINES if line.example is not None}
    for name, example in examples.items():
        line = line_of(example)
        assert line is not None
        assert line.name == name
        assert not is_code(example)
        kind, _, target = example.partition(":")
        if kind == "open_clip":
            assert tuple(target.split("/")) in open_clip.list_pretrained()
