"""Trust: whether a run folder was made by this user, and may name code to import."""

from __future__ import annotations

import hashlib
import hmac
import secrets

from gapclose.analysis.cache import cache_folder
from gapclose.loop.config.identity import fingerprint
from gapclose.loop.config.schema import RunConfig
from gapclose.loop.errors import ConfigError, RunDamagedError
from gapclose.loop.run.files import write_bytes
from gapclose.loop.run.folder import RunDir

__all__ = ["check_trust", "made_here", "origin"]


def check_trust(run: RunDir, config: RunConfig, *, trust: bool) -> None:
    """Let the code that a config names be found.

    Args:
        run: The run that the config is of, or is to be of.
        config: What names the code.
        trust: Let it be found wherever the run was made.

    Raises:
        ConfigError: It is named by a run from elsewhere, and is not to be trusted.
    """
    code = config.names_code()
    if code and not trust and run.config_path.is_file() and not made_here(run):
        raise ConfigError(
            f"was made elsewhere and names code to import ({', '.join(code)}); if you trust "
            "whoever made it, add --trust",
            where=run.config_path,
        )
    config.admit_code()


def made_here(run: RunDir) -> bool:
    """Return whether this user's gapclose made the run, with the config it now has.

    A run folder from elsewhere may name code to import; only its owner is trusted to.
    """
    try:
        recorded = str(run.read_json("environment.json").get("origin", ""))
    except (FileNotFoundError, RunDamagedError):
        return False
    return hmac.compare_digest(recorded, origin(run.config()))


def origin(config: RunConfig) -> str:
    """Return a mark that only this user can make, bound to what the config says.

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
    return hmac.new(key, fingerprint(config).encode(), hashlib.sha256).hexdigest()
