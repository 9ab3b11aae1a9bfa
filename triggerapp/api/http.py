"""JSON in and out: what every view of the API is made of.

A body is read to a limit and no further, and is JSON in the strict sense: no NaN, no number or nesting that brings
Python down. Host projects need no REST framework settings: each view has all of it.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from math import ceil
from typing import Any, ClassVar, TypeVar, cast

from django.db.models import Model, QuerySet
from django.http import HttpRequest
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.encoders import JSONEncoder
from rest_framework.views import APIView

from triggerapp import conf, redaction
from triggerapp.api import access, errors, parameters
from triggerapp.api.principals import Principal, Subject
from triggerapp.api.schemas import Described, queried
from triggerapp.engine import strictjson
from triggerapp.errors import BadInput, NotFound, PayloadTooLarge

M = TypeVar("M", bound=Model)
Json = Any
Access = Mapping[str, tuple[str, str]]

MOST_PER_PAGE = 100


def read(stream: Any) -> bytes:
    """A body, unless it is larger than `API_MAX_BODY_BYTES`."""
    limit = conf.get().API_MAX_BODY_BYTES
    body = cast(bytes, stream.read(limit + 1))
    if len(body) > limit:
        raise PayloadTooLarge(f"the request has more than {limit:,} bytes (TRIGGERAPP['API_MAX_BODY_BYTES'])")
    return body


def parse(body: bytes) -> Json:
    """Strict JSON. Raises `ParseError` with the reason."""
    try:
        return strictjson.loads(body)
    except ValueError as error:
        raise ParseError(f"the body is not JSON that can be taken: {error}", code="bad_json") from error


class JsonParser(BaseParser):
    """A JSON body; none at all is an empty object."""

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> Json:
        """What the body says."""
        body = read(stream)
        return parse(body) if body.strip() else {}


class _Encoder(JSONEncoder):
    """Whatever a task may have been given or may have returned, for people and programs to read."""

    def default(self, obj: Any) -> Any:
        if isinstance(obj, bytes):
            return b64encode(obj).decode()
        try:
            return super().default(obj)
        except TypeError:
            return str(obj)


class JsonRenderer(JSONRenderer):
    """JSON, and nothing for browsers; ASCII, since what a run was given may be half a surrogate pair."""

    encoder_class = _Encoder
    ensure_ascii = True


class View(APIView):
    """A route: who may call it with which method, and the caller's environment."""

    authentication_classes = (access.KeyAuthentication,)
    permission_classes = (access.Scoped,)
    throttle_classes = (access.KeyThrottle,)
    parser_classes: Sequence[type[BaseParser]] = (JsonParser,)
    renderer_classes = (JsonRenderer,)
    schema = Described()

    access: ClassVar[Access] = {}
    """Method -> verb and kind of the scope that it needs."""
    narrow: ClassVar[tuple[str, ...]] = ()
    """Kinds of which a scope for single rows is enough to come in; the view then asks `require`."""
    strict: ClassVar[bool] = True
    """Whether a query may say no more than `schemas.QUERIES` has for this view."""
    redacted: bool = False
    """Whether the caller is not to see what the setting `REDACT` names."""

    def get_exception_handler(self) -> Callable[..., Response | None]:
        """Ours, whatever the host project has for its own views."""
        return errors.answer

    @property
    def allowed_methods(self) -> list[str]:
        """What `Allow` says."""
        return list(self.access)

    def initialize_request(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Request:
        """A body that comes in chunks has no length, which REST framework takes for no body."""
        if not request.META.get("CONTENT_LENGTH") and "chunked" in request.headers.get("Transfer-Encoding", ""):
            request.META["CONTENT_LENGTH"] = "-1"
        return super().initialize_request(request, *args, **kwargs)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Let the caller in, or not; and note what they are not to see."""
        parameters.check(request)  # first: of a personal token the query may name the environment
        super().initial(request, *args, **kwargs)
        if self.strict:
            parameters.only(request.query_params, *queried(self, request.method))
        self.redacted = self.principal.redacted
        if request.method != "GET":
            _ = request.data  # read here: who needs no body is not to take a broken one for none

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """The answer, as the caller may see it."""
        if self.redacted and isinstance(response, Response):
            response.data = redaction.data(response.data, in_texts=True)
        return super().finalize_response(request, response, *args, **kwargs)

    @property
    def principal(self) -> Principal:
        """The caller."""
        return cast(Principal, self.request.user)

    def require(self, subjects: list[Subject], what: str) -> None:
        """Unless the row with these ids is open to the caller, there is no such row."""
        verb, kind = self.access[str(self.request.method)]
        if not self.principal.may(verb, kind, subjects):
            raise NotFound(f"there is no {what}")


def body_of(request: Request) -> dict[str, Json]:
    """The body, which must be an object."""
    if not isinstance(request.data, dict):
        raise ParseError("the body must be a JSON object", code="bad_json")
    if getattr(request.user, "redacted", False) and redaction.HIDDEN in json.dumps(request.data):
        raise BadInput(
            f"the body says {redaction.HIDDEN} where this token is not shown a value: sent back, it would take the "
            "value's place. Leave it out, or use a key that may see it"
        )
    return request.data


def asks_nothing(value: Json) -> bool:
    """Whether a field that is not known may be passed over: clients fill in what they leave out. A 0 asks."""
    return value is None or value is False or value in ([], {})


def only(body: dict[str, Json], *known: str) -> dict[str, Json]:
    """The body, unless it asks for something that would have no effect."""
    for name, value in body.items():
        if name not in known and not asks_nothing(value):
            raise BadInput(f"there is no field {name[:80]!r} here; it would have no effect")
    return body


def yes_or_no(body: dict[str, Json], name: str, *, default: bool = False) -> bool:
    """A field that is true or false."""
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise BadInput(f"{name}={value!r:.40} must be true or false")
    return value


def text(body: dict[str, Json], name: str) -> str | None:
    """A field that is a text, if it is there."""
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise BadInput(f"{name}={value!r:.40} must be a text")
    return value


def texts(body: dict[str, Json], name: str) -> list[str]:
    """A field that is a list of texts; empty if it is not there."""
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise BadInput(f"{name}={value!r:.40} must be a list of texts")
    return value


def numbered(request: Request, rows: QuerySet[M], render: Callable[[list[M]], list[dict[str, Json]]]) -> Response:
    """The page that `page` and `perPage` ask for, with how many there are: for lists that stay short."""
    params = request.query_params
    number = parameters.whole_number(params, "page", 1)
    size = min(parameters.whole_number(params, "perPage", 25), MOST_PER_PAGE)
    count = rows.count()
    shown = render(list(rows[(number - 1) * size : number * size]))
    pages = {"currentPage": number, "totalPages": max(1, ceil(count / size)), "count": count}
    return Response({"data": shown, "pagination": pages})


def without_none(fields: Mapping[str, Json]) -> dict[str, Json]:
    """Fields that have a value; to the SDK's schemas a missing field is optional and null is not."""
    return {name: value for name, value in fields.items() if value is not None}
