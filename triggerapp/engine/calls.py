"""Calls from outside Python: a payload becomes the arguments of a task, checked against its signature.

An object is keyword arguments, `{"args": […], "kwargs": {…}}` both kinds, anything else the one positional argument.
What does not fit is refused with the argument's name, and there is no run.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from triggerapp.engine import catalog, limits, triggers
from triggerapp.engine.triggers import Trigger, Triggered
from triggerapp.errors import BadArgument, BadInput

Json = Any
Arguments = tuple[list[Any], dict[str, Any]]
MISSING: Any = object()
"""No payload at all, which is not the same as null."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One trigger as it came."""

    task: str
    payload: Json = MISSING
    options: Mapping[str, Any] = field(default_factory=dict)
    """What `apply_async` of a durable task takes."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the `Trigger` that it has no option for."""


def trigger(calls: Sequence[Call], *, environment: int, actor: str) -> list[Triggered]:
    """Accept a run for each, all or none. Raises `NotFound`, `BadArgument`, `BadInput`."""
    return triggers.trigger_many([request_of(call) for call in calls], environment=environment, actor=actor)


def request_of(call: Call) -> Trigger:
    """The run that a call asks for. Nothing is accepted yet."""
    task = catalog.durable_task(call.task)
    if task is None:
        raise catalog.missing(call.task)
    args, kwargs = arguments(call.task, call.payload)
    try:
        request: Trigger = task.request_for(args, kwargs, **call.options)[0]
    except (TypeError, KeyError) as error:
        raise BadInput(f"{call.task} cannot be called like this: {error}") from error
    return dataclasses.replace(request, **call.changes)


def of_event(task: str, payload: Json) -> Call:
    """The call that an event stands for: a function whose one parameter is `payload` gets it whole."""
    found = catalog.durable_task(task)
    if found is not None and list(inspect.signature(found.run).parameters) == ["payload"]:
        return Call(task=task, payload={"args": [payload], "kwargs": {}})
    return Call(task=task, payload=payload)


def arguments(name: str, payload: Json) -> Arguments:
    """The positional and keyword arguments in a payload, fitting the task. Raises `NotFound`, `BadArgument`."""
    limits.check_text("the name of the task", name)
    task = catalog.durable_task(name)
    if task is None:
        raise catalog.missing(name)
    args, kwargs = _spread(payload, inspect.signature(task.run))
    check(name, args, kwargs)
    return args, kwargs


def check(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raises `BadArgument` for what does not fit the task. Of a task that this process has not, all is taken."""
    task = catalog.durable_task(name)
    if task is None:
        return
    signature = inspect.signature(task.run)
    _check(name, signature, args, kwargs)
    _check_schemas(task.run, signature, args, kwargs)


def _spread(payload: Json, signature: inspect.Signature) -> Arguments:
    if payload is MISSING or (payload is None and not signature.parameters):
        return [], {}
    if not isinstance(payload, dict):
        return [payload], {}
    args, kwargs = payload.get("args"), payload.get("kwargs", {})
    if payload.keys() <= {"args", "kwargs"} and isinstance(args, list) and isinstance(kwargs, dict):
        return args, kwargs
    return [], payload


def _check(task: str, signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        name, why = _culprit(signature, args, kwargs)  # Python's words may be about another one
        raise BadArgument(f"{task}{signature} cannot be called with this payload: {why}", name) from error


def _culprit(signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str]:
    """The argument that is twice there, not known, missing, or too much; and which of these it is."""
    parameters = signature.parameters.values()
    positional = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    takes_any = any(p.kind == p.VAR_KEYWORD for p in parameters)
    filled = set(positional[: len(args)])
    for name in kwargs:
        if name in filled and name in named:
            return name, f"the argument {name!r:.80} is there twice"
        if name not in named and not takes_any:
            return name, f"there is no keyword argument {name!r:.80}"
    for parameter in parameters:
        if _is_required(parameter) and parameter.name not in filled and parameter.name not in kwargs:
            return parameter.name, f"the argument {parameter.name!r} is missing"
    excess = f"args[{len(positional)}]"
    return excess, f"{excess} is one positional argument too many"


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_KEYWORD,
        parameter.VAR_POSITIONAL,
    )


def _check_schemas(
    fn: Callable[..., Any], signature: inspect.Signature, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """What is annotated as a pydantic model or a dataclass must be one's fields."""
    try:
        hints = typing.get_type_hints(inspect.unwrap(fn))
    except (NameError, TypeError):  # names for type checkers only: there is nothing to check against
        return
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        wanted = hints.get(name)
        if hasattr(wanted, "model_validate"):
            _check_model(name, wanted, value)
        elif dataclasses.is_dataclass(wanted):
            _check_dataclass(name, typing.cast(type, wanted), value)


def _check_model(name: str, model: Any, value: Json) -> None:
    try:
        model.model_validate(value)
    except ValueError as error:  # pydantic's ValidationError is one, and pydantic need not be installed
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": (), "msg": str(error)}
        path = ".".join(map(str, (name, *first["loc"])))
        raise BadArgument(f"{path}: {first['msg']}", path) from error


def _check_dataclass(name: str, wanted: type, value: Json) -> None:
    if not isinstance(value, dict):
        raise BadArgument(f"{name} must be an object with the fields of {wanted.__name__}", name)
    known = {each.name: each for each in dataclasses.fields(wanted) if each.init}
    for unknown in value.keys() - known.keys():
        raise BadArgument(f"{wanted.__name__} has no field {unknown!r:.80}", f"{name}.{unknown}")
    for each in known.values():
        required = each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
        if required and each.name not in value:
            raise BadArgument(f"{wanted.__name__} needs the field {each.name!r}", f"{name}.{each.name}")
