"""A local chat-completions server that misbehaves on a schedule."""

import json
import re
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import LoopbackServer


class ChatServer(LoopbackServer):
    """Serves ``/v1/chat/completions`` on loopback.

    `schedule` says what each text's calls meet, in order, by the text's last word; afterwards all is well.
    """

    def __init__(self, schedule: dict[str, list[str]] | None = None, logprobs: bool = True) -> None:
        self.schedule = schedule or {}
        self.logprobs = logprobs
        self.calls: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.times: dict[str, list[float]] = {}
        self.most_at_once = 0
        self._inside: set[BaseHTTPRequestHandler] = set()
        self._lock = threading.Lock()

    def handle(self, request: BaseHTTPRequestHandler, content: bytes) -> None:
        body = json.loads(content)
        if request.path == "/tokenize":
            words = sum(len(message["content"].split()) for message in body["messages"])
            return self._send(request, 200, {"count": words})
        word = re.findall(r"(\w+)\n<<<END TEXT>>>", body["messages"][-1]["content"])[-1]
        with self._lock:
            self._inside.add(request)
            self.most_at_once = max(self.most_at_once, len(self._inside))
            turn = self.calls[word]
            self.calls[word] += 1
            self.times.setdefault(word, []).append(time.monotonic())
            self.bodies.append(body)
            self.headers.append(dict(request.headers))
            self.paths.append(request.path)
        plan = self.schedule.get(word, [])
        self._answer(request, body, plan[turn] if turn < len(plan) else "well")

    def _leave(self, request: BaseHTTPRequestHandler) -> None:
        """Stop counting a request: before its answer is sent, since the client may send the next one at once."""
        with self._lock:
            self._inside.discard(request)

    def _answer(self, request: BaseHTTPRequestHandler, body: dict[str, Any], how: str) -> None:
        match how.split():
            case ["429", after]:
                if after.startswith("in"):
                    when = datetime.now(UTC) + timedelta(seconds=float(after[2:]))
                    after = format_datetime(when, usegmt=True)
                return self._send(request, 429, {"error": {"message": "slow down", "code": "rate_limit"}}, after)
            case ["quota"]:
                return self._send(request, 429, {"error": {"message": "pay", "code": "insufficient_quota"}})
            case [("400" | "401" | "403" | "404" | "500" | "503") as status]:
                key = request.headers.get("authorization", "").removeprefix("Bearer ")
                return self._send(request, int(status), {"error": {"message": f"no, {key}", "code": f"e{status}"}})
            case ["dropped"]:
                self._leave(request)
                request.connection.close()
                request.close_connection = True
                return None
            case ["slow", seconds]:
                time.sleep(float(seconds))
            case ["hangs", seconds]:
                self._leave(request)  # the client gives up meanwhile
                time.sleep(float(seconds))
            case ["broken"]:
                return self._raw(request, 200, b'{"choices": [')
            case ["sends", status, *_]:
                return self._raw(request, int(status), how.split(" ", 2)[2].encode())
            case ["undecodable"]:
                return self._raw(request, 200, b"no gzip", **{"content-encoding": "gzip"})
            case ["short"]:  # the body ends before it is whole
                request.close_connection = True
                return self._raw(request, 200, b'{"choices": [', **{"content-length": "999"})
            case ["moved"]:
                return self._raw(request, 308, b"", location="https://elsewhere.example/v1/chat/completions")
            case ["empty"]:
                return self._send(request, 200, {"choices": []})
            case ["says", *words]:
                return self._complete(request, " ".join(words), "stop")
            case ["cut"]:
                return self._complete(request, '{"sympathetic": 3', "length")
            case ["refusal"]:
                return self._complete(request, None, "stop", refusal="I will not.")
            case ["filtered"]:
                return self._complete(request, "", "content_filter")
        schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
        kinds = {name: kind["type"] for name, kind in schema.get("properties", {}).items()}
        scores = {name: 4.5 if kind == "number" else 4 for name, kind in kinds.items()}
        if named := re.findall(r'"(\w+)": ', body.get("structured_outputs", {}).get("regex", "")):
            scores = dict.fromkeys(named, 3)
        return self._complete(request, json.dumps(scores) if scores else "353535", "stop")

    def _complete(self, request: BaseHTTPRequestHandler, text: str | None, finish: str, **more: Any) -> None:
        choice: dict[str, Any] = {
            "index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text} | more,
        }  # fmt: skip
        if self.logprobs:
            choice["logprobs"] = {
                "content": [
                    {"token": sign, "logprob": -0.1, "top_logprobs": [{"token": sign, "logprob": -0.1}]}
                    for sign in text or ""
                ]
            }
        self._send(request, 200, {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})

    def _send(self, request: BaseHTTPRequestHandler, status: int, body: Any, after: str | None = None) -> None:
        self._raw(request, status, json.dumps(body).encode(), **({} if after is None else {"retry-after": after}))

    def _raw(self, request: BaseHTTPRequestHandler, status: int, body: bytes, **headers: str) -> None:
        self._leave(request)
        try:
            request.send_response(status)
            for name, value in (
                {"content-type": "application/json", "content-length": str(len(body))} | headers
            ).items():
                request.send_header(name, value)
            request.end_headers()
            request.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client did not wait
