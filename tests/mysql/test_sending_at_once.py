"""Two people at the same moment: what Send compares is locked until it is scheduled."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import AnonymousUser
from django.db import connections, transaction

from campaigns.agreement import Agreement
from campaigns.forms import CampaignForm
from campaigns.models import Campaign
from tests.campaigns.entering import entered
from tests.factories import CampaignFactory

pytestmark = pytest.mark.django_db(transaction=True)


def send(campaign: Campaign, agreed: Agreement) -> bool:
    """Sends in a thread of its own, with a connection of its own."""
    try:
        return Campaign.objects.get(pk=campaign.pk).send(agreed)
    finally:
        connections.close_all()


def test_of_two_that_say_the_same_and_are_sent_at_once_one_asks_again() -> None:
    ours, theirs = CampaignFactory.create_batch(2)
    agreed, agreed_of_theirs = ours.agreement(1), theirs.agreement(1)
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            assert theirs.send(agreed_of_theirs)
            sending = thread.submit(send, ours, agreed)
            with pytest.raises(TimeoutError):
                sending.result(timeout=1)
        assert not sending.result()
    ours.refresh_from_db()
    assert ours.status == "draft"


def test_what_is_being_saved_as_send_is_pressed_is_not_sent() -> None:
    draft = CampaignFactory()
    agreed = draft.agreement(1)
    form = CampaignForm(entered(), instance=Campaign.objects.get(pk=draft.pk))
    assert form.is_valid()
    with ThreadPoolExecutor(1) as thread:
        with transaction.atomic():
            assert form.save_draft(AnonymousUser())
            sending = thread.submit(send, draft, agreed)
            with pytest.raises(TimeoutError):
                sending.result(timeout=1)
        assert not sending.result()
    draft.refresh_from_db()
    assert draft.status == "draft"
