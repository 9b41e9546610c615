"""`python -m events.readiness.document > docs/reference/readiness.md`: the catalogue of rules as a document for people."""

import sys
from collections.abc import Iterator

from events.manifest.problem import Severity
from events.readiness.catalogue import RULES
from events.readiness.profile import PRODUCTION, PROFILES, Profile
from events.readiness.rule import LooksAt, Rule

_HEAD = """\
# Readiness

`twinfold check` holds manifests against the production checklist, without a server; a server does the same with what is deployed.
This page is made from the rules (`python -m events.readiness.document > docs/reference/readiness.md`);
a test fails when it is not up to date.

## In short

    twinfold check deployment.json                                   # as production wants it
    twinfold check --profile development deployment.template.json    # a template: placeholders are right there
    twinfold check camera.json --merge-onto base.json                # a layer on the base it is for
    twinfold check deployment.json --fix                             # mend what can be mended safely

A layer without `--merge-onto` is checked as such: rules that need the whole configuration are left out. With it, bases and layers
are merged in the order given and the file last; a finding names the document its element was written in.

It leaves with 0 when there is no finding of the severity of `--fail-on` or worse (`warning` unless told otherwise), with 1
when there is one, and with 2 when a file, a flag, a waiver or a baseline cannot be read. Waived findings and those of the
baseline are shown and do not count. `-` stands for standard input; with `--fix` the fixed manifest then goes to standard
output and the report to standard error. `--format json`, `sarif` (2.1.0) and `junit` are for programs.

**Severities.** `error`: the hub refuses it, or it will fail on the device. `warning`: it works until production asks more of it.
`info`: there is something better, or something to know. Findings never hold passwords or values of environment variables.

**Fixes** are patches (RFC 6902) of the file as it is: `--fix` rewrites the elements it names and leaves every other character
alone. A second run changes nothing.

## In a pipeline

```yaml
jobs:
  manifests:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - run: pip install .                    # in a clone of twinfold, or wherever you keep its package
      - run: |
          twinfold check --baseline .readiness-baseline.json --waivers .readiness-waivers.toml \\
            --format sarif deployments/*.json > readiness.sarif
      - uses: github/codeql-action/upload-sarif@v3
        if: always()
        with: {sarif_file: readiness.sarif}
```

A **baseline** makes a pipeline fail on new findings alone. `--write-baseline F` writes the fingerprints of today's findings, `--baseline F`
leaves them out of the verdict. A fingerprint is made of the rule, the document, the module and the element, so it survives moved
lines, another order, and other numbers in the message.

A **waiver** is a decision: who lets which finding stand, why, and until when. `--waivers F` reads them from TOML or
JSON; the last day counts (UTC), and what has expired is shown in every report until somebody takes it out.

```toml
[[waivers]]
rule = "privileged"
module = "driver"                 # optional: of this module alone
deployment = "line-3"             # optional: the deployment's id, or its file as it was given
who = "ada"
why = "the driver of the press needs it until its next release"
until = 2027-03-31
```

## Labels

A deployment's labels go before `--profile`: `readiness.profile` names a profile, `readiness.RULE` is `off`, `info`, `warning` or `error`,
as in `readiness.log-config: off`. A file that holds a whole configuration (`{"id": …, "content": …, "labels": …}`) brings its labels along.

## What a device reports

Rules on hosts read the section `hostFacts` of a device's reported properties. Everything in it is optional; no rule speaks of what
is not reported.

```json
{"hostFacts": {
  "certificates": {"deviceCa": {"expiresAt": 1798675200000, "temporary": false}},
  "engine": {"name": "moby-engine", "version": "20.10.14+azure-1", "logDriver": "local",
             "logOptions": {"max-size": "10m", "max-file": "3"}, "dns": ["10.0.0.2"], "proxy": false},
  "upstreamProtocol": "AmqpWs",
  "imageCollection": {"enabled": true, "cleanupRecurrence": "1d", "imageAgeCleanupThreshold": "7d", "cleanupTime": "00:00"},
  "unusedVolumes": [],
  "outboundPorts": [443, 5671],
  "proxies": {"aziot-edged": false, "aziot-identityd": false}
}}
```

`expiresAt` is in milliseconds; `proxies` says for each service whether it goes through a proxy; `outboundPorts` are those on which the
device reaches its hub. A device whose engine limits logs needs no LogConfig in its modules.

## On a server

The same rules, held against what is deployed. `TWINFOLD_READINESS_PROFILE` (`production` unless it says otherwise) names the
profile of the fleet.

    twinfold deployment create line-3 line-3.json    # says what the rules find
    twinfold readiness                               # how many devices each rule stops at
    twinfold readiness --rule privileged             # which
    twinfold readiness edge-1                        # everything there is to say of one
    twinfold waiver grant press privileged --module driver --reason "until its next release" --until 2027-03-31
    twinfold waiver list

**A new deployment** under `/v1` is answered with the findings on its content, by itself: a layer is checked as a layer. Its
labels go before the profile. `TWINFOLD_READINESS_REFUSE` is `off`, `error` or `warning`: with one of the latter two, a deployment
that has a finding of that severity or worse is refused, whichever way it comes to the API, the paths of the hub and updates of
groups included; the message lists the findings. What stood before goes on standing.

**The fleet's score** (`GET /v1/readiness`) has the rules on what devices should run: of each the severity, how many devices it
stops at, and what share of all devices that is. Every number is that of a list (`GET /v1/readiness/{rule}`). The effective
configuration counts, layers on their base, under one profile for the whole fleet: labels are for the deployment they stand on,
and do not reach its devices. Rules on host facts are not in the score, since some of them change their answer with the time
alone; each device shows its own. A device that never had a configuration is in no list.

**One device** (`GET /v1/devices/{id}/readiness`) shows the findings on its effective configuration, each with the deployment that
wrote the element, and those on the host facts that it reports.

**Waivers** on a server are facts: the author is whoever granted it, and the log keeps all of them. One for a `deployment` is for
what that deployment wrote, on whichever devices, as long as those that a device's configuration was merged from stand. One that
has expired counts no more, and is shown with every report until it is withdrawn.

Workers keep what the rules find beside each configuration, once for all devices that share it. Profiles, severities and waivers
are applied as one looks, so a change of them shows at once.
"""

