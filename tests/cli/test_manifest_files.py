from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from events.canonical import encode
from services.cli.exits import EXPECTED, is_any
from services.demo.manifests import ManifestUnreadable, read_manifest
from tests.manifest.values import anything


@settings(derandomize=True, deadline=None, max_examples=150)
@given(data=st.binary(max_size=60) | anything.map(lambda value: repr(value).encode("utf-8", "backslashreplace")))
@example(b"[" * 200_000)
@example(b'{"content":' * 50_000)
@example(b"\xef\xbb\xbf{}")
@example(b"9" * 10_000)
@example(b"NaN")
def test_any_file_is_a_manifest_or_an_error_that_a_user_can_read(data: bytes) -> None:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "own.json"
        path.write_bytes(data)
        for layered in (False, True):
            with pytest.raises(Exception) as caught:  # noqa: PT011 - its class is compared below
                read_manifest(path, layered=layered)
            assert is_any(caught.value, *EXPECTED)
            assert len(str(caught.value)) < 10_000


def test_a_file_that_is_not_there_or_is_a_directory_is_named(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(ManifestUnreadable, match=str(path)):
            read_manifest(path, layered=False)


def test_a_byte_order_mark_and_a_wrapper_do_no_harm(tmp_path: Path) -> None:
    from services.demo.manifests import base  # noqa: PLC0415 - used here alone

    path = tmp_path / "own.json"
    path.write_bytes(b"\xef\xbb\xbf" + encode({"id": "x", "content": base("1.0.0")}))
    assert read_manifest(path, layered=False) == base("1.0.0")
