"""Webhooks of real servers: every entry arrives, in order and signed, whatever the receiver and the processes do."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from nora.testing.live import LiveServer
from nora.testing.packages import make_wheel

KEY = bytes(range(100, 140))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
FORM = {":action": "file_upload", "protocol_version": "1", "filetype": "bdist_wheel", "metadata_version": "2.1"}
YANK = "/api/v1/registries/pypi/projects/demo/versions/1.0/yank"
EVENTS = 200


class Receiver:
    """Answers each request as ``script`` says, a status or "hang" or "close", and then with 204.

    Attributes:
        got: Everything that arrived: id, entry, and whether it was taken.
        forged: What was wrong with signatures.
    """

    def __init__(self) -> None:
        self.script: list[int | str] = []
        self.got: list[tuple[str, dict[str, Any], bool]] = []
        self.forged: list[str] = []
        self.url = ""
        self._changed = threading.Condition()
        self._end = threading.Event()

    @property
    def taken(self) -> list[str]:
        """Reasons of the entries that were taken, in order, without repetitions as a receiver drops them."""
        with self._changed:
            return list({id_: entry.get("reason", "") for id_, entry, taken in self.got if taken}.values())

    def wait(self, question: Callable[[], bool], seconds: float = 40) -> None:
        """Return when the answer, which only arrivals change, is yes."""
        with self._changed:
            assert self._changed.wait_for(question, seconds), f"{len(self.got)} arrived, of these {len(self.taken)} taken"

    def take(self, headers: Any, body: bytes) -> int | str:
        """Look at a delivery, and say how it is answered."""
        # Independent of the code under test: this is what the document tells receivers to do.
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        with self._changed:
            if expected not in headers["webhook-signature"].split(" "):
                self.forged.append("signature")
            if abs(time.time() - int(headers["webhook-timestamp"])) > 60 or headers["content-type"] != "application/json":
                self.forged.append("fields")
            answer = self.script.pop(0) if self.script else 204
            self.got.append((headers["webhook-id"], json.loads(body), answer == 204))
            self._changed.notify_all()
        if answer == "hang":
            self._end.wait(30)
        return answer

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Serve on a free port."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                answer = receiver.take(self.headers, self.rfile.read(int(self.headers["content-length"])))
                if isinstance(answer, str):
                    self.close_connection = True
                    return
                self.send_response(answer)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{server.server_address[1]}/T0/confidential"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._end.set()
            server.shutdown()
            server.server_close()
            thread.join(10)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().running() as running:
        yield running


def config(receiver: Receiver, **keys: str) -> str:
    lines = {"url": f'"{receiver.url}"', "timeout": "0.5", **keys}
    return '[pypi]\nproxy = ""\n[audit.webhooks.chat]\n' + "".join(f"{key} = {value}\n" for key, value in lines.items())


ENVIRON = {"NORA_AUDIT_WEBHOOKS_CHAT_SECRET": SECRET}


def publish(server: LiveServer) -> None:
    name, content = make_wheel("demo", "1.0")
    form = FORM | {"name": "demo", "version": "1.0"}
    answer = httpx.post(f"{server.url}/legacy/", data=form, files={"content": (name, content)}, trust_env=False)
    assert answer.status_code == 200, answer.text


def change(server: LiveServer, numbers: range) -> None:
    """Make so many changes, each with a reason of its own."""
    # A connection each, so both processes have their share.
    with httpx.Client(trust_env=False, headers={"Connection": "close"}) as client:
        for number in numbers:
            answer = client.post(f"{server.url}{YANK}", json={"reason": f"reason {number}"})
            assert answer.status_code == 200, answer.text


def written(store: Path, count: int) -> list[str]:
    """The reasons in the log, when there are so many."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = [line for path in sorted((store / "audit").glob("*.jsonl")) for line in path.read_bytes().splitlines()]
        if len(lines) >= count:
            return [json.loads(line).get("reason", "") for line in lines]
        time.sleep(0.02)
    raise AssertionError(f"{len(lines)} of {count} entries were written")


