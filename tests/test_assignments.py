"""The problem sets through nbgrader: full marks for the solutions, nothing for nothing, less for wrong answers."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat import NotebookNode, v4
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.apps import NbGraderAPI
from nbgrader.utils import determine_grade, is_grade, is_solution
from traitlets.config import PyFileConfigLoader

import lessons_lib.methods
from lessons_lib.comparison.outputs import embedded
from lessons_lib.course import REPOSITORY

pytestmark = pytest.mark.timeout(900)  # the round trip starts a kernel twelve times, beside other tests

SOURCE = REPOSITORY / "notebooks" / "assignments" / "source"
SETS = sorted(path.name for path in SOURCE.iterdir() if path.is_dir())
AUTOGRADED, MARKED_BY_A_PERSON = 14, 6

SOLUTION, HIDDEN = (
    ("### BEGIN SOLUTION", "### END SOLUTION"),
    ("### BEGIN HIDDEN TESTS", "### END HIDDEN TESTS"),
)

FORGOT_EVAL = ("        model.eval()\n", "")
NOT_RESTORED = ("module.training = training", "pass")


@dataclass(frozen=True)
class Wrong:
    """A typical mistake: what it turns the solution's ``old`` into, and which tests find it."""

    what: str
    old: str
    new: str
    lost: tuple[str, ...]


def both(*names: str) -> tuple[str, ...]:
    """The visible and the hidden test of these exercises."""
    return tuple(f"test_{name}{end}" for name in names for end in ("", "_hidden"))


WRONG = {
    "1_activations_and_filters": [
        Wrong("the hook stays", "        handle.remove()\n", "", both("activations")),
        Wrong("forgot eval mode", *FORGOT_EVAL, ("test_activations_hidden",)),
        Wrong("model not restored", *NOT_RESTORED, both("activations")),
        Wrong("no copy", "output.detach().clone()", "output.detach()", ("test_activations_hidden",)),
        Wrong("wrong axis", "dim=(0, 2, 3)", "dim=(1, 2, 3)", both("sparsity")),
        Wrong("off by one", "(kernel - 1)", "kernel", both("receptive_field")),
        Wrong(
            "hard-coded answer",
            "    size, stride = 1, 1\n",
            "    known = {(): (1, 1), ((3, 1),): (3, 1), ((3, 1), (3, 1)): (5, 1)}\n"
            "    return known.get(tuple(layers), (8, 2))\n",
            ("test_receptive_field_hidden",),
        ),
        Wrong(
            "one scale for all",
            "filters.abs().amax(dim=(1, 2, 3), keepdim=True)",
            "filters.abs().max()",
            ("test_filter_pictures_hidden",),
        ),
    ],
    "2_embeddings_and_occlusion": [
        Wrong(
            "off by one: its own neighbour",
            "    distances.fill_diagonal_(torch.inf)\n",
            "",
            both("nearest", "knn_accuracy"),
        ),
        Wrong("wrong axis", "softmax(dim=1)", "softmax(dim=0)", both("occlusion_map")),
        Wrong("off by one: the patch", "row + half + 1", "row + half", both("occlusion_map")),
        Wrong("forgot eval mode", *FORGOT_EVAL, ("test_occlusion_map_hidden",)),
        Wrong("model not restored", *NOT_RESTORED, ("test_occlusion_map_hidden",)),
        Wrong(
            "picture not restored",
            "picture.repeat(len(range(0, width, stride)), 1, 1, 1)",
            "picture.expand(len(range(0, width, stride)), -1, -1, -1)",
            both("occlusion_map"),
        ),
        Wrong(
            "hard-coded answer",
            "(votes.argmax(dim=1) == labels).float().mean().item()",
            "1.0 if k == 2 else 0.5",
            ("test_knn_accuracy_hidden",),
        ),
    ],
    "3_cam_and_deconvnet": [
        Wrong("wrong axis: einsum", "->nkhw", "->nkwh", ("test_evidence_hidden", "test_cam_hidden")),
        Wrong(
            "wrong axis: classes",
            "maps[torch.arange(len(classes)), classes]",
            "maps[:, classes]",
            both("cam"),
        ),
        Wrong("forgot eval mode", *FORGOT_EVAL, ("test_cam_hidden",)),
        Wrong("model not restored", *NOT_RESTORED, ("test_cam_hidden",)),
        Wrong(
            "hard-coded answer",
            'torch.einsum("kc,nchw->nkhw", weight, features)',
            "(features.mean((2, 3)) @ weight.T)[:, :, None, None].expand(-1, -1, *features.shape[2:])",
            ("test_evidence_hidden",),
        ),
        Wrong(
            "the maximum of the batch",
            "    kept = torch.zeros_like(maps)\n",
            "    return torch.where(maps == maps[:, channel].max(), maps, 0.0)\n",
            both("strongest"),
        ),
        Wrong(
            "off by one",
            "(2, switches.flatten(2), ",
            "(2, (switches.flatten(2) - 1).clamp(min=0), ",
            both("unpool"),
        ),
        Wrong("overlaps lost", "scatter_add_", "scatter_", ("test_unpool_hidden",)),
    ],
    "4_fine_tuning": [
        Wrong("batch norm goes on", "model.get_submodule(name).eval()", "pass", both("freeze")),
        Wrong("everything in eval mode", "    model.train()\n", "    model.eval()\n", both("freeze")),
        Wrong(
            "names that begin alike",
            "model.get_submodule(name).requires_grad_(False)",
            "[p.requires_grad_(False) for path, p in model.named_parameters() if path.startswith(name)]",
            ("test_freeze_hidden",),
        ),
        Wrong("off by one", "(len(names) - 1 - place)", "(len(names) - place)", both("parameter_groups")),
        Wrong(
            "hard-coded answer",
            "rate / factor ** (len(names) - 1 - place)",
            "(0.001, 0.01, 0.1)[place % 3]",
            ("test_parameter_groups_hidden",),
        ),
        Wrong("frozen ones trained", " if p.requires_grad]", "]", ("test_parameter_groups_hidden",)),
        Wrong("wrong axis", "argmax(dim=1)", "argmax(dim=0)", both("accuracy")),
        Wrong("forgot eval mode", *FORGOT_EVAL, ("test_accuracy_hidden",)),
        Wrong("model not restored", *NOT_RESTORED, ("test_accuracy_hidden",)),
    ],
}


