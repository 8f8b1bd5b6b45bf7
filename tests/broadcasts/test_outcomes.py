from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock

import pytest
from django.utils import timezone

from broadcasts import outcomes, pacing
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from broadcasts.outcomes import MAX_ATTEMPTS, Sent, record, record_receipts, settle_unknown
from devices.models import Device
from devices.transports.base import (
    Accepted,
    Block,
    DeviceBlocked,
    NotSent,
    Outcome,
    Receipt,
    Refused,
    Unknown,
)
from leads.models import Lead
from tests.factories import BroadcastMessageFactory

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


def on_the_wire(**attributes: object) -> Claimed:
    """A message that its worker claimed and handed over."""
    message = BroadcastMessageFactory(**attributes)
    claimed = BroadcastMessage.objects.claim(worker_id="worker", device_ids=[message.device_id])
    slots = {message.device_id: pacing.Slot()}
    (handed,) = BroadcastMessage.objects.hand_over(
        claimed, slots, at=timezone.now(), worker_id="worker"
    )
    return handed


def after(message: Claimed, outcome: Outcome) -> BroadcastMessage:
    record([Sent(message, outcome)])
    return row_of(message)


def row_of(message: Claimed) -> BroadcastMessage:
    return BroadcastMessage.objects.get(pk=message.pk)


def test_accepted_is_sent_with_whatsapp_s_id() -> None:
    message = after(on_the_wire(), Accepted("3EB0"))

    assert (message.status, message.provider_message_id) == ("sent", "3EB0")
    assert message.sent_at is not None
    assert message.sent_at == message.finished_at


def test_the_lead_stays_with_the_device_that_wrote_to_it() -> None:
    message = after(on_the_wire(), Accepted("3EB0"))

    assert message.lead is not None
    assert message.lead.device == message.device


def test_a_lead_with_a_device_keeps_it() -> None:
    message = on_the_wire()
    own = BroadcastMessageFactory().device
    Lead.objects.filter(pk=message.lead_id).update(device=own)

    sent = after(message, Accepted("3EB0"))

    assert sent.lead
    assert sent.lead.device == own


def test_refused_for_good_fails_with_the_reason() -> None:
    message = after(on_the_wire(), Refused("bad_media", "The picture is too large."))

    assert (message.status, message.error_code) == ("failed", "bad_media")
    assert message.error_message == "The picture is too large."
    assert message.finished_at is not None


def test_a_number_that_is_not_on_whatsapp_is_remembered_at_the_lead() -> None:
    message = after(on_the_wire(), Refused("not_on_whatsapp", "Not on WhatsApp."))

    assert message.lead.not_on_whatsapp_at is not None
    assert (message.status, message.skip_reason) == ("skipped", "not_on_whatsapp")


def test_refused_for_now_waits_and_is_tried_again() -> None:
    message = after(on_the_wire(), Refused("media_down", "No answer.", timedelta(0)))

    assert (message.status, message.processing_worker_id) == ("pending", None)
    assert message.scheduled_at > timezone.now() + timedelta(seconds=1)
    assert message.attempts == 1
    assert message.finished_at is None


@pytest.mark.parametrize("lane", ["SEQUENCE", "SEQUENCE_FIRST", "CAMPAIGN", "CAMPAIGN_FIRST"])
def test_what_is_tried_again_stands_before_whatever_was_queued_since(lane: str) -> None:
    priority = BroadcastMessage.Priority[lane]
    message = after(
        on_the_wire(priority=priority), Refused("media_down", "No answer.", timedelta(0))
    )
    now = timezone.now()
    BroadcastMessageFactory(device=message.device, priority=priority, scheduled_at=now - HOUR)

    BroadcastMessage.objects.filter(pk=message.pk).update(scheduled_at=now - timedelta(seconds=1))

    (claimed,) = BroadcastMessage.objects.claim(
        worker_id="worker", device_ids=[message.device_id or 0]
    )
    assert claimed.pk == message.pk
    assert (claimed.priority in BroadcastMessage.FIRST_CONTACTS) == lane.endswith("FIRST")


def test_a_test_message_that_is_tried_again_stays_first() -> None:
    message = after(on_the_wire(priority=0), Refused("media_down", "No answer.", timedelta(0)))

    assert message.priority == BroadcastMessage.Priority.TEST


def test_the_transport_may_ask_for_a_longer_pause_than_ours() -> None:
    message = after(on_the_wire(), Refused("busy", "Later.", timedelta(hours=1)))

    assert message.scheduled_at > timezone.now() + timedelta(minutes=59)


def test_what_did_not_leave_for_no_reason_of_its_own_waits_and_was_no_attempt() -> None:
    """The broadcaster stalled, or its session was closed: that never makes a message fail."""
    message = after(on_the_wire(attempts=MAX_ATTEMPTS - 1), NotSent())

    assert (message.status, message.attempts) == ("pending", MAX_ATTEMPTS - 1)
    assert message.scheduled_at < timezone.now()


