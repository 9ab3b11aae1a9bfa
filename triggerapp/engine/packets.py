"""Packets: payloads that are uploaded ahead of their trigger.

Who holds a key is given an address to upload to; the address is the permission, is good for one packet of one
environment, and not for long. What is uploaded is there for a day, for triggers of the same environment.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

from django.core import signing

from triggerapp import conf, ids
from triggerapp.engine import audit, sql
from triggerapp.errors import BadInput, NotFound, PayloadTooLarge, TooManyPackets
from triggerapp.models import Packet
from triggerapp.models.runs import new_id

TYPES: Final = ("application/json", "application/super+json", "text/plain")
OPEN_FOR: Final = timedelta(minutes=15)
"""How long an address can be used."""
KEPT: Final = timedelta(days=1)
_SALT = "triggerapp.packet"


def reserve(environment: int, *, actor: str) -> UUID:
    """The id of a packet that is not there yet."""
    packet = new_id()
    audit.record(environment, actor, "packet.reserve", f"packet_{packet}")
    return packet


def permit(verb: str, packet: UUID, environment: int) -> str:
    """What makes an address good for this."""
    return signing.dumps([verb, str(packet), environment], salt=_SALT)


def permitted(verb: str, permit: str) -> tuple[UUID, int]:
    """The packet and the environment that a permit is for. Raises `NotFound`."""
    try:
        given, packet, environment = signing.loads(permit, salt=_SALT, max_age=OPEN_FOR)
    except signing.BadSignature as error:
        raise NotFound("this address is not one of ours, or its few minutes are over: ask for another one") from error
    if given != verb:
        raise NotFound("this address is good for something else")
    return UUID(packet), int(environment)


# Whoever may trigger one task may upload: they are not to fill the database. Two at once may be one too many.
_STORE = """
INSERT INTO triggerapp_packet (id, environment_id, content_type, body)
SELECT %(id)s, %(environment)s, %(kind)s, %(body)s
WHERE (SELECT count(*) FROM triggerapp_packet
  WHERE environment_id = %(environment)s AND created_at >= now() - %(kept)s) < %(most)s
ON CONFLICT (id) DO NOTHING
"""


def store(packet: UUID, environment: int, *, content_type: str, body: bytes) -> None:
    """Keep what was uploaded; a second upload to the same address changes nothing."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in TYPES:
        raise BadInput(f"a packet of type {kind!r:.60} must be {', '.join(TYPES)}")
    limit = conf.get().MAX_PAYLOAD_BYTES
    if len(body) > limit:
        raise PayloadTooLarge(f"a payload may have {limit:,} bytes (TRIGGERAPP['MAX_PAYLOAD_BYTES'])")
    most = conf.get().MAX_PACKETS
    params = {"id": packet, "environment": environment, "kind": kind, "body": body, "kept": KEPT, "most": most}
    if not sql.run(_STORE, params) and not Packet.objects.filter(pk=packet).exists():
        raise TooManyPackets(
            f"this environment has {most:,} packets (TRIGGERAPP['MAX_PACKETS']), each for {KEPT.days} day: try later"
        )


def load(packet: UUID, environment: int) -> tuple[str, bytes]:
    """Content type and bytes. Raises `NotFound`."""
    found = Packet.objects.filter(pk=packet, environment_id=environment).first()
    if found is None:
        raise _missing(packet)
    return found.content_type, bytes(found.body)


def require(packet: UUID, environment: int) -> None:
    """Raises `NotFound` if it is not there."""
    if not Packet.objects.filter(pk=packet, environment_id=environment).exists():
        raise _missing(packet)


def _missing(packet: UUID) -> NotFound:
    return ids.missing("packet", packet, f": was it uploaded, and within {KEPT.days} day?")


def text(packet: UUID, environment: int) -> tuple[str, str]:
    """Content type and text. Raises `NotFound`, `BadInput`."""
    kind, body = load(packet, environment)
    try:
        return kind, body.decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"the packet packet_{packet} is not UTF-8") from error


def prune(limit: int = 1000) -> int:
    """Delete the packets that are too old to be of use; how many."""
    return sql.delete_some("triggerapp_packet", "created_at < now() - %s", [KEPT], limit=limit)
