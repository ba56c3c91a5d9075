"""Whether the outputs of a notebook still say and show what is stored.

``numbers`` compares texts, ``pictures`` compares pictures, and
``outputs`` the outputs of a cell by both: for nbval (``tests/nbval_outputs.py``) and for
``make refresh``, which must agree on what has changed. None of them knows the course, so others can take them.
"""
