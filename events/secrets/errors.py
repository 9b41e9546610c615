"""Errors of secrets. No error holds or quotes a secret or a part of one.

SecretsError
├── SecretTextInvalid        rejected: the value in the place of a secret cannot be one
├── SecretNotFound           rejected: a reference to a secret that does not exist
├── SecretErased             rejected: its data key is destroyed
├── SecretExists             rejected: the id is in use
├── SecretTampered           stop: the stored bytes are not those that were sealed under this id
├── SecretsUnavailable       temporary: the store does not answer
└── KeyFileError             the process must not start
    ├── KeyFileUnreadable    the file does not exist, or cannot be read or created
    ├── KeyFileExposed       other users may read or write the file
    ├── KeyFileMalformed     the file does not have exactly one key
    ├── KeyFileOfAnotherLog  the file opens no secret of this log
    └── KeyFileWrong         the secret was sealed under another key
"""

from collections.abc import Collection
from pathlib import Path


class SecretsError(Exception):
    """An error of secrets; the base of all others."""


class SecretTextInvalid(SecretsError):
    """The value is not a secret: a text of at most 4,096 bytes that is not blank."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"{path}: a secret {why}")
        self.path, self.why = path, why


class SecretNotFound(SecretsError):
    """No secret was ever stored under this id."""

    def __init__(self, secret_id: str) -> None:
        # Without the id: a caller who misunderstands `$secret` writes the secret itself there.
        super().__init__("`$secret` refers to a secret that does not exist; give the value, or an existing reference")
        self.secret_id = secret_id


class SecretErased(SecretsError):
    """The secret's data key is destroyed; it cannot be read again."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"secret {secret_id!r} is erased; create a deployment with a new value")
        self.secret_id = secret_id


class SecretExists(SecretsError):
    """Another secret, or an erased one, has this id; it is not changed."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"a secret {secret_id!r} exists; use another id")
        self.secret_id = secret_id


class SecretTampered(SecretsError):
    """The stored bytes of this id were changed, or belong to another id."""

    def __init__(self, secret_id: str) -> None:
        super().__init__(f"secret {secret_id!r} does not open: the stored bytes were changed; restore them")
        self.secret_id = secret_id


class SecretsUnavailable(SecretsError):
    """The store did not answer. The secrets may or may not be stored; sending the command again is safe."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the store of secrets is unavailable: {why}; retrying is safe")
        self.why = why


class KeyFileError(SecretsError):
    """The key file cannot be used."""


class KeyFileUnreadable(KeyFileError):
    """The file does not exist, is not a regular file, or cannot be read or created by this process."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"key file {path}: {why}")
        self.path, self.why = path, why


class KeyFileExposed(KeyFileError):
    """Other users may access the key file. With the key, a copy of Redis shows every secret."""

    def __init__(self, path: Path, mode: int) -> None:
        super().__init__(f"key file {path} has mode {mode:04o}; only its owner may read it: chmod 600 {path}")
        self.path, self.mode = path, mode


class KeyFileMalformed(KeyFileError):
    """The file does not have exactly one key of 64 hexadecimal digits."""

    def __init__(self, path: Path, characters: int) -> None:
        super().__init__(
            f"key file {path} has {characters} characters that are not one key of 64 hexadecimal digits;"
            " restore it from a backup"
        )
        self.path, self.characters = path, characters


class KeyFileOfAnotherLog(KeyFileError):
    """The key file opens none of the log's secrets, so no new secret is sealed under it; nothing was written."""

    def __init__(self, path: Path, *, exists: bool, key_ids: Collection[str]) -> None:
        state = "opens none of them" if exists else "does not exist"
        super().__init__(
            f"the secrets of this log are sealed under key file {' or '.join(sorted(key_ids))}, and {path} {state}: set"
            " TWINFOLD_KEY_FILE to a copy of that file, or TWINFOLD_DATA_DIR to its directory; to register devices without keys,"
            " use authentication=KEYS_DECLINED"
        )
        self.path = path


class KeyFileWrong(KeyFileError):
    """The secret was sealed under another key file. The ids in the text are digests, from which no key can be derived."""

    def __init__(self, secret_id: str, *, required: str, actual: str) -> None:
        super().__init__(
            f"secret {secret_id!r} was sealed under key {required[:64]}, and this key file has key {actual};"
            f" set TWINFOLD_KEY_FILE to the file of {required[:64]}"
        )
        self.secret_id, self.required, self.actual = secret_id, required, actual