def test_tries_are_bounded() -> None:
    last = on_the_wire(attempts=MAX_ATTEMPTS - 1)

    message = after(last, Refused("media_down", "No answer.", timedelta(0)))

    assert (message.status, message.error_code) == ("failed", "media_down")


def test_a_blocked_device_keeps_its_message_and_shows_why() -> None:
    until = timezone.now() + timedelta(hours=4)

    message = after(on_the_wire(), DeviceBlocked("429", "Restricted.", "restricted", until))

    assert (message.status, message.attempts) == ("pending", 0)
    message.device.refresh_from_db()
    assert message.device.state == "restricted"
    assert message.device.restricted_until == until
    assert message.device.status_reason == "Restricted."


@pytest.mark.parametrize("state", ["restricted", "first_contacts"])
def test_a_block_for_so_long_ends_by_the_database_s_clock(
    state: Block, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: ours() - timedelta(minutes=10))

    message = after(on_the_wire(), DeviceBlocked("429", "Restricted.", state, for_=HOUR))

    device = message.device
    device.refresh_from_db()
    until = device.restricted_until or device.first_contacts_blocked_until
    assert abs(until - ours() - HOUR) < timedelta(minutes=1)


def test_a_block_that_is_heard_of_after_the_device_changed_hands_is_not_its_state() -> None:
    """The answer of one that stalled; its successor's session says by itself how the account is."""
    stalled = on_the_wire()
    Device.objects.filter(pk=stalled.device_id).update(worker_id="other", lease_epoch=2)

    message = after(stalled, DeviceBlocked("429", "Restricted.", "restricted"))

    assert (message.status, message.attempts) == ("pending", 0)
    message.device.refresh_from_db()
    assert message.device.status == "online"


def test_a_block_from_a_claim_that_was_given_up_is_not_the_device_s_state() -> None:
    given_up = on_the_wire()
    BroadcastMessage.objects.update(processing_worker_id="worker/another", lease_epoch=1)

    message = after(given_up, DeviceBlocked("429", "Restricted.", "restricted"))

    assert message.status == "queued"
    message.device.refresh_from_db()
    assert message.device.status == "online"


def test_a_device_that_is_logged_out_is_not_brought_back_by_a_dying_connection() -> None:
    message = after(on_the_wire(), DeviceBlocked("401", "Logged out.", "logged_out"))

    assert not Device.objects.all().change_status(Device.Status.OFFLINE)
    message.device.refresh_from_db()
    assert message.device.status == "logged_out"


def test_unknown_is_never_sent_again_by_itself() -> None:
    message = after(on_the_wire(), Unknown("timed_out", "No answer in time."))

    assert (message.status, message.error_code) == ("unknown", "timed_out")
    assert BroadcastMessage.objects.claim(worker_id="worker", device_ids=[message.device_id]) == []


def test_a_late_answer_settles_what_was_declared_unknown() -> None:
    message = on_the_wire()
    BroadcastMessage.objects.filter(pk=message.pk).update(status="unknown")

    assert after(message, Accepted("3EB0")).status == "sent"


