"""Protection: what every request is checked for and every answer says, and places that people name."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from urllib.parse import quote, urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from patchcore.errors import UsageError
from patchcore.files.text import shown
from patchcore.station.errors import coded
from patchcore.station.people.access import identify
from patchcore.station.people.attempts import Attempts
from patchcore.station.settings import Settings

TEXT = 2_000_000  # bytes of JSON or of a form without files at most
_ANONYMOUS = 65_536  # bytes that are taken from somebody unknown
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # IPv4 addresses behind a translator
_POLICY = "; ".join((
    "default-src 'none'", "script-src 'self'", "style-src 'self'", "img-src 'self' blob:", "connect-src 'self'",
    "font-src 'self'", "manifest-src 'self'", "form-action 'self'", "base-uri 'none'", "frame-ancestors 'none'",
))  # fmt: skip
HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
}


def protect(app: FastAPI, settings: Settings, larger: Mapping[str, int] | None = None) -> None:
    """Put the middleware before an app, and give it a memory of attempts to log in.

    Args:
        larger: Beginnings of paths that take more bytes than `settings.upload`, and how many.
    """
    app.state.attempts = Attempts()
    app.add_middleware(Protection, settings=settings, larger=larger or {})


class Protection:
    """Middleware: refuses a wrong host, a foreign origin and a body that is too large; and adds headers to answers.

    Host: an address, which no name can be bent to, or a name that this station has (DNS rebinding). Origin: of
    requests that change something, the station's own. Bodies: by the declared length and by the bytes that come; one
    of more than 64 KiB only from somebody known, before anything of it is read.
    """

    def __init__(self, app: ASGIApp, settings: Settings, larger: Mapping[str, int]) -> None:
        self._app, self._larger = app, larger
        self._upload = settings.upload
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        if settings.tls:
            self._headers.append((b"strict-transport-security", b"max-age=31536000"))
        self._hosts = {name.casefold() for name in ("localhost", settings.host, socket.gethostname(), *settings.hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":  # there are no WebSockets
                await self._app(scope, receive, send)
            return
        request, answer = Request(scope), _Answer(send, self._headers)
        try:
            refused = self._refused(request) or await self._stranger(request)
            app: ASGIApp = JSONResponse({"detail": refused[1]}, refused[0]) if refused else self._app
            await app(scope, self._counting(request, receive), answer)
        except _TooLargeError as error:  # in an app that lets it through; FastAPI answers by itself
            await JSONResponse({"detail": error.detail}, 413)(scope, receive, answer)
        except Exception:
            if not answer.begun:
                await JSONResponse({"detail": "The station failed; its log says more."}, 500)(scope, receive, answer)
            raise  # for the log

    def _refused(self, request: Request) -> tuple[int, str] | None:
        hosts = request.headers.getlist("host")
        name = _name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not (name in self._hosts or _is_address(name)):
            return 421, f"This station is not {shown(' '.join(hosts))!r}. Start it with --name NAME if it is."
        if request.method not in ("GET", "HEAD", "OPTIONS"):
            origin = request.headers.get("origin")
            foreign = origin is not None and origin.partition("://")[2].casefold() != hosts[0].casefold()
            if foreign or request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
                return 403, "This request comes from another site."
        declared = request.headers.get("content-length", "0")
        if not re.fullmatch(r"[0-9]{1,18}", declared):
            return 400, "The length of the body is no number."
        if int(declared) > self._limit(request):
            return 413, _TooLargeError(self._limit(request)).detail
        return None

    async def _stranger(self, request: Request) -> tuple[int, str] | None:
        headers = request.headers
        if "transfer-encoding" not in headers and int(headers.get("content-length", "0")) <= _ANONYMOUS:
            return None
        try:
            known = await run_in_threadpool(identify, request)
        except DBAPIError:  # the route says so
            return None
        if known:
            return None
        if "authorization" in headers:
            return 401, "This API key is not valid."
        return 401, "Log in, or send an API key, before you send this much."

    def _limit(self, request: Request) -> int:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind.endswith("json") or kind == "application/x-www-form-urlencoded":
            return min(TEXT, self._upload)
        path = request.url.path
        most = next((size for start, size in self._larger.items() if path.startswith(start)), self._upload)
        return most + _ANONYMOUS  # what a form has around its file

    def _counting(self, request: Request, receive: Receive) -> Receive:
        limit, count = self._limit(request), 0

        async def counted() -> Message:
            nonlocal count
            message = await receive()
            count += len(message.get("body", b""))
            if count > limit:
                raise _TooLargeError(limit)
            return message

        return counted


class _Answer:
    """Sends an answer, with headers that it has not itself."""

    def __init__(self, send: Send, headers: Collection[tuple[bytes, bytes]]) -> None:
        self._send, self._headers = send, headers
        self.begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.begun = True
            given = [(name.lower(), re.sub(rb"[\r\n\0]", b"", value)) for name, value in message.get("headers", [])]
            names = {name for name, _ in given}  # a value is one line, whatever somebody put into it
            given += [(name, value) for name, value in self._headers if name not in names]
            message = {**message, "headers": given}
        await self._send(message)


class _TooLargeError(HTTPException):
    def __init__(self, limit: int) -> None:
        super().__init__(413, f"The body is too large: at most {limit:,} bytes are taken here.")


def _name(host: str) -> str | None:
    """The name in a Host header, without port and brackets; None if there is none."""
    found = re.fullmatch(r"\[([0-9a-f:.]+)\](?::\d+)?|([^\[\]:@/\\\s]+)(?::\d+)?", host.casefold())
    return (found[1] or found[2]) if found else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def attachment(name: str) -> str:
    """The value of Content-Disposition that saves an answer as a file, whatever is in its name."""
    plain = re.sub(r"[^A-Za-z0-9 ._-]", "_", name) or "_"
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def inside(roots: Iterable[Path], path: str | Path) -> Path:
    """The real place of a file or folder that must lie within one of the roots, with all symbolic links followed.

    Errors: UsageError, the same for what does not exist and for what may not be seen. Whoever can write into a root can
    put a link there between this and the reading of it: let only trusted people do so.
    """
    try:
        place = Path(path).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):  # RuntimeError: links in a circle, up to Python 3.12
        place = None
    for root in roots:
        if place is not None and place.is_relative_to(root.resolve()):
            return place
    text = f"{shown(path)}: nothing in a folder that the station may read. Start it with --root FOLDER."
    raise coded(UsageError(text), "outside", path=shown(path), field="path")


def checked_url(url: str, allowed: Collection[str] = ()) -> tuple[str, ...]:
    """The addresses of a web address that the station may send to: connect to one of these, not to the name again.

    What the name means can change between the check and the connection (DNS rebinding); and an answer that sends
    elsewhere must not be followed, or be checked likewise.

    Args:
        url: `http://` or `https://`, without a name and password.
        allowed: Hosts that may be in the own network, as an admin has listed them: names or addresses.

    Errors: UsageError for another scheme, a name that does not resolve, and a host in the own network (private, of this
        machine, link-local, multicast or reserved) that is not listed.
    """
    told = f"{shown(url)!r} is not an address that the station may send to"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise UsageError(f"{told}: {error}.") from error
    if parts.scheme not in ("http", "https") or not host or not url.isprintable() or " " in url:
        raise UsageError(f"{told}: it must begin with http:// or https:// and a host.")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{told}: leave out the name and password.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise coded(UsageError(f"{told}: {host} is not known ({why})."), "host_unknown", host=host, why=why) from error
    addresses = tuple(dict.fromkeys(str(one[4][0]) for one in found))
    if host not in {one.casefold() for one in allowed} and (own := [one for one in addresses if not _public(one)]):
        text = f"{told}: {host} is {own[0]}, in the own network. An admin can list {host} as allowed."
        raise coded(UsageError(text), "own_network", host=host, address=own[0])
    return addresses


def _public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            return inner.is_global and not inner.is_multicast
    return ip.is_global and not ip.is_multicast
