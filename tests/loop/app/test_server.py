"""The App's port: taken before anything slow, and refused in one line."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from make_run import make_run
from typer.testing import CliRunner

from gapclose.loop.app.server import listen, reached_at
from gapclose.loop.cli import app
from gapclose.loop.errors import ConfigError


def test_a_port_in_use_is_one_line_and_exit_2(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", classes=("frog",), per_class=2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = CliRunner().invoke(app, ["app", str(run.path), "--port", str(port)])
    assert said.exit_code == 2
    (line,) = said.stderr.splitlines()
    assert "Address already in use" in line
    assert "--port" in line


def test_a_port_that_was_taken_is_nobody_elses_at_once() -> None:
    with listen("127.0.0.1", 0) as first, pytest.raises(ConfigError, match="in use"):
        listen("127.0.0.1", first.getsockname()[1])


@pytest.mark.parametrize("address", ["256.1.1.1", "no such name", "", "192.0.2.1", "a" * 300])
def test_an_address_that_is_not_this_machines_is_one_line(address: str) -> None:
    with pytest.raises(ConfigError) as error:
        listen(address, 0)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_an_address_is_written_as_a_browser_reads_it() -> None:
    assert [reached_at(a) for a in ("127.0.0.1", "::1", "0.0.0.0", "::", "lab")] == [
        "127.0.0.1",
        "[::1]",
        "localhost",
        "localhost",
        "lab",
    ]
