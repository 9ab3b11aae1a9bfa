"""What must not be shown: values under keys that the setting `REDACT` names, in data and in text."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any

from triggerapp import conf

Json = Any

HIDDEN = "(hidden)"


def pattern() -> re.Pattern[str] | None:
    """What a secret's key looks like; None if nothing is secret."""
    return _compiled(tuple(conf.get().REDACT))


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{each})" for each in patterns), re.IGNORECASE) if patterns else None


def data(value: Json, *, in_texts: bool = False) -> Json:
    """The same without the values under secret keys; `in_texts` also in those of texts, such as JSON within JSON."""
    secret = pattern()
    return value if secret is None else _data(value, secret, in_texts=in_texts)


def _data(value: Json, secret: re.Pattern[str], *, in_texts: bool) -> Json:
    if isinstance(value, dict):
        hidden = {key for key in value if secret.search(str(key))}
        return {k: HIDDEN if k in hidden else _data(item, secret, in_texts=in_texts) for k, item in value.items()}
    if isinstance(value, list):
        return [_data(item, secret, in_texts=in_texts) for item in value]
    return _in_text(value, secret) if in_texts and isinstance(value, str) else value


def _in_text(value: str, secret: re.Pattern[str]) -> str:
    """Of JSON the values are looked at: a key may be written with escapes, which no pattern knows."""
    if not value.lstrip().startswith(("{", "[", '"')):
        return text(value)
    try:
        found = json.loads(value)
        shown = _data(found, secret, in_texts=True)
    except (ValueError, RecursionError):
        return text(value)
    return value if shown == found else json.dumps(shown)


def text(line: str) -> str:
    """A line without what follows a secret key: `password=x`, `"api_key": "x"`, `Authorization: Bearer x`."""
    secret = _assignment(tuple(conf.get().REDACT))
    return line if secret is None else secret.sub(_hide, line)


@lru_cache(maxsize=8)
def _assignment(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    if not patterns:
        return None
    # The key may go on after what names it (`password_2`), be quoted, also within a quoted text (`\"`), or be a header.
    key = rf"(?P<key>(?:{'|'.join(f'(?:{each})' for each in patterns)})[\w.-]*(?:\\?[\"'])?\s*[:=]\s*)"
    value = r"""(?:b?\\?"(?:[^"\\]|\\.)*"|b?\\?'(?:[^'\\]|\\.)*'|(?:(?:Bearer|Basic|Token|Digest)\s+)?[^\s,;&}\])]+)"""
    return re.compile(f"{key}(?:{re.escape(HIDDEN)}|{value})", re.IGNORECASE)  # what is hidden stays as it is


def _hide(found: re.Match[str]) -> str:
    return found["key"] + HIDDEN
