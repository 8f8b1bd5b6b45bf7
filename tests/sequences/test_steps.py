"""The steps of a sequence: each has a position of its own, and says so where it has not; none waits
for more than a year."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client
from django.urls import reverse

from sequences.forms import SequenceForm, save_with_steps
from sequences.models import Sequence
from sequences.step_forms import step_formset
from tests.factories import SequenceStepFactory
from tests.sequences.posting import form, of, step

pytestmark = pytest.mark.django_db


def test_steps_change_places(operator_client: Client) -> None:
    first = SequenceStepFactory(position=1, message="a", sequence__status="draft")
    sequence = first.sequence
    SequenceStepFactory(sequence=sequence, position=2, message="b")
    data = of(sequence, step1={"position": 2}, step2={"position": 1})
    response = operator_client.post(reverse("sequences:edit", args=[sequence.pk]), data)
    assert response.status_code == 302
    assert list(sequence.steps.values_list("position", "message")) == [(1, "b"), (2, "a")]


def test_each_step_is_told_which_others_have_its_position(operator_client: Client) -> None:
    rows = [step(3, "a"), step(1, "b"), step(3, "c"), step(1, "d"), step(3, "e"), step(2, "f")]
    page = operator_client.post(reverse("sequences:create"), form(*rows))
    said = [f.errors.get("position", [""])[0].split(" Give")[0] for f in page.context["steps"]]
    assert said == [
        "Steps 3, 5 on this page have position 3 as well.",
        "Step 4 on this page has position 1 as well.",
        "Steps 1, 5 on this page have position 3 as well.",
        "Step 2 on this page has position 1 as well.",
        "Steps 1, 3 on this page have position 3 as well.",
        "",
    ]
    assert "duplicate" not in page.content.decode()
    assert not Sequence.objects.exists()


def test_a_step_that_is_deleted_is_in_nobody_s_way_even_if_another_is_wrong(
    operator_client: Client,
) -> None:
    sequence = SequenceStepFactory(position=1, message="a").sequence
    data = of(sequence, step1={"DELETE": "on"})
    for number, fields in enumerate([step(1, "b"), step(2, "{nobody}")], start=1):
        data |= {f"steps-{number}-{name}": value for name, value in fields.items()}
    data["steps-TOTAL_FORMS"] = 3
    page = operator_client.post(reverse("sequences:edit", args=[sequence.pk]), data)
    assert [list(f.errors) for f in page.context["steps"]] == [[], [], ["message"]]


def test_the_second_of_two_clicks_adds_no_step_twice_and_says_why(operator_client: Client) -> None:
    sequence = SequenceStepFactory(position=1, message="a").sequence
    data = of(sequence) | {f"steps-1-{name}": value for name, value in step(2, "b").items()}
    data["steps-TOTAL_FORMS"] = 2
    url = reverse("sequences:edit", args=[sequence.pk])
    assert operator_client.post(url, data).status_code == 302

    page = operator_client.post(url, data)

    assert "Position 2 is taken" in page.context["steps"].forms[1].errors["position"][0]
    assert sequence.steps.count() == 2


def test_a_step_that_another_adds_at_the_very_moment_is_not_overwritten() -> None:
    sequence = SequenceStepFactory(position=1, message="a").sequence
    data = of(sequence) | {f"steps-1-{name}": value for name, value in step(2, "b").items()}
    data |= {"steps-TOTAL_FORMS": 2, "trigger_word": sequence.trigger.name, "name": "Renamed"}
    of_mine = SequenceForm(data, instance=sequence)
    steps = step_formset(0)(data, instance=sequence, prefix="steps")
    assert of_mine.is_valid() & steps.is_valid()
    SequenceStepFactory(sequence=sequence, position=2, message="theirs")

    assert save_with_steps(of_mine, steps) is None

    assert list(sequence.steps.values_list("message", flat=True)) == ["a", "theirs"]
    assert Sequence.objects.get().name != "Renamed"


def test_steps_at_one_position_are_named_in_the_administration_as_well(client: Client) -> None:
    client.force_login(User.objects.create_superuser("boss"))
    sequence = SequenceStepFactory(position=1).sequence
    url = reverse("admin:sequences_sequence_change", args=[sequence.pk])
    data = of(sequence) | {"steps-TOTAL_FORMS": 3, "steps-0-delay_seconds": 0}
    for number in (1, 2):
        data |= {f"steps-{number}-position": 2, f"steps-{number}-message": "More",
                 f"steps-{number}-delay_seconds": 0}  # fmt: skip
    page = client.post(url, data).content.decode()
    assert "Step 3 on this page has position 2 as well." in page


def test_a_step_of_the_administration_waits_for_a_year_at_most_as_well() -> None:
    step = SequenceStepFactory(delay_seconds=365 * 86_400)
    step.full_clean()
    step.delay_seconds += 1
    with pytest.raises(ValidationError) as refusal:
        step.full_clean()
    assert refusal.value.message_dict == {"delay_seconds": ["A step waits for a year at most."]}
