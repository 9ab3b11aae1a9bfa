"""Packets: where Trigger.dev's SDK puts payloads that it finds too large for a trigger (from 128 KB).

It asks for an address, uploads there without a key, and triggers with the packet's name as payload.
"""

from __future__ import annotations

from typing import ClassVar
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response

from triggerapp import conf, ids
from triggerapp.api import http
from triggerapp.api.http import Access, View
from triggerapp.api.methods import takes
from triggerapp.engine import packets


class PacketUpload(View):
    """Ask where to upload a packet."""

    access: ClassVar[Access] = {"PUT": ("trigger", "tasks")}
    narrow: ClassVar[tuple[str, ...]] = ("tasks",)
    spends = False  # of a token for one use this is the first half

    def put(self, request: Request, name: str) -> Response:
        """An address for one upload, and the name to give in the trigger."""
        caller = self.principal
        packet = packets.reserve(caller.environment, actor=caller.actor)
        url = address("put", packet, caller.environment)
        return Response({"presignedUrl": url, "storagePath": ids.show("packet", packet)})


class PacketDownload(View):
    """Ask where to download a packet."""

    access: ClassVar[Access] = {"GET": ("read", "runs")}

    def get(self, request: Request, name: str) -> Response:
        """An address for a while, at which nothing can be hidden."""
        if self.redacted:
            raise PermissionDenied("a packet is given out as it is: use a key, or the token of who administers")
        packet = ids.read("packet", name)
        packets.require(packet, self.principal.environment)
        return Response({"presignedUrl": address("get", packet, self.principal.environment)})


def address(verb: str, packet: UUID, environment: int) -> str:
    """Where a packet is put to, or got from, without a key."""
    return f"{conf.get().BASE_URL.rstrip('/')}/api/v1/packet-bytes/{packets.permit(verb, packet, environment)}"


@takes("GET", "PUT")
def content(request: HttpRequest, permit: str) -> HttpResponse:
    """The bytes of a packet; the permit in the address says which, and what may be done."""
    packet, environment = packets.permitted(str(request.method).lower(), permit)
    if request.method == "GET":
        kind, body = packets.load(packet, environment)
        return HttpResponse(body, content_type=kind, headers={"X-Content-Type-Options": "nosniff"})
    packets.store(packet, environment, content_type=str(request.content_type), body=http.read(request))
    return JsonResponse({"success": True})
