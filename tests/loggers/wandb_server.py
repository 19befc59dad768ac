"""A W&B server on this machine, as far as a run needs one: it keeps the history that is sent to it."""

from __future__ import annotations

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WandbServer:
    """While this is open, `url` answers (unless `answers` is false), and `history` holds each run's lines by its id."""

    def __init__(self) -> None:
        self.answers = True
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.ended: dict[str, int] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> WandbServer:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            self.history.setdefault(variables["name"], [])
            project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "me"}}
            bucket = {"id": variables["name"], "name": variables["name"], "displayName": "", "project": project}
            return {"upsertBucket": {"bucket": {**bucket, "config": "{}", "sweepName": ""}, "inserted": True}}
        if "RunResumeStatus" in query:
            return {"model": self._model(variables["name"], variables["project"])}
        if "createRunFiles" in query:
            return {"createRunFiles": {"runID": variables["run"], "uploadHeaders": [], "files": []}}
        return {"viewer": {"id": "v", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _model(self, name: str, project: str) -> dict[str, Any] | None:
        if name not in self.history:
            return None
        lines = self.history[name]
        bucket = {
            "id": name,
            "name": name,
            "summaryMetrics": json.dumps(lines[-1] if lines else {}),
            "displayName": "",
            "logLineCount": 0,
            "historyLineCount": len(lines),
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(line) for line in lines[-1:]]),
            "eventsTail": "[]",
            "config": "{}",
            "tags": [],
            "notes": "",
            "wandbConfig": "{}",
        }
        return {"id": "p", "name": project, "entity": {"id": "e", "name": "me"}, "bucket": bucket}

    def stream(self, run: str, sent: dict[str, Any]) -> None:
        part = sent.get("files", {}).get("wandb-history.jsonl")
        if part:
            lines = self.history.setdefault(run, [])
            lines[part["offset"] :] = map(json.loads, part["content"])  # as W&B does: an offset is overwritten
        if sent.get("complete"):
            self.ended[run] = sent["exitcode"]


def _handler(wandb: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self._reply({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if not wandb.answers:
                self.send_error(503)
            elif self.path == "/graphql":
                asked = json.loads(body)
                self._reply({"data": wandb.answer(asked["query"], asked.get("variables") or {})})
            elif self.path.endswith("/file_stream"):
                wandb.stream(self.path.split("/")[-2], json.loads(body))
                self._reply({"exitcode": None, "limits": {}})
            else:
                self._reply({})

        def _reply(self, content: dict[str, Any]) -> None:
            data = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    return Handler
