"""The files of a data directory that a backup needs besides the log: keys, tokens and certificates."""

from events.settings import Settings
from services import atomic_files

KEY_FILE, SEAL_KEY_FILE = "master.key", "seal.key"
RESTORING = "restoring"
"""A file that exists in a data directory while a restore writes into it."""

_SKIPPED_FOLDERS = {"redis", "archive"}
_SKIPPED_FILES = {"lock", "roles.lock", "serving.json", RESTORING}
_PUBLIC = (".pem", ".pub")
_BYTES_MAX = 1 << 20


def read(settings: Settings) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """The files to copy by their names in the data directory: public ones, and private ones.

    Private files open secrets, or impersonate the system or its administrator. The key files are named `master.key` and
    `seal.key`, wherever they are.

    Raises:
        OSError: a file cannot be read.
    """
    public, private = dict[str, bytes](), dict[str, bytes]()
    keys = {KEY_FILE: settings.effective_key_file, SEAL_KEY_FILE: settings.effective_seal_key_file}
    for path in sorted(settings.data_dir.rglob("*")):
        name = path.relative_to(settings.data_dir)
        if not path.is_file() or name.parts[0] in _SKIPPED_FOLDERS or any(part.startswith(".") for part in name.parts):
            continue
        if str(name) in _SKIPPED_FILES or path in keys.values() or path.stat().st_size > _BYTES_MAX:
            continue
        is_public = path.suffix in _PUBLIC or str(name) == "layout"
        (public if is_public else private)[str(name)] = path.read_bytes()
    return public, private | {name: path.read_bytes() for name, path in keys.items() if path.exists()}


def blocking_file(settings: Settings) -> str | None:
    """A file that a restore must not overwrite; `None` if there is none, or a restore was interrupted in the directory."""
    directory = settings.data_dir
    if not directory.is_dir() or (directory / RESTORING).exists():
        return None
    ours = {"lock", "roles.lock", "layout", "redis", KEY_FILE, SEAL_KEY_FILE}
    names = (path.name for path in directory.iterdir() if path.name not in ours)
    inside = (f"redis/{path.name}" for path in (directory / "redis").glob("*append*"))
    return next(iter((*sorted(names), *sorted(inside))), None)


def write(settings: Settings, name: str, data: bytes) -> None:
    """Write a file to its place in a system, readable only for its owner.

    Raises:
        OSError: it cannot be written.
    """
    elsewhere = {KEY_FILE: settings.effective_key_file, SEAL_KEY_FILE: settings.effective_seal_key_file}
    path = elsewhere.get(name, settings.data_dir / name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic_files.write(path, data)
