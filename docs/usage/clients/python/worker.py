"""Receives webhooks of Punctual, answers 202, does the work, and completes it over HTTP. Python 3.11, standard library.

    WEBHOOK_SECRET=whsec_... PUNCTUAL_URL=https://punctual.example/ PORT=8095 python3 worker.py

Replace `work`. The rest can stay as it is.
"""

import base64
import hashlib
import hmac
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = os.environ["WEBHOOK_SECRET"]
# Completion addresses begin with it: the signature does not cover them. End it with a slash.
PUNCTUAL_URL = os.environ.get("PUNCTUAL_URL", "http://127.0.0.1:8080/")
KEY = base64.b64decode(SECRET[6:]) if SECRET.startswith("whsec_") else SECRET.encode()
TOLERANCE = 300  # seconds that a signature may be old
RETRY_FOR = 3600  # seconds in which a completion is retried
EARLY = 60  # seconds in which it is retried after 409 with Retry-After
MAX_BODY = 16 * 1024 * 1024


class Failure(Exception):
    """The work has failed: `permanent` is not retried, `retryable` and `throttled` are, as the job's retry policy says."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Refused(Exception):
    """Punctual does not wait for this work any more: it was cancelled, or its deadline has passed."""


def work(item: dict[str, Any], progress: Callable[[str], None]) -> object:
    """What takes long. Returns the output, as JSON can hold it."""
    subject = item["preference"]["template_overrides"].get("subject")
    if not isinstance(subject, str):
        raise Failure("permanent", f"invalid subject {json.dumps(subject)}; expected a text")
    for page in (1, 2, 3):
        progress(f"page {page} of 3")
    return {"report": f"{subject} for {item['tenant_id']}", "pages": 3}


@dataclass
class Run:
    """One run of the work: the address of the latest call for it, and the output once there is one."""

    url: str
    done: bool = False
    output: object = None


# By webhook-id, so that a call that comes twice does its work once. In memory, which is enough for an example: a restart forgets
# it, and it grows. In production, use a table with a unique key, and remove old rows.
runs: dict[str, Run] = {}
lock = threading.Lock()
pool = ThreadPoolExecutor(max_workers=32)


def post(url: str, content: object) -> None:
    """Posts until Punctual has taken it."""
    request = urllib.request.Request(url, json.dumps(content).encode(), {"Content-Type": "application/json"})
    began, delay = time.monotonic(), 1
    while True:
        try:
            with urllib.request.urlopen(request, timeout=30):
                return
        except urllib.error.HTTPError as error:
            reason, after = f"{error.code} {error.read().decode(errors='replace')}", error.headers.get("Retry-After", "")
            # The completion may be faster than Punctual stores that the work waits for it.
            is_early = error.code == 409 and after and time.monotonic() - began < EARLY
            if not (error.code >= 500 or error.code == 429 or is_early):
                raise Refused(reason) from error
        except OSError as error:  # For example: the connection is refused while the agent restarts.
            reason, after = str(error), ""
        if time.monotonic() - began > RETRY_FOR:
            raise Refused(reason)
        time.sleep(int(after) if after.isdecimal() else delay)
        delay = min(delay * 2, 60)


def perform(key: str, item: dict[str, Any]) -> None:
    """Does the work and reports its end to the latest call."""
    run = runs[key]

    def progress(text: str) -> None:
        url = run.url
        try:
            post(url + "/extend", {"seconds": 600, "progress": text})
        except Refused:
            if run.url == url:  # Else there is a later call, and the work goes on for that.
                raise

    try:
        output = work(item, progress)
    except Exception as error:
        with lock:
            del runs[key]  # A retry does the work again.
        if not isinstance(error, Refused):
            kind = error.kind if isinstance(error, Failure) else "retryable"
            report(run.url + "/fail", {"kind": kind, "message": str(error)})
        return
    with lock:
        run.done, run.output = True, output
    report(run.url + "/complete", output)


def report(url: str, content: object) -> None:
    try:
        post(url, content)
    except Refused as error:
        print(f"Punctual has not taken an end: {error}", flush=True)  # The address is a secret.


def is_signed(headers: Message, body: bytes) -> bool:
    """Checks a signature after the Standard Webhooks specification."""
    key, at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not at.isdecimal() or abs(time.time() - int(at)) > TOLERANCE:
        return False
    digest = hmac.digest(KEY, f"{key}.{at}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(digest)
    given = headers.get("webhook-signature", "").encode().split()
    return any(hmac.compare_digest(expected, signature) for signature in given)


class Webhook(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY:
            return self.answer(413, f"expected a Content-Length of at most {MAX_BODY}")
        body = self.rfile.read(int(length))
        if not is_signed(self.headers, body):
            return self.answer(401, "the signature is invalid or too old")
        if self.headers.get("Punctual-Dry-Run") == "1":
            return self.answer(200, "would write a report")  # A preview: it changes nothing.
        key, url = self.headers["webhook-id"], self.headers.get("Punctual-Completion-Url", "")
        if not url.startswith(PUNCTUAL_URL):
            return self.answer(400, f"Punctual-Completion-Url does not begin with {PUNCTUAL_URL}; check PUNCTUAL_URL")
        item = json.loads(body)
        with lock:
            run = runs.get(key)
            if run is None:
                runs[key] = Run(url)
                pool.submit(perform, key, item)
            else:
                run.url = url
                if run.done:
                    pool.submit(report, url + "/complete", run.output)
        self.answer(202, "accepted")

    def answer(self, status: int, text: str) -> None:
        content = text.encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Writes no line per request."""


class Server(ThreadingHTTPServer):
    request_queue_size = 128  # Punctual calls for many items at once.


if __name__ == "__main__":
    server = Server(("127.0.0.1", int(os.environ.get("PORT", "8095"))), Webhook)
    print(f"Listening on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
