"""``python -m tests.code_lines``: how many lines of code the library has, by part, without docstrings and comments."""

from __future__ import annotations

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[1] / "lessons_lib"
# what no lesson teaches: to keep the course, or to be fast
ENGINES_AND_TOOLS = (
    "comparison",
    "data/__main__.py",
    "data/archives.py",
    "drawing",
    "export.py",
    "finetune",
    "incremental",
    "models/unfolded.py",
    "recipes.py",
    "records.py",
    "runner.py",
    "widgets/face.py",
)
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Lines of Python that hold code.

    >>> code_lines('"A docstring."\\n\\n# a comment\\nx = [\\n    1,\\n]\\n')
    3
    """
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        # that of a module, a class or a function, or under a constant
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - documented)


def by_module() -> dict[str, int]:
    """Lines of code of each module of the library, by its path in it."""
    return {
        path.relative_to(LIBRARY).as_posix(): code_lines(path.read_text(encoding="utf-8"))
        for path in sorted(LIBRARY.rglob("*.py"))
    }


def is_engine_or_tool(module: str) -> bool:
    """Whether a module belongs to ``ENGINES_AND_TOOLS``."""
    return any(module == part or module.startswith(f"{part}/") for part in ENGINES_AND_TOOLS)


def main() -> None:
    """Print a line for each part of the library, the engines and tools last, and both sums."""
    lines = by_module()
    for engine in (False, True):
        parts: Counter[str] = Counter()
        for module, count in lines.items():
            if is_engine_or_tool(module) == engine:
                parts[module.split("/")[0]] += count
        for part, count in parts.most_common():
            print(f"{count:>6,}  {part}")
        print(f"{parts.total():>6,}  {'engines and tools' if engine else 'the course itself'}\n")


if __name__ == "__main__":
    main()
