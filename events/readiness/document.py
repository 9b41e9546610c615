"""`python -m events.readiness.document > docs/reference/readiness.md`: writes the reference page of all rules."""

import sys
import textwrap
from collections.abc import Iterator

from events.manifest.problem import Severity
from events.readiness.catalogue import RULES
from events.readiness.profile import PRODUCTION, PROFILES, Profile
from events.readiness.rule import Inspects, Rule

_HEAD = """\
# Readiness

For authors of manifests and for operators. With this page you check manifests before production, run the check in a
pipeline, see how ready a fleet is, and look up every rule. `twinfold check` checks manifests without a server; a
server checks what is deployed by the same rules.

This page is generated from the rules (`python -m events.readiness.document > docs/reference/readiness.md`). A test
fails if it is not up to date.

## In short

    twinfold check deployment.json                                   # the profile of production
    twinfold check --profile development deployment.template.json    # a template: placeholders are allowed
    twinfold check camera.json --merge-onto base.json                # a layer on its base
    twinfold check deployment.json --fix                             # fix what can be fixed safely

A layer without `--merge-onto` is checked alone: rules that need the whole configuration are skipped. With it, bases
and layers are merged in the order given and the file last. A finding names the document in which its element was
written.

It exits with 0 when there is no finding of the severity of `--fail-on` or worse (the default is `warning`), with 1
when there is one, and with 2 when a file, a flag, a waiver or a baseline cannot be read. Waived findings and those of
the baseline are shown and do not count. `-` is standard input; with `--fix` the fixed manifest then goes to standard
output and the report to standard error. `--format json`, `sarif` (2.1.0) and `junit` are for programs.

**Severities.** `error`: IoT Hub (*the hub*) rejects it, or it fails on the device. `warning`: it works, but not
reliably in production. `info`: there is a better way, or something to consider. Findings never contain passwords or
values of environment variables.

**Fixes** are patches (RFC 6902) of the file: `--fix` rewrites only the elements that need it and leaves every
other character unchanged. A second run changes nothing.

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

A **baseline** makes a pipeline fail on new findings only. `--write-baseline F` writes the fingerprints of the current
findings, and `--baseline F` does not count them. A fingerprint identifies the rule, the document, the module and the
element. It survives moved lines, another order, and other numbers in the message.

A **waiver** records who accepts which finding, why, and until when. `--waivers F` reads waivers from TOML or
JSON. The day `until` is included (UTC). An expired waiver is shown in every report until it is removed.

```toml
[[waivers]]
rule = "privileged"
module = "driver"                 # optional: only for this module
deployment = "line-3"             # optional: the id of the deployment, or its file
who = "ada"
why = "the driver of the press needs it until its next release"
until = 2027-03-31
```

## Labels

The labels of a deployment override `--profile`: `readiness.profile` names a profile, `readiness.RULE` is `off`,
`info`, `warning` or `error`, as in `readiness.log-config: off`. A file with a whole configuration
(`{"id": …, "content": …, "labels": …}`) has its labels too.

## What a device reports

Rules about hosts read the section `hostFacts` of a device's reported properties. Every member is optional, and no
rule reports a missing one.

```json
{"hostFacts": {
  "certificates": {"deviceCa": {"expiresAt": 1798675200000, "temporary": false}},
  "engine": {"name": "moby-engine", "version": "20.10.14+azure-1", "logDriver": "local",
             "logOptions": {"max-size": "10m", "max-file": "3"}, "dns": ["10.0.0.2"], "proxy": false},
  "upstreamProtocol": "AmqpWs",
  "imageCollection": {"enabled": true, "cleanupRecurrence": "1d", "imageAgeCleanupThreshold": "7d",
                      "cleanupTime": "00:00"},
  "unusedVolumes": [],
  "outboundPorts": [443, 5671],
  "proxies": {"aziot-edged": false, "aziot-identityd": false}
}}
```

`expiresAt` is in milliseconds. `proxies` says for each service whether it uses a proxy. `outboundPorts` are the
ports on which the device reaches its hub. A device whose engine limits logs needs no LogConfig in its modules.

## On a server

The same rules check what is deployed. `TWINFOLD_READINESS_PROFILE` (`production` by default) is the profile of the
fleet.

    twinfold deployment create line-3 line-3.json    # answers with the findings
    twinfold readiness                               # devices with a finding, by rule
    twinfold readiness --rule privileged             # these devices
    twinfold readiness edge-1                        # every finding of one device
    twinfold waiver grant press privileged --module driver --reason "until its next release" --until 2027-03-31
    twinfold waiver list

**A new deployment** under `/v1` is answered with the findings on its own content: a layer is checked as a layer. Its
labels override the profile. `TWINFOLD_READINESS_REFUSE` is `off`, `error` or `warning`: with `error` or `warning`,
the server refuses a deployment with a finding of that severity or worse, on every path of the API, the hub's and group
updates included. The message lists the findings. Existing deployments stay.

**The fleet's score** (`GET /v1/readiness`) has, for each rule on configurations, the severity, the number of devices
with a finding, and their share of all devices. Every number has a list (`GET /v1/readiness/{rule}`). The
effective configuration is checked, layers on their base, under one profile for the whole fleet: labels override the
profile for their deployment only, not for its devices. Rules about hosts are not in the score, because the result of
some changes with time; each device shows its own. A device that never had a configuration is in no list.

**One device** (`GET /v1/devices/{id}/readiness`) shows the findings on its effective configuration, each with the
deployment that wrote the element, and those on the host facts that it reports.

**Waivers** on a server are events with an author, and the log keeps all of them. A waiver for a `deployment` covers
what that deployment wrote, on all devices, as long as the deployments of a device's configuration exist. An expired
waiver has no effect, and every report shows it until it is withdrawn.

Workers store the findings of each configuration, once for all devices that share it. Profiles, severities and waivers
are applied when a reader asks, so their changes are visible at once.
"""

