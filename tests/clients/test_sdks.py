"""The hub's libraries for Node and Java, as they are published, do all that they do for devices against a hub on port 443."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import waiting
from tests.clients.serving import Hub, hub
from tests.workers.system import base

pytestmark = [pytest.mark.redis_server, pytest.mark.full]

HERE = Path(__file__).parent
NODE, JAVA = "azure-iothub@1.16.6", "com.microsoft.azure.sdk.iot:iot-service-client:2.1.8"
CONTENT = json.dumps(base("temp"))
NOT_CONNECTED = "is not connected"


def on_443() -> bool:
    """Whether a program of this user may listen on the port that these libraries use."""
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 443))
        except OSError:
            return False
        return True


@pytest.fixture(scope="module")
def standard() -> Iterator[Hub]:
    """A hub on the port that a connection string leaves out."""
    if not on_443():
        pytest.skip("port 443 is in use, or not for this user to listen on (docs/guides/clients.md)")
    with tempfile.TemporaryDirectory(prefix="t-") as directory, hub(Path(directory) / "data", port=443) as serving:
        yield serving


def installed(command: list[str], directory: Path, tool: str) -> None:
    """Fetch a library with its ecosystem's own tool, or skip where there is none or nobody answers it."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    try:
        done = waiting.run(command, env=dict(os.environ), cwd=directory)
    except subprocess.TimeoutExpired:
        pytest.skip(f"{tool} does not get its packages in time")
    if done.returncode:
        pytest.skip(f"{tool} does not get its packages: {(done.stdout + done.stderr)[-300:]}")


def story(command: list[str], **environment: str) -> dict[str, Any]:
    """What a library's story printed: a result, or an error, for each step."""
    ran = waiting.run(command, env={**os.environ, **environment}, check=True)
    told: dict[str, Any] = json.loads(ran.stdout[ran.stdout.index("{") :])
    return told


def went_well(told: dict[str, Any], *refused: str) -> None:
    """Every step has a result but those that are to be refused, as no device is connected."""
    wrong = {name: one for name, one in told.items() if isinstance(one, dict) and "error" in one}
    assert wrong.keys() == set(refused), {name: one for name, one in wrong.items() if name not in refused}


def test_the_library_for_node(standard: Hub, tmp_path: Path) -> None:
    installed(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(tmp_path), NODE], tmp_path, "npm")
    words = ["node", str(HERE / "node" / "story.mjs"), str(tmp_path), standard.owner, CONTENT]
    told = story(words, NODE_EXTRA_CA_CERTS=str(standard.ca))
    # Jobs over devices and a store of blobs are not offered.
    went_well(told, "method", "moduleMethod", "unknownMethod", "jobs", "listJobs")
    assert told["unknownMethod"]["name"] == "DeviceNotFoundError"
    assert told["updateDevices"] == {"isSuccessful": True, "errors": [], "warnings": []}
    assert told["leaf"]["parentScopes"] == [told["get"]["deviceScope"]] == told["leafOfScope"]
    assert (told["twinUpdate"], told["query"]) == ({"site": "north", "floor": 2}, [["node-1"]])


def test_the_library_for_java(standard: Hub, tmp_path: Path) -> None:
    group, artifact, version = JAVA.split(":")
    (tmp_path / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>x</groupId><artifactId>story</artifactId><version>1</version><dependencies><dependency>"
        f"<groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version>"
        "</dependency></dependencies></project>"
    )
    library, trust = tmp_path / "lib", tmp_path / "trust.p12"
    installed(["mvn", "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={library}"], tmp_path, "mvn")
    if shutil.which("javac") is None:
        pytest.skip("a JDK is not installed")
    password = "changeit"
    importing = ["keytool", "-importcert", "-noprompt", "-alias", "hub", "-file", str(standard.ca)]
    store = ["-keystore", str(trust), "-storepass", password, "-storetype", "PKCS12"]
    waiting.run([*importing, *store], env=dict(os.environ), check=True)
    properties = [f"-Djavax.net.ssl.trustStore={trust}", f"-Djavax.net.ssl.trustStorePassword={password}"]
    words = ["java", *properties, "-cp", f"{library}/*", str(HERE / "java" / "Story.java"), standard.owner, CONTENT]
    told = story(words)
    went_well(told, "method", "moduleMethod", "unknownMethod")
    assert told["method"]["kind"] == told["unknownMethod"]["kind"] == "IotHubNotFoundException"
    assert NOT_CONNECTED in told["method"]["error"]
    assert [told[step]["status"] for step in ("create", "disable", "enable")] == ["enabled", "disabled", "enabled"]
    assert [told[step]["type"] for step in ("selfSigned", "authority")] == ["SELF_SIGNED", "CERTIFICATE_AUTHORITY"]
    assert (told["patch"], told["moduleTwin"], told["query"]) == ("north", 1.0, ["java-1"])
    assert told["leaf"]["parents"] == [told["get"]["scope"]] == [told["leaf"]["scope"]]
    assert told["leafWithoutScope"]["parents"] == []
