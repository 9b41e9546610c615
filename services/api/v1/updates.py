"""`/v1/updates`: import, list and delete updates (seed 004)."""

from typing import Any, Self

from fastapi import Request

from events.update.commands import DeleteUpdate, ImportUpdate
from events.update.state import UpdateDocument
from services.api.context.groups import Groups, UpdateInPath, groups_of
from services.api.context.request import write
from services.api.http.access import REGISTRY_READ, REGISTRY_WRITE, Access
from services.api.http.json_answer import AnswerBody
from services.api.http.request_costs import CONTENT
from services.api.v1.bodies import UpdateImportBody
from services.api.v1.router import v1_router

router = v1_router(read=Access(REGISTRY_READ, at=True), write=Access(REGISTRY_WRITE, cost=CONTENT))

_UPDATE = "/updates/{provider}/{name}/{version}"


class UpdateAnswer(AnswerBody):
    """An update. `condition` is the condition on the devices that it is compatible with."""

    update: str
    provider: str
    name: str
    version: str
    description: str
    friendly_name: str
    compatibility: tuple[dict[str, str], ...]
    condition: str
    imported_at: int

    @classmethod
    def of(cls, document: UpdateDocument, **members: Any) -> Self:
        """An imported update. `members` are the members that a subclass adds."""
        update = document.update
        return cls(
            update=update.text,
            provider=update.provider,
            name=update.name,
            version=update.version,
            description=document.description,
            friendly_name=document.friendly_name,
            compatibility=document.compatibility,
            condition=document.condition,
            imported_at=document.imported_at,
            **members,
        )


class UpdateWithContent(UpdateAnswer):
    """An update with its content. Secrets appear as references."""

    content: dict[str, Any]


@router.get("/updates")
def list_updates(group_projection: Groups) -> list[UpdateAnswer]:
    """All updates, the highest version first."""
    return list(map(UpdateAnswer.of, group_projection.updates.values()))


@router.get(_UPDATE)
def show_update(group_projection: Groups, update: UpdateInPath) -> UpdateWithContent:
    """An update with its content."""
    document = group_projection.update(update)
    return UpdateWithContent.of(document, content=document.content)


@router.put(_UPDATE)
def import_update(request: Request, update: UpdateInPath, body: UpdateImportBody) -> UpdateAnswer:
    """Import an update: a manifest or a layer. An update never changes."""
    compatibility = tuple(body.compatibility)
    command = ImportUpdate(update, body.content, compatibility, body.description, body.friendly_name)
    write(request, command)
    return UpdateAnswer.of(groups_of(request).update(update))


@router.delete(_UPDATE, status_code=204)
def delete_update(request: Request, update: UpdateInPath) -> None:
    """Delete an update that no active deployment uses."""
    write(request, DeleteUpdate(update))
