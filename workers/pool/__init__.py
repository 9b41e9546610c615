"""The pool: worker processes kept alive, and the reconciler that sees to it that no partition is left behind."""
