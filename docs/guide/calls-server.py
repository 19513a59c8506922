# The same as an HTTP server: python3 calls-server.py 9000
import http.server, json, sys, time

class Report(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        steps = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or "{}").get("steps", 8)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Transfer-Encoding", "chunked")  # So that an answer that broke off is not taken for a whole one.
        self.end_headers()
        for step in range(1, steps + 1):
            time.sleep(0.1)  # the work
            self.tell({"step": step, "progress": step / steps})
        self.tell({"result": f"all {steps} done"})
        self.wfile.write(b"0\r\n\r\n")

    def tell(self, record):
        line = json.dumps(record).encode() + b"\n"
        self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))

server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Report)
print("listening", flush=True)
server.serve_forever()
