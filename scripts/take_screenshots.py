"""Takes the pictures of kedro-viz and of the report that the documentation shows.

``python scripts/take_screenshots.py`` after ``kedro viz build`` and a recommendation; it needs Chromium. What kedro-viz
built is served from this machine and opened without a window.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import which
from threading import Thread

from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
IMAGES = PROJECT / "docs" / "images"
MOST_BYTES = 150_000

#: Pictures of kedro-viz: name, what is asked for, size of the window. A node's id is a hash of its name.
VIEWS = {
    "viz-full": ("?pid=full", (1600, 1000)),
    "viz-figure": ("?pid=evaluation&sid={evaluation_overview}", (1600, 900)),
    "viz-table": ("?pid=__default__&sid={performance}", (1600, 900)),
}

#: What a reader would have chosen in the browser: no tour, no list of nodes, light colours.
CHOICES = {"showFeatureHints": False, "theme": "light", "visible": {"graph": True, "sidebar": False, "miniMap": False}}


class Site(SimpleHTTPRequestHandler):
    """Serves kedro-viz's files, with the reader's choices, and without a line in the log for each."""

    def log_message(self, *args: object) -> None:
        """Nothing."""

    def do_GET(self) -> None:
        """Answer; the page itself sets the choices before it reads them, and paths are shown as in the project."""
        site, path = Path(self.directory).resolve(), self.path.split("?")[0]
        if path == "/":
            script = f"<script>localStorage.setItem('KedroViz', JSON.stringify({json.dumps(CHOICES)}))</script>"
            text = (site / "index.html").read_text(encoding="utf-8").replace("<head>", f"<head>{script}", 1)
            self.answer(text, "text/html")
        elif path.startswith("/api/") and (site / path[1:]).is_file():
            text = (site / path[1:]).read_text(encoding="utf-8")
            self.answer(text.replace(f"{site.parent}/", ""), "application/json")
        else:
            super().do_GET()

    def answer(self, text: str, kind: str) -> None:
        """Send a text."""
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def node_ids(site: Path) -> dict[str, str]:
    """kedro-viz's id of every dataset and step."""
    files = (site / "api" / "pipelines").iterdir()
    return {node["name"]: node["id"] for file in files for node in json.loads(file.read_text())["nodes"]}


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Address at which a folder is served."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Site, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def take(address: str, file: Path, size: tuple[int, int], seconds: int = 20) -> None:
    """Open an address in Chromium and save what it shows as WebP, small enough for a repository.

    Args:
        address: What to open.
        file: Where to save.
        size: Width and height of the window.
        seconds: Time that the page is given to draw, in its own clock.
    """
    browser = which("chromium") or which("chromium-browser") or which("google-chrome")
    if browser is None:
        raise SystemExit("Chromium isn't installed, for example: apt-get install chromium")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        subprocess.run(
            [
                browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
                "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                # Pages ask for fonts and counters elsewhere; waiting for these would stop the page's clock.
                "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                f"--user-data-dir={folder}/profile", f"--window-size={size[0]},{size[1]}",
                f"--virtual-time-budget={seconds * 1000}", f"--screenshot={picture}", address,
            ],
            check=True,
            capture_output=True,
            timeout=600,
        )  # fmt: skip
        save(Image.open(picture).convert("RGB"), file)


def save(picture: Image.Image, file: Path) -> None:
    """Save as WebP with the best quality that keeps the size below ``MOST_BYTES``."""
    for quality in (90, 80, 70, 60, 45, 30):
        picture.save(file, quality=quality, method=6)
        if file.stat().st_size < MOST_BYTES:
            return


def main() -> None:
    """Take all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--site", type=Path, default=PROJECT / "build", help="what `kedro viz build` made")
    parser.add_argument("--report", type=Path, help="recommendation.html of an answer")
    parser.add_argument("--only", nargs="*", default=[*VIEWS, "report"], help="names of pictures")
    options = parser.parse_args()
    IMAGES.mkdir(parents=True, exist_ok=True)
    views = {name: view for name, view in VIEWS.items() if name in options.only}
    if views:
        ids = node_ids(options.site)
        with served(options.site) as address:
            for name, (query, size) in views.items():
                take(f"{address}/{query.format(**ids)}", IMAGES / f"{name}.webp", size)
    if options.report and "report" in options.only:
        take(options.report.resolve().as_uri(), IMAGES / "report.webp", (1400, 1000))


if __name__ == "__main__":
    main()
