"""Havoc: everything that may go wrong, all through a run, each decision drawn from one seed."""

from __future__ import annotations

import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import TypeVar

from django.db import Error, connection

from tests.faults.fleet import Fleet
from tests.faults.proxy import Order, Proxy
from tests.faults.server import ForeignServer, Server, run
from tests.faults.world import World

T = TypeVar("T")

LEASE_SECONDS = 3
PAUSE_SECONDS = (0.8, 2.8)  # between one fault and the next


class Havoc:
    """Breaks one thing after the other. Every kind comes up once before one comes up again."""

    def __init__(
        self, fleet: Fleet, world: World, server: Server, proxies: list[Proxy], dice: random.Random
    ) -> None:
        self.fleet, self.world, self.server = fleet, world, server
        self.proxies, self.dice = proxies, dice
        self.done: Counter[str] = Counter()
        self._deck: list[str] = []

    def rage(self, seconds: float) -> None:
        """Goes on for so long; returns with everything that was stopped still stopped."""
        kinds = self.kinds()
        ends_at = time.monotonic() + seconds
        node_events = self._node_events(seconds)
        next_at, fed_at = time.monotonic() + 4, 0.0  # the first processes need to start
        while (now := time.monotonic()) < ends_at:
            self.fleet.keep()
            if now >= fed_at + 2:
                fed_at = now
                self._try(self.world.feed)
            if node_events and now >= node_events[0][0]:
                _, name, command = node_events.pop(0)
                self._note(name, "")
                run(command)
            elif now >= next_at:
                self._deck = self._deck or self.dice.sample(sorted(kinds), len(kinds))
                name = self._deck.pop()
                if what := self._try(kinds[name]):
                    self._note(name, what)
                next_at = time.monotonic() + self.dice.uniform(*PAUSE_SECONDS)
            time.sleep(0.05)

    def kinds(self) -> dict[str, Callable[[], str]]:
        """Returns what can be broken on this database, by name."""
        kinds: dict[str, Callable[[], str]] = {
            "kill a worker": self.kill_worker,
            "kill before the send": lambda: self.trip("kill", "entry"),
            "kill after the send": lambda: self.trip("kill", "appended"),
            "kill a supervisor": self.kill_supervisor,
            "kill a scheduler": self.kill_scheduler,
            "end a broadcaster": self.end_broadcaster,
            "pause": self.world.pause,
            "resume": self.world.resume,
            "cancel": self.world.cancel,
            "pause the sequence": self.world.pause_sequence,
            "opt out": self.world.opt_out,
        }
        if connection.vendor == "sqlite":  # whoever is stopped in a transaction holds its one lock
            return kinds
        kinds |= {
            "stop a worker": self.stop_worker,
            "stop before the send": lambda: self.trip("stop", "entry"),
            "stop after the send": lambda: self.trip("stop", "appended"),
            "kill a stopped worker": self.kill_stopped_worker,
            "cut all connections": lambda: self.cut_connections(1.0),
            "cut some connections": lambda: self.cut_connections(0.3),
        }
        for to in ("processing", "queued", "sent", ""):
            name = {"processing": "claim", "queued": "hand-over", "sent": "outcome"}.get(to, "next")
            kinds[f"lose the answer to a {name} commit"] = self._ordering(Order(to))
            if to:
                late = Order(to, hold_seconds=1.5 * LEASE_SECONDS)
                kinds[f"hold the answer to a {name} commit"] = self._ordering(late)
        if self.server.can_restart:
            kinds["kill the database"] = self.kill_database
        return kinds

    # Processes

    def kill_worker(self) -> str:
        workers = self.fleet.workers()
        return self._kill(self.dice.choice(workers)) if workers else ""

    def kill_supervisor(self) -> str:
        """Its workers are orphans then, and end by themselves."""
        found = self.fleet.supervisors()
        return self._kill(self.dice.choice(found)) if found else ""

    def kill_scheduler(self) -> str:
        found = self.fleet.schedulers()
        return self._kill(self.dice.choice(found)) if found else ""

    def _kill(self, pid: int) -> str:
        self.fleet.kill(pid)
        return f"pid {pid}"

    def end_broadcaster(self) -> str:
        """By SIGTERM, as a deployment does: the successor may take its devices at once."""
        places = [p for p in self.fleet.places if p.sends and p.process]
        if not places:
            return ""
        place = self.dice.choice(places)
        assert place.process
        place.process.terminate()
        return place.name

    def stop_worker(self) -> str:
        workers = self.fleet.workers()
        if not workers:
            return ""
        pid, seconds = self.dice.choice(workers), self._longer_than_a_lease()
        self.fleet.stop(pid, seconds)
        return f"pid {pid} for {seconds:.1f} s"

    def kill_stopped_worker(self) -> str:
        stopped = [pid for pid in self.fleet.stopped if pid not in self.fleet.killed]
        return self._kill(stopped[0]) if stopped else ""

    def trip(self, verb: str, point: str) -> str:
        """Makes the next process that comes to this point of a send fall over there."""
        order = self.fleet.folder / "order"
        order.write_text(f"{self._longer_than_a_lease()}")
        order.rename(self.fleet.folder / f"{verb}-{point}")
        return "whoever sends next"

    def _longer_than_a_lease(self) -> float:
        return self.dice.uniform(1.2, 2.5) * LEASE_SECONDS

    # The database

    def kill_database(self) -> str:
        began_at = time.monotonic()
        away_seconds = self.dice.uniform(0, 1.5 * LEASE_SECONDS)
        self.server.kill()
        if not isinstance(self.server, ForeignServer):  # its command takes its own time
            time.sleep(away_seconds)
        self.server.start()
        return f"away for {time.monotonic() - began_at:.1f} s"

    def cut_connections(self, share: float) -> str:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT id FROM information_schema.processlist "
                "WHERE id <> CONNECTION_ID() AND db = DATABASE()"
            )
            ids = [pk for (pk,) in cursor.fetchall() if self.dice.random() < share]
            for pk in ids:
                try:
                    cursor.execute("KILL CONNECTION %s", [pk])
                except Error:
                    continue  # it has gone by itself
        return f"{len(ids)} connections"

    def _ordering(self, order: Order) -> Callable[[], str]:
        def give() -> str:
            proxy = self.dice.choice(self.proxies)
            proxy.order(order)
            return f"proxy {self.proxies.index(proxy)}"

        return give

    def _node_events(self, seconds: float) -> list[tuple[float, str, str]]:
        """One node of a cluster is killed after a third of the run, and joins after two."""
        if not isinstance(self.server, ForeignServer):
            return []
        now, commands = time.monotonic(), self.server.commands
        events = [
            (now + seconds / 3, "kill a node", commands.kill_node),
            (now + seconds * 2 / 3, "join a node", commands.join_node),
        ]
        return [event for event in events if event[2]]

    def _try(self, act: Callable[[], T]) -> T | None:
        """Does something on the database, which may be away this very moment."""
        try:
            return act()
        except Error as error:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} the driver was told: {error}\n")
            connection.close()
            return None

    def _note(self, name: str, what: str) -> None:
        self.done[name] += 1
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}: {what}\n")
