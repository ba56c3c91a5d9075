"""Plugin for pytest (``-p tests.nbval_outputs``): nbval allows numbers their uncertainty, and it sees pictures."""

from __future__ import annotations

import os

import nbval.kernel
import pytest
from nbval.plugin import IPyNbCell

from lessons_lib import runner
from lessons_lib.comparison import outputs
from tests import machines

_manager = nbval.kernel.KernelManager
_exactly = IPyNbCell.compare_outputs


def _compare_outputs(cell: IPyNbCell, test, ref, skip_compare=None) -> bool:
    agree = _exactly(cell, outputs.reconciled(ref, test, cell.sanitize), ref, skip_compare)
    by = "size" if _other_seed() else outputs.compared_by(cell.cell.metadata.get("tags", []))
    differences = outputs.picture_differences(ref, test, by=by)
    cell.comparison_traceback += differences
    return agree and not differences


def _other_seed() -> bool:
    """Whether kernels draw otherwise than for the stored outputs: a picture of what was drawn is then another."""
    number = os.environ.get(machines.MACHINE)
    return bool(number and machines.Machine.numbered(int(number)).seed)


@pytest.hookimpl
def pytest_configure() -> None:
    IPyNbCell.compare_outputs = _compare_outputs
    nbval.kernel.KernelManager = lambda **traits: runner.talk_through_files(_manager(**traits))
