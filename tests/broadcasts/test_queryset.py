from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from broadcasts.models import BroadcastMessage, Worker
from broadcasts.tasks import tidy_up
from broadcasts.templatetags.reasons import reason
from devices.models import Device
from tests.factories import BroadcastMessageFactory, CampaignFactory, DeviceFactory

pytestmark = pytest.mark.django_db
LONG_AGO = timezone.now() - timedelta(hours=5)


def held(status: str, **attributes: object) -> BroadcastMessage:
    return BroadcastMessageFactory(
        **{
            "status": status,
            "processing_worker_id": "worker/1",
            "processing_started_at": timezone.now(),
            "lease_epoch": 1,
        }
        | attributes
    )


def status_of(message: BroadcastMessage) -> str:
    message.refresh_from_db()
    return message.status


def test_counts_name_every_status() -> None:
    BroadcastMessageFactory()

    counts = BroadcastMessage.objects.counts()

    assert set(counts) == set(BroadcastMessage.Status.values)
    assert counts["pending"] == sum(counts.values()) == 1


@pytest.mark.parametrize(("status", "becomes"), [("processing", "pending"), ("queued", "unknown")])
@pytest.mark.parametrize(
    "death",
    [
        {"lease_epoch": 2, "worker_id": "successor"},
        {"lease_expires_at": LONG_AGO},
        {"lease_expires_at": None, "worker_id": ""},
    ],
    ids=["taken over", "lease ran out", "given back"],
)
def test_what_the_dead_held_is_freed(status: str, becomes: str, death: dict[str, object]) -> None:
    message = held(status)
    Device.objects.filter(pk=message.device.pk).update(**death)

    BroadcastMessage.objects.unstick()

    assert status_of(message) == becomes


@pytest.mark.parametrize("status", ["processing", "queued"])
def test_the_living_lose_nothing(status: str) -> None:
    message = held(status)

    assert BroadcastMessage.objects.unstick() == {"released": 0, "unknown": 0}
    assert status_of(message) == status


def test_honest_work_that_waits_is_never_reset_by_its_age() -> None:
    """The original reset after five minutes what was merely waiting its turn: sent twice."""
    message = BroadcastMessageFactory(scheduled_at=LONG_AGO)

    BroadcastMessage.objects.unstick()

    assert status_of(message) == "pending"


def test_an_owner_that_lives_but_hangs_is_given_up_after_a_while() -> None:
    message = held("processing", processing_started_at=LONG_AGO)

    assert BroadcastMessage.objects.unstick(older_than=timedelta(hours=6))["released"] == 0
    assert BroadcastMessage.objects.unstick()["released"] == 1
    message.refresh_from_db()
    assert (message.status, message.processing_worker_id) == ("pending", None)


def test_a_dry_run_counts_and_changes_nothing() -> None:
    message = held("queued", processing_started_at=LONG_AGO)

    assert BroadcastMessage.objects.unstick(dry_run=True) == {"released": 0, "unknown": 1}
    assert status_of(message) == "queued"


def test_unsticking_more_than_a_chunk_frees_them_all() -> None:
    device = DeviceFactory()  # held by nobody
    BroadcastMessage.objects.bulk_create(
        BroadcastMessage(
            device=device, recipient_phone=f"60{n}", status="processing", scheduled_at=LONG_AGO,
            processing_worker_id=f"dead/{n}", lease_epoch=1, processing_started_at=timezone.now(),
        )
        for n in range(1_201)
    )  # fmt: skip

    assert BroadcastMessage.objects.unstick() == {"released": 1_201, "unknown": 0}


def test_what_is_too_late_expires_and_can_be_rescheduled() -> None:
    late = BroadcastMessageFactory(expires_at=LONG_AGO)
    in_time = BroadcastMessageFactory(expires_at=timezone.now() + timedelta(hours=1))

    assert BroadcastMessage.objects.expire() == 1
    assert (status_of(late), status_of(in_time)) == ("expired", "pending")
    assert late.finished_at is not None

    assert BroadcastMessage.objects.reschedule_expired() == 1
    assert status_of(late) == "pending"
    assert late.finished_at is None
    assert late.expires_at > timezone.now()
    assert BroadcastMessage.objects.expire() == 0


def test_what_waits_on_a_deleted_device_expires_and_leaves_from_another() -> None:
    campaign = CampaignFactory(sending=True)
    gone = DeviceFactory(deleted_at=timezone.now(), enabled=False)
    other = DeviceFactory(online=True)
    message = BroadcastMessageFactory(campaign=campaign, device=gone)
    paused = BroadcastMessageFactory(campaign=campaign, device=gone, status="paused")
    BroadcastMessageFactory(campaign=campaign, device=other)

    assert BroadcastMessage.objects.expire() == 1
    message.refresh_from_db()
    assert (message.status, reason(message)) == (
        "expired", "Its device was deleted. Rescheduled, it leaves from another."
    )  # fmt: skip
    assert status_of(paused) == "paused"

    assert BroadcastMessage.objects.reschedule_expired() == 1
    message.refresh_from_db()
    assert (message.status, message.device) == ("pending", other)


def test_what_has_begun_does_not_expire() -> None:
    message = held("queued", expires_at=LONG_AGO)

    assert BroadcastMessage.objects.expire() == 0
    assert status_of(message) == "queued"


def test_a_failed_message_tried_again_can_be_claimed_again() -> None:
    """The original left the old claim on the row: retried messages were never sent."""
    message = held("failed", attempts=5, error_code="bad_media", finished_at=LONG_AGO)

    assert BroadcastMessage.objects.retry_failed() == 1
    message.refresh_from_db()
    assert (message.status, message.attempts, message.error_code) == ("pending", 0, "")
    (claimed,) = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[message.device.pk])
    assert claimed.pk == message.pk


