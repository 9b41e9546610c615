"""`twinfold demo`: the story of an edge fleet in half a minute, on a Redis and workers of its own."""

from pathlib import Path
from typing import Annotated

import typer

from services.demo.run import run


def demo(
    *,
    manifest: Annotated[
        Path | None, typer.Option(help="A deployment manifest of yours, instead of the story's own.")
    ] = None,
    layer: Annotated[Path | None, typer.Option(help="A layered manifest of yours.")] = None,
) -> None:
    """Show real manifests reaching 1,000 simulated devices through a real Redis and real workers. Leaves nothing behind.

    Example: twinfold demo --manifest base.json
    """
    run(manifest=manifest, layer=layer)
