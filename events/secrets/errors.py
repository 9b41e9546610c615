"""Why a secret cannot be kept or shown. No error holds or quotes a secret, or a part of one.

SecretsError
├── SecretTextInvalid      refused: what stands where a secret belongs is no text that can be one
├── MarkNotFound           refused: nothing stands at a place that was marked as secret
├── SecretNotFound         refused: a reference to nothing
├── SecretErased           refused: its data key is destroyed
├── SecretExists           refused: the id is taken
├── SecretTampered         stop: the sealed bytes are not those that were sealed under this id
├── SecretsUnavailable     not now: the store does not answer
└── KeyFileError           the process must not start
    ├── KeyFileUnreadable  it is not there, or not to be read or made
    ├── KeyFileExposed     others than its owner may read or write it
    ├── KeyFileMalformed   it does not hold one key
    ├── KeyFileOfAnotherLog  it opens nothing that this log has
    └── KeyFileWrong       it holds another key than the secret was sealed under
"""

from collections.abc import Collection
from pathlib import Path


class SecretsError(Exception):
    """Any trouble with secrets."""


class SecretTextInvalid(SecretsError):
    """A secret is a text that is not blank, of at most 4,096 bytes."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: a secret {why}")
        self.path, self.why = path, why


class MarkNotFound(SecretsError):
    """A mistyped mark would leave a secret in clear text, so it is refused."""

    def __init__(self, mark: str) -> None:
        super().__init__(
            f"{mark[:140]!r} is marked as secret, but the content sets no such environment variable;"
            " write modules.<module>.env.<variable>"
        )
        self.mark = mark


class SecretNotFound(SecretsError):
    """No secret was ever kept under this id. Its text does not quote the id: who mistakes `$secret` writes a secret there."""

    def __init__(self, secret_id: str) -> None:
        super().__init__("there is no secret of the id that is referred to; give the value, or a reference that stands")
        self.secret_id = secret_id


class SecretErased(SecretsError):
    """The secret's data key is destroyed; nobody can read it again."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"secret {secret_id!r} is erased; create a deployment with a new value")
        self.secret_id = secret_id


class SecretExists(SecretsError):
    """Another secret, or an erased one, has this id; it is left as it is."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"a secret {secret_id!r} exists; draw another id")
        self.secret_id = secret_id


class SecretTampered(SecretsError):
    """What the store holds under this id was changed, or belongs to another id."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"secret {secret_id!r} does not open: the stored bytes were changed; restore them")
        self.secret_id = secret_id


class SecretsUnavailable(SecretsError):
    """The store did not answer. What was to be kept may or may not be; sending the command again is safe."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the store of secrets is unavailable: {why}; send the command again")
        self.why = why


class KeyFileError(SecretsError):
    """The key file cannot be used."""


class KeyFileUnreadable(KeyFileError):
    """The file is not there, is no file, or the system does not let this process read or make it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"key file {path}: {why}")
        self.path, self.why = path, why


class KeyFileExposed(KeyFileError):
    """Who else can read the key can read every secret in a copy of Redis."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(f"key file {path} has mode {mode:04o}; only its owner may read it: chmod 600 {path}")
        self.path, self.mode = path, mode


class KeyFileMalformed(KeyFileError):
    """The file holds something else than one key of 64 hexadecimal digits."""

    def __init__(self, path: Path, characters: int) -> None:
        super().__init__(
            f"key file {path} holds {characters} characters that are not one key of 64 hexadecimal digits;"
            " restore it from its backup"
        )
        self.path, self.characters = path, characters


class KeyFileOfAnotherLog(KeyFileError):
    """New secrets would be sealed under a key file that opens none of those that the log has; nothing was written."""

    def __init__(self, path: Path, *, there: bool, key_ids: Collection[str]) -> None:
        state = "opens none of them" if there else "does not exist"
        super().__init__(
            f"the secrets of this log are sealed under key file {' or '.join(sorted(key_ids))}, and {path} {state}: name a copy of "
            "that file by TWINFOLD_KEY_FILE or its directory by TWINFOLD_DATA_DIR; to register devices without keys, give them "
            "authentication=KEYS_DECLINED"
        )
        self.path = path


class KeyFileWrong(KeyFileError):
    """The secret was sealed under another key file. Ids are derived from keys and tell nothing about them."""

    def __init__(self, secret_id: str, *, wanted: str, actual: str) -> None:
        super().__init__(
            f"secret {secret_id!r} was sealed under key {wanted[:64]}, this key file is {actual};"
            " set TWINFOLD_KEY_FILE to the other one"
        )
        self.secret_id, self.wanted, self.actual = secret_id, wanted, actual
