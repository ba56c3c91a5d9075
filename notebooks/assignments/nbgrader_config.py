"""Settings of nbgrader for the problem sets; README.md beside this file is the teacher's guide."""

from nbgrader.preprocessors import (
    ClearHiddenTests,
    ClearMarkScheme,
    ClearOutput,
    Execute,
    IncludeHeaderFooter,
    LockCells,
)

c = get_config()  # noqa: F821 - traitlets gives it to this file

c.CourseDirectory.course_id = "see-what-your-network-sees"

# nbgrader's own 30 s a cell, and 4 s for its output to arrive, are short for a slow machine that also imports torch
c.Execute.timeout = 60
c.Execute.iopub_timeout = 60

# solutions are handed out when all have handed in, and nbgrader would leave the hidden tests of next year in them
c.GenerateSolution.preprocessors = [
    IncludeHeaderFooter,
    LockCells,
    ClearHiddenTests,
    ClearOutput,
    ClearMarkScheme,
    Execute,
]
