"""The pool: worker processes kept alive, and the sweep that sees to it that no partition is left behind."""
