"""The tour of five minutes, each block run as it stands."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import waiting
from tests.api.serving import free_port
from tests.repo.tree import text

pytestmark = pytest.mark.redis_server


def script() -> str:
    blocks = re.findall(r"```bash\n(.*?)```", text(Path("docs/start/tour.md")), re.DOTALL)
    assert len(blocks) >= 8
    return "set -euo pipefail\n" + "\n".join(blocks)


@pytest.mark.skipif(shutil.which("curl") is None, reason="the tour uses curl")
@pytest.mark.full
def test_the_tour_works_as_it_is_written() -> None:
    with tempfile.TemporaryDirectory(prefix="t-") as directory:
        program = Path(directory) / "twinfold"
        program.write_text(f'#!/bin/sh\nexec {sys.executable} -m services.cli "$@"\n')
        program.chmod(0o755)
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}", "PYTHONPATH": str(Path.cwd())}
        # The port of the page may be taken here.
        commands = script().replace("8099", str(free_port()))
        with waiting.started(
            ["bash", "-c", commands],
            cwd=directory,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as shell:
            try:
                stdout, stderr = waiting.last_output(shell, 120)
            finally:
                # What a tour that broke off has left running.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(shell.pid, signal.SIGTERM)
        up = (Path(directory) / "up.log").read_text()
    assert shell.returncode == 0, stderr + up
    assert "gateway-1 is managed; it runs north" in stdout
    assert "note: layer cameras (priority 10) is not applied on devices of north (priority 10)" in stdout
    assert "it runs north + cameras" in stdout
    assert "gateway-2 is unmanaged; it runs north" in stdout
    assert "DeploymentDeleted" in stdout
    assert '"deviceId":"gateway-1"' in stdout.replace(" ", "")
    assert "twinfold_lag_events" in stdout
    assert ";SharedAccessKeyName=service\n" in stdout
    assert ";DeviceId=gateway-1\n" in stdout
    assert up.rstrip().endswith("stopped")