@pytest.mark.parametrize(
    "outcome",
    [
        Accepted("3EB0"),
        Refused("bad", "No."),
        Refused("busy", "Later.", timedelta(0)),
        NotSent(),
        Unknown("timed_out", "?"),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_an_answer_to_a_claim_that_was_given_up_changes_nothing(outcome: Outcome) -> None:
    given_up = on_the_wire()
    BroadcastMessage.objects.filter(pk=given_up.pk).update(
        status="queued", processing_worker_id="another/claim"
    )

    message = after(given_up, outcome)

    assert (message.status, message.processing_worker_id) == ("queued", "another/claim")


def test_recording_twice_is_recording_once() -> None:
    message = on_the_wire()
    sent = after(message, Accepted("3EB0"))

    record([Sent(message, Unknown("timed_out", "a repeat after a lost answer"))])

    assert BroadcastMessage.objects.get(pk=message.pk).sent_at == sent.sent_at


def test_a_batch_of_one_kind_is_one_statement(django_assert_max_num_queries) -> None:  # type: ignore[no-untyped-def]
    results = [Sent(on_the_wire(), Accepted(f"3EB{n}")) for n in range(10)]

    with django_assert_max_num_queries(2):  # the messages, and their leads' devices
        record(results)

    ids = BroadcastMessage.objects.values_list("provider_message_id", flat=True)
    assert sorted(ids) == [f"3EB{n}" for n in range(10)]


def test_receipts_come_in_any_order_and_the_first_of_a_kind_stays() -> None:
    message = after(on_the_wire(), Accepted("3EB0"))
    now = timezone.now()
    read, late = now + timedelta(seconds=1), now + timedelta(seconds=9)

    record_receipts([(message.device_id, Receipt("3EB0", "read", read))])
    record_receipts([(message.device_id, Receipt("3EB0", "delivered", late))])
    record_receipts([(message.device_id, Receipt("3EB0", "read", late))])

    message.refresh_from_db()
    assert (message.delivered_at, message.read_at) == (read, read)


def test_a_receipt_settles_what_was_unknown() -> None:
    message = after(on_the_wire(), Unknown("timed_out", "No answer in time.", "3EB0"))
    assert message.status == "unknown"

    record_receipts([(message.device_id, Receipt("3EB0", "delivered", timezone.now()))])

    message.refresh_from_db()
    assert (message.status, message.error_code) == ("sent", "")


def test_a_receipt_that_overtakes_its_answer_is_given_back() -> None:
    early = (on_the_wire().device_id, Receipt("3EB0", "delivered", timezone.now()))

    assert record_receipts([early]) == [early]


def test_a_receipt_of_another_device_is_not_ours() -> None:
    message = after(on_the_wire(), Accepted("3EB0"))
    other = ((message.device_id or 0) + 1, Receipt("3EB0", "delivered", timezone.now()))

    assert record_receipts([other]) == [other]


@pytest.mark.parametrize(
    ("memory", "status"), [(Accepted("3EB0"), "sent"), (NotSent(), "pending"), (None, "unknown")]
)
def test_the_transport_s_own_memory_settles_a_crash(memory: object, status: str) -> None:
    message = on_the_wire()
    Device.objects.filter(pk=message.device_id).update(lease_epoch=2)
    assert BroadcastMessage.objects.unstick()["unknown"] == 1
    session = Mock(recall=Mock(return_value=memory))

    settle_unknown([message.pk], {message.device_id: session})

    session.recall.assert_called_once_with(message.key)
    row = row_of(message)
    assert row.status == status
    assert row.attempts == (0 if status == "pending" else 1), "what never left was no attempt"


def test_an_id_that_the_transport_remembers_lets_a_receipt_settle_a_crash() -> None:
    message = on_the_wire()
    Device.objects.filter(pk=message.device_id).update(lease_epoch=2)
    BroadcastMessage.objects.unstick()
    session = Mock(recall=Mock(return_value=Unknown("interrupted", "", "3EB0")))

    for _ in range(2):  # it is asked again and again
        assert settle_unknown([message.pk], {message.device_id: session}) == 0

    row = row_of(message)
    assert (row.status, row.error_code) == ("unknown", "interrupted")
    receipt = (message.device_id, Receipt("3EB0", "delivered", timezone.now()))
    assert record_receipts([receipt]) == []
    row = row_of(message)
    assert (row.status, row.error_code) == ("sent", "")
    assert row.delivered_at


def test_an_id_that_was_remembered_changes_nothing_that_was_settled_meanwhile() -> None:
    message = after(on_the_wire(), Accepted("3EB0"))
    session = Mock(recall=Mock(return_value=Unknown("interrupted", "", "3EB1")))

    settle_unknown([message.pk], {message.device_id: session})

    message.refresh_from_db()
    assert (message.status, message.provider_message_id) == ("sent", "3EB0")


def test_what_is_still_being_sent_is_not_asked_about() -> None:
    """It hung for so long that it was declared unknown; asked now, the transport would say that
    it was not sent, and then it would be sent twice."""
    message = on_the_wire()
    assert BroadcastMessage.objects.unstick(older_than=timedelta(microseconds=1))["unknown"] == 1
    session = Mock(recall=Mock(return_value=NotSent()))

    assert settle_unknown([message.pk], {message.device_id: session}, in_flight=[message]) == 0
    assert row_of(message).status == "unknown"


@pytest.mark.parametrize(
    ("memory", "status"), [(Accepted("3EB0"), "sent"), (NotSent(), "unknown"), (None, "unknown")]
)
def test_what_a_live_session_is_unsure_of_is_settled_only_by_its_arrival(
    memory: object, status: str
) -> None:
    """Not sent yet is not never sent: the session that sent it may still be at it."""
    message = after(on_the_wire(), Unknown("timed_out", "No answer in time."))

    settle_unknown([message.pk], {message.device_id: Mock(recall=Mock(return_value=memory))})

    message.refresh_from_db()
    assert message.status == status


def test_a_transport_that_cannot_be_asked_does_not_end_the_broadcaster() -> None:
    message = after(on_the_wire(), Unknown("timed_out", "No answer in time."))
    broken = Mock(recall=Mock(side_effect=OSError("the session file is damaged")))

    assert settle_unknown([message.pk], {message.device_id: broken}) == 0


@pytest.mark.parametrize("mistaken", [Accepted(12), Accepted(None), Unknown("", "", 12)], ids=repr)
def test_a_memory_that_cannot_be_written_costs_no_other(mistaken: object) -> None:
    first, second = (after(on_the_wire(), Unknown("timed_out", "No answer.")) for _ in range(2))
    sessions = {
        first.device_id: Mock(recall=Mock(return_value=mistaken)),
        second.device_id: Mock(recall=Mock(return_value=Accepted("3EB0"))),
    }

    assert settle_unknown([first.pk, second.pk], sessions) == 1

    assert [row_of(message).status for message in (first, second)] == ["unknown", "sent"]


def test_each_attempt_waits_longer() -> None:
    assert list(outcomes.BACKOFF_SECONDS) == sorted(outcomes.BACKOFF_SECONDS)
    assert len(outcomes.BACKOFF_SECONDS) == MAX_ATTEMPTS - 1
