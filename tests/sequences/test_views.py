from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import Schedule

from attachments.models import Attachment
from broadcasts.models import BroadcastMessage
from leads.models import SkipReason
from sequences.forms import SequenceForm
from sequences.models import Sequence, SequenceStep
from sequences.standing import delay_in_words
from tests.attachments.files import PDF
from tests.factories import (
    AttachmentFactory,
    BroadcastMessageFactory,
    DeviceFactory,
    LeadFactory,
    SequenceContactFactory,
    SequenceFactory,
    SequenceStepFactory,
    TriggerFactory,
)
from tests.sequences.posting import form, of, step

pytestmark = pytest.mark.django_db


def test_the_list_counts_the_people_by_state(viewer_client: Client) -> None:
    sequence = SequenceStepFactory(sequence__name="Welcome").sequence
    SequenceStepFactory(sequence=sequence)
    SequenceFactory(name="Other")
    soon = timezone.now()
    SequenceContactFactory(sequence=sequence, next_due_at=soon)
    SequenceContactFactory(sequence=sequence, next_due_at=soon + timedelta(days=2))
    SequenceContactFactory(sequence=sequence, status="completed", next_due_at=soon)
    SequenceContactFactory(sequence=sequence, status="stopped")
    other, row = viewer_client.get(reverse("sequences:list")).context["sequences"]
    assert (row.steps, row.active, row.due_today, row.completed, row.stopped) == (2, 2, 1, 1, 1)
    assert other.contacts == 0


def test_the_list_takes_as_many_queries_for_many_as_for_one(
    viewer_client: Client, django_assert_max_num_queries: Any
) -> None:
    SequenceFactory.create_batch(10)
    with django_assert_max_num_queries(14):
        viewer_client.get(reverse("sequences:list"))


@pytest.mark.parametrize("page", ["its own", "admin"])
def test_whose_only_device_is_deleted_does_not_send_from_every_other(
    admin_client: Client, page: str
) -> None:
    chosen, _other = DeviceFactory(), DeviceFactory()
    if page == "admin":
        url, data = reverse("admin:sequences_sequence_add"), form(trigger=TriggerFactory().pk)
    else:
        url, data = reverse("sequences:create"), form(step(1, "Hi", 0))
    admin_client.post(url, data | {"devices": [chosen.pk]})
    sequence = Sequence.objects.get()
    assert sequence.usable_devices().get() == chosen

    chosen.delete()

    assert not sequence.usable_devices().exists()


def test_a_sequence_without_a_choice_sends_from_every_device(operator_client: Client) -> None:
    DeviceFactory.create_batch(2)
    operator_client.post(reverse("sequences:create"), form(step(1, "Hi", 0)))
    assert Sequence.objects.get().usable_devices().count() == 2


def test_a_sequence_is_written_with_its_steps(operator_client: Client) -> None:
    response = operator_client.post(
        reverse("sequences:create"),
        form(
            step(1, "Hi {name|there}", 0), step(2, "Still there?", 90, 60), step(3, "", 1),
        ),
    )  # fmt: skip
    sequence = Sequence.objects.get()
    assert response["Location"] == reverse("sequences:detail", args=[sequence.pk])
    assert (sequence.status, sequence.trigger.name) == ("draft", "COLDVITAC")
    assert list(sequence.steps.values_list("position", "delay_seconds", "message")) == [
        (1, 0, "Hi {name|there}"),
        (2, 5400, "Still there?"),
    ]
    assert LogEntry.objects.get().object_id == str(sequence.pk)


def test_a_known_trigger_is_used_again(operator_client: Client) -> None:
    trigger = TriggerFactory(name="COLDVITAC")
    operator_client.post(reverse("sequences:create"), form(step(1, "Hi")))
    assert Sequence.objects.get().trigger == trigger


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([step(1, "Hi {nmae}")], "Unknown: {nmae}"),
        ([step(1, "Hi {name")], "brace"),
        ([step(1, "")], "at least one step"),
        ([step(1, "a"), step(1, "b")], "Step 2 on this page has position 1 as well."),
        ([step(1, "a", -1)], "greater than or equal to 0"),
        ([step(1, "a", 400)], "a year at most"),
        ([step(0, "a")], "from 1 to"),
        ([step("", "a")], "required"),
        ([step(1, "x" * 4097)], "4096"),
    ],
)
def test_what_cannot_be_sent_is_refused_and_nothing_is_saved(
    operator_client: Client, steps: list[dict], reason: str
) -> None:
    response = operator_client.post(reverse("sequences:create"), form(*steps))
    assert response.status_code == 200
    assert reason in response.content.decode()
    assert not Sequence.objects.exists()


def test_adding_a_step_keeps_what_was_typed_and_saves_nothing(operator_client: Client) -> None:
    data = form(step(4, "First"), name="Half written", add_step="1")
    response = operator_client.post(reverse("sequences:create"), data)
    page = response.content.decode()
    assert "First" in page
    assert "Half written" in page
    assert 'name="steps-TOTAL_FORMS" value="2"' in page
    assert 'name="steps-1-position" value="5"' in page
    assert not Sequence.objects.exists()


