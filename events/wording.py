"""How numbers of things are said."""


def counted(count: int, what: str) -> str:
    """A number of things, as in 1 device, 2 devices."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
