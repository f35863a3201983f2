#!/usr/bin/env python3
"""A small Hugging Face Hub for the download tests: python3 hub_server.py SCENARIO LOG

Listens on three free ports of 127.0.0.1 (the hub, another host for large files, and the hub with TLS), prints them on one
line, and ends when its standard input does. SCENARIO is JSON, read again at every request:

  repo      "org/name"
  sha       the commit; "revisions": other names that resolve to it (default: main)
  files     {name: {"text": ..., or "size": bytes of a fixed pattern, "lfs": true, "cdn": true (served by the other port),
            "etag": ..., "claim": a size that the HEAD tells instead of the true one}}
  listing   the body of the listing, verbatim, instead of the true one; "pad": bytes of white space before it
  faults    [{"on": start of "METHOD PATH" on the hub, "CDN METHOD PATH" or "TLS METHOD PATH", "times": how often (default: always), and one
            of "status" with "headers" and "body" (as latin-1); "cut": bytes after which the connection ends; "flip": a byte to
            damage; "delay": seconds; "ignore_range"; "wrong_range"; "extra": bytes too many; "no_length": the end of
            the connection ends the body; "location"}]

LOG gets a line of JSON for each request: on, range, token. LOG.pem is the certificate of the hub with TLS, made anew.
"""
import hashlib
import http.server
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import urllib.parse

SCENARIO, LOG = sys.argv[1:3]
used = {}
lock = threading.Lock()


def scenario():
    with open(SCENARIO) as file:
        return json.load(file)


def content(file):
    if "text" in file:
        return file["text"].encode()
    block = bytes(i * 7 % 251 for i in range(251 * 64))
    return (block * (file["size"] // len(block) + 1))[:file["size"]]


def etag(file):
    data = content(file)
    if "etag" in file:
        return file["etag"]
    if file.get("lfs") or file.get("cdn"):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.serve()

    def do_GET(self):
        self.serve()

    def serve(self):
        self.hub = scenario()
        on = self.server.name + self.command + " " + self.path
        line = {"on": on, "range": self.headers.get("Range", ""), "token": self.headers.get("Authorization", "")}
        with lock:
            with open(LOG, "a") as log:
                log.write(json.dumps(line) + "\n")
            self.fault = self.next_fault(on)
        time.sleep(self.fault.get("delay", 0))
        if "status" in self.fault:
            return self.answer(self.fault["status"], self.fault.get("body", "no").encode("latin-1"), self.fault.get("headers", {}))
        if "location" in self.fault:
            target = self.fault["location"].replace("{hub}", HUB).replace("{cdn}", CDN).replace("{tls}", TLS)
            return self.answer(307, b"", {"Location": target})
        path = urllib.parse.unquote(self.path.split("?")[0])
        self.route(path)

    def next_fault(self, on):
        for fault in self.hub.get("faults", []):
            key = json.dumps(fault)
            if on.startswith(fault["on"]) and used.get(key, 0) < fault.get("times", 1 << 30):
                used[key] = used.get(key, 0) + 1
                return fault
        return {}

    def route(self, path):
        repo, sha, files = self.hub["repo"], self.hub["sha"], self.hub["files"]
        if path.startswith(f"/api/models/{repo}/revision/"):
            revision = path.split("/revision/")[1]
            if revision not in [sha] + self.hub.get("revisions", ["main"]):
                return self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            listing = {"id": repo, "sha": sha, "siblings": [{"rfilename": name} for name in files]}
            body = self.hub.get("listing", json.dumps(listing))
            return self.answer(200, b" " * self.hub.get("pad", 0) + body.encode(), {})
        if path.startswith(f"/api/models/{repo}/tree/"):  # for huggingface_hub, by hand
            return self.answer(200, json.dumps([self.tree_entry(name, files[name]) for name in files]).encode(), {})
        resolve = f"/{repo}/resolve/{sha}/"
        name = path[len(resolve):] if path.startswith(resolve) else path[len("/cdn/"):]
        if not path.startswith((resolve, "/cdn/")) or name not in files:
            return self.answer(404, b"no", {"X-Error-Code": "EntryNotFound" if path.startswith(resolve) else ""})
        file = files[name]
        if file.get("cdn") and self.server.name != "CDN ":
            headers = {"Location": f"{CDN}/cdn/{name}", "X-Linked-Etag": f'"{etag(file)}"',
                       "X-Linked-Size": str(file.get("claim", len(content(file)))), "X-Repo-Commit": sha}
            return self.answer(302, b"", headers)
        self.send_file(file)

    def tree_entry(self, name, file):
        size = len(content(file))
        entry = {"type": "file", "path": name, "oid": etag(file)[:40], "size": size}
        return {**entry, "lfs": {"oid": etag(file), "size": size, "pointerSize": 100}} if file.get("lfs") else entry

    def send_file(self, file):
        data, headers = content(file), {"ETag": f'"{etag(file)}"', "X-Repo-Commit": self.hub["sha"]}
        if self.command == "HEAD":
            return self.answer(200, data, {**headers, "Content-Length": str(file.get("claim", len(data)))})
        if "flip" in self.fault:
            at = self.fault["flip"]
            data = data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]
        data += b"x" * self.fault.get("extra", 0)
        asked, status = self.headers.get("Range"), 200
        if asked and not self.fault.get("ignore_range"):
            first = int(asked.removeprefix("bytes=").split("-")[0]) + (1 if self.fault.get("wrong_range") else 0)
            if first >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
            data, status = data[first:], 206
        self.answer(status, data, headers)

    def answer(self, status, body, headers):
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            if key != "Content-Length" or not self.fault.get("no_length"):
                self.send_header(key, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        cut = self.fault.get("cut", len(body) if self.fault.get("no_length") else None)
        try:
            self.wfile.write(body if cut is None else body[:cut])
        except OSError:
            cut = 0
        if cut is not None:
            self.close_connection = True


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        pass  # a client that hangs up is what many of the tests are about


def listen(name):
    server = Server(("127.0.0.1", 0), Handler)
    server.name = name
    if name == "TLS ":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate = LOG + ".pem"
        with open(certificate + ".conf", "w") as config:
            config.write("[req]\ndistinguished_name=name\nx509_extensions=own\nprompt=no\n[name]\nCN=test\n"
                         "[own]\nbasicConstraints=critical,CA:FALSE\nsubjectAltName=IP:127.0.0.1\n")
        subprocess.run(["openssl", "req", "-x509", "-config", certificate + ".conf", "-newkey", "ec", "-pkeyopt",
                        "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-keyout", certificate,
                        "-out", certificate + ".cert"], check=True, capture_output=True)
        with open(certificate, "a") as both:
            both.write(open(certificate + ".cert").read())
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


ports = [listen(name) for name in ("", "CDN ", "TLS ")]
HUB, CDN, TLS = (f"{scheme}://127.0.0.1:{port}" for scheme, port in zip(("http", "http", "https"), ports))
print(*ports, flush=True)
sys.stdin.read()
os._exit(0)