def test_a_retried_message_remembers_how_it_failed_and_who_sent_it_again(operator: User) -> None:
    message = held(
        "failed", attempts=5, error_code="bad_media", error_message="No.", finished_at=LONG_AGO
    )

    assert BroadcastMessage.objects.retry_failed(by=operator) == 1
    assert BroadcastMessage.objects.retry_failed(by=operator) == 0

    (attempt,) = message.history.all()
    assert (attempt.number, attempt.status, attempt.attempts) == (1, "failed", 5)
    assert (attempt.error_code, attempt.error_message) == ("bad_media", "No.")
    assert (attempt.finished_at, attempt.device) == (LONG_AGO, message.device)
    assert (attempt.decision, attempt.decided_by) == ("retried", operator)
    message.refresh_from_db()
    assert message.restarts == 1


@pytest.mark.parametrize(
    ("status", "verb", "decision", "restarts"),
    [
        ("failed", "retry_failed", "retried", 2),
        ("expired", "reschedule_expired", "rescheduled", 2),
        ("unknown", "settle_as_not_sent", "sent_again", 2),
        ("unknown", "settle_as_sent", "arrived", 1),
        ("unknown", "settle_as_not_arrived", "not_arrived", 2),
    ],
)
def test_every_decision_is_another_line_of_history(
    status: str, verb: str, decision: str, restarts: int
) -> None:
    message = held(status, error_code="first", queued_at=LONG_AGO, finished_at=LONG_AGO)
    BroadcastMessage.objects.update(status="failed")
    BroadcastMessage.objects.retry_failed()
    BroadcastMessage.objects.update(status=status, error_code="second", finished_at=LONG_AGO)

    assert getattr(BroadcastMessage.objects, verb)() == 1

    history = list(message.history.values_list("number", "error_code", "decision"))
    assert history == [(1, "first", "retried"), (2, "second", decision)]
    message.refresh_from_db()
    assert message.restarts == restarts


def test_what_a_person_sends_again_is_another_send_to_the_transport() -> None:
    """Under the old key its record would answer for the new attempt: recorded, and never sent."""
    message = held("unknown", provider_message_id="3EB0", queued_at=LONG_AGO)
    before = message.key

    BroadcastMessage.objects.settle_as_not_sent()

    message.refresh_from_db()
    assert message.key != before
    assert message.keys == [before, message.key]
    assert message.provider_message_id is None
    assert message.history.get().provider_message_id == "3EB0"


def test_what_the_machine_tries_again_keeps_its_key() -> None:
    message = held("processing", lease_epoch=0)
    before = message.key

    assert BroadcastMessage.objects.unstick()["released"] == 1

    message.refresh_from_db()
    assert message.key == before


def test_of_a_cancelled_campaign_nothing_starts_over_and_nothing_is_written() -> None:
    message = held("failed")
    type(message.campaign).objects.update(status="cancelled")

    assert BroadcastMessage.objects.retry_failed() == 0
    assert not message.history.exists()


def test_the_operator_settles_what_is_unknown() -> None:
    arrived, lost = held("unknown", queued_at=LONG_AGO), held("unknown")

    BroadcastMessage.objects.filter(pk=arrived.pk).settle_as_sent()
    BroadcastMessage.objects.filter(pk=lost.pk).settle_as_not_sent()

    assert (status_of(arrived), status_of(lost)) == ("sent", "pending")
    assert arrived.sent_at == LONG_AGO
    assert lost.processing_worker_id is None


@pytest.mark.parametrize("status", ["processing", "queued", "sent", "failed", "unknown", "skipped"])
def test_only_what_has_not_begun_can_be_cancelled(status: str) -> None:
    message = held(status)

    assert BroadcastMessage.objects.cancel() == 0
    assert status_of(message) == status


def test_verbs_touch_only_the_rows_they_were_asked_about() -> None:
    mine, other = BroadcastMessageFactory(), BroadcastMessageFactory()

    assert BroadcastMessage.objects.filter(pk=mine.pk).cancel() == 1
    assert (status_of(mine), status_of(other)) == ("cancelled", "pending")


def test_held_messages_lose_no_time() -> None:
    expires_at = timezone.now() + timedelta(hours=1)
    message = BroadcastMessageFactory(expires_at=expires_at)

    assert BroadcastMessage.objects.hold() == 1
    assert status_of(message) == "paused"
    assert BroadcastMessage.objects.unhold(paused_for=timedelta(hours=5)) == 1
    assert status_of(message) == "pending"
    assert message.expires_at == expires_at + timedelta(hours=5)


def test_a_broadcaster_lives_as_long_as_its_heart_beats() -> None:
    Worker.objects.register("old")
    Worker.objects.filter(pk="old").update(heartbeat_at=LONG_AGO)
    Worker.objects.register("gone")
    Worker.objects.retire("gone")
    Worker.objects.register("alive")

    database_time = Worker.objects.beat("alive", devices=3, capacity=5)

    assert [worker.pk for worker in Worker.objects.alive()] == ["alive"]
    assert Worker.objects.alive().capacity() == 5
    assert abs(database_time - timezone.now()) < timedelta(seconds=5)


def test_broadcasters_that_ended_long_ago_are_forgotten() -> None:
    for name, age in (("old", timedelta(days=31)), ("recent", timedelta(days=1))):
        Worker.objects.register(name)
        Worker.objects.filter(pk=name).update(heartbeat_at=timezone.now() - age)

    assert tidy_up() == {"broadcasters": 1}
    assert [worker.pk for worker in Worker.objects.all()] == ["recent"]
