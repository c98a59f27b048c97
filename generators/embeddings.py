"""Embeddings: words that a text encoder learnt, from textual inversion, which prompts may use.

`diffusion` makes them from the config and `pipeline` loads them (Gal et al. 2022, arXiv
2208.01618). It reads safetensors only.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gapclose.generators.configs import Configs
from gapclose.generators.errors import GeneratorConfigError, MemoryOutError
from gapclose.generators.quiet import without_words
from gapclose.generators.weights_file import WeightsFile

__all__ = ["Embedding", "load_embeddings", "read_embeddings"]

_KEY: Final = "generator.embeddings"
_DEFAULT: Final = "learned_embeds.safetensors"  # what diffusers' training writes
# What tools call the vectors of any word; the word is then the file's name.
_UNNAMED: Final = frozenset({"emb_params", "clip_l", "clip_g", "<*>", "*"})
_ENCODERS: Final = ("text_encoder", "text_encoder_2", "text_encoder_3")


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A word and where its vectors are.

    Attributes:
        path: A file that ends in .safetensors, a folder, or a hub id (owner/name).
        token: The word as prompts have it; None is the file's: the name of its tensor, or its own
            where that says nothing.
        weight_name: File of the vectors in a folder or repository.
    """

    path: str
    token: str | None = None
    weight_name: str = _DEFAULT

    @property
    def weights(self) -> WeightsFile:
        """Where its vectors are."""
        return WeightsFile(path=self.path, weight_name=self.weight_name, key=_KEY)

    @property
    def name(self) -> str:
        """What it is called where its file has not been read."""
        return self.token or self.path.replace("\\", "/").rstrip("/").rpartition("/")[2]

    def check(self, configs: Configs) -> None:
        """Refuse a pipeline that takes none, vectors that are not there, and a word that there is.

        Args:
            configs: Of the pipeline.

        Raises:
            GeneratorConfigError: One line that names the culprit and the remedy.
        """
        if (kind := configs.saved_class()) is not None:
            _check_kind(kind)
        self.weights.check()
        if self.weights.file is None:
            return  # loading reads it
        token, _ = self.read()
        _check_token(token, _saved_words(configs))

    def read(self) -> tuple[str, dict[str, Any]]:
        """Return the word and its vectors, (n, width) each, by their names in the file.

        Raises:
            GeneratorConfigError: The file is not there, or holds none.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        file = self.weights.fetched()
        try:
            state = load_file(file)
        except (SafetensorError, OSError) as error:
            raise GeneratorConfigError(
                f"{file.name} cannot be read as safetensors ({error})", key=f"{_KEY}.path"
            ) from None
        vectors = {
            name: its[None] if its.ndim == 1 else its
            for name, its in state.items()
            if its.is_floating_point()
        }
        is_pair = {*vectors} == {"clip_l", "clip_g"}
        if not (is_pair or len(vectors) == 1) or any(its.ndim != 2 for its in vectors.values()):
            raise GeneratorConfigError(
                f"{file.name} is no word of a textual inversion, which is one tensor, or clip_l "
                f"and clip_g; it holds {len(state)}",
                key=f"{_KEY}.path",
            )
        first = min(vectors)
        token = self.token or (file.stem if is_pair or first in _UNNAMED else first)
        _check_text(token)
        return token, vectors


def load_embeddings(pipeline: Any, embeddings: Sequence[Embedding]) -> None:
    """Teach a pipeline of diffusers words.

    Raises:
        GeneratorConfigError: It takes none, or not these; or has a word of that name.
        MemoryOutError: They do not fit into memory.
    """
    for embedding in embeddings:
        _load(pipeline, embedding)


def read_embeddings(options: Sequence[Mapping[str, Any]]) -> tuple[Embedding, ...]:
    """Read the keys of embeddings.

    Raises:
        GeneratorConfigError: One line that names the culprit and the remedy.
    """
    embeddings = []
    for own in options:
        if unknown := {*own} - {*Embedding.__dataclass_fields__}:
            raise GeneratorConfigError(
                f"{min(unknown)} is no key here; path, token and weight_name are", key=_KEY
            )
        if not own.get("path"):
            raise GeneratorConfigError("an embedding needs a path", key=_KEY)
        embedding = Embedding(**{**own, "path": str(own["path"])})
        embedding.weights.check_names()
        if embedding.token is not None:
            _check_text(embedding.token)
        embeddings.append(embedding)
    tokens = [its.token for its in embeddings if its.token is not None]
    for token in tokens:
        if tokens.count(token) > 1:
            raise GeneratorConfigError(
                f"two are called {token!r}; give each a token of its own", key=f"{_KEY}.token"
            )
    return tuple(embeddings)


def _check_kind(kind: type[Any]) -> None:
    if not hasattr(kind, "load_textual_inversion"):
        raise GeneratorConfigError(f"a {kind.__name__} takes none; leave it out", key=_KEY)


def _check_text(token: str) -> None:
    if not isinstance(token, str) or not token or any(letter.isspace() for letter in token):
        raise GeneratorConfigError(
            f"{token!r} is no token; take one word without blanks, such as <frog>",
            key=f"{_KEY}.token",
        )


def _check_token(token: str, words: Collection[str]) -> None:
    """Refuse a word that the tokenizer has: what prompts meant by it would change."""
    for text in {token, token.lower()}:
        # As they end a word in byte pairs, and begin one in sentence pieces.
        if not {text, f"{text}</w>", f"\u2581{text}"}.isdisjoint(words):
            raise GeneratorConfigError(
                f"{token!r} is a word of the tokenizer already; take another, such as <{token}>",
                key=f"{_KEY}.token",
            )


def _saved_words(configs: Configs) -> Collection[str]:
    """Return the words of a saved pipeline's tokenizer; none if they are not at hand."""
    if pairs := configs.read("tokenizer/vocab.json"):
        return pairs
    model = configs.read("tokenizer/tokenizer.json").get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    return words if isinstance(words, dict) else ()


def _load(pipeline: Any, embedding: Embedding) -> None:
    import torch

    kind = type(pipeline).__name__
    _check_kind(type(pipeline))
    token, vectors = embedding.read()
    names = [name for name in _ENCODERS if getattr(pipeline, name, None) is not None]
    if len(names) != len(vectors):
        raise GeneratorConfigError(
            f"{embedding.path} has vectors for {len(vectors)} text encoders, and a {kind} has "
            f"{len(names)}; name an embedding of this family",
            key=f"{_KEY}.path",
        )
    # clip_l is of the first encoder, clip_g of the second.
    for name, (_, own) in zip(names, sorted(vectors.items(), reverse=True), strict=True):
        encoder = getattr(pipeline, name)
        tokenizer = getattr(pipeline, name.replace("text_encoder", "tokenizer"))
        _check_token(token, tokenizer.get_vocab())
        width = encoder.get_input_embeddings().weight.shape[-1]
        if own.shape[-1] != width:
            raise GeneratorConfigError(
                f"{embedding.path} has vectors of {own.shape[-1]} numbers, and the {name} of this "
                f"{kind} has {width}; name an embedding of this family",
                key=f"{_KEY}.path",
            )
        try:
            # Rows of the table are drawn at random before the vectors replace them.
            with torch.random.fork_rng(devices=[]), without_words():
                pipeline.load_textual_inversion(
                    own, token=token, text_encoder=encoder, tokenizer=tokenizer
                )
        except torch.OutOfMemoryError as error:
            raise MemoryOutError(f"{embedding.path} does not fit into memory") from error
