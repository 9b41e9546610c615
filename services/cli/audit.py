"""`twinfold audit`: verifies that the history is as it was sealed, and searches it."""

import time
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from events.audit.errors import AuditError, PublicKeyUnusable
from events.audit.seal import PublicKey
from events.audit.sealer import public_key
from events.audit.verify import SealSpan, VerificationReport, verify_log
from events.log.errors import LogError
from events.log.log_factory import open_log
from events.number_text import counted, iso_text
from events.secrets.errors import KeyFileError
from events.settings import Settings, read_settings
from events.terminal import complain, complain_of, print_lines
from services.cli import audit_search
from services.cli.client import AsJson, show_json
from services.cli.flags import DataDir, RedisUrl, log_settings, point_in_time
from services.cli.progress import ProgressBar

FAULTS = 1
CANNOT = 2

app = typer.Typer(no_args_is_help=True, help="Verify that the history is as it was sealed, and search it.")

for _command in (audit_search.search, audit_search.show, audit_search.causes, audit_search.export):
    app.command()(_command)

PublicKeys = Annotated[
    list[Path] | None,
    typer.Option(
        help="File with a public key (PEM) that may have signed seals; can be repeated. "
        "The default is the key of the data directory."
    ),
]


@app.command()
def key(*, data: DataDir = None) -> None:
    """Print the public key that verifies seals. Give it to the auditors, and keep a copy away from this machine.

    Example: twinfold audit key
    """
    print_lines(*public_key(read_settings(data_dir=data)).to_pem().decode().splitlines())


@app.command()
def verify(
    *,
    redis_url: RedisUrl = None,
    data: DataDir = None,
    public_key: PublicKeys = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First seal or time, as in 120 or 2026-05-01T00:00Z.")
    ] = None,
    until: Annotated[str | None, typer.Option("--to", help="Last seal or time.")] = None,
    json: AsJson = False,
) -> None:
    """Check every sealed entry, and name each that was changed, dropped, reordered or inserted since.

    Exits with 0 if everything is as it was sealed, 1 if something is not, 2 if it cannot be verified.

    Example: twinfold audit verify --public-key seal.pem
    """
    span = _span(since, until)
    settings = log_settings(redis_url=redis_url, data_dir=data)
    try:
        keys = _keys(settings, public_key)
        # Verifying writes nothing, so it does not matter whether this Redis could lose events.
        log = open_log(settings.redis_url, allow_volatile=True)
        start = time.monotonic()
        with ProgressBar(quiet=False) as bar:
            # What is written meanwhile is verified as well, so `done` can pass the total that was counted at the start.
            report = verify_log(
                settings,
                log,
                keys,
                span=span,
                progress=lambda done, total: bar.show("verifying", done, max(done, total)),
            )
    except (AuditError, LogError, KeyFileError) as error:
        complain_of(error)
        raise typer.Exit(CANNOT) from None
    seconds = time.monotonic() - start
    if report.is_fine and not report.in_span:
        newest, sealed_at = report.last[0], report.sealed_at
        range_text = " ".join(f"{word} {bound}" for word, bound in (("from", since), ("to", until)) if bound)
        complain(f"twinfold: nothing is sealed {range_text}; the newest seal is {newest} of {iso_text(sealed_at)}")
        raise typer.Exit(CANNOT)
    if json:
        show_json(_as_json(report, seconds))
    else:
        _print(report, seconds)
    if not report.is_fine:
        raise typer.Exit(FAULTS)


def _print(report: VerificationReport, seconds: float) -> None:
    for fault in report.faults:
        print_lines(f"{fault.location} {fault.what}")
    for tail in report.unsealed:
        print_lines(f"{tail.stream}: {tail.entries} not sealed yet, since {tail.stream}:{tail.after}")
    number, digest = report.last
    rate = f"{report.entries / seconds:,.0f} a second" if seconds else ""
    print_lines(
        f"{report.entries} entries and {report.seals} seals in {seconds:.1f} s ({rate}); keys: {', '.join(report.keys)}"
    )
    newest = (
        f"{number} of {iso_text(report.sealed_at)}, {digest}"
        if number
        else "none that is signed by a key of this command"
    )
    print_lines(f"newest seal: {newest}")
    print_lines("everything is as it was sealed" if report.is_fine else counted(len(report.faults), "fault"))


def _as_json(report: VerificationReport, seconds: float) -> dict[str, object]:
    return {
        "fine": report.is_fine,
        "faults": msgspec.to_builtins(report.faults),
        "unsealed": msgspec.to_builtins(report.unsealed),
        "seals": report.seals,
        "entries": report.entries,
        "seconds": round(seconds, 3),
        "keys": list(report.keys),
        "newestSeal": {"number": report.last[0], "digest": report.last[1], "at": report.sealed_at},
    }


def _keys(settings: Settings, files: list[Path] | None) -> list[PublicKey]:
    if not files:
        return [public_key(settings)]
    keys = []
    for file in files:
        try:
            keys.append(PublicKey.from_pem(file.read_bytes(), location=str(file)))
        except OSError as error:
            raise PublicKeyUnusable(str(file), f"cannot be read: {error.strerror}") from error
    return keys


def _span(since: str | None, until: str | None) -> SealSpan:
    first, earliest = _bound(since)
    last, latest = _bound(until)
    for begin, end in ((first, last), (earliest, latest)):
        if begin is not None and end is not None and begin > end:
            raise typer.BadParameter(f"--from {since} is after --to {until}")
    return SealSpan(first=first or 0, last=last, since=earliest or 0, until=latest)


def _bound(text: str | None) -> tuple[int | None, int | None]:
    """(number of a seal, milliseconds), of which at most one is not `None`."""
    if text is None:
        return None, None
    if text.isascii() and text.isdigit():
        return int(text), None
    return None, point_in_time(text)
