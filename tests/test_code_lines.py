"""A technique can be read in one sitting, and the library does not grow unnoticed."""

from tests import code_lines

COURSE = 6073  # lines of code; lower it when the library shrinks
SITTING = 250


def test_only_lines_that_hold_code_count():
    assert code_lines.code_lines("def f():\n    '''Doc.'''\n    return 'text\\n'\n\n# end\n") == 2
    assert code_lines.code_lines("x = '''a\n\nb'''\n") == 3
    assert code_lines.code_lines("x = 1\n'''What x is.'''\n") == 1
    assert code_lines.code_lines("") == 0


def test_every_technique_is_short_enough_to_read():
    long = {
        module
        for module, count in code_lines.by_module().items()
        if module.startswith("methods/") and count > SITTING
    }
    assert not long


def test_the_course_itself_does_not_grow():
    lines = code_lines.by_module()
    assert sum(count for module, count in lines.items() if not code_lines.is_engine_or_tool(module)) <= COURSE


def test_every_engine_and_tool_is_there():
    for part in code_lines.ENGINES_AND_TOOLS:
        assert any(
            code_lines.is_engine_or_tool(module) and module.startswith(part)
            for module in code_lines.by_module()
        )
