"""A local server that speaks /v1/files and /v1/batches, as OpenAI's does, and misbehaves as it is told."""

import json
import re
from email import message_from_bytes
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler
from typing import Any

from loopback import LoopbackServer


class BatchServer(LoopbackServer):
    """Serves files and batches on loopback.

    Args:
        looks: how often a batch is looked at until it has ended.
        schedule: by a text's last word, how its questions are answered: ``error`` (in the error file), ``400``
            (a response with this status), ``absent``, ``says ...``; all others well.
        status: how batches end.
        fails: the HTTP status of the next so many looks at a batch.
    """

    def __init__(
        self, looks: int = 2, schedule: dict[str, str] | None = None, status: str = "completed", fails: int = 0
    ) -> None:
        self.looks, self.schedule, self.status, self.fails = looks, schedule or {}, status, fails
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.keys: set[str | None] = set()
        self.asked: list[dict[str, Any]] = []

    def handle(self, request: BaseHTTPRequestHandler, body: bytes) -> None:
        self.keys.add(request.headers.get("authorization"))
        match request.command, request.path.partition("?")[0].split("/")[2:]:
            case "POST", ["files"]:
                kind = request.headers["content-type"].encode()
                parts = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + body, policy=HTTP)
                named = {part.get_param("name", header="content-disposition"): part for part in parts.iter_parts()}
                assert named["purpose"].get_payload() == "batch"
                name = self._kept(named["file"].get_payload(decode=True))
                self._send(request, self._file(name))
            case "GET", ["files", name, "content"]:
                self._raw(request, 200, self.files[name])
            case "POST", ["batches"]:
                wanted = json.loads(body)
                assert (wanted["endpoint"], wanted["completion_window"]) == ("/v1/chat/completions", "24h")
                name = f"batch_{len(self.batches)}"
                self.batches[name] = {
                    "id": name, "object": "batch", "created_at": 1, "status": "validating", "looks": 0, **wanted,
                }  # fmt: skip
                self._send(request, self.batches[name])
            case "GET", ["batches"]:
                self._send(request, {"object": "list", "data": list(self.batches.values()), "has_more": False})
            case "GET", ["batches", name] if self.fails:
                self.fails -= 1
                self._raw(request, 503, b"{}")
            case "GET", ["batches", name]:
                self._send(request, self._looked_at(self.batches[name]))
            case _:
                self._raw(request, 404, b'{"error": {"message": "no such thing"}}')

    def _looked_at(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch["looks"] += 1
        if batch["looks"] < self.looks:
            batch |= {"status": "in_progress", "request_counts": {"total": 3, "completed": 1, "failed": 0}}
        elif batch["looks"] == self.looks:
            batch["status"] = self.status
            if self.status == "failed":
                batch["errors"] = {"data": [{"message": "line 1 is no request", "line": 1}]}
            else:
                good, bad = self._answered(self.files[batch["input_file_id"]])
                batch |= {"output_file_id": self._kept(good), "error_file_id": self._kept(bad) if bad else None}
        return batch

    def _answered(self, file: bytes) -> tuple[bytes, bytes]:
        """Answer a file's questions, the last first."""
        good, bad = [], []
        for line in reversed(file.splitlines()):
            question = json.loads(line)
            assert (question["method"], question["url"]) == ("POST", "/v1/chat/completions")
            self.asked.append(question)
            word = re.findall(r"(\w+)\n<<<END TEXT>>>", question["body"]["messages"][-1]["content"])[-1]
            how, name = self.schedule.get(word, "well"), {"id": "r", "custom_id": question["custom_id"]}
            names = question["body"]["response_format"]["json_schema"]["schema"]["required"]
            said = how.removeprefix("says ") if how.startswith("says ") else json.dumps(dict.fromkeys(names, 4.5))
            choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
            body = {"choices": [choice], "usage": {"prompt_tokens": 100, "completion_tokens": 10}}
            if how == "error":
                fault = {"code": "batch_expired", "message": "too late"}
                bad.append(name | {"response": None, "error": fault})
            elif how == "400":
                response = {"status_code": 400, "body": {"error": {"message": "no", "code": "content_filter"}}}
                good.append(name | {"response": response, "error": None})
            elif how != "absent":
                good.append(name | {"response": {"status_code": 200, "body": body}, "error": None})
        return tuple("".join(json.dumps(one) + "\n" for one in lines).encode() for lines in (good, bad))  # type: ignore[return-value]

    def _kept(self, content: bytes) -> str:
        name = f"file-{len(self.files)}"
        self.files[name] = content
        return name

    def _file(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "file", "bytes": len(self.files[name]), "created_at": 1, "filename": "f",
                "purpose": "batch", "status": "processed"}  # fmt: skip

    def _send(self, request: BaseHTTPRequestHandler, body: Any) -> None:
        self._raw(request, 200, json.dumps(body).encode())

    def _raw(self, request: BaseHTTPRequestHandler, status: int, body: bytes) -> None:
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
