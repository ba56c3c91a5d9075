"""``pip install`` is enough: a wheel carries the networks and the records, and lesson 04 runs where no checkout is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbformat import v4

from lessons_lib.comparison import outputs
from lessons_lib.course import CHECKPOINTS, REPOSITORY
from lessons_lib.runner import SANITIZE, find_lessons
from tests.notebook_rules import tags

BUILT_FROM = (
    "pyproject.toml",
    "setup.py",
    "README.md",
    "LICENSE",
    "lessons_lib",
    "tests",
    "data/checkpoints",
)

# what the lesson does not use; what needs the repository says so, and what grows goes to the user's cache
REST = """
import json, lessons_lib
from lessons_lib import recipes, records, runner
models.checkpoints.restore(models.SmallCNN(), "small_cnn_cifar10")
before = records.read("01_cifar_activations")
records.once("01_cifar_activations", {"run": "of a test"}, dict)
print(json.dumps({
    "library": lessons_lib.__file__,
    "data": str(course.data_folder()),
    "networks": models.checkpoints.names(),
    "rows": [len(before), len(records.read("01_cifar_activations"))],
    "refused": [runner.main(["course"]), recipes.main(["small_cnn_cifar10"])],
}))
"""
RUN = """
import nbclient, nbformat
notebook = nbformat.read("lesson.ipynb", as_version=4)
nbclient.execute(notebook, coalesce_streams=True)
nbformat.write(notebook, "lesson.ipynb")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the setuptools beside this test, without a network, from a copy with things that do not belong."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in (*BUILT_FROM, "data/records"):
        copy = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        (source / name).parent.mkdir(exist_ok=True)
        copy(REPOSITORY / name, source / name)
    for name in ("notebooks/01.ipynb", "data/cache/cifar10-train.safetensors", "build/lab/page.html"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("not for a wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--no-index",
    ]
    subprocess.run([*command, "--wheel-dir", built, source], check=True)
    (found,) = built.iterdir()
    return found


def test_the_wheel_carries_the_library_its_networks_and_records_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {path.relative_to(REPOSITORY) for path in (REPOSITORY / "lessons_lib").rglob("*.py")}
    networks = {path.relative_to(CHECKPOINTS.parent) for path in CHECKPOINTS.rglob("*.*")}
    records = {path.relative_to(REPOSITORY / "data") for path in (REPOSITORY / "data").glob("records/*.json")}
    shipped = {Path("lessons_lib", "shipped", path) for path in networks | records}
    assert names == {path.as_posix() for path in modules | shipped}
    assert len(networks) > 1
    assert records


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that has the wheel, and the dependencies of this test's environment."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    python = Path(venv.EnvBuilder().ensure_directories(folder).env_exe)
    # a line in a .pth file adds this test's packages, but not their .pth files, one of which adds the checkout
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--offline"]
    subprocess.run([*command, "--python", python, wheel], check=True)
    return python


def test_lesson_04_runs_in_an_empty_folder(installed: Path, tmp_path: Path):
    """Its first two steps, as stored; the others need nothing else, and a minute."""
    (lesson,) = find_lessons("04")
    stored = nbformat.read(lesson, as_version=4)
    end = next(i for i, cell in enumerate(stored.cells) if cell.source.startswith("## 3 "))
    notebook = v4.new_notebook(cells=[*stored.cells[:end], v4.new_code_cell(REST)], metadata=stored.metadata)
    nbformat.write(notebook, tmp_path / "lesson.ipynb")
    own = ("PYTHON", "LESSONS", "JUPYTER", "IPYTHON")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    (tmp_path / "home").mkdir()
    variables |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([installed, "-c", RUN], cwd=tmp_path, env=variables, check=True)

    *cells, last = nbformat.read(tmp_path / "lesson.ipynb", as_version=4).cells
    sanitize = outputs.sanitizer(SANITIZE.read_text(encoding="utf-8"))
    for old, new in zip(stored.cells[:end], cells, strict=True):
        if old.cell_type == "code" and not {"nbval-ignore-output", "nbval-skip"} & set(tags(old)):
            by = outputs.compared_by(tags(old))
            assert outputs.equal(old.outputs, new.outputs, sanitize, by=by), old.source
    found = json.loads(next(o.text for o in last.outputs if o.get("name") == "stdout"))
    assert Path(found["library"]).is_relative_to(installed.parents[1])
    assert not Path(found["data"]).is_relative_to(installed.parents[1])
    if sys.platform == "linux":
        assert Path(found["data"]) == tmp_path / "cache" / "lessons-lib"
    assert found["networks"] == sorted(path.name for path in CHECKPOINTS.iterdir())
    assert found["rows"][1] == found["rows"][0] + 1 > 1
    assert found["refused"] == [2, 1]