_SECTIONS = {
    LooksAt.PART: "Any manifest, a layer alone included",
    LooksAt.WHOLE: "A standard manifest, or layers merged onto one",
    LooksAt.LAYER: "Layers",
    LooksAt.HOST: "Devices",
    LooksAt.NOTHING: "By hand",
}


def markdown() -> str:
    """The whole document, ending in a line break."""
    return "\n".join([_HEAD, *_profiles(), *_rules()])


def _profiles() -> Iterator[str]:
    names = [PRODUCTION.name, *(name for name in PROFILES if name != PRODUCTION.name)]
    yield "## Profiles\n"
    yield "Only rules that are not the same everywhere:\n"
    yield f"| rule | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for rule in RULES:
        weights = [_weight(PROFILES[name], rule) for name in names]
        if len(set(weights)) > 1:
            yield f"| `{rule.id}` | {' | '.join(weights)} |"
    yield ""


def _rules() -> Iterator[str]:
    for looks_at, heading in _SECTIONS.items():
        yield f"## {heading}\n"
        for rule in RULES:
            if rule.looks_at is looks_at:
                yield from _one(rule)


def _one(rule: Rule) -> Iterator[str]:
    marks = "by hand" if rule.looks_at is LooksAt.NOTHING else rule.severity.value
    yield f"### {rule.id}\n"
    yield f"**{rule.title}** ({marks}{', can be fixed' if rule.fixes else ''})\n"
    yield f"{rule.reason} *Remedy:* {rule.remedy} *Source:* {rule.source}.\n"


def _weight(profile: Profile, rule: Rule) -> str:
    severity: Severity | None = profile.severity_of(rule.id)
    return severity.value if severity is not None else "off"


if __name__ == "__main__":
    sys.stdout.write(markdown())
