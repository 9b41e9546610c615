"""Imported first by the processes of a system: they do without Rich, which takes 4 MB of memory in each of them.

structlog imports Rich for tracebacks with local variables, which `events.logs` does not use because they can show passwords.
"""

import sys

# An entry of `None` makes `import rich` an ImportError (Python's reference, "The module cache"); structlog expects that.
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]
