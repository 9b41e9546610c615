"""Why a manifest, or a text with its own grammar in a manifest, is refused.

ManifestInvalid
ManifestPartInvalid
├── CreateOptionsInvalid
├── ImageInvalid
└── RouteInvalid
"""

from collections.abc import Sequence

from events.manifest.problem import Problem


class ManifestInvalid(Exception):
    """A manifest has problems; the text has one line for each, with its path."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class ManifestPartInvalid(Exception):
    """A text inside a manifest does not follow its own grammar."""


class CreateOptionsInvalid(ManifestPartInvalid):
    """The chunks of a module's createOptions cannot be joined, or are not a JSON object."""


class ImageInvalid(ManifestPartInvalid):
    """An image reference is blank, has no name, an empty tag, or more than one tag."""

    def __init__(self, image: str, why: str) -> None:
        super().__init__(f"Image {image!r} {why}")
        self.image, self.why = image, why


class RouteInvalid(ManifestPartInvalid):
    """A route does not follow the grammar of contract/edge.md §2. Columns count from 1."""

    def __init__(self, why: str, *, column: int) -> None:
        super().__init__(f"column {column}: {why}")
        self.why, self.column = why, column
