"""Runs all roles on one machine until Ctrl-C or SIGTERM."""

import contextlib
import datetime as dt
import signal
import ssl
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from events.envelope import Principal
from events.log.archive.notes import location_of
from events.log.errors import ArchiveElsewhere
from events.log.log_factory import initialise
from events.log.redis import RedisLog
from events.processes.child import Child
from events.processes.supervised import Supervised
from events.processes.wake import Wake
from events.producer.producer import Producer
from events.producer.secrecy import LazyVault
from events.secrets.redis import RedisSecretStore
from events.settings import ENV_PREFIX, Settings, environment_of, hide_password
from events.terminal import print_lines
from services import atomic_files, certificates, local_api
from services.api_processes import print_change, supervised
from services.authors import system_user
from services.certificates import EVERYWHERE, files_of
from services.credentials import ensure_policies, issue_token, tokens
from services.embedded_redis import redis_of
from services.sockets import handed_over, listening
from services.up.directory import held

_STOP_SECONDS_MAX = 20.0
_READY_SECONDS = 0.2
_AUTHOR = Principal.parse("system:up")
_HEARTBEAT = f"{ENV_PREFIX}HEARTBEAT_FILE"


def run(settings: Settings) -> None:
    """Run all roles until a signal.

    Raises:
        DirectoryHeld, PredecessorRuns, LayoutTooNew, DirectoryUnusable: the data directory cannot be used.
        CertificateUnusable, CannotListen: the API cannot serve.
        NoRedisServer, RedisDidNotStart, LogFileDamaged, LogError: there is no Redis to work on.
        GivenUp: a role ends at once every time it is started.
    """
    stopping, wake = threading.Event(), Wake()
    _stop_on_signals(stopping, wake)
    with contextlib.ExitStack() as stack:
        lock = stack.enter_context(held(settings.data_dir))
        # The certificate and the port are checked before anything starts, so that a mistake ends `up` at once and with its
        # reason; found by the API later, it would be a process that ends again and again (decision 0035).
        if settings.has_tls:
            certificates.of(settings, now=dt.datetime.now(dt.UTC))
        sockets = stack.enter_context(listening(settings))
        url, redis = stack.enter_context(redis_of(settings, keeps=[lock], print_line=print_lines, on_end=wake.wake))
        log = initialise(url, allow_volatile=settings.allow_volatile_redis)
        # With a location, the roles remove archived events from Redis by default: here every role reads the same directory.
        changed = settings.model_copy(
            update={
                "redis_url": url,
                "queue_url": settings.queue_url or url,
                "archive_url": settings.effective_archive_url,
            }
        )
        if settings.archive_url is None:
            follow_archive(changed, log)
        _write_local_api(changed, log)
        print_lines(f"data   {settings.data_dir}")
        print_lines(f"redis  {hide_password(url)} ({log.partitions} partitions)")
        roles, api = list[Supervised](), list[Supervised]()

        def tend() -> None:
            if redis is not None:
                redis.tend()
            for role in (*roles, *api):
                role.tend()

        try:
            roles += _started(changed, lock, wake)
            descriptors = [lock, *(listener.fileno() for listener in sockets)]
            # The API serves sockets that `up` has bound, so that no other process can answer on the port (decision 0035).
            variables = environment_of(changed) | handed_over(sockets)
            api += stack.enter_context(supervised(changed, variables, descriptors, wake))
            _wait_until_ready(settings, stopping, wake, tend)
            if not stopping.is_set():
                print_lines(f"api    {address(settings)}")
                if ca := _authority(settings):
                    print_lines(f"trust  export REQUESTS_CA_BUNDLE={ca} SSL_CERT_FILE={ca}")
                print_lines(f"workers {settings.workers}; Ctrl-C stops everything")
            while not stopping.is_set():
                tend()
                due = [role.tend_in_seconds for role in (*roles, *api)]
                wake.wait(min(due if redis is None else [redis.tend_in_seconds, *due]))
        finally:
            # Connections wait in these sockets while the API restarts. When `up` ends, they must be refused instead.
            for listener in sockets:
                listener.close()
            # The API ends first, all its processes at once: a change accepted now would find no worker.
            for together in (api, *([role] for role in reversed(roles))):
                for role in together:
                    role.terminate()
                for role in together:
                    role.end(_STOP_SECONDS_MAX)
    print_lines("stopped")


