"""Server: a station behind HTTP, until it is told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable

import uvicorn

from patchcore.errors import UsageError
from patchcore.station.app import create_app
from patchcore.station.station import Station

_PATIENCE = 20  # seconds that answers which are being made may still take


class Server(uvicorn.Server):
    """Serves a station, and closes it at the end.

    Args:
        station: The station; its settings say where to listen.
        ready: Called with the URL once it answers.

    Errors: UsageError if nothing can listen there; the station is closed then.
    """

    def __init__(self, station: Station, ready: Callable[[str], None] = lambda url: None) -> None:
        self._station, self._ready = station, ready
        host, port = station.settings.host, station.settings.port
        try:
            app = create_app(station)
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, port), family=family, backlog=512)
        except OSError as error:
            station.close()
            raise UsageError(
                f"Port {port} on {host} cannot be used: {error.strerror or error}. Give another --port, or --host."
            ) from None
        except BaseException:
            station.close()
            raise
        config = uvicorn.Config(
            app, log_level="warning", server_header=False, proxy_headers=False, timeout_graceful_shutdown=_PATIENCE
        )
        super().__init__(config)

    @property
    def url(self) -> str:
        host = self._station.settings.host
        return f"http://{f'[{host}]' if ':' in host else host}:{self._socket.getsockname()[1]}/"

    def serve_forever(self) -> None:
        """Until a signal, or `should_exit`."""
        with self._socket:
            self.run([self._socket])

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._station.hub.close()  # streams of events end, which would be waited for
        await super().shutdown(sockets)
