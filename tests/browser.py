"""Pages in headless Chromium, which report by a POST to `/done`."""

import http.server
import json
import shutil
import subprocess
import tempfile
import threading

import pytest

_HEADERS = {"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Embedder-Policy": "require-corp"}
# For scripts at the end of pages.
REPORT = """
const report = value => fetch("/done", {method: "POST", body: JSON.stringify(value)})
addEventListener("error", event => report({error: event.message}))
addEventListener("unhandledrejection", event => report({error: String(event.reason)}))
const until = async holds => { while (!holds()) await new Promise(resolve => setTimeout(resolve, 20)) }
"""


def chromium():
    """Its command; without it the test is skipped."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("there is no Chromium: apt install chromium")
    return found


def browse(url, is_done, seconds=180, *words):
    """Opens a page, and waits until `is_done`, an event, is set."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [chromium(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *words, url]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert is_done.wait(seconds), f"{url} did not report within {seconds} seconds"
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


class Site:
    """Folders and pages at a port of 127.0.0.1, and what pages reported.

    Args:
        folder: Whose files are served.
    """

    def __init__(self, folder):
        site, self.pages, self.done, self.report = self, {}, threading.Event(), None

        class Handler(http.server.SimpleHTTPRequestHandler):
            extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {".mjs": "text/javascript"}

            def __init__(self, *arguments):
                super().__init__(*arguments, directory=str(folder))

            def do_GET(self):
                if self.path not in site.pages:
                    super().do_GET()
                    return
                self.send_response(200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write(site.pages[self.path].encode())

            def do_POST(self):
                site.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()
                site.done.set()

            def end_headers(self):
                for name, value in _HEADERS.items():
                    self.send_header(name, value)
                super().end_headers()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def open(self, page, script):
        """What a page reports, with a module at its end that calls `report`."""
        self.pages["/"] = f"{page}\n<script type=module>{REPORT}{script}</script>"
        self.done.clear()
        browse(f"http://127.0.0.1:{self.server.server_port}/", self.done)
        return self.report

    def close(self):
        """Listens no more."""
        self.server.shutdown()
        self.server.server_close()