def read(folder: Path, name: str) -> NotebookNode:
    return nbformat.read(folder / name / f"{name}.ipynb", as_version=4)


def test_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if is_grade(cell) and not is_solution(cell)]


test_cells.__test__ = False  # type: ignore[attr-defined]


def regions(text: str, markers: tuple[str, str]) -> list[str]:
    """What lies between the markers."""
    return re.findall(rf"{markers[0]}\n(.*?)\s*{markers[1]}", text, re.DOTALL)


def without_regions(text: str, markers: tuple[str, str]) -> str:
    return re.sub(rf"{markers[0]}.*?{markers[1]}", "", text, flags=re.DOTALL)


def lines(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if len(line.strip()) > 3}


def sources(notebook: NotebookNode) -> str:
    return "\n".join(cell.source for cell in notebook.cells)


# --- the sources --------------------------------------------------------------------------------------------


def test_there_are_five_wrong_answers_to_each_set():
    assert list(WRONG) == SETS
    assert all(len(wrong) >= 5 for wrong in WRONG.values())


@pytest.mark.parametrize("name", SETS)
def test_points_and_cells(name: str):
    notebook = read(SOURCE, name)
    graded = [cell for cell in notebook.cells if is_grade(cell)]
    by_a_person = [cell for cell in graded if is_solution(cell)]
    assert sum(cell.metadata.nbgrader.points for cell in test_cells(notebook)) == AUTOGRADED
    assert sum(cell.metadata.nbgrader.points for cell in by_a_person) == MARKED_BY_A_PERSON
    assert [cell.cell_type for cell in by_a_person] == ["code", "markdown"]  # a figure and an answer
    assert not any(cell.get("outputs") for cell in notebook.cells)


@pytest.mark.parametrize("name", SETS)
def test_every_assertion_says_what_is_wrong(name: str):
    for cell in test_cells(read(SOURCE, name)):
        tree = ast.parse(cell.source)
        assertions = [node for node in ast.walk(tree) if isinstance(node, ast.Assert)]
        assert assertions, cell.source
        assert all(node.msg for node in assertions), cell.source
        # nbgrader takes the value of a last expression for the points
        assert not isinstance(tree.body[-1], ast.Expr), cell.source


