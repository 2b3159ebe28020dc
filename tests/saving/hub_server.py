"""A stand-in of the Hugging Face Hub's HTTP interface: repositories of small files, in memory."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """The repositories, `{"user/name": {path: bytes}}`, served at `address`; for a `with` block."""

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = urlsplit(self.path).path.strip("/").split("/")
                if parts[:3] == ["api", "repos", "create"]:
                    given = json.loads(body)
                    name = f"{given.get('organization') or 'user'}/{given['name'].rpartition('/')[2]}"
                    is_new = name not in hub.repositories
                    hub.repositories.setdefault(name, {})
                    self.answer({"url": f"{hub.address}/{name}"}, 200 if is_new else 409)
                elif parts[1] == "validate-yaml":
                    self.answer({"errors": [], "warnings": []})
                elif parts[4] == "preupload":
                    files = json.loads(body)["files"]
                    modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
                    self.answer({"files": modes, "commitOid": "0" * 40})
                elif parts[4] == "commit":
                    files = hub.repositories["/".join(parts[2:4])]
                    for line in map(json.loads, body.splitlines()):
                        if line["key"] == "file":
                            files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                    url = f"{hub.address}/{'/'.join(parts[2:4])}/commit/{'0' * 40}"
                    self.answer({"commitUrl": url, "commitOid": "0" * 40})
                else:
                    self.answer({"error": "unknown"}, 404)

            def do_GET(self):
                parts = unquote(urlsplit(self.path).path).strip("/").split("/")
                is_api = parts[:2] == ["api", "models"]
                name = "/".join(parts[2:4] if is_api else parts[:2])
                files = hub.repositories.get(name)
                if files is None:
                    self.answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
                elif is_api and parts[4:5] == ["tree"]:
                    sizes = {path: {"size": len(data), "oid": _sha(data)} for path, data in files.items()}
                    self.answer([{"type": "file", "path": path, **size} for path, size in sizes.items()])
                elif is_api:
                    siblings = [{"rfilename": path} for path in files]
                    self.answer({"id": name, "modelId": name, "sha": "0" * 40, "siblings": siblings, "tags": []})
                elif parts[2] == "resolve" and "/".join(parts[4:]) in files:
                    data = files["/".join(parts[4:])]
                    self.reply(data, 200, {"ETag": f'"{_sha(data)}"', "X-Repo-Commit": "0" * 40})
                else:
                    self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})

            do_HEAD = do_GET

            def answer(self, content, status: int = 200, headers: dict | None = None):
                self.reply(json.dumps(content).encode(), status, {"Content-Type": "application/json"} | (headers or {}))

            def reply(self, body: bytes, status: int, headers: dict):
                self.send_response(status)
                for key, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(key, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def _sha(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
