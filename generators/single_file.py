"""Single files: all weights of a pipeline in one .safetensors, as models are passed on.

`checkpoint` asks which pipeline a file is of, `loading` has it read by diffusers'
`from_single_file`. Such a file holds no configs: they are those of a pipeline of the same family.
It reads no pickle, and no weights that the configs' folder has as pickles.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gapclose.generators.configs import Configs
from gapclose.generators.errors import GeneratorConfigError, MemoryOutError
from gapclose.generators.model_files import check_weights, is_pickle, part_class
from gapclose.generators.quiet import without_words

if TYPE_CHECKING:
    import torch

__all__ = ["check_file", "family_of", "is_single_file", "read_single_file"]

_KEY: Final = "generator.model"
_SUFFIX: Final = ".safetensors"
_DENOISER: Final = "model.diffusion_model.input_blocks."
# What diffusers itself fetches of a pipeline whose weights are elsewhere.
_CONFIGS: Final = ["**/*.json", "*.json", "*.txt", "**/*.txt", "**/*.model"]


@dataclass(frozen=True, slots=True)
class _Shape:
    """What of a tensor tells families apart."""

    shape: tuple[int, ...]


def is_single_file(model: str) -> bool:
    """Return whether a model's name is one of a file, of a kind that is read or refused."""
    path = Path(model).expanduser()
    if path.is_dir():
        return False
    return path.suffix.lower() in (_SUFFIX, ".gguf") or is_pickle(path) or path.is_file()


def check_file(file: Path) -> None:
    """Refuse a file that is not there, or is no safetensors.

    Raises:
        GeneratorConfigError: One line that names the culprit and the remedy.
    """
    if is_pickle(file):
        raise GeneratorConfigError(
            f"{file.name} is a pickle, which runs code when it is read; where you trust it, write "
            "it once as safetensors: CLASS.from_single_file(FILE).save_pretrained(FOLDER) of its "
            "class in diffusers, and name that folder",
            key=_KEY,
        )
    if not file.is_file():
        raise GeneratorConfigError(f"there is no file {file}", key=_KEY)
    if file.suffix.lower() != _SUFFIX:
        raise GeneratorConfigError(
            f"{file.name} is a single file of a kind that is not read; name one that ends in "
            f"{_SUFFIX}, or a folder that save_pretrained wrote",
            key=_KEY,
        )
    _shapes(file)


def family_of(file: Path) -> str | None:
    """Return the hub id of a pipeline that has a file's weights, as diffusers tells by them.

    Returns:
        None for what is no file of weights, or of none that it knows.
    """
    try:
        shapes = _shapes(file)
    except GeneratorConfigError:
        return None
    from diffusers.loaders import single_file_utils

    untyped: Any = single_file_utils
    try:
        kind = untyped.infer_diffusers_model_type(shapes)
    except (KeyError, IndexError, UnboundLocalError):  # by its keys one of a family, by others not
        return None
    # What it knows not at all it calls the first Stable Diffusion.
    if kind == "v1" and not any(name.startswith(_DENOISER) for name in shapes):
        return None
    return str(untyped.fetch_diffusers_config(shapes)["pretrained_model_name_or_path"])


def _shapes(file: Path) -> Mapping[str, _Shape]:
    if is_pickle(file) or not file.is_file():
        raise GeneratorConfigError(f"{file} is no file of weights", key=_KEY)
    its = file.stat()
    return _read_shapes(file, its.st_size, its.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read_shapes(file: Path, size: int, changed: int) -> Mapping[str, _Shape]:
    """Read the shapes of a file's tensors from its header; of the same file once."""
    from safetensors import SafetensorError, safe_open

    del size, changed
    try:
        with safe_open(file, framework="pt") as found:
            names = [*found.keys()]  # no mapping: it has no iteration of its own
            return {name: _Shape(tuple(found.get_slice(name).get_shape())) for name in names}
    except (SafetensorError, OSError) as error:
        raise GeneratorConfigError(
            f"{file.name} cannot be read as safetensors ({error}); take it again from where it "
            "was published",
            key=_KEY,
        ) from None


def read_single_file(
    file: Path,
    configs: Configs,
    *,
    device: torch.device,
    dtype: torch.dtype,
    parts: Mapping[str, Any],
) -> Any:
    """Read a pipeline, the weights from a file and everything else from where its configs are.

    Args:
        file: Of the weights.
        configs: Of a pipeline of the same family.
        device: Where it is to compute.
        dtype: Of the weights; the autoencoder's are float32.
        parts: That are loaded already, or None where one is left out.

    Raises:
        GeneratorConfigError: If the file is not of that family, or has not all of its weights.
        MemoryOutError: If it does not fit into memory.
    """
    import torch
    from diffusers.loaders import single_file_utils
    from safetensors import SafetensorError

    check_file(file)
    kind = configs.saved_class()
    if kind is None or not hasattr(kind, "from_single_file"):
        raise GeneratorConfigError(
            f"diffusers reads no single file as a {getattr(kind, '__name__', 'pipeline')}; name a "
            "folder that save_pretrained wrote",
            key=_KEY,
        )
    folder = _folder_of(configs)
    where: dict[str, Any] = {"config": str(folder), "local_files_only": True}
    own = {**parts}
    # A file has no safety checker; without this the pipeline would say so.
    if "safety_checker" in configs.parts() and "safety_checker" not in own:
        own |= {"safety_checker": None, "requires_safety_checker": False}
    missing: Any = single_file_utils.SingleFileComponentError
    try:
        with without_words():
            if dtype != torch.float32 and "vae" in configs.parts() and "vae" not in own:
                vae: Any = part_class(*configs.parts()["vae"], key=_KEY)
                if hasattr(vae, "from_single_file"):
                    own["vae"] = vae.from_single_file(
                        str(file), subfolder="vae", torch_dtype=torch.float32, **where
                    )
            return kind.from_single_file(str(file), torch_dtype=dtype, **where, **own).to(device)
    except torch.OutOfMemoryError as error:
        raise MemoryOutError(f"{file.name} does not fit into memory") from error
    except missing as error:
        raise _lacking(file, kind, error) from error
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        if "meta tensor" in said:  # memory of its own is given to what is read alone
            said = "it lacks some of its weights"
        raise GeneratorConfigError(
            f"{file.name} cannot be read as a {kind.__name__}: {said}; name as config a folder or "
            "hub id of its own family",
            key=_KEY,
        ) from error


def _folder_of(configs: Configs) -> Path:
    """Return the local folder of configs, fetched from the hub where they are not in its cache."""
    folder = configs.folder
    if folder is None:
        from huggingface_hub import snapshot_download

        assert configs.source is not None, "it was found"
        configs.ask()
        folder = Path(
            snapshot_download(configs.source, revision=configs.revision, allow_patterns=_CONFIGS)
        )
    for name, (library, kind) in configs.parts().items():
        if kind is not None:
            part_class(library, kind, key=configs.key)
        if (folder / name).is_dir():  # weights that the file lacks are read from here
            check_weights(folder / name, key=configs.key)
    return folder


def _lacking(file: Path, kind: type[Any], error: Exception) -> GeneratorConfigError:
    named = re.search(r"^(\w+) = ", str(error), re.M)
    part = named[1] if named else "vae"
    return GeneratorConfigError(
        f"{file.name} has no weights of the {part} of a {kind.__name__}; name a folder or hub id "
        f"that has one in components: {{{part}: ...}}",
        key=_KEY,
    )
