"""The program `twinfold`."""

import sys

from services import shadow


def main() -> None:
    """Run the command line and leave with one of the codes in `services.cli.exits`."""
    try:
        shadow.check()
    except shadow.PackageShadowed as error:
        sys.exit(f"twinfold: {error}")
    # Only now: these import `events`, which may not have been ours.
    from services.cli import app, exits  # noqa: PLC0415

    try:
        app.app()
    except exits.EXPECTED as error:
        sys.stderr.write(f"twinfold: {error}\n")
        sys.exit(exits.code_of(error))


if __name__ == "__main__":
    main()
