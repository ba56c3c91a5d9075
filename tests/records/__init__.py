"""Studies that a lesson has no minute for: ``python -m tests.records.X`` fills one file of ``data/records``."""