def test_a_page_with_nonsense_in_its_management_form_does_not_break(
    operator_client: Client,
) -> None:
    data = form(add_step="1") | {"steps-TOTAL_FORMS": "many"}
    assert operator_client.post(reverse("sequences:create"), data).status_code == 200


def test_a_step_is_written_with_its_file(operator_client: Client) -> None:
    upload = SimpleUploadedFile("Guide.pdf", PDF)
    posted = form(step(1, "Read this", attachment=upload), step(2, "Then this"))
    operator_client.post(reverse("sequences:create"), posted)
    first, second = SequenceStep.objects.all()
    assert (str(first.attachment), second.attachment) == ("Guide.pdf", None)
    page = operator_client.get(reverse("sequences:detail", args=[first.sequence_id]))
    assert "Guide.pdf" in page.content.decode()


def test_a_file_stays_with_its_step_while_others_are_written(operator_client: Client) -> None:
    upload = SimpleUploadedFile("Guide.pdf", PDF)
    posted = form(step(1, "Read this", attachment=upload), add_step="1")
    page = operator_client.post(reverse("sequences:create"), posted).content.decode()
    kept = Attachment.objects.get()
    assert f'name="steps-0-attachment-kept" value="{kept.pk}"' in page
    assert not Sequence.objects.exists()


def test_a_file_needs_no_text(operator_client: Client) -> None:
    posted = form(step(1, "", attachment=SimpleUploadedFile("Guide.pdf", PDF)), step(2, ""))
    operator_client.post(reverse("sequences:create"), posted)
    written = SequenceStep.objects.get()
    assert (written.message, str(written.attachment)) == ("", "Guide.pdf")


def test_a_step_that_is_too_long_is_not_said_to_be_missing(operator_client: Client) -> None:
    page = operator_client.post(reverse("sequences:create"), form(step(1, "x" * 4097)))
    assert "Ensure this value has at most 4096 characters" in page.content.decode()
    assert "Write a text, or add a file" not in page.content.decode()


def test_a_step_that_loses_its_text_and_has_no_file_is_refused(operator_client: Client) -> None:
    sequence = SequenceStepFactory(position=1, message="Before").sequence
    url = reverse("sequences:edit", args=[sequence.pk])
    page = operator_client.post(url, of(sequence, step1={"message": " "})).content.decode()
    assert "Write a text, or add a file" in page
    assert sequence.steps.get().message == "Before"


def test_who_reaches_a_step_without_a_text_gets_its_file() -> None:
    DeviceFactory(online=True)
    step = SequenceStepFactory(position=1, message="", attachment=AttachmentFactory())
    LeadFactory(triggers=[step.sequence.trigger.name])
    Sequence.objects.process()
    message = BroadcastMessage.objects.get()
    assert (message.body, message.carried) == ("", step.attachment)


def test_a_step_that_nobody_received_is_deleted_and_its_position_used_again(
    operator_client: Client,
) -> None:
    sequence = SequenceStepFactory(position=1, message="a").sequence
    SequenceStepFactory(sequence=sequence, position=2, message="b")
    data = of(sequence, step2={"DELETE": "on"})
    data |= {f"steps-2-{name}": value for name, value in step(2, "c").items()}
    data["steps-TOTAL_FORMS"] = 3
    assert operator_client.post(reverse("sequences:edit", args=[sequence.pk]), data)
    assert list(sequence.steps.values_list("position", "message")) == [(1, "a"), (2, "c")]


def test_a_step_that_somebody_received_is_not_deleted(operator_client: Client) -> None:
    sequence = SequenceStepFactory(position=1).sequence
    received = SequenceStepFactory(sequence=sequence, position=2)
    BroadcastMessageFactory(campaign=None, sequence=sequence, sequence_step=received)
    url = reverse("sequences:edit", args=[sequence.pk])
    assert "it cannot be deleted" in operator_client.get(url).content.decode()
    response = operator_client.post(url, of(sequence, step2={"DELETE": "on"}))
    assert response.status_code == 200
    assert "People have received this step" in response.content.decode()
    assert SequenceStep.objects.filter(pk=received.pk).exists()


def test_the_delay_is_shown_in_its_largest_unit(operator_client: Client) -> None:
    sequence = SequenceStepFactory(position=1, delay_seconds=172_800).sequence
    SequenceStepFactory(sequence=sequence, position=2, delay_seconds=5400)
    SequenceStepFactory(sequence=sequence, position=3, delay_seconds=90)
    page = operator_client.get(reverse("sequences:edit", args=[sequence.pk]))
    assert [(f.initial["delay"], f.initial["unit"]) for f in page.context["steps"]] == [
        (2, 86_400),
        (90, 60),
        (90, 1),
    ]
    data = of(sequence, step1={"unit": 60, "delay": 3})
    assert operator_client.post(reverse("sequences:edit", args=[sequence.pk]), data)
    assert list(sequence.steps.values_list("delay_seconds", flat=True)) == [180, 5400, 90]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 minutes"), (60, "1 minute"), (90, "90 seconds"), (3600, "1 hour"), (90_000, "25 hours"),
     (86_400, "1 day"), (259_200, "3 days")],
)  # fmt: skip
def test_a_delay_is_said_as_people_say_it(seconds: int, words: str) -> None:
    assert delay_in_words(seconds) == words


