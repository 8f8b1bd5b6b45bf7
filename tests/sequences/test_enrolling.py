"""Whoever enrols people, by activating a sequence or by another trigger, was told how many."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from leads.models import Lead, Trigger
from sequences.forms import SequenceForm, save_with_steps
from sequences.models import Sequence, SequenceContact
from sequences.standing import newcomers
from sequences.step_forms import step_formset
from tests.attachments.files import PDF
from tests.factories import (
    DeviceFactory,
    LeadFactory,
    SequenceContactFactory,
    SequenceFactory,
    SequenceStepFactory,
    TriggerFactory,
)
from tests.sequences.posting import of

pytestmark = pytest.mark.django_db


@pytest.fixture
def sequence() -> Sequence:
    """Active, for leads with the trigger OLD; nobody carries that yet."""
    step = SequenceStepFactory(position=1, message="Hi", sequence__trigger__name="OLD")
    return step.sequence


def posted(sequence: Sequence, trigger: str, **rest: Any) -> dict[str, Any]:
    """What the browser posts, with another trigger."""
    return of(sequence) | {"trigger_word": trigger, **rest}


def save(client: Client, sequence: Sequence, trigger: str, **rest: Any) -> Any:
    url = reverse("sequences:edit", args=[sequence.pk])
    return client.post(url, posted(sequence, trigger, **rest))


def activate(client: Client, sequence: Sequence, agreed: str) -> str:
    url = reverse("sequences:activate", args=[sequence.pk])
    return client.post(url, {"agreed": agreed}, follow=True).content.decode()


def trigger_of(sequence: Sequence) -> str:
    return Sequence.objects.values_list("trigger__name", flat=True).get(pk=sequence.pk)


def enrolled() -> int:
    Sequence.objects.process()
    return SequenceContact.objects.count()


def test_another_trigger_of_an_active_sequence_asks_before_it_enrols_anybody(
    operator_client: Client, sequence: Sequence
) -> None:
    LeadFactory.create_batch(2, triggers=["NEW"])
    LeadFactory(triggers=["NEW"], opted_out=True)

    page = save(operator_client, sequence, "new ", name="Renamed", **{"steps-0-delay": 90})

    said = page.content.decode()
    for words in ("Nothing was saved yet.", "Save for 2 leads", "left out: opted out",
                  "All leads with the trigger NEW", "due 90 minutes after that"):  # fmt: skip
        assert words in said
    assert 'value="Renamed"' in said
    assert trigger_of(sequence) == "OLD"
    assert enrolled() == 0


def test_the_button_that_says_how_many_saves_it(
    operator_client: Client, sequence: Sequence
) -> None:
    DeviceFactory()
    before = SequenceContactFactory(sequence=sequence)
    LeadFactory.create_batch(2, triggers=["NEW"])
    asked = save(operator_client, sequence, "NEW").context["newcomers"]

    for _click in range(2):
        response = save(operator_client, sequence, "NEW", agreed=asked.agreement)
        assert response.status_code == 302

    assert trigger_of(sequence) == "NEW"
    assert enrolled() == 3
    before.refresh_from_db()
    assert before.status == "active"


def test_it_asks_again_when_more_people_have_come(
    operator_client: Client, sequence: Sequence
) -> None:
    LeadFactory(triggers=["NEW"])
    asked = save(operator_client, sequence, "NEW").context["newcomers"]
    LeadFactory(triggers=["NEW"])

    page = save(operator_client, sequence, "NEW", agreed=asked.agreement)

    assert "Who is enrolled has changed since you looked." in page.content.decode()
    assert page.context["newcomers"].will_receive == 2
    assert trigger_of(sequence) == "OLD"


def test_it_asks_again_when_of_as_many_people_more_may_be_messaged(
    operator_client: Client, sequence: Sequence
) -> None:
    lead = LeadFactory(triggers=["NEW"], without_consent=True)
    asked = save(operator_client, sequence, "NEW").context["newcomers"]
    Lead.objects.filter(pk=lead.pk).update(consented_at=lead.created_at)

    assert save(operator_client, sequence, "NEW", agreed=asked.agreement).status_code == 200
    assert trigger_of(sequence) == "OLD"


def test_it_does_not_ask_again_when_some_have_gone(
    operator_client: Client, sequence: Sequence
) -> None:
    lead, _other = LeadFactory.create_batch(2, triggers=["NEW"])
    asked = save(operator_client, sequence, "NEW").context["newcomers"]
    lead.triggers.clear()

    assert save(operator_client, sequence, "NEW", agreed=asked.agreement).status_code == 302


def test_what_was_agreed_for_one_trigger_is_not_for_another_with_as_many_people(
    operator_client: Client, sequence: Sequence
) -> None:
    LeadFactory(triggers=["NEW"])
    LeadFactory(triggers=["NEWER"])
    asked = save(operator_client, sequence, "NEW").context["newcomers"]

    assert save(operator_client, sequence, "NEWER", agreed=asked.agreement).status_code == 200
    assert trigger_of(sequence) == "OLD"


@pytest.mark.parametrize("nonsense", ["", "yes", "9", "1-2-3-4", "-1--1--1", "²-²-²", "9" * 5000])
def test_nonsense_agrees_to_nothing(
    operator_client: Client, sequence: Sequence, nonsense: str
) -> None:
    LeadFactory(triggers=["NEW"])
    assert save(operator_client, sequence, "NEW", agreed=nonsense).status_code == 200
    assert trigger_of(sequence) == "OLD"


def test_a_file_that_was_chosen_is_still_there_when_it_asks(
    operator_client: Client, sequence: Sequence
) -> None:
    LeadFactory(triggers=["NEW"])
    file = {"steps-0-attachment": SimpleUploadedFile("Guide.pdf", PDF)}
    page = save(operator_client, sequence, "NEW", **file)
    kept = page.context["steps"].forms[0].cleaned_data["attachment"]
    assert f'name="steps-0-attachment-kept" value="{kept.pk}"' in page.content.decode()


@pytest.mark.parametrize("trigger", ["OLD", "NOBODY'S"])
def test_what_enrols_nobody_new_is_not_asked_about(
    operator_client: Client, sequence: Sequence, trigger: str
) -> None:
    LeadFactory(triggers=["OLD"])  # is enrolled within a minute, whatever is saved
    assert save(operator_client, sequence, trigger).status_code == 302
    assert trigger_of(sequence) == trigger


@pytest.mark.parametrize("status", ["draft", "paused"])
def test_one_that_is_not_active_is_saved_and_asks_when_it_is_activated(
    operator_client: Client, sequence: Sequence, status: str
) -> None:
    Sequence.objects.update(status=status)
    LeadFactory(triggers=["NEW"])
    page = reverse("sequences:detail", args=[sequence.pk])
    before = operator_client.get(page).context["newcomers"].agreement

    assert save(operator_client, sequence, "NEW").status_code == 302
    assert enrolled() == 0
    assert "nothing was activated" in activate(operator_client, sequence, before)
    assert enrolled() == 0

    asked = operator_client.get(page)
    assert "Activate for 1 lead" in asked.content.decode()
    activate(operator_client, sequence, asked.context["newcomers"].agreement)
    assert enrolled() == 1


def test_it_is_not_activated_for_more_people_than_the_button_said(
    operator_client: Client, sequence: Sequence
) -> None:
    Sequence.objects.update(status="draft")
    LeadFactory(triggers=["OLD"])
    page = reverse("sequences:detail", args=[sequence.pk])
    asked = operator_client.get(page).context["newcomers"]
    LeadFactory(triggers=["OLD"])

    said = activate(operator_client, sequence, asked.agreement)

    assert "Who is enrolled has changed since you looked" in said
    assert "Activate for 2 leads" in said
    sequence.refresh_from_db()
    assert sequence.status == "draft"


def test_one_that_is_activated_at_the_very_moment_gets_no_other_trigger_unasked(
    sequence: Sequence,
) -> None:
    Sequence.objects.update(status="paused")
    read = Sequence.objects.get()
    data = posted(sequence, "NEW", name="Renamed")
    form = SequenceForm(data, instance=read)
    steps = step_formset(0)(data, instance=read, prefix="steps")
    assert form.is_valid() & steps.is_valid()
    assert form.newcomers() is None
    assert Sequence.objects.get().activate()

    assert save_with_steps(form, steps) is None

    sequence.refresh_from_db()
    assert (sequence.trigger.name, sequence.name != "Renamed") == ("OLD", True)


def test_one_that_gets_another_trigger_at_the_very_moment_is_not_activated(
    sequence: Sequence,
) -> None:
    Sequence.objects.update(status="paused")
    read = Sequence.objects.get()
    Sequence.objects.update(trigger=TriggerFactory(name="NEW"))
    assert not read.activate()


def test_a_viewer_does_not_change_a_trigger_by_agreeing(
    viewer_client: Client, sequence: Sequence
) -> None:
    LeadFactory(triggers=["NEW"])
    agreed = f"{Trigger.objects.get(name='NEW').pk}-1-1"
    assert save(viewer_client, sequence, "NEW", agreed=agreed).status_code == 403
    assert trigger_of(sequence) == "OLD"


def test_the_administration_leaves_trigger_and_activation_to_the_page_that_asks(
    client: Client, sequence: Sequence
) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    url = reverse("admin:sequences_sequence_change", args=[sequence.pk])
    page = client.get(url).content.decode()
    assert reverse("sequences:detail", args=[sequence.pk]) in page
    step = sequence.steps.get()
    data = posted(sequence, "NEW") | {"trigger": TriggerFactory(name="NEW").pk, "name": "Renamed"}
    data |= {"steps-0-sequence": sequence.pk, "steps-0-id": step.pk, "steps-0-delay_seconds": 0}

    assert client.post(url, data).status_code == 302

    sequence.refresh_from_db()
    assert (sequence.name, sequence.trigger.name) == ("Renamed", "OLD")
    listed = client.get(reverse("admin:sequences_sequence_changelist")).content.decode()
    assert 'value="activate"' not in listed


def test_the_form_says_which_other_active_sequence_the_trigger_starts(
    operator_client: Client, sequence: Sequence
) -> None:
    SequenceFactory(name="A draft", trigger=sequence.trigger, status="draft")
    mine = SequenceStepFactory(position=1, sequence__status="draft").sequence
    url = reverse("sequences:others")

    def said(word: str, besides: Any) -> str:
        return operator_client.get(url, {"trigger_word": word, "besides": besides}).content.decode()

    assert sequence.name in said(" old", mine.pk)
    assert "Its leads get both." in said("OLD", 0)
    assert "draft" not in said("OLD", mine.pk)
    assert (
        said("OLD", sequence.pk).strip() == said("NEW", "x").strip() == said("", "").strip() == ""
    )

    assert save(operator_client, mine, "OLD").status_code == 302  # a hint, no refusal
    for page in ("detail", "edit"):
        shown = operator_client.get(reverse(f"sequences:{page}", args=[mine.pk])).content.decode()
        assert "Another active sequence has this trigger:" in shown


def test_with_very_many_leads_the_newcomers_are_looked_for_among_the_newest(
    sequence: Sequence,
) -> None:
    old = LeadFactory.create_batch(3, triggers=["OLD"])
    for lead in old:
        SequenceContactFactory(sequence=sequence, lead=lead)
    LeadFactory(triggers=["OLD"])
    LeadFactory(triggers=["OLD"], opted_out=True)

    assert newcomers(sequence, 5) == newcomers(sequence)
    cut = newcomers(sequence, 3)
    assert (cut.will_receive, cut.total, cut.among) == (1, 2, 3)


def test_an_active_sequence_s_page_says_that_it_looked_at_the_newest_only(
    viewer_client: Client, sequence: Sequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sequences.views.NEWEST", 2)
    LeadFactory.create_batch(3, triggers=["OLD"])
    url = reverse("sequences:detail", args=[sequence.pk])
    assert "Counted among the 2 leads that got the trigger last." in (
        viewer_client.get(url).content.decode()
    )
    Sequence.objects.update(status="paused")
    page = viewer_client.get(url)
    assert page.context["newcomers"].will_receive == 3
    assert "Counted among" not in page.content.decode()
