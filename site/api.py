"""The website's pages on the library, from its docstrings: pages.py asks for them, and mkdocstrings fills them.

Nothing here imports the library. griffe reads its source.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from griffe import Alias, Extension, GriffeError, GriffeLoader, Module, Object

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = "lessons_lib"
LIBRARY = REPOSITORY / PACKAGE
LESSONS = sorted((REPOSITORY / "notebooks").glob("[0-9][0-9]_*.ipynb"))
_METHODS = sorted(
    path.stem for path in (LIBRARY / "methods").iterdir() if not path.stem.startswith(("_", "."))
)
GROUPS = {
    "Techniques": [f"methods.{name}" for name in _METHODS],
    "Networks, data, numbers": ["networks", "models", "training", "export", "data", "statistics"],
    "Figures and panels": ["plots", "widgets"],
    "The course": ["course", "exercises", "records", "recipes"],
}
PAGES = [name for names in GROUPS.values() for name in names]
# what no lesson imports: engines, commands, and the sentences in which wrong input is refused
NOT_SHOWN = {"checks", "comparison", "drawing", "finetune", "incremental", "runner"}
SHOWN = """::: {path}
    options: {{heading_level: {level}, members: {members}}}"""
INDEX = f"""# The library

What the lessons import from `{PACKAGE}`, and what a program of your own can: signatures, shapes and examples, from the
docstrings. A page holds a module or a package; the search knows every name.
"""
BELOW_LESSONS = (
    "---\nsearch: {boost: 0.5}\n---\n\n"  # for whoever searches by words and not by a function's name
)
LONG = 150  # characters of a constant's value, beyond which the page does without


def pages() -> dict[str, str]:
    """Every page's Markdown by its file name without ending: "index", and a module or package each."""
    library = load()
    used = {path: names_used(path) for path in LESSONS}
    made, index = {}, [INDEX]
    for group, names in GROUPS.items():
        index.append(f"## {group}\n")
        for name in names:
            module = library[name]
            sentence = module.docstring.value.partition("\n")[0]
            index.append(f"- [{name}]({name}.md): {sentence}")
            by = [
                path
                for path, uses in used.items()
                if any(f"{use}.".startswith(f"{module.path}.") for use in uses)
            ]
            made[name] = _page(library, name, by)
        index.append("")
    return {"index": "\n".join(index), **made}


def _page(library: Module, name: str, lessons: list[Path]) -> str:
    """The Markdown of the page of one module or package, which these lessons use."""
    module = library[name]
    parent, _, own = module.path.rpartition(".")
    about = [f"- `from {parent} import {own}`"]
    beside = [f"{place}.{own}" for place in ("plots", "widgets") if own in library[place].members]
    if name.startswith("methods.") and beside:
        about.append("- Its figures and panels: " + ", ".join(f"[{one}][{PACKAGE}.{one}]" for one in beside))
    if lessons:
        links = ", ".join(f"[{path.stem[:2]}](../notebooks/{path.stem}.md)" for path in lessons)
        about.append(f"- Lessons that use it: {links}")
    text = [f"{BELOW_LESSONS}# {name} {{ #{module.path} }}", "\n".join(about)]
    known = described(library)
    for part in parts(module):
        if part is not module:
            text.append(f"## {part.path.removeprefix(f'{PACKAGE}.')} {{ #{part.path} }}")
        text.append(to_markdown(part.docstring.value, lambda name, of=part: _path(name, of, known)))
        by_file: dict[str, list[str]] = {}
        for one in public(part):
            by_file.setdefault(_file(_defined(one)), []).append(f"[`{one.name}`][{part.path}.{one.name}]")
        text.append("\n".join(f"- `{file}`: {', '.join(names)}" for file, names in by_file.items()))
        members = [one.name for one in public(part)] or "false"
        text.append(SHOWN.format(path=part.path, level=2 + (part is not module), members=members))
    return "\n\n".join(text) + "\n"


def names_used(lesson: Path) -> set[str]:
    """What a lesson uses of the library, such as ``lessons_lib.methods.cam.evidence``, by the names it imports."""
    sources = [cell.source for cell in nbformat.read(lesson, as_version=4).cells if cell.cell_type == "code"]
    trees = [ast.parse(re.sub(r"(?m)^(\s*)[%!].*", r"\1pass", source)) for source in sources]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    imported = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in nodes
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == PACKAGE
        for name in node.names
    }
    used = set(imported.values())
    for node in nodes:
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        first, _, rest = dotted.partition(".")
        if first in imported and re.fullmatch(r"[\w.]+", rest):
            used.add(f"{imported[first]}.{rest}")
    return used


def load() -> Module:
    """The library as griffe reads it."""
    loader = GriffeLoader(search_paths=[REPOSITORY])
    library = loader.load(PACKAGE, try_relative_path=False)
    assert isinstance(library, Module)
    fill_in(library)
    return library


