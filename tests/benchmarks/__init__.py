"""Benchmarks: `python -m tests.benchmarks`. Never a test: what is printed is measured, and judged by people."""
