"""The Hugging Face hub: what is in its cache, and whether it has what a config names.

`checkpoint` and `ip_adapter` ask it before anything loads. It fetches no file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gapclose.generators.errors import GeneratorConfigError

_SECONDS: Final = 10.0


def cached_file(model: str, name: str, *, revision: str | None = None) -> Path | None:
    """Return a file of a hub id that is in the hub's cache, else None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(model, name, revision=revision)
    return Path(found) if isinstance(found, str) else None


def ask_hub(
    model: str, name: str, *, revision: str | None = None, key: str = "generator.model"
) -> None:
    """Ask the hub for a file that is not in its cache, without fetching it.

    Args:
        model: Hub id.
        name: The file.
        revision: Commit or tag.
        key: The key of the config that names the hub id.

    Raises:
        GeneratorConfigError: If it is not there, or the hub cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if cached_file(model, name, revision=revision) is not None:
        return
    try:
        get_hf_file_metadata(hf_hub_url(model, name, revision=revision), timeout=_SECONDS)
    except GatedRepoError:
        remedy = "accept its terms on the hub and log in with `hf auth login`"
        raise GeneratorConfigError(f"{model} is gated; {remedy}", key=key) from None
    except RevisionNotFoundError:
        raise GeneratorConfigError(
            f"the hub's {model} has no revision {revision!r}",
            key="generator.revision",
        ) from None
    except RemoteEntryNotFoundError:
        raise GeneratorConfigError(
            f"the hub's {model} has no file {name}; its page on the hub lists those that it has",
            key=key,
        ) from None
    except (RepositoryNotFoundError, HfHubHTTPError, OSError) as error:
        raise _unreachable(model, name, key, error) from None
    except Exception as error:
        # The hub's client lets its HTTP library's errors through, and which library that is has
        # changed between its versions.
        if not type(error).__module__.startswith(("httpx", "requests")):
            raise
        raise _unreachable(model, name, key, error) from None


def fetched_file(model: str, name: str, *, revision: str | None = None) -> Path:
    """Return a small file of a hub id, fetched into the hub's cache where it is not there.

    Raises:
        GeneratorConfigError: As `ask_hub`.
    """
    ask_hub(model, name, revision=revision)
    if (found := cached_file(model, name, revision=revision)) is not None:
        return found
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(model, name, revision=revision))
    except Exception as error:  # noqa: BLE001 - its HTTP library's errors come through
        raise _unreachable(model, name, "generator.model", error) from None


def _unreachable(model: str, name: str, key: str, error: Exception) -> GeneratorConfigError:
    what = str(error).strip().splitlines()
    return GeneratorConfigError(
        f"{model} is not in the hub's cache and cannot be fetched "
        f"({what[0] if what else type(error).__name__}); download it elsewhere and set "
        f"{key} to the local folder that holds its {name}",
        key=key,
    )
