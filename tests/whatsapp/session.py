"""A handle on a process that opens our transport's sessions, for tests."""

from __future__ import annotations

from typing import Any

from devices.transports.base import Memory, Outcome
from tests.whatsapp.client import Client

DEVICE = 1


class Process(Client):
    MODULE = f"{__name__}_process"

    def open(self, device: int = DEVICE, name: str = "one") -> Sessions:
        """Opens a session and returns a handle on it; its events are the process's."""
        self.call("open", device=device, name=name)
        return Sessions(self, name)


class Sessions:
    def __init__(self, process: Process, name: str) -> None:
        self.process, self.name = process, name

    def send(
        self, to: str, body: str = "Hi", key: str = "message-1", file: dict[str, Any] | None = None
    ) -> Outcome:
        outcome: Outcome = self.process.result(self.begin_send(to, body, key, file))
        return outcome

    def begin_send(
        self, to: str, body: str = "Hi", key: str = "message-1", file: dict[str, Any] | None = None
    ) -> int:
        return self.process.begin("send", name=self.name, key=key, phone=to, body=body, file=file)

    def recall(self, key: str = "message-1") -> Memory:
        memory: Memory = self.process.call("recall", name=self.name, key=key)
        return memory

    def close(self) -> None:
        self.process.call("close", name=self.name)

    def hears(self, event: str, after: int = 0, **fields: Any) -> dict[str, Any]:
        """Waits until this session reports such an event, with these fields; returns all."""
        wanted = fields | {"session": self.name}
        return self.process.wait_for(
            event, lambda said: wanted.items() <= said.items(), after=after
        )
