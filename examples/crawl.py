"""A crawler: fetches pages with many threads, at a limited rate, and goes on when some of them fail.

Run it with: goproc run examples/crawl.py --procs 2 [--pages 300] [--rate 1000] [URL ...]

Without URLs it starts a server in this process and fetches its pages. Some of them fail at the first attempt, some are not
there. A failed page is tried again; what fails for good goes to a channel of dead letters.
"""

import argparse
import re
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from goproc import Failure, Limiter, TaskTimeout, WorkerDied, chan, flow

LINK = re.compile(rb'href="([^"]*)"')


class Page(NamedTuple):
    url: str
    size: int
    links: int


def fetch(url: str) -> tuple[str, bytes]:
    """The address and the text of a page.

    An HTTPError holds its connection, which cannot leave the process: the errors raised here can.
    """
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return url, response.read()
    except urllib.error.HTTPError as error:
        kind = LookupError if error.code == 404 else ConnectionError
        raise kind(f"{error.code} {error.reason}") from None


def analyse(fetched: tuple[str, bytes]) -> Page:
    url, text = fetched
    return Page(url, len(text), len(LINK.findall(text)))


def crawl(urls: list[str], threads: int, rate: float) -> tuple[list[Page], list[Failure]]:
    """Fetch pages. Return those that could be fetched, and the failures."""
    dead = chan[Failure](len(urls))
    stages = flow(urls).map(
        fetch,
        threads=threads,
        limit=Limiter(rate, burst=threads),
        retries=2,
        retry_on=(OSError, WorkerDied, TaskTimeout),
        timeout=10,
        delay=lambda attempt: 0.02 * 2**attempt,
        on_error=dead,
    )
    pages = list(stages.map(analyse))
    dead.close()
    return pages, list(dead)


# -- a server to try it with -----------------------------------------------------------------------------------------


class Site(BaseHTTPRequestHandler):
    """Pages /0, /1, ...: every 20th is missing, every 7th is not ready at the first time."""

    protocol_version = "HTTP/1.0"
    visits = Counter()  # noqa: RUF012  (of all requests)
    lock = threading.Lock()

    def do_GET(self) -> None:
        n = int(self.path[1:])
        with self.lock:
            self.visits[self.path] += 1
            visit = self.visits[self.path]
        time.sleep(0.02)
        if n % 20 == 13:
            self.send_error(404)
        elif n % 7 == 5 and visit == 1:
            self.send_error(503)
        else:
            text = "".join(f'<a href="/{n + i}">page {n + i}</a>' for i in range(n % 10)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> None:
    parser = argparse.ArgumentParser(description="Fetch pages with many threads.")
    parser.add_argument(
        "urls", nargs="*", metavar="URL", help="default: the pages of a server of this program"
    )
    parser.add_argument("--pages", type=int, default=300, help="how many pages the server has")
    parser.add_argument("--threads", type=int, default=32, help="how many pages are fetched at once")
    parser.add_argument("--rate", type=float, default=1000, help="how many requests a second at most")
    args = parser.parse_args()
    urls = args.urls
    if not urls:
        server = Server(("127.0.0.1", 0), Site)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urls = [f"http://127.0.0.1:{server.server_port}/{n}" for n in range(args.pages)]
    pages, failures = crawl(urls, args.threads, args.rate)
    print(f"{len(pages)} pages, {sum(p.size for p in pages)} bytes, {sum(p.links for p in pages)} links")
    for (kind, text), count in sorted(
        Counter((type(f.error).__name__, str(f.error)) for f in failures).items()
    ):
        print(f"{count} failed: {kind}: {text}")
    print(f"{sum(f.attempts for f in failures)} attempts for those")


if __name__ == "__main__":
    main()
