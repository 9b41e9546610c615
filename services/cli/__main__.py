"""The program `twinfold`."""

import sys

from services import shadow


def main() -> None:
    """Run the command line and exit with one of the codes in `services.cli.exits`."""
    try:
        shadow.check()
    except shadow.PackageShadowed as error:
        sys.exit(f"twinfold: {error}")
    # Imported after the check, because commands import `events`, and another package of that name may shadow ours.
    from services.cli import app

    try:
        app.app()
    except Exception as error:
        from events.terminal import complain_of
        from services.cli import exits, flag_names

        if not exits.is_any(error, *exits.EXPECTED):
            raise
        # A refusal of the API already has the names of flags, or those of a file.
        complain_of(error, named=str if exits.is_any(error, exits.API_REFUSED) else flag_names.in_flags)
        sys.exit(exits.code_of(error))


if __name__ == "__main__":
    main()
