from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from django.conf import settings
from django.db import models, transaction
from django.db.models import Count, Exists, F, Min, OuterRef, Q, Subquery
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest, Now

from broadcasts import claiming
from broadcasts.pacing import Pace, random_gap
from broadcasts.retrying import survive_conflicts
from devices.models import Device
from leads.models import Lead, SkipReason, skip_reason

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

    from broadcasts.claimed import Claimed
    from broadcasts.models import BroadcastMessage
    from broadcasts.pacing import Slot

    # Who decided: somebody signed in, or nobody, as on the command line.
    AnyUser = AbstractBaseUser | AnonymousUser | None

R = TypeVar("R")

ANY = Q()

CHUNK = 500  # one UPDATE of half a million rows would block everybody else for seconds

WAIT = timedelta(minutes=1)

RELEASED: dict[str, Any] = {
    "status": "pending",
    "processing_worker_id": None,
    "processing_started_at": None,
    "lease_epoch": None,
    "queued_at": None,
    "finished_at": None,
}
# What was handed over and never left, for no reason of its own: that attempt says nothing about the
# message and does not count. (Not below zero, which an unsigned column refuses.)
NEVER_LEFT = RELEASED | {"attempts": Greatest(F("attempts"), 1) - 1}
# A person's word: it starts over, and is due now.
ANEW = RELEASED | {
    "attempts": 0,
    "restarts": F("restarts") + 1,
    "provider_message_id": None,
    "scheduled_at": Now(),
    "skip_reason": "",
    "error_code": "",
    "error_message": "",
}
# A person's word as well. Under the next number, so that a retry may follow with a key of its own;
# without WhatsApp's id, so that no receipt contradicts it.
NOT_ARRIVED: dict[str, Any] = {
    "status": "failed",
    "restarts": F("restarts") + 1,
    "provider_message_id": None,
    "error_code": "not_arrived",
    "error_message": "Somebody has seen that it did not arrive.",
}
INTERRUPTED: dict[str, Any] = {
    "status": "unknown",
    "finished_at": Now(),
    "error_code": "interrupted",
    "error_message": "The broadcaster ended while this message was being sent.",
}