def fill_in(library: Module) -> None:
    """Tell griffe what each package offers: what it imports from its own modules, at once or when it is first used."""
    for module in _modules(library):
        if not module.is_init_module:
            continue
        own, lazily = [], {}
        for node in ast.walk(ast.parse(module.filepath.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and f"{node.module}.".startswith(f"{module.path}."):
                own += [name.asname or name.name for name in node.names]
            elif isinstance(node, ast.Call) and ast.unparse(node.func) == "lazy_loader.attach":
                lazily = {word.arg: ast.literal_eval(word.value) for word in node.keywords}
        own += lazily.get("submodules", [])
        for name, attributes in lazily.get("submod_attrs", {}).items():
            own += attributes
            for one in attributes:
                module.set_member(one, Alias(one, f"{module.path}.{name}.{one}"))
        if own:
            module.exports = own


def parts(module: Module) -> list[Module]:
    """A page's module, and those of a package that it offers as modules."""
    inside = [one for name, one in sorted(module.modules.items()) if not name.startswith("_")]
    if module.exports is not None:
        inside = [one for one in inside if one.name in module.exports]
    return [module, *inside]


def public(thing: Object) -> list[Object | Alias]:
    """The described names of a module or class without an underscore, a package's in the order of its imports."""
    names = thing.exports if thing.is_module and thing.exports is not None else None
    found = [
        one
        for name, one in thing.members.items()
        if (
            name in names
            if names is not None
            else (name == "__call__" or name[0] != "_") and not one.is_alias
        )
        and not one.is_module
        and one.has_docstring
    ]
    files = list(dict.fromkeys(_defined(one).filepath for one in found))
    return sorted(found, key=lambda one: (files.index(_defined(one).filepath), _defined(one).lineno))


def described(library: Module) -> set[str]:
    """The names of all that the pages describe, as they are defined, ``lessons_lib.….name``."""
    found = set()
    for part in (part for page in PAGES for part in parts(library[page])):
        found.add(part.path)
        for one in public(part):
            found.add(one.canonical_path)
            if one.is_class:
                found.update(member.canonical_path for member in public(_defined(one)))
    return found


class ForReaders(Extension):
    """Make Markdown of docstrings: examples become blocks of code, and code that names a part of the library a link."""

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Once the package has been read as a whole."""
        fill_in(pkg)
        known = described(pkg)
        for page in PAGES:
            for part in parts(pkg[page]):
                part.docstring = None  # stands on the page already, before the list of names
        for thing in _walk(pkg):
            if thing.docstring:
                thing.docstring.value = to_markdown(
                    thing.docstring.value, lambda name, of=thing: _path(name, of, known)
                )
            thing.labels -= {"module-attribute", "class-attribute", "instance-attribute"}
            if thing.is_attribute and thing.value is not None and len(str(thing.value)) > LONG:
                thing.value = None


def to_markdown(docstring: str, path: Callable[[str], str | None]) -> str:
    """A docstring for the website.

    Args:
        docstring: with names and code in double backticks, and examples as doctest reads them.
        path: gives the whole name of what a name stands for, or None if there is nothing to link to.
    """

    def link(found: re.Match[str]) -> str:
        whole = path(found[1])
        return f"[{found[0]}][{whole}]" if whole else found[0]

    def block(text: str) -> str:
        lines = text.lstrip("\n").splitlines()
        if lines and lines[0].lstrip().startswith(">>>"):
            indent = " " * (len(lines[0]) - len(lines[0].lstrip()))
            return "\n".join(["", f"{indent}```pycon", *lines, f"{indent}```"])
        text = re.sub(r"(?<!`)``([A-Za-z_][\w.]*)``(?!`)", link, text)
        # a colon in the text that follows ends no type
        text = re.sub(r"(?m)^(\s*(?:Returns|Yields):\n\s+)(?=\S)", r"\1: ", text)
        # in Markdown a list is set off by an empty line
        return re.sub(r"(?m)^(?!\s*(?:[-*]|\d+\.) )(.*\S.*)\n(?=\s*[-*] )", r"\1\n\n", text)

    return "\n".join(block(text) for text in re.split(r"\n(?=\s*\n)", docstring))


def _path(name: str, of: Object, known: set[str]) -> str | None:
    """What ``name`` means in the docstring of ``of``, if a page describes it."""
    first, *rest = name.split(".")
    if (of.is_function or of.is_class) and first in (one.name for one in of.parameters):
        return None
    try:
        whole = name if first == PACKAGE else ".".join([of.resolve(first), *rest])
        found = of.modules_collection[whole].canonical_path
    except (KeyError, GriffeError):
        return None
    return found if found in known and found != of.canonical_path else None


def _defined(one: Object | Alias) -> Object:
    return one.final_target if isinstance(one, Alias) else one


def _file(thing: Object) -> str:
    return thing.filepath.relative_to(LIBRARY).as_posix()


def _modules(module: Module) -> Iterator[Module]:
    yield module
    for inside in module.modules.values():
        if not inside.is_alias:
            yield from _modules(inside)


def _walk(thing: Object) -> Iterator[Object]:
    """Everything that is defined in a module or a class, itself first."""
    yield thing
    for one in thing.members.values():
        if not one.is_alias:
            yield from _walk(one)
