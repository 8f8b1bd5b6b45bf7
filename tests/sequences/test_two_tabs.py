"""Two tabs, or two people, write one sequence."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from sequences.models import Sequence
from tests.campaigns.test_views_two_tabs import REFUSED, version
from tests.factories import SequenceFactory, SequenceStepFactory
from tests.sequences.posting import of

pytestmark = pytest.mark.django_db


def edited(client: Client, sequence: Sequence) -> tuple[str, dict[str, Any]]:
    """The address of its form, and what that posts if nothing is changed."""
    url = reverse("sequences:edit", args=[sequence.pk])
    shown = version(client.get(url).content.decode())
    data = of(sequence) | {"version": shown, "trigger_word": sequence.trigger.name}
    return url, data


def test_the_second_of_two_tabs_does_not_overwrite_the_first(operator_client: Client) -> None:
    step = SequenceStepFactory(message="As it was", position=1)
    url, data = edited(operator_client, step.sequence)
    operator_client.post(url, data | {"steps-0-message": "From the first"})

    second = data | {"steps-0-message": "The second"}
    response = operator_client.post(url, second)
    page = response.content.decode()
    assert response.status_code == 200
    assert REFUSED in page
    assert "The second</textarea>" in page
    step.refresh_from_db()
    assert step.message == "From the first"

    assert operator_client.post(url, second | {"version": version(page)}).status_code == 302
    step.refresh_from_db()
    assert step.message == "The second"


def test_another_step_in_between_does_not_make_it_known(operator_client: Client) -> None:
    step = SequenceStepFactory(position=1)
    url, data = edited(operator_client, step.sequence)
    operator_client.post(url, data | {"name": "Of the first"})
    page = operator_client.post(url, data | {"name": "Second", "add_step": "1"}).content.decode()
    again = operator_client.post(url, data | {"name": "Second", "version": version(page)})
    assert REFUSED in again.content.decode()


def test_the_second_of_two_clicks_on_save_is_no_change(operator_client: Client) -> None:
    step = SequenceStepFactory(position=1)
    url, data = edited(operator_client, step.sequence)
    data |= {"steps-0-message": " Twice \r\n", "steps-0-delay": "2", "steps-0-unit": "3600"}
    assert operator_client.post(url, data).status_code == 302
    assert operator_client.post(url, data).status_code == 302


def test_pausing_it_is_no_other_version(operator_client: Client) -> None:
    step = SequenceStepFactory(position=1, sequence=SequenceFactory(status="active"))
    url, data = edited(operator_client, step.sequence)
    step.sequence.pause()
    assert operator_client.post(url, data | {"name": "Another"}).status_code == 302
