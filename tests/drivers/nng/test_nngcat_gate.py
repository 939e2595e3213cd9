"""The gate that is made of nngcat alone: `docs/nngcat-gate.sh`, as it stands, without and with TLS."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from core.testing import patient_time
from drivers.nng import WorkServer, server_context
from paifang.pki import Authority, device_tls, server_tls
from protocols import devicelink as link

patient = pytest.fixture(autouse=True)(patient_time)

SCRIPT = Path(__file__).parents[3] / "docs" / "nngcat-gate.sh"
WAIT_S = 60.0  # some dozen short programs, on a busy machine


class Server:
    """Handlers that answer as the manual says. `not_now` requests are refused once each."""

    def __init__(self, pax=1, grants=True):
        self.pax, self.grants = pax, grants
        self.requests = []
        self.not_now = {link.Scan, link.Pass}

    async def __call__(self, request):
        self.requests.append(request)
        head = {"seq": request.seq, "server_at": 1.0}
        words = {"nonce": getattr(request, "nonce", ""), "text_zh": "请进", "text_en": "Welcome"}
        if type(request) in self.not_now:
            self.not_now.remove(type(request))
            return link.Refused(**head, code="unavailable", text="again, please")
        match request:
            case link.Hello():
                return link.Welcome(**head, site="valley", lane="g1", mode="bidirectional")
            case link.Scan() if self.grants:
                more = {"passed": 0, "ttl_s": 5.0, "state": "open", "product_class": "full", "remaining": 0}
                return link.Grant(**head, **words, **more, grant=7, pax=self.pax)
            case link.Scan():
                return link.Deny(**head, **words, code="already_used")
        return link.Ack(**head)


async def run(url, code, *options):
    if shutil.which("nngcat") is None:
        pytest.fail("nngcat is missing: apt-get install nng-utils (make test does it)")
    command = ["bash", str(SCRIPT), url, "gate-g1", code, *options]
    with trio.fail_after(WAIT_S):
        return await trio.run_process(
            command, capture_stdout=True, capture_stderr=True, check=False, env=os.environ | {"PYTHON": sys.executable}
        )


async def kinds(server):
    """What it was asked, without what was repeated."""
    seen = {}
    for request in server.requests:
        assert seen.setdefault(request.seq, request) == request  # the same bytes again
    return [type(request).__name__ for request in seen.values()]


@pytest.mark.parametrize("pax", [1, pytest.param(3, marks=pytest.mark.slow)])
async def test_it_scans_a_ticket_and_passes(nursery, pax):
    answers = Server(pax)
    server = WorkServer("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", answers)
    await nursery.start(server.run)
    done = await run(server.work_url, "PF1:A \"B\" $C 'D")
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert await kinds(answers) == ["Hello", "Scan", *["Pass"] * pax, "PassEnd"]
    [scan] = {request.value for request in answers.requests if isinstance(request, link.Scan)}
    assert scan == "PF1:A \"B\" $C 'D"
    end = answers.requests[-1]
    assert (end.grant, end.passed, end.why) == (7, pax, "complete")
    assert "请进" in done.stdout.decode()
    assert server.statistics().bad_messages == 0
    nursery.cancel_scope.cancel()


async def test_it_stays_closed_when_it_is_refused(nursery):
    answers = Server(grants=False)
    server = WorkServer("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", answers)
    await nursery.start(server.run)
    done = await run(server.work_url, "PF1:X")
    assert done.returncode == 1
    assert await kinds(answers) == ["Hello", "Scan"]
    nursery.cancel_scope.cancel()


@pytest.mark.slow
async def test_it_speaks_tls_with_the_certificate_of_its_device(nursery, tmp_path):
    authority = Authority.init(tmp_path / "pki", "demo")
    answers = Server()
    context = server_context(server_tls(authority.folder))
    server = WorkServer("tls+tcp://127.0.0.1:0", "tls+tcp://127.0.0.1:0", answers, tls=context)
    await nursery.start(server.run)
    files = device_tls(authority.issue_files("gate-g1"))
    # nngcat compares the certificate with the address, and there is no name in this test: so not checked here
    options = ["--insecure", "--cacert", str(files.ca), "--cert", str(files.certificate), "--key", str(files.key)]
    done = await run(server.work_url, "PF1:X", *options)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert await kinds(answers) == ["Hello", "Scan", "Pass", "PassEnd"]
    nursery.cancel_scope.cancel()


def test_it_says_how_it_is_used():
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    assert os.access(SCRIPT, os.X_OK)
