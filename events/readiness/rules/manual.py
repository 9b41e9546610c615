"""Points of the checklist that somebody has to see to: no manifest and no device shows them."""

from events.readiness.rule import by_hand

management_plan = by_hand(
    "device-management-plan",
    "There is a plan for updates of everything below the modules",
    reason="Firmware, libraries, container engine, runtime and certificates need updates as well.",
    remedy="Write down who updates each of them, and how.",
    source="seed 003, Have a device management plan",
)
registry_access = by_hand(
    "registry-access",
    "Nobody else can change your images",
    reason="Whoever can push to the registry decides what runs on your devices.",
    remedy="Keep images in a private registry; give devices an identity of their own that may pull, and nothing else.",
    source="seed 003, Manage access to your container registry",
)
tag_moved = by_hand(
    "tag-moved",
    "A tag stands for one content for ever",
    reason="Tags can be moved in the registry: devices with the same manifest then run different modules.",
    remedy="Make a new tag for each version, lock tags in the registry, or name images by digest.",
    source="seed 003, Use tags to manage versions",
)
firewall = by_hand(
    "firewall",
    "The firewall lets devices out to what they need",
    reason="Devices need their hub, the registries of their images and, if they use it, the provisioning service.",
    remedy="Allow outbound connections by name, not by address: the addresses of a hub can change.",
    source="seed 003, Review outbound/inbound configuration; Allow connections from IoT Edge devices",
)
diagnostics = by_hand(
    "diagnostics",
    "Logs of devices can be had from afar",
    reason="Devices in the field cannot be visited whenever something is wrong.",
    remedy="Deploy a module that collects logs, or agree on another way to them.",
    source="seed 003, Set up logs and diagnostics",
)
pipeline = by_hand(
    "pipeline",
    "Manifests go through tests before they are deployed",
    reason="A mistake in a manifest reaches every device that it targets.",
    remedy="Run `twinfold check` in the pipeline that releases manifests.",
    source="seed 003, Consider tests and CI/CD pipelines",
)
