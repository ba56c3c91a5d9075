"""Imports run one way, and the *quick* profile reaches for no network."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest
from importlinter.cli import lint_imports

import lessons_lib
from lessons_lib.course import REPOSITORY

# run in a fresh interpreter: an audit hook cannot be removed, and modules must be imported for the first time
OFFLINE = """
import sys

def no_network(event, args):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}:
        raise RuntimeError(f"{event} {args[-1]}")

sys.addaudithook(no_network)
"""

MODULES = [
    module.name
    for module in pkgutil.walk_packages(lessons_lib.__path__, "lessons_lib.")
    if not module.name.endswith("__main__")
]

# everything the quick profile loads: one line for each loader, no larger than it must be
QUICK = """
from lessons_lib import course
from lessons_lib.data import critters, digits, photos
from lessons_lib.models import checkpoints, imagenet
from lessons_lib.models.small_cnn import SmallCNN
from lessons_lib.models.zfnet import SmallZFNet

assert not course.setup("quick").full
critters.generate(2)
digits.load()
photos.photo("chelsea")
photos.textures(2)
photos.views(2)
checkpoints.restore(SmallCNN(), "small_cnn_cifar10")
checkpoints.restore(SmallZFNet(), "zfnet_cifar10")
imagenet.load()
"""


def offline(statements: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", OFFLINE + statements]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)


def test_imports_run_one_way(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(REPOSITORY)
    assert lint_imports(no_cache=True, no_logo=True) == 0, capsys.readouterr().out


def test_quick_reaches_for_no_network():
    result = offline("\n".join(f"import {module}" for module in MODULES) + QUICK)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "statement",
    [
        "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
        "import requests; requests.get('http://a.test')",
    ],
)
def test_a_reach_for_the_network_would_be_noticed(statement: str):
    assert "RuntimeError: socket." in offline(statement).stderr
