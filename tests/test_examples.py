"""The examples in docstrings give what they say."""

import doctest
import importlib
import pkgutil

import pytest

import lessons_lib
import tests.code_lines

MODULES = [
    found.name
    for found in pkgutil.walk_packages(lessons_lib.__path__, "lessons_lib.")
    if not found.name.endswith("__main__")
]


@pytest.mark.parametrize("name", [*MODULES, tests.code_lines.__name__])
def test_examples(name: str):
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert not failed


@pytest.mark.parametrize("name", ["lessons_lib.networks.hooks", "lessons_lib.statistics"])
def test_there_are_examples_to_run(name: str):
    assert doctest.testmod(importlib.import_module(name)).attempted
