"""Weight files: where a model's lie, that they are safe to read, and their fingerprint.

embedding.py, captioner.py, language_model.py and the wrappers call it. It imports neither torch
nor a model library, asks the hub at most for a file's header, downloads only for a wrapper, and
refuses pickles.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import mmap
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from gapclose.analysis.errors import EmbedderError
from gapclose.analysis.onnx_data import external_files

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

PICKLES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".ckpt"})
_HUB_ID: Final = re.compile(r"[\w][\w.-]*/[\w][\w.-]*(?:@[\w./-]+)?")
# open_clip prefers these two over any pickle that lies beside them (factory.py).
_CLIP_WEIGHTS: Final = ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors")
ReadBy = Literal["image processor", "tokenizer"]
# What turns images or words into what a model reads, and where it lies: one of these is enough.
_READ_BY: Final[Mapping[ReadBy, tuple[str, ...]]] = {
    "image processor": ("preprocessor_config.json", "processor_config.json"),
    "tokenizer": ("tokenizer_config.json", "tokenizer.json"),
}
# Tokenizers, chat templates, settings.
_TEXT_FILES: Final = frozenset({".json", ".jinja", ".txt", ".model"})
_DOWNLOAD: Final = "download it elsewhere and give its folder, transformers:PATH"
_SECONDS: Final = 10.0  # to wait for the hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One file that an embedder's rows depend on.

    Attributes:
        path: Where it lies, or None if it is still on the hub.
        etag: What the hub calls its content, or None to have the file itself hashed.
    """

    path: Path | None
    etag: str | None = None


def fingerprint(sources: Sequence[Source]) -> str:
    """Hash the contents of all sources by sha256: 64 hex digits."""
    total = hashlib.sha256()
    for source in sources:
        total.update((source.etag or "").encode())
        # A blob of the hub's cache is named by its etag: no need to read gigabytes.
        if source.path is not None and (source.etag is None or source.path.suffix == ".py"):
            stat = source.path.stat()
            total.update(_sha256(source.path, stat.st_size, stat.st_mtime_ns).encode())
        total.update(b"\n")
    return total.hexdigest()


@cache
def _sha256(path: Path, size_bytes: int, changed_ns: int) -> str:
    """Hash a file; size and time only make the memory of it forget a changed file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---------------------------------------------------------------- local files


def onnx_sources(name: str, path: Path) -> tuple[Source, ...]:
    """List an ONNX graph and the files of external data that it names.

    Raises:
        EmbedderError: It is no such graph, or names data that are missing or lie outside of its
            folder.
    """
    if path.is_dir() or not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise EmbedderError(f"{path} {what}; give the path of an .onnx file", name=name)
    if path.stat().st_size == 0:
        raise EmbedderError(f"{path} is empty; export the model again", name=name)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as raw:
        missing = [word for word in ("pixels", "features") if raw.find(word.encode()) < 0]
        try:
            named = set() if missing else external_files(raw)
        except ValueError as error:
            raise EmbedderError(
                f"not an ONNX graph: {error}; export the model again", name=name
            ) from error
    if missing:
        raise EmbedderError(
            f"{path} names no {' and no '.join(missing)}; export it with an "
            "input `pixels` (n,3,h,w) in [0,1] and an output `features`",
            name=name,
        )
    beside = [_onnx_data(name, path, file) for file in sorted(named)]
    return tuple(Source(path=file) for file in [path, *beside])


def _onnx_data(name: str, path: Path, file: str) -> Path:
    """Find a file of external data; links may lead where the model's own link leads."""
    data = path.parent / file
    folders = {path.parent.resolve(), path.resolve().parent}
    if "\0" in file or not any(data.resolve().is_relative_to(folder) for folder in folders):
        raise EmbedderError(
            f"{path} names data outside of its folder ({file!r}); export it with its data beside "
            "it",
            name=name,
        )
    if not data.is_file():
        raise EmbedderError(
            f"{path} names data in {file!r}, which is no file beside it; put it there", name=name
        )
    return data


def open_clip_folder_sources(name: str, folder: Path) -> tuple[Source, ...]:
    """List configuration and weights of a folder in open_clip's own format."""
    _need_folder(name, folder)
    config = folder / "open_clip_config.json"
    model = _read_json(name, config).get("model_cfg")
    if not isinstance(model, dict):
        raise EmbedderError(f"{config} has no model_cfg; save the model again", name=name)
    text = model.get("text_cfg")
    options = text.get("tokenizer_kwargs") if isinstance(text, dict) else None
    if isinstance(options, dict) and "trust_remote_code" in options:
        raise EmbedderError(
            f"{config} would have a tokenizer's own code run (trust_remote_code), which is "
            "refused; leave it out",
            name=name,
        )
    return Source(path=config), Source(path=_clip_weights(name, folder))


