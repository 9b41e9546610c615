"""Points of the checklist that people must check, because no manifest and no device shows them."""

from events.manifest.problem import Severity
from events.readiness.rule import Inspects, Rule


def _by_hand(rule_id: str, title: str, *, reason: str, remedy: str, source: str) -> Rule:
    return Rule(rule_id, title, Severity.INFO, Inspects.NOTHING, reason, remedy, source)


management_plan = _by_hand(
    "device-management-plan",
    "A plan covers updates of everything below the modules",
    reason="Firmware, libraries, container engine, runtime and certificates need updates too.",
    remedy="Write down who updates each of them, and how.",
    source="seed 003, Have a device management plan",
)
registry_access = _by_hand(
    "registry-access",
    "Only you can change your images",
    reason="Anyone who can push to the registry decides what runs on your devices.",
    remedy="Store images in a private registry. Give devices their own identity that can only pull.",
    source="seed 003, Manage access to your container registry",
)
tag_moved = _by_hand(
    "tag-moved",
    "A tag never moves to another image",
    reason="When a tag is moved in the registry, devices with the same manifest run different modules.",
    remedy="Create a new tag for each version, lock tags in the registry, or name images by digest.",
    source="seed 003, Use tags to manage versions",
)
firewall = _by_hand(
    "firewall",
    "The firewall allows the outbound connections that devices need",
    reason="Devices connect to their hub, to the registries of their images and, if used, to the provisioning service.",
    remedy="Allow outbound connections by host name, because the IP addresses of a hub can change.",
    source="seed 003, Review outbound/inbound configuration; Allow connections from IoT Edge devices",
)
diagnostics = _by_hand(
    "diagnostics",
    "Device logs are available remotely",
    reason="Visiting a device in the field for each fault takes too long.",
    remedy="Deploy a module that collects logs, or arrange another way to read them.",
    source="seed 003, Set up logs and diagnostics",
)
pipeline = _by_hand(
    "pipeline",
    "Manifests are tested before they are deployed",
    reason="A mistake in a manifest reaches every device that the deployment targets.",
    remedy="Run `twinfold check` in the pipeline that releases manifests.",
    source="seed 003, Consider tests and CI/CD pipelines",
)
