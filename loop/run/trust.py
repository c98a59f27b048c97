"""Trust: whether a run folder was made by this user, and may name code to import."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from gapclose.analysis.cache import cache_folder
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.run.files import write_bytes

__all__ = ["origin", "same_origin"]


def origin(config: RunConfig) -> str:
    """A mark that only this user can make, bound to what the config says.

    The secret never leaves the user's own folders, so a run folder from elsewhere cannot
    carry a valid mark, nor can one's own run be given back with other code in its config.
    """
    folder = cache_folder()
    secret = folder / "origin.key"
    try:
        key = secret.read_bytes()
    except FileNotFoundError:
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(secret, secrets.token_bytes(32))
        secret.chmod(0o600)
        key = secret.read_bytes()
    return hmac.new(key, config.fingerprint().encode(), hashlib.sha256).hexdigest()


def same_origin(recorded: str, config: RunConfig) -> bool:
    """Whether a mark was made by this user, for this config."""
    return hmac.compare_digest(recorded, origin(config))
