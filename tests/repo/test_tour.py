"""The tour of five minutes, each block run as it stands."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.api.serving import free_port
from tests.repo.tree import text

pytestmark = pytest.mark.redis_server


def script() -> str:
    blocks = re.findall(r"```bash\n(.*?)```", text(Path("docs/tour.md")), re.DOTALL)
    assert len(blocks) >= 8
    return "set -euo pipefail\n" + "\n".join(blocks)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour uses curl")
def test_the_tour_works_as_it_is_written() -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        program = Path(directory) / "twinfold"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
        program.chmod(0o755)
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
        # The port of the page may be taken here.
        commands = script().replace("8099", str(free_port()))
        ran = subprocess.run(
            ["bash", "-c", commands],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        up = (Path(directory) / "up.log").read_text()
    assert ran.returncode == 0, ran.stderr + up
    assert "gateway-1 is managed; it runs north" in ran.stdout
    assert "note: layer cameras (priority 10) is not applied on devices of north (priority 10)" in ran.stdout
    assert "it runs north + cameras" in ran.stdout
    assert "gateway-2 is unmanaged; it runs north" in ran.stdout
    assert "DeploymentDeleted" in ran.stdout
    assert '"deviceId":"gateway-1"' in ran.stdout.replace(" ", "")
    assert "twinfold_lag_facts" in ran.stdout
    assert ";SharedAccessKeyName=service\n" in ran.stdout
    assert ";DeviceId=gateway-1\n" in ran.stdout
    assert up.rstrip().endswith("stopped")