def _clip_weights(name: str, folder: Path) -> Path:
    for candidate in _CLIP_WEIGHTS:
        if (folder / candidate).is_file():
            return folder / candidate
    safe, pickled = sorted(folder.glob("*.safetensors")), _pickles(folder)
    if pickled or len(safe) != 1:
        found = ", ".join(path.name for path in [*safe, *pickled]) or "none"
        raise EmbedderError(
            f"{folder} needs its weights as {_CLIP_WEIGHTS[0]} "
            f"(found: {found}; pickled weights are refused)",
            name=name,
        )
    return safe[0]


def transformers_sources(
    name: str, target: str, *, read_by: ReadBy = "image processor"
) -> tuple[Source, ...]:
    """List configuration, preprocessing and weights of a local folder or a hub model.

    A model of text alone has no image processor, and is read by its tokenizer.
    """
    folder = Path(target).expanduser()
    if folder.exists() or not _HUB_ID.fullmatch(target):
        return _transformers_folder_sources(name, folder, read_by)
    repo, _, revision = target.partition("@")
    hub = Hub(name=name, repo=repo, revision=revision or None, remedy=_DOWNLOAD)
    config = hub.find("config.json")
    processor = hub.find(*_READ_BY[read_by])
    return config, processor, hub.find("model.safetensors", "model.safetensors.index.json")


def writer_sources(name: str, target: str) -> tuple[Source, ...]:
    """List all that the words of a model that writes depend on, of a local folder or the hub.

    Those of `transformers_sources`, and the tokenizer, the chat template and the generation
    settings: of a folder every file of text at its top, of a hub model the commit.
    """
    sources = transformers_sources(name, target)
    folder = Path(target).expanduser()
    if folder.is_dir():
        known = {source.path for source in sources}
        beside = [path for path in sorted(folder.iterdir()) if path.suffix in _TEXT_FILES]
        return (*sources, *(Source(path=path) for path in beside if path not in known))
    repo, _, revision = target.partition("@")
    hub = Hub(name=name, repo=repo, revision=revision or None, remedy=_DOWNLOAD)
    return (*sources, Source(path=None, etag=hub.commit()))


def _transformers_folder_sources(name: str, folder: Path, read_by: ReadBy) -> tuple[Source, ...]:
    _need_folder(name, folder)
    _read_json(name, folder / "config.json")
    files = _READ_BY[read_by]
    processors = [folder / file for file in files if (folder / file).is_file()]
    if not processors:
        raise EmbedderError(f"{folder} has no {files[0]}; save its {read_by} there", name=name)
    safe = sorted(folder.glob("model*.safetensors"))
    if not safe:
        found = ", ".join(path.name for path in _pickles(folder)) or "none"
        raise EmbedderError(
            f"{folder} needs its weights as model.safetensors (found: {found}; "
            "pickled weights are refused)",
            name=name,
        )
    return tuple(Source(path=path) for path in [folder / "config.json", *processors, *safe])


def _need_folder(name: str, folder: Path) -> None:
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise EmbedderError(f"{folder} {what}; give the model's folder", name=name)


def _read_json(name: str, path: Path) -> Mapping[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EmbedderError(
            f"{path.parent} has no {path.name}; give the folder of a saved model",
            name=name,
        ) from error
    except ValueError as error:
        raise EmbedderError(
            f"{path} is damaged; save the model again",
            name=name,
        ) from error
    return read if isinstance(read, dict) else {}


def _pickles(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in PICKLES)


# ---------------------------------------------------------------- the hub


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """One repository on the model hub, as an embedder's name asks for it.

    Attributes:
        name: The embedder's name, for messages.
        repo: `organisation/model`.
        revision: Branch, tag or commit; None is the main branch.
        remedy: What to do when the hub cannot be reached.
    """

    name: str
    repo: str
    revision: str | None
    remedy: str

    def find(self, *filenames: str) -> Source:
        """Find the first of several files that is in the local cache, or else on the hub.

        Raises:
            EmbedderError: If there is none, or the hub cannot be reached.
        """
        from huggingface_hub import try_to_load_from_cache

        for filename in filenames:
            cached = try_to_load_from_cache(self.repo, filename, revision=self.revision)
            if isinstance(cached, str):
                blob = Path(cached).resolve().name
                return Source(path=Path(cached), etag=None if blob == filename else blob)
        for filename in filenames:
            told = self._ask(filename)
            if told is not None:
                return Source(path=None, etag=told.etag or "")
        raise EmbedderError(
            f"{self.repo} has no {' or '.join(filenames)} on the model "
            "hub (pickled weights are refused)",
            name=self.name,
        )

    def download(self, filename: str) -> Path:
        """Fetch a file into the hub's own cache, or find it there."""
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(self.repo, filename, revision=self.revision))

    def commit(self) -> str:
        """Name the commit of the repository: of the copy in the local cache, or else the hub's.

        Raises:
            EmbedderError: If the hub cannot be reached.
        """
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(self.repo, "config.json", revision=self.revision)
        if isinstance(cached, str):
            return Path(cached).parent.name  # .../snapshots/<commit>/config.json
        told = self._ask("config.json")
        return (told and told.commit_hash) or ""

    def _ask(self, filename: str) -> HfFileMetadata | None:
        """Ask for what the hub says of a file; None if the repository lacks it."""
        from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_url

        # The hub client's network errors come from a library it has changed before.
        network: tuple[type[Exception], ...] = (OSError, getattr(errors, "HTTPError", OSError))
        try:
            if constants.HF_HUB_OFFLINE:
                raise ConnectionError("HF_HUB_OFFLINE is set")
            url = hf_hub_url(self.repo, filename, revision=self.revision)
            return get_hf_file_metadata(url, timeout=_SECONDS)
        except errors.GatedRepoError as error:
            raise EmbedderError(
                f"{self.repo} asks for a login on the hub; {self.remedy}", name=self.name
            ) from error
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise EmbedderError(
                f"{self.repo} (revision {self.revision or 'main'}) is not on the model hub; check "
                f"the name, or {self.remedy}",
                name=self.name,
            ) from error
        except errors.EntryNotFoundError:
            return None
        except errors.HFValidationError as error:
            raise EmbedderError(
                f"{self.repo} is no valid hub id; {self.remedy}", name=self.name
            ) from error
        except network as error:
            raise EmbedderError(
                f"{self.repo} is not in the local cache and the model hub cannot be reached; "
                f"{self.remedy}",
                name=self.name,
            ) from error


