"""Broker: where an MQTT broker is, and how a client connects to it."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from patchcore.errors import UsageError

if TYPE_CHECKING:
    import aiomqtt

_KEEPALIVE = 15  # seconds; a broker that is silently gone is missed after 1.5 times that
_NO_HOST = "is neither the name of a host nor an address"
_TIMEOUT = 5.0  # seconds for each answer of a broker


def _host(name: str) -> str:
    try:
        name.encode("idna")
    except UnicodeError as error:
        raise PydanticCustomError("host", _NO_HOST) from error
    if not name.isprintable() or set(name) & set(" /@?#"):
        raise PydanticCustomError("host", _NO_HOST)
    return name


Host = Annotated[str, Field(min_length=1, max_length=253), AfterValidator(_host)]


class Broker(BaseModel):
    """An MQTT broker (3.1.1).

    Attributes:
        host, port: 1883 is usual, and 8883 with TLS.
        user, password: If the broker asks for them.
        tls: Whether to encrypt, and to check the broker's certificate.
        ca: File of the certificates to trust; None: those of the system.
        certificate, key: Files of the client's own certificate and its key, if the broker asks for one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Host
    port: int = Field(default=1883, ge=1, le=65535)
    user: str | None = None
    password: str | None = Field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    def client(self, will: aiomqtt.Will | None = None) -> aiomqtt.Client:
        """A client that is not connected yet; to be made within a running event loop. Errors: UsageError."""
        import aiomqtt

        return aiomqtt.Client(
            self.host, self.port, username=self.user, password=self.password, will=will, keepalive=_KEEPALIVE,
            timeout=_TIMEOUT, tls_context=self._context() if self.tls else None,
        )  # fmt: skip

    def _context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path)
            raise UsageError(f"broker {self.host}: its TLS files ({files}) cannot be used: {error}") from error
        return context
