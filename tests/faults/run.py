"""Faults for a while, and then whether all that was acknowledged is there, once and as it was written."""

import contextlib
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx
import msgspec

from events.device.events import DeviceRegistered, TwinPatched
from events.log.log_factory import open_log
from tests import waiting
from tests.faults.system import Victim, faults, seconds_until
from tests.faults.writers import Writer
from tests.workers.system import base

WRITERS = 3
BACK_SECONDS_MAX = 10.0
"""On a quiet machine; longer where this one is slower at the moment."""


class Course(msgspec.Struct):
    """What was done, how long each role took to be back (seconds), and what is not as it should be."""

    struck: Counter[str] = msgspec.field(default_factory=Counter)
    seconds: dict[str, list[float]] = msgspec.field(default_factory=lambda: defaultdict(list))
    acknowledged: int = 0
    wrong: list[str] = msgspec.field(default_factory=list)


def run(data: Path, *, seconds: float, seed: int, print_lines: Callable[[str], None]) -> Course:
    """Strike every process in turn for so long while callers write; then stop, and look at everything."""
    course, stopping, chance = Course(), threading.Event(), random.Random(seed)  # noqa: S311 - a seed
    victim = Victim(data)
    victim.wait_until_served()
    writers = [Writer(f"writer-{number}", victim.client, stopping) for number in range(WRITERS)]
    try:
        with victim.client() as http:
            waiting.eventually(lambda: _is_deployed(http), what="the first start is over")
            for writer in writers:
                writer.start()
            until = time.monotonic() + seconds
            for fault in faults(chance):
                if time.monotonic() > until:
                    break
                struck = victim.strike(fault)
                if struck is None:
                    course.wrong.append(f"{fault}: the process was not there")
                    break
                took = seconds_until(
                    lambda fault=fault, struck=struck: victim.is_back(fault, struck, http), seconds_max=BACK_SECONDS_MAX
                )
                course.struck[str(fault)] += 1
                course.seconds[str(fault)].append(took)
                print_lines(f"{fault}: back after {took:.1f} s")
                stopping.wait(chance.uniform(0.1, 2.0))
            stopping.set()
            for writer in writers:
                writer.join()
            course.acknowledged = sum(len(writer.acknowledged) + len(writer.registered) for writer in writers)
            waiting.eventually(lambda: http.get("/readyz").json().get("lag") == {}, what="everything is applied")
            course.wrong += [refused for writer in writers for refused in writer.refused]
            course.wrong += _differences(victim.redis_url, writers)
            for writer in writers:
                course.wrong += _twin_differs(http, writer, victim.redis_url)
        for words in (("replay",), ("audit", "verify")):
            done = victim.twinfold(*words)
            if done.returncode:
                course.wrong.append(f"twinfold {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}")
    finally:
        stopping.set()
        code = victim.stop()
    if code:
        course.wrong.append(f"`up` ended with {code}")
    return course


def _is_deployed(http: httpx.Client) -> bool:
    with contextlib.suppress(httpx.TransportError):
        body = {"content": base("m"), "targetCondition": "*", "priority": 1}
        return http.post("/v1/deployments/a", json=body).status_code in {201, 409}
    return False


def _values(url: str) -> tuple[dict[str, list[int]], Counter[str]]:
    """The values of each device's tag in the order of the log, and how often each device was registered."""
    log = open_log(url)
    values, registered = defaultdict[str, list[int]](list), Counter[str]()
    for partition in range(log.partitions):
        after = 0
        while batch := log.read(partition, after=after, limit=1000):
            after = batch[-1].position
            for envelope in batch:
                if isinstance(envelope.event, TwinPatched) and envelope.event.tags and "n" in envelope.event.tags:
                    values[envelope.subject].append(int(str(envelope.event.tags["n"])))
                elif isinstance(envelope.event, DeviceRegistered):
                    registered[envelope.subject] += 1
    log.client.close()
    return values, registered


def _differences(url: str, writers: Sequence[Writer]) -> Iterator[str]:
    values, registered = _values(url)
    for writer in writers:
        found = values[writer.device_id]
        counts = Counter(found)
        lost = sorted(value for value in writer.acknowledged if value not in counts)
        doubled = sorted(value for value, count in counts.items() if count > 1)
        unknown = sorted(value for value in counts if not 1 <= value <= writer.sent)
        if lost:
            yield f"{writer.device_id}: acknowledged and not in the log: {lost[:20]}"
        if doubled:
            yield f"{writer.device_id}: in the log more than once: {doubled[:20]}"
        if unknown:
            yield f"{writer.device_id}: in the log and never sent: {unknown[:20]}"
        if found != sorted(found):
            yield f"{writer.device_id}: not in the order in which they were sent"
        for device_id in writer.registered:
            if registered[device_id] != 1:
                yield f"{device_id}: registered {registered[device_id]} times"


def _twin_differs(http: httpx.Client, writer: Writer, url: str) -> Iterator[str]:
    last = _values(url)[0][writer.device_id][-1:]
    shown = http.get(f"/twins/{writer.device_id}").json()["tags"].get("n")
    if last != [shown]:
        yield f"{writer.device_id}: the twin has n = {shown}, the log's last is {last}"
