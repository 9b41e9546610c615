"""Who never looks into the archive does not load what it takes to."""

import sys

from tests import waiting

PROGRAM = """
import sys, importlib
for name in {modules}:
    importlib.import_module(name)
print(sorted({{"pyarrow", "fsspec", "duckdb"}} & set(sys.modules)))
"""


MODULES = ("services.cli.check.command", "services.cli.log", "workers.projection_job")


def test_plain_processes_do_not_load_parquet_or_file_systems() -> None:
    program = PROGRAM.format(modules=MODULES)
    ran = waiting.run([sys.executable, "-c", program], check=True)
    assert ran.stdout == "[]\n"


def test_a_producer_does_not_load_what_counts_devices() -> None:
    program = "import sys, events.producer.producer; print('numpy' in sys.modules)"
    assert waiting.run([sys.executable, "-c", program], check=True).stdout == "False\n"