def test_pytest_leaves_the_sources_alone():
    command = [sys.executable, "-m", "pytest", "--nbval", "--collect-only", "-p", "no:cacheprovider"]
    result = subprocess.run(
        [*command, "notebooks"], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert "notebooks/00_start_here.ipynb::Cell 0" in result.stdout
    assert "assignments" not in result.stdout


# --- wrong answers ------------------------------------------------------------------------------------------


@pytest.fixture
def as_in_a_kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what the setup cell of a set changes in this process."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    monkeypatch.setitem(sys.modules, "lessons_lib.methods", lessons_lib.methods)
    deterministic = torch.are_deterministic_algorithms_enabled()
    with warnings.catch_warnings():
        yield
    torch.use_deterministic_algorithms(deterministic)


def points(notebook: NotebookNode) -> dict[str, float]:
    """The points of each test cell: run here, which is quicker than a kernel each, and judged by nbgrader."""
    namespace: dict[str, object] = {"__name__": "__main__"}
    scores = {}
    for cell in notebook.cells:
        if "nbgrader" not in cell.metadata or cell.cell_type != "code":
            continue
        if is_grade(cell) and is_solution(cell):
            continue  # the figure
        cell.outputs = _outputs(cell.source, namespace)
        if is_grade(cell):
            scores[cell.metadata.nbgrader.grade_id], _ = determine_grade(cell)
    return scores


def _outputs(source: str, namespace: dict[str, object]) -> list[NotebookNode]:
    written, outputs = io.StringIO(), []
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(written):
        try:
            exec(compile(source, "<cell>", "exec"), namespace)
        except Exception as error:
            outputs.append(
                v4.new_output(
                    "error",
                    ename=type(error).__name__,
                    evalue=str(error),
                    traceback=traceback.format_exception(error),
                )
            )
    if written.getvalue():
        outputs.append(v4.new_output("stream", name="stderr", text=written.getvalue()))
    return outputs


def answered(name: str, wrong: Wrong | None = None) -> NotebookNode:
    """The set's source with its solutions, or with one mistake in them."""
    notebook = read(SOURCE, name)
    if wrong:
        solutions = [
            cell
            for cell in notebook.cells
            if is_solution(cell) and not is_grade(cell) and wrong.old in cell.source
        ]
        assert len(solutions) == 1, f"{wrong.old!r} is in {len(solutions)} solutions of {name}"
        assert solutions[0].source.count(wrong.old) == 1
        solutions[0].source = solutions[0].source.replace(wrong.old, wrong.new)
    return notebook


@pytest.mark.usefixtures("as_in_a_kernel")
@pytest.mark.parametrize(
    ("name", "wrong"),
    [pytest.param(name, wrong, id=f"{name[0]}: {wrong.what}") for name in SETS for wrong in WRONG[name]],
)
def test_a_wrong_answer_loses_the_points_of_its_exercise(name: str, wrong: Wrong):
    notebook = answered(name, wrong)
    scores = points(notebook)
    assert {test for test, score in scores.items() if score == 0} == set(wrong.lost)
    assert sum(scores.values()) < AUTOGRADED
    for cell in test_cells(notebook):
        for output in cell.outputs:
            if output.output_type == "error" and output.ename == "AssertionError":
                assert len(output.evalue.split()) >= 4, output.evalue


# --- the round trip -----------------------------------------------------------------------------------------

STUDENTS = ("ada", "bob")  # hands in the solution; hands in the release as it is


@dataclass(frozen=True)
class Round:
    """A course folder after release, submission and grading."""

    folder: Path
    api: NbGraderAPI

    @property
    def gradebook(self) -> Gradebook:
        return Gradebook(self.api.coursedir.db_url)


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Round:
    if not shutil.which("make"):
        pytest.skip("needs GNU make")
    folder = tmp_path_factory.mktemp("course")
    variables = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "ARGS"}
    }
    make = subprocess.run(
        ["make", "--old-file=.venv/.installed", "assignments", f"COURSE={folder}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=variables,
    )
    assert make.returncode == 0, make.stderr
    config = PyFileConfigLoader("nbgrader_config.py", path=str(folder)).load_config()
    config.CourseDirectory.root = str(folder)
    api = NbGraderAPI(config=config)
    for name in SETS:
        for student, version in zip(STUDENTS, ("solution", "release"), strict=True):
            shutil.copytree(folder / version / name, folder / "submitted" / student / name)
            result = api.autograde(name, student)
            assert result["success"], result
    return Round(folder, api)


@pytest.mark.parametrize("name", SETS)
def test_the_release_holds_no_solution_and_no_hidden_test(name: str, graded: Round):
    source, release = sources(read(SOURCE, name)), sources(read(graded.folder / "release", name))
    assert "BEGIN" not in release
    assert regions(source, SOLUTION)
    assert regions(source, HIDDEN)
    shown = without_regions(without_regions(source, SOLUTION), HIDDEN)
    for region in (*regions(source, SOLUTION), *regions(source, HIDDEN)):
        assert not (lines(region) - lines(shown)) & lines(release)
    answers = [
        cell.source for cell in read(SOURCE, name).cells if is_solution(cell) and cell.cell_type == "markdown"
    ]
    assert not any(lines(answer) & lines(release) for answer in answers)
    assert "YOUR ANSWER HERE" in release


@pytest.mark.parametrize("name", SETS)
def test_the_solution_version_runs_and_holds_no_hidden_test(name: str, graded: Round):
    source, solution = read(SOURCE, name), read(graded.folder / "solution", name)
    text = sources(solution)
    assert HIDDEN[0] not in text
    for region in regions(sources(source), HIDDEN):
        assert not (lines(region) - lines(without_regions(sources(source), HIDDEN))) & lines(text)
    assert all(region in text for region in regions(sources(source), SOLUTION))
    outputs = [output for cell in solution.cells for output in cell.get("outputs", [])]
    assert not [
        output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"
    ]
    assert any(list(embedded([output])) for output in outputs), "a figure"


@pytest.mark.parametrize("name", SETS)
def test_the_solution_scores_the_maximum_and_the_empty_release_nothing(name: str, graded: Round):
    with graded.gradebook as gradebook:
        solved, empty = (gradebook.find_submission(name, student) for student in STUDENTS)
        grades = {grade.name: grade for notebook in solved.notebooks for grade in notebook.grades}
        assert sum(grade.auto_score or 0 for grade in grades.values()) == AUTOGRADED
        assert {key for key, grade in grades.items() if grade.needs_manual_grade} == {"figure", "answer"}
        assert solved.max_score == AUTOGRADED + MARKED_BY_A_PERSON
        assert empty.score == 0
        assert not empty.needs_manual_grade


@pytest.mark.usefixtures("as_in_a_kernel")
@pytest.mark.parametrize("name", SETS)
def test_this_module_gives_the_points_that_nbgrader_gives(name: str, graded: Round):
    here = points(answered(name))
    with graded.gradebook as gradebook:
        (notebook,) = gradebook.find_submission(name, STUDENTS[0]).notebooks
        for test, score in here.items():
            assert gradebook.find_grade(test, notebook.name, name, STUDENTS[0]).auto_score == score
        with pytest.raises(MissingEntry):
            gradebook.find_grade("no_such_test", notebook.name, name, STUDENTS[0])


def test_feedback_is_a_page_with_the_points(graded: Round):
    result = graded.api.generate_feedback(SETS[0], STUDENTS[1])
    assert result["success"], result
    (page,) = (graded.folder / "feedback" / STUDENTS[1] / SETS[0]).glob("*.html")
    assert f"Score: 0.0 / {AUTOGRADED + MARKED_BY_A_PERSON}.0" in page.read_text(encoding="utf-8")


@pytest.mark.skipif(os.name != "posix", reason="the guide's command is for a Unix shell")
def test_a_duplicated_cell_is_what_the_teachers_guide_says(tmp_path: Path):
    """nbgrader blames the metadata, exports 0.0 and grades nobody after; the guide's command finds the cell."""
    name = SETS[-1]
    shutil.copytree(SOURCE / name, tmp_path / "source" / name)
    shutil.copy(SOURCE.parent / "nbgrader_config.py", tmp_path)

    def nbgrader(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "nbgrader", *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        )

    assert nbgrader("generate_assignment", name).returncode == 0
    for student in ("ann", "zoe"):
        shutil.copytree(tmp_path / "release" / name, tmp_path / "submitted" / student / name)
    file = tmp_path / "submitted" / "ann" / name / f"{name}.ipynb"
    notebook = nbformat.read(file, 4)
    place, cell = next((i, cell) for i, cell in enumerate(notebook.cells) if is_solution(cell))
    notebook.cells.insert(place, v4.new_code_cell(cell.source, metadata=cell.metadata))
    nbformat.write(notebook, file)

    guide = (SOURCE.parent / "README.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"grep .* uniq -d", guide)
    found = subprocess.run(
        command.replace("SET", name), shell=True, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    identity = cell.metadata.nbgrader.grade_id
    assert found.stdout == f'submitted/ann/{name}/{name}.ipynb:"grade_id": "{identity}"\n'

    graded = nbgrader("autograde", name)
    assert graded.returncode != 0
    assert "use an old version" in graded.stderr
    assert nbgrader("export").returncode == 0
    _, *rows = (tmp_path / "grades.csv").read_text(encoding="utf-8").splitlines()
    assert [(row.split(",")[3], row.split(",")[-2]) for row in rows] == [("ann", "0.0")]
