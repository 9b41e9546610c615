"""What the tests of the code that decides notice: `python -m tests.mutation [package …]`."""