# ---------------------------------------------------------------- open_clip's table of weights


@dataclass(frozen=True, slots=True, kw_only=True)
class Tagged:
    """A model of open_clip's table.

    Attributes:
        architecture: open_clip's name, `ViT-B-32`.
        tag: open_clip's name of the weights, `laion2b_s34b_b79k`.
        filename: The weights' file on the hub.
        hub: The repository that holds it.
    """

    architecture: str
    tag: str
    filename: str
    hub: Hub


def open_clip_tag_sources(name: str, target: str) -> tuple[Source, ...]:
    """List the weights of `NAME/TAG` from open_clip's table."""
    tagged = find_tag(name, target)
    return (tagged.hub.find(tagged.filename),)


def find_tag(name: str, target: str) -> Tagged:
    """Find `NAME/TAG` in open_clip's table.

    Raises:
        EmbedderError: If either is unknown (the nearest is named) or the weights are pickled only.
    """
    architecture, _, tag = target.rpartition("/")
    table = _open_clip_table()
    if architecture not in table:
        (near,) = get_close_matches(architecture or tag, table, n=1, cutoff=0.0)
        known = next(iter(table[near]))
        raise EmbedderError(
            f"open_clip has no weights for {architecture or tag!r}; did you "
            f"mean 'open_clip:{near}/{known}'? A folder is open_clip:local-dir:PATH",
            name=name,
        )
    entry = table[architecture].get(tag.lower().replace("-", "_"))
    if entry is None:
        (near,) = get_close_matches(tag, table[architecture], n=1, cutoff=0.0)
        raise EmbedderError(
            f"open_clip has no weights {tag!r} of {architecture}; did you mean "
            f"'open_clip:{architecture}/{near}'?",
            name=name,
        )
    repo, _, filename = entry.get("hf_hub", "").rpartition("/")
    filename = re.sub(r"\.(bin|pth)$", ".safetensors", filename) or _CLIP_WEIGHTS[0]
    if not repo or not filename.endswith(".safetensors"):
        raise EmbedderError(
            "these weights exist only pickled, which is refused; convert them "
            "to safetensors and give open_clip:local-dir:PATH",
            name=name,
        )
    remedy = "download it elsewhere and give its folder, open_clip:local-dir:PATH"
    hub = Hub(name=name, repo=repo, revision=None, remedy=remedy)
    return Tagged(architecture=architecture, tag=tag, filename=filename, hub=hub)


@cache
def _open_clip_table() -> Mapping[str, Mapping[str, Mapping[str, Any]]]:
    """Read open_clip's table of weights without importing it (10 s, and torch with it).

    Only the table's own statements of `open_clip/pretrained.py` are run: assignments, the small
    functions that fill in defaults, and the loop that adds the quickgelu names.
    """
    spec = importlib.util.find_spec("open_clip")
    if spec is None or not spec.submodule_search_locations:
        raise EmbedderError("embedder: open_clip is not installed; pip install open_clip_torch")
    package = Path(next(iter(spec.submodule_search_locations)))
    names: dict[str, Any] = {}
    exec(compile((package / "constants.py").read_text(), "constants.py", "exec"), names)
    tree = ast.parse((package / "pretrained.py").read_text(encoding="utf-8"))
    kept = [
        node
        for node in tree.body
        if isinstance(node, ast.Assign | ast.For)
        or (
            isinstance(node, ast.FunctionDef) and node.name.endswith("cfg") and node.name[0] == "_"
        )
        or (isinstance(node, ast.Import) and node.names[0].name == "copy")
        or (isinstance(node, ast.Expr) and "_PRETRAINED" in ast.unparse(node))
    ]
    module = ast.Module(body=list(kept), type_ignores=[])
    exec(compile(module, "pretrained.py", "exec"), names)
    table: Mapping[str, Mapping[str, Mapping[str, Any]]] = names["_PRETRAINED"]
    return table
