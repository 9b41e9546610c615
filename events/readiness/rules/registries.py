"""Rules about registries: devices have credentials to pull images, with no more permissions than they need."""

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

_RUNTIME = "seed 003, Store runtime containers in your private registry"
_SOURCE = "seed 003, Manage access to your container registry"
# Registries from which anyone can pull, so that missing credentials are no fault.
_PUBLIC = {
    image.DOCKER_HUB,
    MICROSOFT,
    *("docker.io", "index.docker.io", "gcr.io", "ghcr.io", "nvcr.io", "public.ecr.aws", "quay.io", "registry.k8s.io"),
}
_AT = ("runtime", "settings", "registryCredentials")


@rule("registry-credentials-missing", Severity.WARNING, Inspects.WHOLE, source=f"{_SOURCE}; contract/edge.md §3.8")
def registry_credentials_missing(subject: ReadinessSubject) -> Iterator[Hit]:
    """Every private registry has credentials.

    Without credentials the device cannot pull the image, unless its own configuration has them.
    Remedy: Add the registry to runtime.settings.registryCredentials, or to the device's own configuration.
    """
    credential_addresses = [credential.get("address") for credential in subject.registries.values()]
    if any(not isinstance(address, str) or placeholders.at_start(address) for address in credential_addresses):
        return  # a placeholder may stand for the address of any registry
    addresses = {address.lower() for address in credential_addresses if isinstance(address, str)}
    for module in subject.modules:
        registry = image.registry_of(module.image) if readable(module.image) else None
        if registry is not None and _is_private(registry) and registry.lower() not in addresses:
            message = f"the image of {module.name} comes from {shown(registry)}, which has no credentials"
            yield subject.module_hit(module, message, "settings", "image", detail=registry)


@rule("registry-credential-unused", Severity.INFO, Inspects.WHOLE, source=_SOURCE)
def registry_credential_unused(subject: ReadinessSubject) -> Iterator[Hit]:
    """Every registry credential is used.

    A password that no module needs can still leak.
    Remedy: Remove the credential, unless a future layer needs it.
    """
    images = [module.image for module in subject.modules]
    # A placeholder may stand for an image of any registry.
    if any(placeholders.at_start(reference) for reference in images):
        return
    used = {(image.registry_of(reference) or "").lower() for reference in images}
    for name, credential in subject.registries.items():
        address = credential.get("address")
        if isinstance(address, str) and not placeholders.at_start(address) and address.lower() not in used:
            message = f"no image comes from {shown(address)}, the registry of the credential {shown(name)}"
            yield subject.hit(message, AGENT, (*_AT, name))


@rule("registry-admin-user", Severity.WARNING, source=_SOURCE)
def registry_admin_user(subject: ReadinessSubject) -> Iterator[Hit]:
    """Devices do not pull images as the registry's admin user.

    The admin user can also push and delete. One compromised device is then enough to change every image.
    Remedy: Give devices a service principal or a token that can only pull, and disable the admin user.
    """
    for name, credential in subject.registries.items():
        address, username = credential.get("address"), credential.get("username")
        if not isinstance(address, str) or not isinstance(username, str):
            continue
        # The admin user of an Azure registry has the registry's own name.
        if address.lower() == f"{username.lower()}.azurecr.io":
            message = f"{shown(name)} signs in to {shown(address)} as the user of the same name, its admin user"
            yield subject.hit(message, AGENT, (*_AT, name, "username"))


@rule("registry-password-clear", Severity.INFO, source=_SOURCE)
def registry_password_clear(subject: ReadinessSubject) -> Iterator[Hit]:
    """A manifest has no registry password in plain text.

    Everyone who can read the file can read the password, and every device of the deployment gets it.
    Remedy: Use a placeholder that the release pipeline replaces, or reference a secret: {"$secret": …}.
    """
    for name, credential in subject.registries.items():
        password = credential.get("password")
        if isinstance(password, str) and password.strip() and not placeholders.inside(password):
            message = f"the password of {shown(name)} is plain text"
            yield subject.hit(message, AGENT, (*_AT, name, "password"))


@rule("runtime-registry", Severity.INFO, Inspects.WHOLE, source=_RUNTIME, microsoft=MICROSOFT)
def runtime_registry(subject: ReadinessSubject) -> Iterator[Hit]:
    """The runtime's images come from your own registry.

    A firewall may allow your registry and block the public one.
    Remedy: Copy the images of edgeAgent and edgeHub from {microsoft} into the registry of your modules.
    """
    registries = [image.registry_of(module.image) for module in subject.user_modules if readable(module.image)]
    used = sorted(registry for registry in registries if registry is not None and _is_private(registry))
    for module in subject.system_modules.values():
        if used and image.registry_of(module.image) == MICROSOFT:
            message = f"the image of {module.name} comes from {MICROSOFT}, other images from {shown(used[0])}"
            yield subject.module_hit(module, message, "settings", "image")


def _is_private(registry: str) -> bool:
    # `$upstream` is the parent of a nested device: like a registry on the device itself, it needs no credentials here.
    host = registry.partition(":")[0].lower()
    return registry.lower() not in _PUBLIC and host not in ("localhost", "127.0.0.1") and not host.startswith("$")
