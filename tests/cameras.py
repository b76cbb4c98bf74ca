"""A camera on the network for tests: a real MJPEG stream over HTTP, which can be switched off, and can fall silent."""

import http.server
import socketserver
import threading
import time

import cv2
import numpy as np


class Stream:
    """50 images a second; all pixels of one have its number, modulo 250, as their grey value."""

    def __init__(self, port: int = 0) -> None:
        self.number, self.silent, self.off = 0, False, False
        camera = self

        class Answer(http.server.BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=image")
                self.end_headers()
                try:
                    while not camera.off:
                        time.sleep(0.02)
                        if camera.silent:
                            continue
                        camera.number += 1
                        image = np.full((48, 64, 3), camera.number % 250, np.uint8)
                        data = cv2.imencode(".jpg", image)[1].tobytes()
                        head = b"--image\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(data)
                        self.wfile.write(head + data + b"\r\n")
                except OSError:
                    pass

        class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", port), Answer)
        self.port = self._server.server_port
        self.address = f"http://user:secret@127.0.0.1:{self.port}/video.mjpg"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        """Unplug it: connections end, and nobody listens any more."""
        self.off = True
        self._server.shutdown()
        self._server.server_close()
