"""Faults: the line that a person reads when the machine is to blame."""

from __future__ import annotations

import errno

import pytest

from gapclose.generators.errors import GenerationError
from gapclose.loop.errors import MachineError, UnwritableError
from gapclose.loop.run.faults import machines_fault, machines_fault_raised


def test_a_disk_that_fails_while_it_is_read_is_not_said_to_be_written() -> None:
    fault = machines_fault(OSError(errno.EIO, "Input/output error", "photo.jpg"))
    assert str(fault) == (
        "photo.jpg: Input/output error; look at the disk, then the same command goes on"
    )
    full = machines_fault(OSError(errno.ENOSPC, "No space left on device", "a.png"))
    assert isinstance(full, UnwritableError)


def test_what_the_machine_is_to_blame_for_is_raised_as_an_error_of_ours() -> None:
    for error in (MemoryError(), RuntimeError("CUDA error: unspecified launch failure")):
        with pytest.raises(MachineError) as told, machines_fault_raised():
            raise error
        assert told.value.__cause__ is error
        assert machines_fault(told.value) is told.value  # said once, however often it is asked


@pytest.mark.parametrize(
    "error", [GenerationError("a recipe"), UnwritableError(errno.EROFS, "x", "y")]
)
def test_what_is_ours_or_no_fault_of_the_machine_is_let_through(error: Exception) -> None:
    with pytest.raises(type(error)) as told, machines_fault_raised():
        raise error
    assert told.value is error
