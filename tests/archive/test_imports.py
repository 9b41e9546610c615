"""Who never looks into the archive does not load what it takes to."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys, importlib
for name in {modules}:
    importlib.import_module(name)
print(sorted({{"pyarrow", "fsspec", "duckdb"}} & set(sys.modules)))
"""


@pytest.mark.parametrize(
    "modules",
    [
        ("services.cli.check",),
        ("workers.project", "workers.pool.supervisor"),
        ("services.api.app",),
        ("services.cli.log",),
    ],
    ids=lambda modules: modules[0],
)
def test_plain_processes_do_not_load_parquet_or_file_systems(modules: tuple[str, ...]) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(modules=modules)], capture_output=True, text=True, check=True, timeout=60
    )
    assert ran.stdout == "[]\n"
