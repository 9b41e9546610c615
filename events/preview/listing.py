"""Who is on a list of a preview: ids page by page."""

import itertools

from pyroaring import BitMap

from events.preview.outcome import Members, Outcome
from events.view_store.port import Selection, ViewStore
from events.views.reading import ids_of, pages_of

Place = tuple[int, int]
"""Partition and ordinal."""


def page(
    views: ViewStore, outcome: Outcome, members: Members, *, after: Place = (0, -1), limit: int
) -> tuple[list[str], Place | None]:
    """Device ids of a list from behind a place on, and the place to go on from; `None` at the end."""
    places: list[Place] = []
    for number, some in sorted(members.items()):
        if number < after[0]:
            continue
        behind = after[1] if number == after[0] else -1
        ahead = (ordinal for ordinal in some if ordinal > behind)
        places += [(number, ordinal) for ordinal in itertools.islice(ahead, limit + 1 - len(places))]
        if len(places) > limit:
            break
    shown, names = places[:limit], []
    for number, group in itertools.groupby(shown, key=lambda place: place[0]):
        ordinals = [ordinal for _, ordinal in group]
        # Whoever would be new is in no view yet.
        known = BitMap([one for one in ordinals if (number, one) not in outcome.names])
        kept = views.read(number, Selection(fields=(("ids", pages_of(known)),)))
        names += list(ids_of(known, kept)) + [outcome.names[number, one] for one in ordinals if one not in known]
    return names, shown[-1] if len(places) > limit else None
