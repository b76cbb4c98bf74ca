"""Webhook: a message as a signed POST.

`http.client` follows no redirect and uses no proxy, and can be made to connect to an address that was checked.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from patchcore.errors import UsageError
from patchcore.station.errors import coded, told
from patchcore.station.outputs.errors import RefusedError, UnsentError
from patchcore.station.outputs.specs import WebhookSpec

_READ = 300  # bytes of an answer that are read, for the message of an error
_REFUSED = (400, 413, 415, 422)  # this message is at fault, and not the way to the receiver
Check = Callable[[str], tuple[str, ...]]  # `people.protection.checked_url`: the addresses to connect to


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`sha256=...`, HMAC-SHA256 in hexadecimal over the timestamp, a full stop and the body."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def is_genuine(secret: str, timestamp: str, body: bytes, signed: str, seconds: float = 300) -> bool:
    """For receivers: whether the station sent this body, and not longer ago than so many seconds."""
    right = hmac.compare_digest(signature(secret, timestamp, body).encode(), signed.encode())
    return right and timestamp.isdecimal() and abs(time.time() - int(timestamp)) <= seconds


class _Pinned(http.client.HTTPConnection):
    """Connects to addresses that were checked, and not to what the name means now."""

    def __init__(self, host: str, port: int, timeout: float, addresses: tuple[str, ...], secure: bool) -> None:
        super().__init__(host, port, timeout=timeout)
        self._addresses, self._secure = addresses, secure

    def connect(self) -> None:
        failed: OSError | None = None
        for address in self._addresses:
            try:
                self.sock = socket.create_connection((address, self.port), self.timeout)
                break
            except OSError as error:
                failed = error
        else:
            raise failed or OSError("the name has no address")
        if self._secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


class Webhook:
    """Sends messages to one web address.

    Args:
        spec: Its settings.
        check: Gives the addresses of a URL that the station may send to, at each message. Errors: UsageError.
    """

    def __init__(self, spec: WebhookSpec, check: Check) -> None:
        self._spec, self._check = spec, check

    def send(self, message: dict[str, Any]) -> None:
        """Returns once the receiver has answered with 2xx. Errors: UnsentError."""
        spec = self._spec
        parts = urlsplit(spec.url)
        secure = parts.scheme == "https"
        body = json.dumps(message, separators=(",", ":")).encode()
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "patchcore",
            "X-Patchcore-Message": message["message"],
            "X-Patchcore-Timestamp": timestamp,
            "X-Patchcore-Signature": signature(spec.secret, timestamp, body),
        }
        where = f"{parts.scheme}://{parts.hostname}"
        try:
            addresses = self._check(spec.url)
            port = parts.port or (443 if secure else 80)
            connection = _Pinned(parts.hostname or "", port, spec.timeout, addresses, secure)
            try:
                target = parts.path or "/"
                connection.request("POST", f"{target}?{parts.query}" if parts.query else target, body, headers)
                with connection.getresponse() as answer:
                    if 200 <= answer.status < 300:
                        return
                    said = answer.read1(_READ).decode("utf-8", "replace").strip()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException, UsageError, ValueError) as error:
            why = told(error)
            if not why["code"]:
                why |= {"code": "unreachable", "values": {"where": where, "why": why["text"]}}
            raise coded(UnsentError(f"{where}: {why['text']}"), why["code"], **why["values"]) from error
        moved = " It sends elsewhere, which is not followed." if 300 <= answer.status < 400 else ""
        kind = RefusedError if answer.status in _REFUSED else UnsentError
        refused = kind(f"{where} answered {answer.status} {answer.reason}.{moved} {said}".strip())
        raise coded(refused, "answered", where=where, status=f"{answer.status} {answer.reason}", text=said)
