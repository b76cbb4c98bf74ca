"""What tests of outputs send to: a real web server, and ports."""

import http.server
import json
import socket
import socketserver
import threading


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Receiver:
    """A web server that keeps what is posted. `answers`: statuses for the next requests; 200 after them.

    `moved`: where a 302 sends to.
    """

    def __init__(self, port: int = 0) -> None:
        self.requests, self.answers, self.moved = [], [], ""
        receiver = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = receiver.answers.pop(0) if receiver.answers else 200
                receiver.requests.append((status, dict(self.headers), body))
                self.send_response(status)
                if receiver.moved:
                    self.send_header("Location", receiver.moved)
                self.end_headers()
                self.wfile.write(b"Not today." * (status != 200))

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", port), Answer)
        self.url = f"http://localhost:{self._server.server_port}/hook?line=1"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def taken(self):
        """The messages that were answered with 200."""
        return [json.loads(body) for status, _, body in self.requests if status == 200]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
