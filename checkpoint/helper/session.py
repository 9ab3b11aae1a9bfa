"""A session: root's side of one connection. It says who asks, forks the hand that works for him, and sees to the seal.

It heeds nothing that the worker sends and touches nothing that he can reach. When the order is done it ends; what was
restored stays with the hand.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from checkpoint.criu import Criu, Mode
from checkpoint.errors import CheckpointError, Unsupported
from checkpoint.helper import key, mac, powers, protocol
from checkpoint.helper.hand import YES, Hand
from checkpoint.helper.house import House
from checkpoint.helper.peer import Peer, user_of
from checkpoint.helper.protocol import Answer

log = logging.getLogger(__name__)

_LARGEST: Final = 8192


def serve(line: socket.socket, house: House) -> None:
    """Do what the one at the other end wants, or tell him why not."""
    try:
        peer = Peer.at(line)
        peer.require_served()
    except (Unsupported, OSError) as problem:
        log.warning("refused: %s", problem)
        _pass_over(line)
        _answer(line, Answer(ok=False, code="refused", message=str(problem)))
        return
    peer.join_cgroups()
    with house.folder(peer) as folder, house.memory(peer) as memory:
        Session(line, peer, house, folder).run(memory)


def turn_away(line: socket.socket) -> None:
    """Tell one of a user with too many orders that he is not served."""
    log.warning("refused: too many orders of user %s", user_of(line))
    line.setblocking(False)
    with line:
        with suppress(OSError):
            line.recv(1)  # else the answer is lost with it
        _answer(line, Answer(ok=False, code="busy", message="too many orders of this user wait in line: try again"))


class Session:
    """One order of one peer."""

    def __init__(self, line: socket.socket, peer: Peer, house: House, folder: int) -> None:
        self._line = line
        self._peer = peer
        self._house = house
        self._folder = folder
        self._what = "nothing"
        self._deadline = time.monotonic() + (protocol.SILENCE + protocol.MARGIN).total_seconds()

    def run(self, memory: int) -> None:
        """Until the order is done, or its time is over: then nothing of it stays."""
        started = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        session = os.getpid()
        hand = os.fork()
        if hand == 0:
            ours.close()
            criu = Criu(binary=self._house.criu, mode=Mode.UNPRIVILEGED)
            mine = Hand(line=self._line, session=theirs, folder=self._folder, memory=memory, peer=self._peer, criu=criu)
            mine.live(session)
        theirs.close()
        end = self._attend(ours)
        if end is None:
            end = "the hand ended, or took too long, and was killed"
            self._kill(hand)
        took = time.monotonic() - started
        log.info("user %s, process %s: %s: %s (%.2f s)", self._peer.uid, self._peer.pid, self._what, end, took)

    def _attend(self, hand: socket.socket) -> str | None:
        """Do what the hand asks for until it is done; how that went, None if it never is."""
        while (left := self._deadline - time.monotonic()) > 0:
            hand.settimeout(left)
            try:
                word, _, rest = hand.recv(_LARGEST).decode(errors="replace").partition(" ")
            except OSError:
                return None
            match word:
                case "order":
                    self._begin(rest)
                case "seal" | "check":
                    hand.send(self._judge(word).encode()[:_LARGEST])
                case "done":
                    return rest or "done"
                case _:
                    return None
        return None

    def _begin(self, told: str) -> None:
        seconds, _, self._what = told.partition(" ")
        self._deadline = time.monotonic() + float(seconds) + protocol.MARGIN.total_seconds()

    def _judge(self, wanted: str) -> str:
        try:
            secret = key.load(self._house.key_file)
            if wanted == "check":
                mac.require(self._folder, secret, self._peer)
            else:
                powers.require_none(Path(f"/proc/self/fd/{self._folder}"), self._peer)
                mac.seal(self._folder, secret, self._peer)
        except (CheckpointError, OSError, ValueError) as problem:
            return str(problem)
        return YES

    def _kill(self, hand: int) -> None:
        """CRIU dies with it, and what else there is, is on record in the folder."""
        with suppress(ProcessLookupError):
            os.kill(hand, signal.SIGKILL)
        os.waitpid(hand, 0)
        _answer(self._line, Answer(ok=False, code="ended", message="the helper was stopped in the middle, or hung"))


def _pass_over(line: socket.socket) -> None:
    """What lies unread when a socket is closed would have the answer lost."""
    with suppress(OSError):
        line.settimeout(protocol.SILENCE.total_seconds())
        line.recv(1)


def _answer(line: socket.socket, answer: Answer) -> None:
    with suppress(OSError):
        line.setblocking(False)  # who does not read it is not waited for
        protocol.send_answer(line, answer)