def metrics_of(server: LiveServer, wanted: str) -> list[str]:
    """The lines of /metrics, as soon as ``wanted`` is one of them."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        lines = httpx.get(f"{server.url}/metrics", trust_env=False).text.splitlines()
        if wanted in lines:
            return lines
        time.sleep(0.05)
    raise AssertionError([line for line in lines if "webhook" in line])


def sender_of(server: LiveServer, store: Path) -> int:
    """Which process sends: the one that has the lock."""
    inode = (store / "audit/webhooks/chat.lock").stat().st_ino
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for pid, held in re.findall(r"FLOCK +ADVISORY +WRITE (\d+) [^ ]+:(\d+) ", Path("/proc/locks").read_text()):
            if int(held) == inode and int(pid) in server.worker_pids():
                return int(pid)
        time.sleep(0.01)
    raise AssertionError("nobody sends")


def test_every_entry_arrives_in_order_though_the_receiver_fails_and_processes_die(tmp_path: Path, receiver: Receiver) -> None:
    store = tmp_path / "store"
    receiver.script = [204, 500, 204, "hang", *[204] * 10, "close"]
    server = LiveServer(store, config(receiver), env=ENVIRON, workers=2)
    with server:
        publish(server)
        change(server, range(1, 80))
        written(store, 80)
        receiver.wait(lambda: len(receiver.got) > 5)
        # The process that sends dies with a delivery under way, and the other one goes on.
        first = sender_of(server, store)
        os.kill(first, signal.SIGKILL)
        receiver.wait(lambda: len(receiver.taken) >= 60)
        assert sender_of(server, store) != first
        receiver.script = [*[204] * 5, "hang"]
        change(server, range(80, 140))
        written(store, 140)
        # All of them die.
        server.kill()
    log = server.log()
    receiver.script = []
    with LiveServer(store, config(receiver, timeout="200"), env=ENVIRON, workers=2) as again:
        change(again, range(140, EVENTS))
        entries = written(store, EVENTS)
        receiver.wait(lambda: len(receiver.taken) >= EVENTS)
        metrics = metrics_of(again, 'nora_webhook_behind_seconds{webhook="chat"} 0.0')
        # A receiver that is silent does not hold up a stop.
        receiver.script, before = ["hang"], len(receiver.got)
        change(again, range(EVENTS, EVENTS + 1))
        receiver.wait(lambda: len(receiver.got) > before)
        assert again.stop(timeout=20) == 0
    log += again.log()
    assert any(line.startswith('nora_webhook_deliveries_total{outcome="delivered",webhook="chat"} ') for line in metrics)
    assert len(set(entries)) == EVENTS
    assert receiver.taken == entries
    assert receiver.forged == []
    assert "webhook does not take an entry" in log
    assert "webhook works again" in log
    assert SECRET not in log
    assert "confidential" not in log
    assert base64.b64encode(KEY).decode() not in log


def test_a_new_webhook_gets_no_history_and_later_all_that_it_missed(tmp_path: Path, receiver: Receiver) -> None:
    store, file = tmp_path / "store", tmp_path / "config.toml"
    file.write_text(config(receiver, actions='["yank"]'))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("NORA_")} | ENVIRON

    def nora(*arguments: str) -> str:
        command = [sys.executable, "-m", "nora", *arguments, "--config", str(file), "--storage", str(store)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environ, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    with LiveServer(store, '[pypi]\nproxy = ""\n') as server:
        publish(server)
        change(server, range(2))
    with LiveServer(store, file.read_text(), env=ENVIRON) as server:
        change(server, range(2, 4))
        receiver.wait(lambda: receiver.taken == ["reason 2", "reason 3"])
    # Commands send nothing, so nobody waits for a receiver; what they do is sent by the next server.
    nora("yank", "pypi", "demo", "1.0", "--reason", "by hand")
    shown = nora("check")
    assert SECRET not in shown
    assert "confidential" not in shown
    assert len(receiver.got) == 2
    with LiveServer(store, file.read_text(), env=ENVIRON):
        receiver.wait(lambda: len(receiver.taken) == 3)
    (_, entry, _) = receiver.got[-1]
    assert (entry["action"], entry["reason"]) == ("yank", "by hand")
    assert entry["actor"].startswith("cli:")


def test_the_receiver_in_the_document_takes_what_is_signed_and_drops_repetitions(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs/operations.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/"
    environ = {**os.environ, "SECRET": SECRET, "PORT": str(port)}
    command = [sys.executable, "-uc", program]
    with subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            toml = f'[pypi]\nproxy = ""\n[audit.webhooks.chat]\nurl = "{url}"\n'
            with LiveServer(tmp_path / "store", toml, env=ENVIRON) as server:
                publish(server)
                assert "'action': 'publish'" in process.stdout.readline()
            body, fields = b'{"action": "delete"}', {"webhook-id": "msg_1", "webhook-timestamp": str(int(time.time()))}
            signed = hmac.digest(KEY, f"msg_1.{fields['webhook-timestamp']}.".encode() + body, hashlib.sha256)
            right = {**fields, "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}
            statuses = [
                httpx.post(url, content=content, headers=headers, trust_env=False).status_code
                for content, headers in ((body, right), (body, right), (b"{}", right), (body, {**right, "webhook-id": "msg_2"}))
            ]
            assert statuses == [204, 204, 401, 401]
        finally:
            process.kill()
        assert process.stdout.read() == "{'action': 'delete'}\n"
