"""Image references: their normal form, and the registry of an image (contract/edge.md §1.1, §3.8)."""

from events.manifest.errors import ImageInvalid

DOCKER_HUB = "https://index.docker.io/v1/"


def normalize(image: str) -> str:
    """Return the reference without surrounding spaces, and with `:latest` if it has no tag.

    Raises:
        ImageInvalid: it is blank, or the text after the last slash is not `name` or `name:tag`.
    """
    trimmed = image.strip()
    if not trimmed:
        raise ImageInvalid(image, "is blank")
    name, colon, tag = trimmed.rpartition("/")[2].partition(":")
    if not name:
        raise ImageInvalid(image, "has no name after its last slash")
    if ":" in tag:
        raise ImageInvalid(image, "has more than one tag")
    if colon and not tag:
        raise ImageInvalid(image, "has an empty tag")
    return trimmed if tag else f"{trimmed}:latest"


def registry_of(image: str) -> str | None:
    """Return the registry whose credentials an image needs; `None` for a bare name, which needs none.

    A first component without a dot or a colon is a namespace on Docker Hub, not a host.
    """
    first, slash, _ = image.partition("/")
    if not slash:
        return None
    return first if "." in first or ":" in first else DOCKER_HUB
