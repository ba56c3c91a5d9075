"""What tests share: the archives where there are any, a place for figures, and a network with a state to keep."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from lessons_lib.models.small_cnn import SmallCNN


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("archives") and not os.environ.get("LESSONS_ARCHIVES"):
        pytest.skip("LESSONS_ARCHIVES is not set: it names a folder with cifar10.tgz and the other archives")


@pytest.fixture
def archives() -> Path:
    """The folder of real archives; mark the test with ``pytest.mark.archives``."""
    return Path(os.environ["LESSONS_ARCHIVES"])


@pytest.fixture
def no_open_figures() -> Iterator[None]:
    """For tests of figures: an IPython to show them in, and none left open."""
    InteractiveShell.instance()
    yield
    plt.close("all")


@pytest.fixture
def model() -> SmallCNN:
    """A network whose modules have mixed training flags and whose parameters have gradients."""
    torch.manual_seed(0)
    model = SmallCNN()
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    model.block2.eval()
    return model
