"""Tests, the notebook rules and the benchmarks."""
