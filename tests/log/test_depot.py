"""A place outside Redis: what is called by a name that is none is refused, and many may write at once."""

import threading
from pathlib import Path

import pytest

from events.log.depot import Depot
from events.log.errors import DepotUnavailable


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x"])
def test_a_name_that_leads_elsewhere_is_refused_by_the_log_s_own_error(tmp_path: Path, name: str) -> None:
    depot = Depot(str(tmp_path / "depot"))
    for reach in (depot.get, depot.size, depot.delete, depot.open, lambda one: depot.put(one, b"")):
        with pytest.raises(DepotUnavailable, match="no name of a file"):
            reach(name)


def test_who_writes_one_file_at_once_writes_it_whole(tmp_path: Path) -> None:
    depot, failed = Depot(str(tmp_path)), list[BaseException]()

    def put(data: bytes) -> None:
        try:
            for _ in range(50):
                depot.put("one", data)
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=put, args=(bytes([number]) * 100_000,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(set(depot.get("one") or b"ab")) == 1
    assert depot.names() == ["one"]
    assert len(list(tmp_path.iterdir())) == 1
