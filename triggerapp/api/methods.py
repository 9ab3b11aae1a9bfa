"""Methods that a route takes; any other is refused in words that programs read, with those that it takes in `Allow`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Concatenate, ParamSpec, cast

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from triggerapp.api import errors
from triggerapp.errors import TriggerError

P = ParamSpec("P")
View = Callable[Concatenate[HttpRequest, P], HttpResponse]

CODE = "method_not_allowed"


def refusal(method: str | None, taken: Iterable[str]) -> str:
    """The sentence."""
    return f"this route does not take {str(method)[:20]}; it takes {' and '.join(taken)}"


def takes(*methods: str) -> Callable[[View[P]], View[P]]:
    """Make a function a route that programs call with these methods, from anywhere."""

    def decorate(view: View[P]) -> View[P]:
        @wraps(view)
        def checked(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
            if request.method in methods:
                try:
                    return view(request, *args, **kwargs)
                except TriggerError as error:
                    return errors.plain(error)
            body = {"error": refusal(request.method, methods), "code": CODE}
            return JsonResponse(body, status=405, headers={"Allow": ", ".join(methods)})

        return cast("View[P]", csrf_exempt(checked))

    return decorate
