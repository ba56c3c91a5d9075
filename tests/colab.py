"""``make colab``: a lesson as Colab runs it, as nearly as that can be had elsewhere.

A virtual environment has the versions that Colab lists (``tests/colab.txt``) and no library; a folder that is no
checkout has the lesson, with this repository's last commit for its address. Not for every change: it fetches packages.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

import nbformat

from lessons_lib.comparison import outputs
from lessons_lib.course import REPOSITORY
from lessons_lib.runner import BUILD, SANITIZE, find_lessons
from tests.notebook_rules import INSTALL, code_cells, tags

# what Colab has not: this library, what a lesson installs beside it, and JupyterLab
BESIDE = "foolbox|opentsne|efficientnet_lite0|matplotlib_fontja|captum|torchcam"
LACKING = rf".*(lessons_lib|{BESIDE})|jupyterlab(-|$)|.*\.pth$"
VERSIONS = REPOSITORY / "tests" / "colab.txt"

RUN = """
import sys
import IPython, ipywidgets, matplotlib, nbclient, nbformat, numpy, torch
for package in (IPython, ipywidgets, matplotlib, numpy, torch):
    print(package.__name__, package.__version__, "from", package.__file__)
notebook = nbformat.read(sys.argv[1], as_version=4)
try:
    nbclient.execute(notebook, timeout=600, coalesce_streams=True)
finally:
    nbformat.write(notebook, sys.argv[1])
"""


def environment(folder: Path) -> Path:
    """Set up Colab's versions in ``folder``, and links to what else they import; returns its Python."""
    venv.create(folder, clear=True, with_pip=True)
    python = Path(venv.EnvBuilder().ensure_directories(folder).env_exe)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder)}))
    others = folder / "others"
    others.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not re.match(LACKING, entry.name, re.IGNORECASE):
            (others / entry.name).symlink_to(entry)
    (packages / "others.pth").write_text(str(others))
    command = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*command, "--ignore-installed", "-r", VERSIONS], check=True)
    return python


def main(number: str) -> int:
    """Run a lesson; print which of its outputs are not as stored, and return 1 if a cell failed."""
    python = environment(BUILD / "colab")
    (lesson,) = find_lessons(number)
    notebook = nbformat.read(lesson, as_version=4)
    stored = nbformat.read(lesson, as_version=4)
    for _, cell in code_cells(notebook):
        cell.outputs, cell.execution_count = [], None
    (install,) = [cell for _, cell in code_cells(notebook) if cell.source.startswith(INSTALL)]
    install.source = install.source.replace("https://github.com/OWNER/REPOSITORY", REPOSITORY.as_uri())
    own = ("PYTHON", "LESSONS", "JUPYTER", "IPYTHON")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, lesson.name)
        nbformat.write(notebook, copy)
        command = [python, "-c", RUN, lesson.name]
        failed = subprocess.run(command, cwd=folder, env=variables | {"HOME": folder}, check=False).returncode
        ran = nbformat.read(copy, as_version=4)
    sanitize = outputs.sanitizer(SANITIZE.read_text(encoding="utf-8"))
    compared = [
        (position, outputs.equal(old.outputs, new.outputs, sanitize, by=outputs.compared_by(tags(old))))
        for (position, old), (_, new) in zip(code_cells(stored), code_cells(ran), strict=True)
        if not {"nbval-ignore-output", "nbval-skip"} & set(tags(old))
    ]
    differ = [position for position, same in compared if not same]
    print(
        f"lesson {number}: {len(compared) - len(differ)} of {len(compared)} outputs are as stored;", end=" "
    )
    print("others are cells", *differ) if differ else print("no others")
    return int(bool(failed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.colab", description=__doc__)
    parser.add_argument("--lesson", default="04")
    sys.exit(main(parser.parse_args().lesson))
