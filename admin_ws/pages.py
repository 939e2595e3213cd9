"""The pages: what Vite built, read into memory once, and a few answers of our own.

The files are few, small and fixed, so serving them from memory costs no thread and leaves no path to traverse.
"""

from __future__ import annotations

import gzip
import hashlib
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .front import SECURITY_HEADERS, ReplayStream

STATIC_FOLDER = Path(__file__).parent / "static"
MAX_STATIC_BYTES = 8 * 1024 * 1024  # of all files together; more is not our console
COMPRESS_FROM_BYTES = 1024
KEEP_ALIVE_S = 5.0
HSTS_S = 30 * 24 * 3600  # long enough for a season, short enough to take TLS away again
READ_TIMEOUT_S = 10.0
MAX_REQUESTS_IN_QUEUE = 4  # pipelined body parts waiting for the application

NOT_BUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Paifang: console not built</title>
<h1>The console has not been built &middot; 控制台尚未构建</h1>
<p>The server runs; only its pages are missing. Build them once, then restart the server:</p>
<pre>cd admin_ws/console
npm ci
npm run build</pre>
<p>服务器运行正常，仅缺少网页文件。请执行以上命令构建，然后重启服务器。</p></html>
"""


class Page(msgspec.Struct, frozen=True):
    """A file as it is sent: its bytes, the same compressed (empty when that saves nothing), and its headers."""

    body: bytes
    compressed: bytes
    content_type: str
    etag: str
    cache_control: str


def load_pages(folder: Path = STATIC_FOLDER) -> dict[str, Page]:
    """The built console by URL path; `/` is its index. Empty when it was not built.

    Raises:
        ValueError: the folder holds more than `MAX_STATIC_BYTES`.
    """
    pages: dict[str, Page] = {}
    total = 0
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if not path.is_file():
            continue
        body = path.read_bytes()
        total += len(body)
        if total > MAX_STATIC_BYTES:
            raise ValueError(f"{folder}: more than {MAX_STATIC_BYTES} bytes of pages")
        name = path.relative_to(folder).as_posix()
        compressed = gzip.compress(body, mtime=0) if len(body) >= COMPRESS_FROM_BYTES else b""
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        if content_type.startswith("text/") or content_type == "application/javascript":
            content_type += "; charset=utf-8"
        page = Page(
            body=body,
            compressed=compressed if len(compressed) < len(body) * 0.9 else b"",
            content_type=content_type,
            etag=f'"{hashlib.sha256(body).hexdigest()[:20]}"',
            # Vite puts a hash of the content into the names of everything under assets/
            cache_control="public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache",
        )
        pages[f"/{name}"] = page
        if name == "index.html":
            pages["/"] = page
        if name == "phone.html":
            pages["/phone"] = page
        if name == "ticket.html":
            pages["/ticket"] = page
    return pages


def make_application(
    pages: Mapping[str, Page],
    *,
    health: Callable[[], Mapping[str, object]],
    metrics: Callable[[], bytes] | None = None,
    ready: Callable[[], Mapping[str, bool]] = dict,
    secure: bool = False,
) -> Starlette:
    """The ASGI application: `/healthz`, `/readyz`, `/metrics` if `metrics` is given, and the pages.

    `/healthz` is answered as long as anything is; `/readyz` with 503 while something of `ready` is missing.
    `secure`: served over TLS, so browsers are told to ask for nothing else.
    """
    always = {"Strict-Transport-Security": f"max-age={HSTS_S}"} if secure else {}

    def _response(
        body: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        return _plain_response(body, content_type, status=status, headers={**always, **(headers or {})})

    async def serve_page(request: Request) -> Response:
        page = pages.get(request.url.path)
        if page is None:
            if request.url.path == "/" and not pages:
                return _response(NOT_BUILT.encode(), "text/html; charset=utf-8", status=503)
            return _response(b"404 Not Found\n", "text/plain; charset=utf-8", status=404)
        headers = {"ETag": page.etag, "Cache-Control": page.cache_control, "Vary": "Accept-Encoding"}
        if request.headers.get("if-none-match") == page.etag:
            return _response(b"", page.content_type, status=304, headers=headers)
        accepted = {name.strip().partition(";")[0] for name in request.headers.get("accept-encoding", "").split(",")}
        if page.compressed and "gzip" in accepted:
            return _response(page.compressed, page.content_type, headers=headers | {"Content-Encoding": "gzip"})
        return _response(page.body, page.content_type, headers=headers)

    async def serve_health(request: Request) -> Response:
        return _response(msgspec.json.encode(health()), "application/json")

    async def serve_ready(request: Request) -> Response:
        found = ready()
        good = all(found.values())
        body = msgspec.json.encode({"ready": good, **found})
        return _response(body, "application/json", status=200 if good else 503)

    async def serve_metrics(request: Request) -> Response:
        assert metrics is not None
        return _response(metrics(), "text/plain; version=0.0.4; charset=utf-8")

    routes = [Route("/healthz", serve_health), Route("/readyz", serve_ready)]
    if metrics is not None:
        routes.append(Route("/metrics", serve_metrics))
    return Starlette(routes=[*routes, Route("/{path:path}", serve_page)])


def make_server(application: Starlette) -> Callable[[ReplayStream], Awaitable[None]]:
    """A function that serves HTTP on one connection until it ends."""
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.read_timeout = READ_TIMEOUT_S  # type: ignore[assignment]  # seconds; annotated as int, used as float
    config.max_app_queue_size = MAX_REQUESTS_IN_QUEUE
    config.alpn_protocols = ["http/1.1"]
    wrapped = ASGIWrapper(application)  # type: ignore[arg-type]  # starlette's ASGI types are looser than hypercorn's
    context = WorkerContext(None)

    async def serve(stream: ReplayStream) -> None:
        await TCPServer(wrapped, config, context, {}, stream)  # type: ignore[arg-type]

    return serve


def _plain_response(
    body: bytes, content_type: str, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    all_headers = {**SECURITY_HEADERS, "Cache-Control": "no-store", **(headers or {}), "Content-Type": content_type}
    return Response(body, status_code=status, headers=all_headers)
