"""Where the log of a command is: at the Redis that is named, or else at the one of `twinfold up` in the data directory."""

from typing import Any

from events.settings import Settings, read_settings
from services.serving import serving


def log_settings(**given: Any) -> Settings:
    """Settings with what is given on the command line, as `read_settings` takes it, that lead to the log.

    Raises:
        SettingsInvalid: a flag or a variable is not right.
    """
    settings = read_settings(**given)
    found = None if "redis_url" in settings.model_fields_set else serving(settings.data_dir)
    if found is None:
        return settings
    queue = {} if "queue_url" in settings.model_fields_set else {"queue_url": found.queue_url}
    return settings.model_copy(update={"redis_url": found.redis_url, **queue})
