"""Registries: that images can be pulled, and who may pull them."""

from collections.abc import Iterator

from events.manifest import image, placeholders
from events.manifest.document import AGENT
from events.manifest.problem import Severity
from events.manifest.shape import shown
from events.readiness.finding import Hit
from events.readiness.rule import Inspects, rule
from events.readiness.rules.images import readable
from events.readiness.subject import ReadinessSubject

MICROSOFT = "mcr.microsoft.com"

_SOURCE = "seed 003, Manage access to your container registry"
_PUBLIC = {
    image.DOCKER_HUB,
    MICROSOFT,
    *("docker.io", "index.docker.io", "gcr.io", "ghcr.io", "nvcr.io", "public.ecr.aws", "quay.io", "registry.k8s.io"),
}
_AT = ("runtime", "settings", "registryCredentials")
_AZURE = ".azurecr.io"


@rule(
    "registry-credentials-missing",
    "There are credentials for every private registry",
    Severity.WARNING,
    inspects=Inspects.WHOLE,
    reason="Without credentials the device cannot pull the image, unless it has credentials of its own.",
    remedy="Add the registry to runtime.settings.registryCredentials, or to the device's own configuration.",
    source=f"{_SOURCE}; contract/edge.md §3.8",
)
def registry_credentials_missing(subject: ReadinessSubject) -> Iterator[Hit]:
    """An image from a registry that is not known to be public and for which nobody has a password."""
    credential_addresses = [credential.get("address") for credential in subject.registries.values()]
    if any(not isinstance(address, str) or placeholders.at_start(address) for address in credential_addresses):
        return  # what is still open may be the very one
    addresses = {address.lower() for address in credential_addresses if isinstance(address, str)}
    for module in subject.modules:
        registry = image.registry_of(module.image) if readable(module.image) else None
        if registry is not None and _is_private(registry) and registry.lower() not in addresses:
            message = f"{module.name} comes from {shown(registry)}, for which there are no credentials"
            yield subject.module_hit(module, message, "settings", "image", detail=registry)


@rule(
    "registry-credential-unused",
    "Every credential is used",
    Severity.INFO,
    inspects=Inspects.WHOLE,
    reason="A password that no module needs is one more that can be lost.",
    remedy="Remove the credential, unless layers that are yet to come need it.",
    source=_SOURCE,
)
def registry_credential_unused(subject: ReadinessSubject) -> Iterator[Hit]:
    """A credential of a registry from which no image comes."""
    images = [module.image for module in subject.modules]
    if any(placeholders.at_start(reference) for reference in images):
        return
    used = {(image.registry_of(reference) or "").lower() for reference in images}
    for name, credential in subject.registries.items():
        address = credential.get("address")
        if isinstance(address, str) and not placeholders.at_start(address) and address.lower() not in used:
            message = f"no image comes from {shown(address)} ({shown(name)})"
            yield subject.hit(message, module=AGENT, twin=AGENT, path=(*_AT, name))


@rule(
    "registry-admin-user",
    "Devices do not pull images as the registry's administrator",
    Severity.WARNING,
    reason="The administrator may push and delete, too: one device that is opened, and every image can be changed.",
    remedy="Give devices a service principal or a token that may pull, and switch the administrator's user off.",
    source=_SOURCE,
)
def registry_admin_user(subject: ReadinessSubject) -> Iterator[Hit]:
    """A user that is called as the registry is."""
    for name, credential in subject.registries.items():
        address, username = credential.get("address"), credential.get("username")
        if not isinstance(address, str) or not isinstance(username, str):
            continue
        host = address.lower()
        if host.endswith(_AZURE) and username.lower() == host.removesuffix(_AZURE):
            message = f"{shown(name)} signs in to {shown(address)} as the user of the same name, its administrator"
            yield subject.hit(message, module=AGENT, twin=AGENT, path=(*_AT, name, "username"))


@rule(
    "registry-password-clear",
    "No password stands in a manifest's file",
    Severity.INFO,
    reason="Whoever reads the file can read the password, and every device and layer gets it.",
    remedy='Leave a placeholder that the release fills in, or refer to a secret: {"$secret": …}.',
    source=_SOURCE,
)
def registry_password_clear(subject: ReadinessSubject) -> Iterator[Hit]:
    """A password that is text."""
    for name, credential in subject.registries.items():
        password = credential.get("password")
        if isinstance(password, str) and password.strip() and not placeholders.inside(password):
            message = f"the password of {shown(name)} is text"
            yield subject.hit(message, module=AGENT, twin=AGENT, path=(*_AT, name, "password"))


@rule(
    "runtime-registry",
    "The runtime's images come from the registry of your own",
    Severity.INFO,
    inspects=Inspects.WHOLE,
    reason="Devices behind a tight firewall may reach your registry and not the public one.",
    remedy=f"Copy the images of edgeAgent and edgeHub from {MICROSOFT} into the registry that serves your modules.",
    source="seed 003, Store runtime containers in your private registry",
)
def runtime_registry(subject: ReadinessSubject) -> Iterator[Hit]:
    """System modules from the public registry beside others from a private one."""
    images = [module.image for module in subject.user_modules if readable(module.image)]
    used = sorted(
        registry for reference in images if (registry := image.registry_of(reference)) and _is_private(registry)
    )
    for module in subject.system_modules.values():
        if used and image.registry_of(module.image) == MICROSOFT:
            message = f"{module.name} comes from {MICROSOFT}, other modules from {shown(used[0])}"
            yield subject.module_hit(module, message, "settings", "image")


def _is_private(registry: str) -> bool:
    # A parent of nested devices and a registry on the device itself are neither public nor far away.
    host = registry.partition(":")[0].lower()
    return registry.lower() not in _PUBLIC and host not in ("localhost", "127.0.0.1") and not host.startswith("$")
