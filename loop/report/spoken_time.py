"""Times in words and digits: what displays and logs say of spans and of the clock."""

from __future__ import annotations

import time

__all__ = ["clock_time", "countdown", "spoken_seconds"]


def spoken_seconds(seconds: float) -> str:
    """Say a time span: `48s`, `5m 03s`, `7h 12m`."""
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m {whole % 60:02d}s"
    return f"{whole // 3600}h {whole % 3600 // 60:02d}m"


def countdown(seconds: float) -> str:
    """Write a time span in digits: `0:41`, `5:03`, `7:12:00`."""
    whole = round(max(0.0, seconds))
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d}"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d}"


def clock_time(at: float) -> str:
    """Write the time of day of a Unix time: `19:02`."""
    return time.strftime("%H:%M", time.localtime(at))
