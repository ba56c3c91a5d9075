"""What README shows can be run, and one command gives a copy of the repository its address."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import pytest
from PIL import Image

from lessons_lib.course import REPOSITORY
from lessons_lib.runner import find_lessons

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
OWN = README.partition("## On your own network\n")[2].partition("\n## ")[0]
RECIPES = re.findall(r"```python\n(.*?)```", OWN, re.DOTALL)
LONGEST = 5  # lines, with the imports


def test_recipes_are_short():
    assert len(RECIPES) == 6
    first, *recipes = ([line for line in recipe.splitlines() if line] for recipe in RECIPES)
    assert len(first) == 4
    assert all(len(recipe) <= LONGEST for recipe in recipes[:-1])
    # the last is another program's, which has none of this library
    assert "lessons_lib" not in RECIPES[-1]


def test_the_recipes_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for recipe in RECIPES:
        exec(recipe, names)
    plt.close("all")
    for name in ("map.png", "patches.png"):
        with Image.open(name) as picture:
            assert all(low < high for low, high in picture.convert("RGB").getextrema()), name
    cam, centre, answers = capsys.readouterr().out.splitlines()[-3:]
    assert re.fullmatch(r"0\.\d+ \[0\.\d+, 0\.\d+\]", cam)
    assert re.fullmatch(r"0\.\d+ \[0\.\d+, 0\.\d+\]", centre)
    top: list[int] = names["top"].tolist()  # type: ignore[attr-defined]
    assert answers == str([names["classes"][k] for k in top])  # type: ignore[index]


@pytest.mark.parametrize(
    "address",
    [
        lambda name: f"colab.research.google.com/github/OWNER/REPOSITORY/blob/main/notebooks/{name})",
        lambda name: f"mybinder.org/v2/gh/OWNER/REPOSITORY/main?urlpath=lab/tree/notebooks/{name})",
    ],
    ids=["colab", "binder"],
)
def test_each_lesson_has_its_badges(address: Callable[[str], str]):
    rows = [line for line in README.splitlines() if re.match(r"\| \d\d \|", line)]
    for lesson, row in zip(find_lessons(), rows, strict=True):
        assert f"(notebooks/{lesson.name})" in row
        assert address(lesson.name) in row


@pytest.mark.skipif(not shutil.which("perl"), reason="the command is Perl's")
def test_one_command_gives_a_copy_its_address(tmp_path: Path):
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^git grep .*OWNER/REPOSITORY.*", guide, re.MULTILINE)
    (lesson,) = find_lessons("00")
    for file in (REPOSITORY / "README.md", REPOSITORY / "tests" / "notebook_rules.py", lesson):
        shutil.copy(file, tmp_path)
    for setup in ("git init --quiet", "git add .", command.replace("ada/course", "grace/lessons")):
        subprocess.run(["bash", "-c", setup], cwd=tmp_path, check=True)
    texts = [path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.is_file()]
    assert not any("OWNER/REPOSITORY" in text for text in texts)
    assert all("github.com/grace/lessons" in text for text in texts)
    nbformat.validate(nbformat.read(tmp_path / lesson.name, as_version=4))