_LINE_CHARACTERS = 120
_SECTIONS = {
    Inspects.PART: "Any manifest, a layer alone included",
    Inspects.WHOLE: "A standard manifest, or layers merged onto one",
    Inspects.LAYER: "Layers",
    Inspects.HOST: "Devices",
    Inspects.NOTHING: "By hand",
}


def markdown() -> str:
    """Return the whole page, with a line break at its end."""
    return "\n".join([_HEAD, *_profiles(), *_rules()])


def _profiles() -> Iterator[str]:
    names = [PRODUCTION.name, *(name for name in PROFILES if name != PRODUCTION.name)]
    yield "## Profiles\n"
    yield "Rules whose severity depends on the profile:\n"
    yield f"| rule | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for rule in RULES:
        weights = [_weight(PROFILES[name], rule) for name in names]
        if len(set(weights)) > 1:
            yield f"| `{rule.id}` | {' | '.join(weights)} |"
    yield ""


def _rules() -> Iterator[str]:
    for inspects, heading in _SECTIONS.items():
        yield f"## {heading}\n"
        for rule in RULES:
            if rule.inspects is inspects:
                yield from _rule(rule)


def _rule(rule: Rule) -> Iterator[str]:
    marks = "by hand" if rule.inspects is Inspects.NOTHING else rule.severity.value
    yield f"### {rule.id}\n"
    yield f"**{rule.title}** ({marks}{', can be fixed' if rule.fixes else ''})\n"
    yield _wrapped(f"{rule.reason} *Remedy:* {rule.remedy} *Source:* {rule.source}.\n") + "\n"


def _wrapped(text: str) -> str:
    return textwrap.fill(text, _LINE_CHARACTERS, break_long_words=False, break_on_hyphens=False)


def _weight(profile: Profile, rule: Rule) -> str:
    severity: Severity | None = profile.severity_of(rule.id)
    return severity.value if severity is not None else "off"


if __name__ == "__main__":
    sys.stdout.write(markdown())
