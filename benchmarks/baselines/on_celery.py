"""One task a message on Celery, with a Redis of its own as broker. Enqueued before it starts.

Redis keeps nothing on disk here, results are ignored and tasks acknowledged early: the quickest
that Celery can be. The message's row is updated durably all the same.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from celery import Celery

from benchmarks import processes
from benchmarks.baselines.sending import rate_when_done, send
from benchmarks.filling import fill

# Processes, and messages prefetched for each.
SETTINGS = ((2, 64), (4, 64), (8, 64))

app = Celery("benchmark", broker=os.environ.get("BENCHMARK_REDIS"))
app.conf.update(task_ignore_result=True, broker_connection_retry_on_startup=True)
# Unless told so, Celery makes a new connection to the database for each task.
app.conf["CELERY_DB_REUSE_MAX"] = 1_000_000
app.task(send, name="send")


def measure(*, devices: int, messages: int, workers: int, prefetch: int) -> dict[str, Any]:
    fill(devices=devices, messages=messages)
    with _redis() as url:
        with Celery(broker=url) as client:
            for message_id in range(1, messages + 1):
                client.send_task("send", [message_id])
        command = [
            "-m", "celery", "--app=benchmarks.baselines.on_celery", "worker", "--pool=prefork",
            f"--concurrency={workers}", f"--prefetch-multiplier={prefetch}", "--loglevel=ERROR",
            "--without-gossip", "--without-mingle", "--without-heartbeat",
        ]  # fmt: skip
        with processes.started(command, BENCHMARK_REDIS=url, patience=10):
            return rate_when_done(messages)


@contextmanager
def _redis() -> Iterator[str]:
    """A Redis of its own. Raises FileNotFoundError where none is installed."""
    if not (server := shutil.which("redis-server")):
        raise FileNotFoundError("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait_for(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int) -> None:
    for _ in range(100):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError("redis-server does not answer")
