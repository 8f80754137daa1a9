"""An http.server on PORT that answers /work, and tells of itself at /metrics in FORMAT: openmetrics or text."""
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

requests = Counter("work_requests", "Requests.", ["path"]).labels('a"b\\c')
seconds = Histogram("work_seconds", "Time of work.")
level = Gauge("work_level", "A level.")
level.set(0.25)
form = openmetrics if sys.argv[2] == "openmetrics" else exposition


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path == "/metrics":
            body, kind = form.generate_latest(REGISTRY), form.CONTENT_TYPE_LATEST
        else:
            with seconds.time():
                requests.inc()
                body, kind = b"done", "text/plain"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
