"""What the description says of an answer's members: those that are always written are required, and there are no others."""

from typing import Any

import msgspec
from fastapi import FastAPI
from jsonschema import Draft202012Validator
from msgspec import UNSET, UnsetType

from services.api.description import describe
from services.api.http.json_answer import AnswerBody
from services.api.http.router import DeclaringRouter


class Advised(msgspec.Struct, frozen=True):
    """A struct of the domain, with a default."""

    rule: str
    about: str = ""


class Shown(AnswerBody):
    """An answer."""

    first_name: str
    advice: tuple[Advised, ...] = ()
    error: str | None = None
    skipped: int | UnsetType = UNSET


def validator() -> Draft202012Validator:
    app, router = FastAPI(openapi_url=None), DeclaringRouter()

    @router.get("/shown")
    def shown(name: str = "a") -> Shown:
        """Show it."""
        return Shown(name)

    app.include_router(router)
    described: dict[str, Any] = describe(app)
    schema = described["paths"]["/shown"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": described["components"]})


def test_a_member_with_a_default_is_always_there_and_one_that_is_unset_may_be_left_out() -> None:
    written = msgspec.json.decode(msgspec.json.encode(Shown("a", (Advised("r"),))))
    assert written == {"firstName": "a", "advice": [{"rule": "r", "about": ""}], "error": None}
    validate = validator().is_valid
    assert validate(written)
    assert validate({**written, "skipped": 1})
    assert not validate({"firstName": "a", "advice": []})
    assert not validate({**written, "advice": [{"rule": "r"}]})
    assert not validate({**written, "advice": [{"rule": "r", "about": "", "more": 1}]})
