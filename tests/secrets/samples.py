"""Keys, ids and contents with secrets for these tests. Nothing here is random, so a failure repeats."""

import itertools
from collections.abc import Callable
from typing import Any

import fakeredis

from events.secrets.keyfile import KEY_BYTES, KeyFile
from events.secrets.redis import RedisSecretStore
from events.secrets.references import SECRET_TEXT
from tests.manifest.contents import agent, content, module

PASSWORD = "hunter2-hunter2"
TOKEN = "tokentoken-0815"
KEY = KeyFile(bytes(range(KEY_BYTES)))
OTHER_KEY = KeyFile(bytes(KEY_BYTES))


class FakeSecretStore(RedisSecretStore):
    """The store of secrets over a Redis in this process."""

    def __init__(self) -> None:
        self.redis = fakeredis.FakeRedis()
        super().__init__(self.redis)


def numbered() -> Callable[[], str]:
    """Ids s1, s2, …"""
    numbers = itertools.count(1)
    return lambda: f"s{next(numbers)}"


def registry(password: Any = PASSWORD) -> dict[str, Any]:
    return {"username": "u", "password": password, "address": "registry.example.com"}


def runtime(password: Any = PASSWORD) -> dict[str, Any]:
    return {"type": "docker", "settings": {"registryCredentials": {"acr": registry(password)}}}


def marked(text: Any = TOKEN) -> dict[str, Any]:
    return {SECRET_TEXT: text}


def with_password(password: Any = PASSWORD) -> dict[str, Any]:
    return content(agent=agent(runtime=runtime(password)))


def with_variable(value: Any) -> dict[str, Any]:
    return content(agent=agent(modules={"temp": module(env={"TOKEN": {"value": value}, "PLAIN": {"value": "x"}})}))
