"""The actor that gives devices a new certificate for the one that runs out. Who asks, the link has made sure of."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec
import structlog
import trio

from actors.lists import LaneCall
from core import Address, Envelope, Stop
from protocols import devicelink as link

UNDER_WAY_MAX = 4  # at once; more are told to come back

log = structlog.get_logger(__name__)


class RenewalStatistics(msgspec.Struct, frozen=True):
    """Since the start of the actor."""

    answered: int
    refused: int


class Renewals:
    """Child of `business`. `issue(device, request)` blocks for the disk and returns a certificate (PEM).

    It raises one of `failures` for a request that cannot be granted.
    """

    def __init__(
        self,
        issue: Callable[[str, bytes], bytes],
        failures: tuple[type[Exception], ...],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._issue = issue
        self._failures = failures
        self._clock = clock
        self._under_way = self._answered = self._refused = 0

    def statistics(self) -> RenewalStatistics:
        return RenewalStatistics(self._answered, self._refused)

    async def run(self, me: Address) -> None:
        self._under_way = 0
        async with trio.open_nursery() as nursery:
            while True:
                envelope = await me.receive()
                match envelope.msg:
                    case LaneCall(request=link.Renew()) if self._under_way >= UNDER_WAY_MAX:
                        self._refuse(envelope, "too_many", "certificates are being made; repeat")
                    case LaneCall(request=link.Renew() as request):
                        self._under_way += 1
                        nursery.start_soon(self._answer, envelope, request)
                    case Stop():
                        nursery.cancel_scope.cancel()
                        return

    async def _answer(self, envelope: Envelope, request: link.Renew) -> None:
        try:
            pem = await trio.to_thread.run_sync(self._issue, request.device, request.request)
        except self._failures as exc:
            log.warning("certificate.not_renewed", device=request.device, error=str(exc)[:200])
            self._refuse(envelope, "bad_message", str(exc)[:200])
        else:
            self._answered += 1
            log.info("certificate.renewed", device=request.device)
            envelope.reply(link.Renewed(seq=request.seq, server_at=self._clock(), certificate=pem))
        finally:
            self._under_way -= 1

    def _refuse(self, envelope: Envelope, code: str, text: str) -> None:
        self._refused += 1
        seq = envelope.msg.request.seq
        envelope.reply(link.Refused(seq=seq, server_at=self._clock(), code=code, text=text))