def follow_archive(settings: Settings, log: RedisLog) -> None:
    """Make the archive of a data directory that was moved its archive again, if all its files are there."""
    recorded = location_of(log.client)
    if recorded is None or recorded == settings.effective_archive_url:
        return
    # pyarrow takes 0.3 s to import, and no other step of `up` needs it.
    from events.notification.archive_mover import open_mover  # noqa: PLC0415

    try:
        open_mover(log, settings).settle(may_move=True)
    except ArchiveElsewhere as error:
        print_lines(str(error))


def _stop_on_signals(stopping: threading.Event, wake: Wake) -> None:
    def stop(_signum: int, _frame: object) -> None:
        stopping.set()
        wake.wake()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # A closed terminal (SIGHUP) ends `up` in order, but not under `nohup`, which has set the signal to be ignored.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, stop)


def _started(settings: Settings, lock: int, wake: Wake) -> Iterator[Supervised]:
    """Start the roles but the API under supervision; one that ends at once every time is given up."""
    for name, module, changes in (
        ("workers", "workers.pool", {}),
        # Both would touch the same heartbeat file. It is the workers', so a dead pool is noticed although the scheduler lives.
        ("scheduler", "services.scheduler", {_HEARTBEAT: ""}),
    ):
        make = partial(Child, [sys.executable, "-m", module], environment_of(settings) | changes, keeps=[lock])
        yield Supervised(name, make, tell=partial(print_change, name), gives_up=True, on_end=wake.wake)


def _authority(settings: Settings) -> str:
    """The file of the local authority; empty if the API does not use it."""
    return str(files_of(settings.data_dir).ca) if settings.tls == "local" and settings.tls_certificate is None else ""


def address(settings: Settings) -> str:
    """The URL of the API, with a host name, because certificates are for names."""
    name = "localhost" if settings.host in {*EVERYWHERE, "127.0.0.1", "::1"} else settings.host
    return f"{'https' if settings.has_tls else 'http'}://{name}:{settings.port}"


def _write_local_api(settings: Settings, log: RedisLog) -> None:
    """Write what other commands need to find and use this server into the data directory."""
    vault = LazyVault(RedisSecretStore(log.client), settings.effective_key_file)
    producer = Producer(log, by=_AUTHOR, take_secrets=vault.take_out)
    if not settings.open_access:
        ensure_policies(producer, log)
        if local_api.token_id(settings.data_dir) not in {token_id for token_id, _ in tokens(log)}:
            # The token has the name of a person, because changes made with it are recorded under that name (decision 0046).
            text = issue_token(producer, name=system_user(), role="admin")
            atomic_files.write(settings.data_dir / local_api.TOKEN_FILE, text.encode())
    document = local_api.LocalApi(
        url=address(settings),
        host_name=address(settings).partition("://")[2],
        redis_url=settings.redis_url,
        queue_url=settings.effective_queue_url,
        ca=_authority(settings),
    )
    atomic_files.write(settings.data_dir / local_api.FILE, msgspec.json.encode(document))
    log.client.close()


def _wait_until_ready(settings: Settings, stopping: threading.Event, wake: Wake, tend: Callable[[], None]) -> None:
    while not stopping.is_set():
        wake.wait(_READY_SECONDS)
        tend()
        with contextlib.suppress(OSError, urllib.error.URLError):
            context = ssl.create_default_context()
            # Unverified: this only asks whether our own process answers, and an operator's certificate may not name 127.0.0.1.
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            host = "127.0.0.1" if settings.host in EVERYWHERE else settings.host
            url = f"{'https' if settings.has_tls else 'http'}://{host}:{settings.port}/healthz"
            with urllib.request.urlopen(url, timeout=1, context=context):  # noqa: S310 - our own address
                return
