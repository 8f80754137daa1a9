"""Python's http.server with answers of every framing; a line `ID STATUS PATH` a request on standard output."""
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self):
        parts = {"/file": [b"a small file\n"], "/chunked": [b"in ", b"pieces\n"], "/closing": [b"to the end\n"]}
        body = parts.get(self.path)
        self.send_response(200 if body else 404)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            body = [b"%x\r\n%s\r\n" % (len(part), part) for part in body] + [b"0\r\n\r\n"]
        elif self.path == "/closing":
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(sum(map(len, body or []))))
        self.end_headers()
        # Logged before it is sent: what the client has read is in the log.
        line = f"{self.headers.get('X-Request-Id', '-')} {200 if body else 404} {self.path}\n"
        os.write(1, line.encode())  # whole, whichever thread it is
        self.wfile.write(b"".join(body or []))

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
