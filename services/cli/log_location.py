"""Which Redis holds the log of a command: the one that is named, else that of `twinfold up` in the data directory."""

from typing import Any

from events.settings import Settings, read_settings
from services.local import serving


def log_settings(**flags: Any) -> Settings:
    """Settings that lead to the log; `flags` override variables, as in `read_settings`.

    Raises:
        SettingsInvalid: a flag or a variable is invalid.
    """
    settings = read_settings(**flags)
    local = None if "redis_url" in settings.model_fields_set else serving(settings.data_dir)
    if local is None:
        return settings
    queue = {} if "queue_url" in settings.model_fields_set else {"queue_url": local.queue_url}
    return settings.model_copy(update={"redis_url": local.redis_url, **queue})
