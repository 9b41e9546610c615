"""`twinfold demo`: an edge fleet in half a minute, on a Redis and workers of its own."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.commands import command
from services.demo.run import run


@command(example="twinfold demo --manifest base.json")
def demo(
    *,
    manifest: Annotated[
        Path | None, typer.Option(help="A deployment manifest of yours instead of the built-in one.")
    ] = None,
    layer: Annotated[Path | None, typer.Option(help="A layered manifest of yours instead of the built-in one.")] = None,
) -> None:
    """Show manifests reaching 1,000 simulated devices through a real Redis and real workers. All data is removed afterwards."""
    run(manifest=manifest, layer=layer)