class BroadcastMessageQuerySet(models.QuerySet["BroadcastMessage"]):
    def open(self) -> Self:
        """Messages that will still go somewhere by themselves."""
        return self.filter(status__in=self.model.OPEN)

    def devices_with_work(self, ids: Iterable[int]) -> set[int]:
        """Returns those of these devices that have a message which is due.

        Asked by a scalar sub-select: of an EXISTS MariaDB makes a list of every due message first.
        """
        due = self.filter(device=OuterRef("pk"), status="pending", scheduled_at__lte=Now())
        devices = Device.objects.alias(first=Subquery(due.order_by().values("pk")[:1]))
        busy = devices.filter(first__isnull=False, pk__in=sorted(ids)).order_by()
        return set(busy.values_list("pk", flat=True))

    def first_due(self, within: timedelta) -> dict[int, datetime]:
        """Returns {device id: when its first pending message is due}, where that is past or near.

        MySQL and MariaDB step from device to device in idx_broadcast_optimize, however many each
        has: for a range of the first column. Of a status that is one they read every row.
        """
        pending = self.model.objects.filter(status__gte="pending", status__lte="pending")
        lanes = pending.order_by().values("status", "device_id", "priority")
        firsts = lanes.annotate(first=Min("scheduled_at")).filter(first__lte=Now() + within)
        found: dict[int, datetime] = {}
        for device_id, first in firsts.values_list("device_id", "first"):
            found[device_id or 0] = min(first, found.get(device_id or 0, first))
        return found

    def leaving(self) -> Self:
        """Open messages that a broadcaster will send without anybody's help."""
        claimable = (
            Q(status="pending")
            & (Q(expires_at__isnull=True) | Q(expires_at__gt=Now()))
            & (Q(campaign__isnull=True) | Q(campaign__status__in=claiming.CAMPAIGN_SENDS))
            & (Q(sequence__isnull=True) | Q(sequence__status__in=claiming.SEQUENCE_SENDS))
        )
        return self.filter(claimable | Q(status__in=["processing", "queued"]))

    def stuck(self, older_than: timedelta | None = None) -> Self:
        """Claimed messages whose owner is dead, or that are claimed for longer than this.

        Dead is an owner without its lease: it ended, stalled or gave up. A claim is made just in
        time and takes seconds; `older_than` (STUCK_AFTER by default) is the upper bound for an
        owner that lives but hangs.
        """
        alive = Device.objects.filter(
            pk=OuterRef("device_id"),
            lease_epoch=OuterRef("lease_epoch"),
            lease_expires_at__gt=Now(),
        )
        limit = settings.STUCK_AFTER if older_than is None else older_than
        too_long = Q(processing_started_at__lte=Now() - limit)
        return self.filter(too_long | ~Exists(alive), status__in=["processing", "queued"])

    def counts(self) -> dict[str, int]:
        """Returns how many there are of every status, also of those with none."""
        found = dict(self.order_by().values_list("status").annotate(Count("pk")))
        return {status: found.get(status, 0) for status in self.model.Status.values}

    # From pending to the wire

    def claim(
        self,
        *,
        worker_id: str,
        device_ids: Sequence[int],
        nobody_new: Sequence[int] = (),
        interrupted: Callable[[], None] | None = None,
    ) -> list[Claimed]:
        """See claiming.claim."""
        return claiming.claim(
            self.model,
            worker_id=worker_id,
            device_ids=device_ids,
            nobody_new=nobody_new,
            interrupted=interrupted,
        )

    def hand_over(
        self,
        messages: Sequence[Claimed],
        slots: Mapping[int, Slot],
        *,
        at: datetime,
        worker_id: str,
    ) -> list[Claimed]:
        """See claiming.hand_over."""
        return claiming.hand_over(self.model, messages, slots, at=at, worker_id=worker_id)

    @survive_conflicts
    def skip(self, messages: Sequence[Claimed], reason: str) -> int:
        """Leaves out claimed messages whose lead may not be messaged any more."""
        values = {"status": "skipped", "skip_reason": reason, "finished_at": Now()}
        return self._in_hand(messages).update(**values)

    @survive_conflicts
    def put_back(self, messages: Sequence[Claimed]) -> int:
        """Lets claimed messages wait: whether they may leave is not known yet."""
        return self._in_hand(messages).update(**RELEASED, scheduled_at=Now() + WAIT)

    def _in_hand(self, messages: Sequence[Claimed]) -> Self:
        """These, as long as they carry the claim under which they were read."""
        return self.filter(
            pk__in=sorted(message.pk for message in messages),
            processing_worker_id__in={message.token for message in messages},
            status="processing",
        )

    # What operators and the clock do

    def cancel(self, guard: Q = ANY, *, limit: int | None = None) -> int:
        """Cancels what has not begun; returns how many messages."""
        return self.move(["pending", "paused"], "cancelled", guard, limit=limit, finished_at=Now())

    def hold(self, guard: Q = ANY, *, limit: int | None = None) -> int:
        """Takes waiting messages out of the hot part of the queue; returns how many."""
        return self.move(["pending"], "paused", guard, limit=limit)

    def unhold(
        self, guard: Q = ANY, *, paused_for: timedelta = timedelta(), limit: int | None = None
    ) -> int:
        """Puts held messages back; the time they were held does not count against them."""
        later = F("expires_at") + paused_for
        return self.move(["paused"], "pending", guard, limit=limit, expires_at=later)

    def expire(self) -> int:
        """Ends what is too late, or waits on a device that was deleted; returns how many."""
        gone = list(Device.objects.exclude(deleted_at=None).values_list("pk", flat=True))
        ends = Q(expires_at__lte=Now()), Q(device__in=gone)
        return sum(self.filter(q).move(["pending"], "expired", q, finished_at=Now()) for q in ends)

    def reschedule_expired(self, *, by: AnyUser = None) -> int:
        """Puts expired messages back in the queue, with a new recovery window."""
        return self._start_over("expired", "rescheduled", by)

    def retry_failed(self, *, by: AnyUser = None) -> int:
        """Tries failed messages again: nothing of them was ever sent. Returns how many."""
        return self._start_over("failed", "retried", by)

    def ask_again(self, *, by: AnyUser = None) -> int:
        """Tries again, if it was written, what was left out since its number is not on WhatsApp."""
        written = self.filter(skip_reason=SkipReason.NOT_ON_WHATSAPP, device__isnull=False)
        Lead.objects.filter(pk__in=_read(written.values_list("lead_id", flat=True))).ask_again()
        return written._start_over("skipped", "retried", by)

    def settle_as_not_sent(self, *, by: AnyUser = None) -> int:
        """Takes the operator's word that unknown messages did not arrive: sends them again."""
        return self._start_over("unknown", "sent_again", by)

    def settle_as_sent(self, *, by: AnyUser = None) -> int:
        """Takes the operator's word that unknown messages arrived; returns how many."""
        from broadcasts.acquaintance import met_by  # it knows messages, made of this class

        unknown = self.filter(status="unknown").order_by().values_list("pk", flat=True)
        first_contacts = _read(unknown.filter(priority__in=self.model.FIRST_CONTACTS))
        settled = self.move(
            ["unknown"], "sent", decision=("arrived", by), error_code="", error_message="",
            sent_at=Coalesce(F("queued_at"), F("finished_at")),
        )  # fmt: skip
        for start in range(0, len(first_contacts), CHUNK):
            met_by(first_contacts[start : start + CHUNK])
        return settled

    def settle_as_not_arrived(self, *, by: AnyUser = None) -> int:
        """Takes the operator's word that unknown messages did not arrive; returns how many."""
        decision = ("not_arrived", by)
        return self.move(["unknown"], decision=decision, finished_at=Now(), **NOT_ARRIVED)

    def _start_over(self, expected: str, decision: str, by: AnyUser) -> int:
        from broadcasts.restarts import Restarts  # it counts messages, made of this class

        restarts = Restarts()
        moved = self.move(
            [expected], guard=self._may_start_over(), decision=(decision, by),
            of_chunk=restarts.of, **ANEW,
        )  # fmt: skip
        # A campaign that was finished is under way again, and can be paused.
        self._campaigns().filter(pk__in=restarts.campaign_ids).reopen()
        return moved

    def left_out(self) -> dict[SkipReason, int]:
        """How many of these would be left out by now, by reason: sent again, they are not sent."""
        whose = self.filter(lead__isnull=False).annotate(why=skip_reason("lead__"))
        counts = whose.exclude(why="").order_by().values_list("why").annotate(Count("pk"))
        found = dict(counts)
        if gone := self.filter(lead__isnull=True).count():
            found[SkipReason.LEAD_DELETED] = gone
        return {reason: found[reason] for reason in SkipReason if reason in found}

    def may_start_over(self) -> Self:
        """Of these, what the verbs above would put back in the queue."""
        return self.filter(self._may_start_over())

    def _may_start_over(self) -> Q:
        """Of a cancelled campaign nothing starts over: it would only lose what it ended as."""
        ended = self._campaigns().filter(pk=OuterRef("campaign_id"), status="cancelled")
        return ~Q(Exists(ended))

    def _campaigns(self) -> Any:
        """The campaigns, by the message's own column: the queue does not import them."""
        return self.model._meta.get_field("campaign").related_model._default_manager

    def move(
        self,
        expected: Sequence[str],
        status: str,
        guard: Q = ANY,
        *,
        limit: int | None = None,
        decision: tuple[str, AnyUser] | None = None,
        of_chunk: Callable[[BroadcastMessageQuerySet], dict[str, Any]] | None = None,
        **values: Any,
    ) -> int:
        """Changes the status of those of these rows that have one of the expected ones.

        Reads keys, then updates by key in chunks: a range UPDATE by status is what deadlocks with
        claims. `guard` is checked in the UPDATE itself. Returns how many rows changed; `limit`,
        rounded up to a chunk, bounds it where a person waits. With a `decision` (Attempt.Decision,
        and whose it was) what the rows had ended as goes into their history. `of_chunk` returns
        the values that depend on which rows go together.
        """
        moved, before = 0, list[int]()
        # Not in the order of their keys: MySQL would walk the whole table for it. What was moved
        # is no candidate any more, also where somebody else did it, or the answer to ours got lost;
        # a chunk that stays what it was ends the loop.
        rows = self.filter(guard, status__in=expected).order_by()
        candidates = rows.values_list("pk", flat=True)
        while limit is None or moved < limit:
            ids = sorted(_read(candidates[:CHUNK]))
            if ids in ([], before):
                break
            before = ids
            chunk = self.model.objects.filter(guard, pk__in=ids, status__in=expected)
            if of_chunk:
                values |= of_chunk(chunk)
            if decision:
                moved += _supersede(chunk, *decision, status=status, **values)
            else:
                moved += _update(chunk, status=status, **values)
        return moved

    def unstick(
        self, *, older_than: timedelta | None = None, dry_run: bool = False
    ) -> dict[str, int]:
        """Frees stuck messages: what has not left goes back to pending, the rest is unknown.

        Returns how many of each. The rest may have left late, as late as the owner's lease let it,
        and nobody could say so any more: the pauses behind it begin now.
        """
        stuck = self.stuck(older_than)
        if dry_run:
            counts = stuck.counts()
            return {"released": counts["processing"], "unknown": counts["queued"]}
        stuck.filter(status="queued")._begin_pauses_anew()
        return {
            "released": stuck._free("processing", RELEASED),
            "unknown": stuck._free("queued", INTERRUPTED),
        }

    def _begin_pauses_anew(self) -> None:
        delays = ("min_delay_seconds", "max_delay_seconds")
        rows = self.order_by(*delays).values_list("device_id", *delays)
        gaps = {pk: gap for pk, *gap in _read(rows)}  # of several on a device, the longest
        until: dict[int, datetime | Combinable] = {}
        for device in Device.objects.filter(pk__in=[pk for pk in gaps if pk]):
            pace = Pace(device.min_delay_seconds, device.max_delay_seconds)
            seconds = random_gap(pace, *gaps[device.pk]) / device.speed
            until[device.pk] = Now() + timedelta(seconds=seconds)
        if until:
            survive_conflicts(Device.objects.put_off)(until)

    def _free(self, status: str, values: dict[str, Any]) -> int:
        freed = 0
        claimed = self.filter(status=status).values_list("pk", "processing_worker_id")
        for chunk in _chunks(_read(claimed.order_by("pk"))):
            # With the claim's token: a row that was released and claimed anew stays alone.
            rows = self.model.objects.filter(
                pk__in=[pk for pk, _ in chunk],
                processing_worker_id__in={token for _, token in chunk},
                status=status,
            )
            freed += _update(rows, **values)
        return freed


@survive_conflicts
def _read(rows: models.QuerySet[Any, R]) -> list[R]:
    return list(rows)


@survive_conflicts
def _update(rows: models.QuerySet[Any], **values: Any) -> int:
    return rows.update(**values)


@survive_conflicts
def _supersede(
    rows: models.QuerySet[BroadcastMessage], decision: str, by: AnyUser, **values: Any
) -> int:
    """Writes what these rows ended as into their history and changes them: both, or neither.

    The rows are locked first, so that exactly those get a line that change.
    """
    from broadcasts.models import Attempt  # it knows messages, which are made of this class

    with transaction.atomic():
        ended = list(rows.select_for_update().defer("body").order_by("pk"))
        decided_by_id = by.pk if by else None
        Attempt.objects.bulk_create(Attempt.of(each, decision, decided_by_id) for each in ended)
        return rows.model.objects.filter(pk__in=[m.pk for m in ended]).update(**values)


def _chunks(rows: list[tuple[int, str | None]]) -> Iterator[list[tuple[int, str | None]]]:
    for start in range(0, len(rows), CHUNK):
        yield rows[start : start + CHUNK]