def test_a_sequence_shows_what_became_of_each_step(viewer_client: Client) -> None:
    first = SequenceStepFactory(position=1, message="Hi *there*")
    sequence = first.sequence
    second = SequenceStepFactory(sequence=sequence, position=2, delay_seconds=86_400)
    for status in ("sent", "sent", "failed"):
        BroadcastMessageFactory(
            campaign=None, sequence=sequence, sequence_step=first, status=status
        )
    due = timezone.now() + timedelta(minutes=5)
    SequenceContactFactory(sequence=sequence, next_step=second, next_due_at=due)
    page = viewer_client.get(reverse("sequences:detail", args=[sequence.pk]))
    rows = page.context["steps"]
    assert [row.counts for row in rows] == [{"sent": 2, "failed": 1}, {}]
    assert [row.waiting for row in rows] == [0, 1]
    assert page.context["next_due_at"] == due
    for words in ("Hi <strong>there</strong>", "1 day later", "Nobody has got it yet"):
        assert words in page.content.decode()


def test_a_sequence_is_activated_and_paused_and_the_log_says_who(
    operator_client: Client,
) -> None:
    sequence = SequenceStepFactory(sequence__status="draft").sequence
    for verb, status in (("activate", "active"), ("pause", "paused"), ("activate", "active")):
        url = reverse(f"sequences:{verb}", args=[sequence.pk])
        assert operator_client.post(url).status_code == 302
        sequence.refresh_from_db()
        assert sequence.status == status
    operator_client.post(reverse("sequences:activate", args=[sequence.pk]))
    assert LogEntry.objects.filter(object_id=str(sequence.pk)).count() == 3


def test_a_sequence_without_steps_is_not_activated(operator_client: Client) -> None:
    sequence = SequenceFactory(status="draft")
    url = reverse("sequences:activate", args=[sequence.pk])
    assert "Write a step first" in operator_client.post(url, follow=True).content.decode()
    sequence.refresh_from_db()
    assert sequence.status == "draft"


def test_a_link_activates_nothing(operator_client: Client) -> None:
    sequence = SequenceStepFactory(sequence__status="draft").sequence
    LeadFactory(triggers=[sequence.trigger.name])
    for verb in ("activate", "pause"):
        url = reverse(f"sequences:{verb}", args=[sequence.pk])
        assert operator_client.get(url).status_code == 405


def test_before_it_is_activated_it_says_who_gets_it_and_who_does_not(
    operator_client: Client,
) -> None:
    step = SequenceStepFactory(sequence__status=Sequence.Status.DRAFT)
    trigger = step.sequence.trigger.name
    LeadFactory.create_batch(2, triggers=[trigger])
    LeadFactory(triggers=[trigger], opted_out=True)
    LeadFactory()

    page = operator_client.get(f"/sequences/{step.sequence.pk}/")

    assert "Activate for 2 leads" in page.content.decode()
    assert page.context["newcomers"].skipped == {SkipReason.OPTED_OUT: 1}


@pytest.mark.usefixtures("_scheduler_runs")
def test_once_it_is_active_it_says_who_is_enrolled_and_when(operator_client: Client) -> None:
    step = SequenceStepFactory(delay_seconds=3600)
    sequence = step.sequence
    url = reverse("sequences:detail", args=[sequence.pk])
    page = operator_client.get(url).content.decode()
    assert "Whoever gets it is enrolled within a minute." in page

    LeadFactory.create_batch(2, triggers=[sequence.trigger.name])
    page = operator_client.get(url).content.decode()
    assert "Within a minute" in page
    assert "<dd>2</dd>" in page
    assert "The first step is due 1 hour after that." in page
    assert "scheduler is not running" not in page

    Schedule.objects.all().delete()
    page = operator_client.get(url).content.decode()
    assert "nobody is enrolled" in page
    assert "Within a minute" not in page

    Sequence.objects.process()
    assert "Once the scheduler runs" not in operator_client.get(url).content.decode()


def test_editing_does_not_undo_a_pause_that_came_meanwhile() -> None:
    sequence = SequenceFactory(status=Sequence.Status.ACTIVE, name="Before")
    read_by_the_editor = Sequence.objects.get(pk=sequence.pk)
    sequence.pause()
    form = SequenceForm(
        {"name": "After", "trigger_word": sequence.trigger.name}, instance=read_by_the_editor
    )
    assert form.is_valid(), form.errors

    form.save()

    sequence.refresh_from_db()
    assert (sequence.name, sequence.status) == ("After", "paused")
