"""Whether the outputs of a notebook still say and show what is stored.

:mod:`~lessons_lib.comparison.numbers` compares texts, :mod:`~lessons_lib.comparison.pictures` compares pictures, and
:mod:`~lessons_lib.comparison.outputs` the outputs of a cell by both: for nbval (``tests/nbval_outputs.py``) and for
``make refresh``, which must agree on what has changed. None of them knows the course, so others can take them.
"""
