"""`python -m events.readiness.document docs/reference/readiness.md`: writes profiles and rules into the reference page."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

from events.readiness.catalogue import RULES
from events.readiness.profile import PRODUCTION, PROFILES
from events.readiness.rule import Inspects

_SECTIONS = {
    Inspects.PART: "Any manifest, a layer alone included",
    Inspects.WHOLE: "A standard manifest, or layers merged onto one",
    Inspects.LAYER: "Layers",
    Inspects.HOST: "Devices",
    Inspects.NOTHING: "By hand",
}


def with_rules(page: str) -> str:
    """Return the page with everything from the heading of the profiles on written anew."""
    prose, heading, _ = page.partition("## Profiles\n")
    return "\n".join([prose + heading, *_profiles(), *_rules()])


def _profiles() -> Iterator[str]:
    profiles = [PRODUCTION, *(profile for profile in PROFILES.values() if profile is not PRODUCTION)]
    yield "Rules whose severity depends on the profile:\n"
    yield f"| rule | {' | '.join(profile.name for profile in profiles)} |"
    yield f"|---|{'---|' * len(profiles)}"
    for rule in RULES:
        severities = [profile.severity_of(rule.id) for profile in profiles]
        if len(set(severities)) > 1:
            texts = ("off" if severity is None else severity.value for severity in severities)
            yield f"| `{rule.id}` | {' | '.join(texts)} |"
    yield ""


def _rules() -> Iterator[str]:
    for inspects, heading in _SECTIONS.items():
        yield f"## {heading}\n"
        for rule in RULES:
            if rule.inspects is inspects:
                marks = "by hand" if rule.inspects is Inspects.NOTHING else rule.severity.value
                yield f"### {rule.id}\n"
                yield f"**{rule.title}** ({marks}{', can be fixed' if rule.fixes else ''})\n"
                text = f"{rule.reason} *Remedy:* {rule.remedy} *Source:* {rule.source}."
                yield textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False) + "\n"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(with_rules(path.read_text(encoding="utf-8")), encoding="utf-8")
