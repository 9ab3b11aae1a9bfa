"""What must not be shown: values under keys that the setting `REDACT` names, in data and in text."""

from __future__ import annotations

import re
from functools import lru_cache

from triggerapp import conf

HIDDEN = "(hidden)"


def pattern() -> re.Pattern[str] | None:
    """What a secret's key looks like; None if nothing is secret."""
    return _compiled(tuple(conf.get().REDACT))


@lru_cache(maxsize=8)
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{each})" for each in patterns), re.IGNORECASE) if patterns else None


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
    return re.compile(key + value, re.IGNORECASE)


def _hide(found: re.Match[str]) -> str:
    return found["key"] + HIDDEN
