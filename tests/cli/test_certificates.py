"""The local authority and the certificates it signs."""

import datetime as dt
import ipaddress
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store

from services.certificates import CA_DAYS, SERVER_DAYS, CertificateFiles, CertificateUnusable, ensure, files_of

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def verify(files: CertificateFiles, name: x509.GeneralName, at: dt.datetime) -> None:
    """As a client does that trusts the authority and knows nothing else."""
    policy = PolicyBuilder().store(Store([read(files.ca)])).time(at)
    assert isinstance(name, x509.DNSName | x509.IPAddress)
    policy.build_server_verifier(name).verify(read(files.certificate), [])


def contents(files: CertificateFiles) -> list[bytes]:
    return [path.read_bytes() for path in (files.ca, files.certificate, files.key)]


def test_what_is_made_once_stays(tmp_path: Path) -> None:
    first = contents(ensure(tmp_path, ["edge.example"], now=NOW))
    assert contents(ensure(tmp_path, ["edge.example"], now=NOW + DAY)) == first
    assert contents(ensure(tmp_path, [], now=NOW + DAY)) == first


def test_keys_are_for_their_owner_alone(tmp_path: Path) -> None:
    files = ensure(tmp_path, [], now=NOW)
    for key in (files.key, files.ca.with_name("ca.key")):
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert stat.S_IMODE(files.ca.parent.stat().st_mode) == 0o700
    assert sorted(path.name for path in files.ca.parent.iterdir()) == ["ca.key", "ca.pem", "server.key", "server.pem"]


def test_this_machine_and_other_names_are_in_the_certificate(tmp_path: Path) -> None:
    files = ensure(tmp_path, ["edge.example", "192.0.2.7"], now=NOW)
    for name in ("localhost", "edge.example"):
        verify(files, x509.DNSName(name), NOW)
    for address in ("127.0.0.1", "::1", "192.0.2.7"):
        verify(files, x509.IPAddress(ipaddress.ip_address(address)), NOW)
    with pytest.raises(x509.verification.VerificationError):
        verify(files, x509.DNSName("other.example"), NOW)


def test_another_name_makes_another_certificate_of_the_same_authority(tmp_path: Path) -> None:
    ca, certificate, key = contents(ensure(tmp_path, [], now=NOW))
    files = ensure(tmp_path, ["edge.example"], now=NOW)
    assert files.ca.read_bytes() == ca
    assert files.certificate.read_bytes() != certificate
    assert files.key.read_bytes() != key
    verify(files, x509.DNSName("edge.example"), NOW)


def test_a_certificate_is_renewed_before_its_end_and_clients_go_on_trusting(tmp_path: Path) -> None:
    first = contents(ensure(tmp_path, [], now=NOW))
    soon = NOW + (SERVER_DAYS - 30) * DAY
    assert contents(ensure(tmp_path, [], now=soon - DAY)) == first
    files = ensure(tmp_path, [], now=soon)
    assert files.ca.read_bytes() == first[0]
    assert read(files.certificate).not_valid_after_utc == soon + SERVER_DAYS * DAY
    verify(files, x509.DNSName("localhost"), soon)


def test_no_certificate_outlives_its_authority_which_says_when_it_has_ended(tmp_path: Path) -> None:
    ensure(tmp_path, [], now=NOW)
    late = NOW + (CA_DAYS - 10) * DAY
    files = ensure(tmp_path, [], now=late)
    assert read(files.certificate).not_valid_after_utc <= read(files.ca).not_valid_after_utc
    made = contents(files)
    assert contents(ensure(tmp_path, [], now=late + DAY)) == made
    with pytest.raises(CertificateUnusable, match="has expired"):
        ensure(tmp_path, [], now=NOW + CA_DAYS * DAY)


@pytest.mark.parametrize("lost", ["server.pem", "server.key"])
def test_a_server_file_that_is_gone_or_broken_is_made_again(tmp_path: Path, lost: str) -> None:
    files = ensure(tmp_path, [], now=NOW)
    ca = files.ca.read_bytes()
    (files.ca.parent / lost).unlink()
    ensure(tmp_path, [], now=NOW)
    (files.ca.parent / lost).write_text("nonsense")
    ensure(tmp_path, [], now=NOW)
    verify(files, x509.DNSName("localhost"), NOW)
    assert files.ca.read_bytes() == ca


def test_a_key_without_its_certificate_is_not_taken_for_good(tmp_path: Path) -> None:
    """A crash between the two files leaves a new key beside the former certificate."""
    former = ensure(tmp_path / "a", [], now=NOW)
    other = ensure(tmp_path / "b", [], now=NOW)
    former.key.write_bytes(other.key.read_bytes())
    certificate = former.certificate.read_bytes()
    assert ensure(tmp_path / "a", [], now=NOW).certificate.read_bytes() != certificate


def test_an_authority_that_clients_may_trust_is_never_replaced(tmp_path: Path) -> None:
    files = ensure(tmp_path, [], now=NOW)
    ca = files.ca.read_bytes()
    files.ca.with_name("ca.key").unlink()
    ensure(tmp_path, [], now=NOW)
    with pytest.raises(CertificateUnusable, match="cannot be used"):
        ensure(tmp_path, ["edge.example"], now=NOW)
    other = ensure(tmp_path / "other", [], now=NOW)
    files.ca.with_name("ca.key").write_bytes(other.ca.with_name("ca.key").read_bytes())
    with pytest.raises(CertificateUnusable, match="does not belong"):
        ensure(tmp_path, ["edge.example"], now=NOW)
    assert files.ca.read_bytes() == ca


def test_the_authority_signs_servers_and_no_other_authority(tmp_path: Path) -> None:
    files = ensure(tmp_path, [], now=NOW)
    assert files == files_of(tmp_path)
    ca = read(files.ca).extensions.get_extension_for_class(x509.BasicConstraints).value
    server = read(files.certificate).extensions.get_extension_for_class(x509.BasicConstraints).value
    assert (ca.ca, ca.path_length, server.ca) == (True, 0, False)
