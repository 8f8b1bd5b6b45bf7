"""Havoc: everything that may go wrong, all through a run, each decision drawn from one seed."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from django.db import Error, connection
from django_q.models import Success
from django_q.tasks import async_task

from tests.faults.clocks import Clocks
from tests.faults.fleet import END_A_BROADCASTER, LEASE_SECONDS, Fleet
from tests.faults.proxy import COMMITS, Order, Proxy
from tests.faults.server import ForeignServer, Server, run
from tests.faults.trips import clock
from tests.faults.world import World

T = TypeVar("T")

PAUSE_SECONDS = (0.5, 2.2)  # between one fault and the next
KILL_A_NODE, JOIN_A_NODE = "kill a node", "join a node"
MOVE_THE_CLOCKS = "move the clocks"
KILL_A_RUNNER = "kill a scheduler's worker"
PROBE_SECONDS = 10  # a task that a scheduler had taken when it was killed is given out late
GRACE_SECONDS = 90  # in which what has not come about yet may still do so


class Havoc:
    """Breaks one thing after the other. Every kind comes up once before one comes up again."""

    def __init__(
        self,
        fleet: Fleet,
        world: World,
        server: Server,
        proxies: list[Proxy],
        clocks: Clocks | None,
        dice: random.Random,
    ) -> None:
        self.fleet, self.world, self.server = fleet, world, server
        self.proxies, self.clocks, self.dice = proxies, clocks, dice
        self.kinds = self._kinds()
        self._done: Counter[str] = Counter()
        self._deck: list[str] = []
        self._probes: list[str] = []  # tasks put since a scheduler's worker was killed
        self._probed_at = 0.0

    @property
    def ordered(self) -> set[str]:
        """What a run has to bring about."""
        return {*self.kinds, *(name for _, name, _ in self._node_events(0))}

    @property
    def carried_out(self) -> Counter[str]:
        """What came about, and how often: seen, not merely ordered."""
        late = (proxy.carried_out for proxy in self.proxies)
        return sum(late, self._done + self.fleet.carried_out)

    def rage(self, seconds: float) -> None:
        """Goes on for so long, or until everything has come about at least once; returns with
        everything that was stopped still stopped."""
        ends_at = time.monotonic() + seconds
        node_events = self._node_events(seconds)
        next_at, fed_at = time.monotonic() + 4, 0.0  # the first processes need to start
        while (now := time.monotonic()) < ends_at or self._may_go_on(now - ends_at):
            self.fleet.keep()
            if now >= fed_at + 2:
                fed_at = now
                self._try(self.world.feed)
                self._try(self._look_for_probes)
            if node_events and now >= node_events[0][0]:
                self._leave_or_join(*node_events.pop(0)[1:])
            elif now >= next_at:
                self._break_something(is_late=now > ends_at)
                next_at = time.monotonic() + self.dice.uniform(*PAUSE_SECONDS)
            time.sleep(0.05)

    def _may_go_on(self, late_seconds: float) -> bool:
        return late_seconds < GRACE_SECONDS and not self.ordered <= self.carried_out.keys()

    def _break_something(self, *, is_late: bool) -> None:
        if not self._deck:
            came_about = self.carried_out if is_late else {}
            left = sorted(self.kinds.keys() - came_about)
            self._deck = self.dice.sample(left, len(left))
            if MOVE_THE_CLOCKS in left:  # halfway, so that both times are seen of every process
                self._deck.remove(MOVE_THE_CLOCKS)
                self._deck.insert(len(left) // 2, MOVE_THE_CLOCKS)
        if self._deck:
            name = self._deck.pop()
            if what := self._try(self.kinds[name]):
                self._note(name, what, is_done=name not in self._that_take_their_time)
            elif not self.carried_out[name]:
                self._deck.insert(0, name)  # there was nothing to do it to: again later

    def _kinds(self) -> dict[str, Callable[[], str]]:
        """Returns what can be broken on this database, by name."""
        fleet = self.fleet
        kinds: dict[str, Callable[[], str]] = {
            "kill a worker": partial(self._kill_one, fleet.senders),
            "kill a supervisor": partial(self._kill_one, fleet.supervisors),
            "kill a scheduler": partial(self._kill_one, fleet.schedulers),
            "pause": self.world.pause,
            "resume": self.world.resume,
            "cancel": self.world.cancel,
            "pause the sequence": self.world.pause_sequence,
            "opt out": self.world.opt_out,
            "retry failed": self.world.retry_failed,
            "settle": self.world.settle_as_arrived,
            "switch a device off": self.world.switch_off,
            "switch it on": self.world.switch_on,
            "change a pace": self.world.change_a_pace,
        }
        # Ordered now, they come about when somebody gets there.
        slow: dict[str, Callable[[], str]] = {
            END_A_BROADCASTER: self.end_broadcaster,
            "kill before the send": partial(self._trip, "kill before the send"),
            "kill after the send": partial(self._trip, "kill after the send"),
            "kill in a chunk": self.kill_in_a_chunk,
            KILL_A_RUNNER: self.kill_a_runner,
        }
        # On SQLite whoever is stopped in a transaction holds its one lock.
        if connection.vendor != "sqlite":
            kinds |= {
                "stop a worker": partial(self._stop_one, fleet.senders),
                "stop a scheduler": partial(self._stop_one, fleet.schedulers),
                "kill a stopped process": self.kill_stopped,
                "cut all connections": lambda: self.cut_connections(1.0),
                "cut some connections": lambda: self.cut_connections(0.3),
            }
            for kind in ("stop before the send", "stop after the send"):
                slow[kind] = partial(self._trip, kind)
            orders = [Order(to) for to in COMMITS]
            orders += [Order(to, hold_seconds=1.5 * LEASE_SECONDS) for to in COMMITS if to]
            slow |= {order.kind: partial(self._order, order) for order in orders}
        if self.clocks and self.clocks.can_be_wrong:
            kinds[MOVE_THE_CLOCKS] = self.clocks.move
        if self.server.can_restart:
            kinds["kill the database"] = self.kill_database
        self._that_take_their_time = slow.keys()
        return kinds | slow

    # Processes

    def _kill_one(self, of: Callable[[], list[int]]) -> str:
        """Of a supervisor the workers are orphans then, and end by themselves."""
        found = of()
        pid = self.dice.choice(found) if found else 0
        return f"pid {pid}" if pid and self.fleet.kill(pid) else ""

    def kill_a_runner(self) -> str:
        """One of those that share django-q2's queues, and their locks. It has come about once a
        task is run that was put after it."""
        found = self.fleet.runners()
        if self._probes or not found:
            return ""
        os.kill(pid := self.dice.choice(found), signal.SIGKILL)
        self._probes.append(async_task("os.getpid"))
        self._probed_at = time.monotonic()
        return f"pid {pid}"

    def _look_for_probes(self) -> None:
        if not self._probes:
            return
        if Success.objects.filter(pk__in=self._probes).exists():
            self._done[KILL_A_RUNNER] += 1
            self._probes = []
        elif time.monotonic() > self._probed_at + PROBE_SECONDS:
            self._probes.append(async_task("os.getpid"))
            self._probed_at = time.monotonic()

    def _stop_one(self, of: Callable[[], list[int]]) -> str:
        found, seconds = of(), self._longer_than_a_lease()
        pid = self.dice.choice(found) if found else 0
        return f"pid {pid} for {seconds:.1f} s" if pid and self.fleet.stop(pid, seconds) else ""

    def kill_stopped(self) -> str:
        if not self.fleet.stopped:
            self._stop_one(self.fleet.senders)  # for the next time
            return ""
        return self._kill_one(lambda: list(self.fleet.stopped))

    def end_broadcaster(self) -> str:
        """The successor may take its devices at once."""
        places = [p for p in self.fleet.places if p.sends and p.process and not p.is_ending]
        if not places:
            return ""
        self.fleet.end_one(place := self.dice.choice(places))
        return place.name

    def _trip(self, kind: str) -> str:
        is_new = self.fleet.trips.order(kind, self._longer_than_a_lease())
        return "whoever comes there next" if is_new else ""

    def kill_in_a_chunk(self) -> str:
        what = self._trip("kill in a chunk")
        if what:
            self.world.launch()  # or there might be none
        return what

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
            cut = 0
            for pk in ids:
                try:
                    cut += cursor.execute("KILL CONNECTION %s", [pk]) is not None
                except Error:
                    continue  # it has gone by itself
        return f"{cut} connections" if cut else ""

    def _order(self, order: Order) -> str:
        proxy = self.dice.choice(self.proxies)
        return f"proxy {self.proxies.index(proxy)}" if proxy.order(order) else ""

    def _node_events(self, seconds: float) -> list[tuple[float, str, str]]:
        """One node of a cluster is killed after a third of the run, and joins after two."""
        if not isinstance(self.server, ForeignServer):
            return []
        now, commands = time.monotonic(), self.server.commands
        events = [
            (now + seconds / 3, KILL_A_NODE, commands.kill_node),
            (now + seconds * 2 / 3, JOIN_A_NODE, commands.join_node),
        ]
        return [event for event in events if event[2]]

    def _leave_or_join(self, name: str, command: str) -> None:
        if name == KILL_A_NODE:
            self.fleet.node_left_at = clock()
        run(command)
        if name == JOIN_A_NODE:
            self.fleet.node_joined_at = clock()
        self._note(name, "", is_done=True)

    def _try(self, act: Callable[[], T]) -> T | None:
        """Does something on the database, which may be away this very moment."""
        try:
            return act()
        except Error as error:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} the driver was told: {error}\n")
            connection.close()
            return None

    def _note(self, name: str, what: str, *, is_done: bool) -> None:
        self._done[name] += is_done
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {name}: {what}\n")
