from __future__ import annotations

import base64
from datetime import timedelta

import factory
from django.core.files.base import ContentFile
from django.utils import timezone

from attachments.models import Attachment
from broadcasts.claimed import Claimed
from broadcasts.models import BroadcastMessage
from campaigns.models import Campaign
from devices.models import Device
from leads.models import Lead, Niche, Trigger
from sequences.models import Sequence, SequenceContact, SequenceStep

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class NicheFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Niche
        django_get_or_create = ["name"]

    name = factory.Sequence(lambda n: f"NICHE {n}")


class TriggerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Trigger
        django_get_or_create = ["name"]

    name = factory.Sequence(lambda n: f"TRIGGER{n}")


class DeviceFactory(factory.django.DjangoModelFactory):
    """A simulated device that may send at any hour, as many as its pauses allow."""

    class Meta:
        model = Device

    class Params:
        # Held by the broadcaster "worker" and connected, so that its messages can be claimed.
        online = factory.Trait(
            status=Device.Status.ONLINE,
            worker_id="worker",
            lease_epoch=1,
            lease_expires_at=factory.LazyFunction(lambda: timezone.now() + timedelta(hours=1)),
        )

    name = factory.Sequence(lambda n: f"Sales {n:03}")
    transport = Device.SIMULATOR
    phone = factory.LazyAttributeSequence(
        lambda device, n: None if device.transport == Device.SIMULATOR else f"6011{n:08}"
    )
    daily_limit = None
    sends_from = None
    sends_until = None


class LeadFactory(factory.django.DjangoModelFactory):
    """A lead who agreed to be messaged."""

    class Meta:
        model = Lead
        skip_postgeneration_save = True

    class Params:
        opted_out = factory.Trait(opted_out_at=factory.LazyFunction(timezone.now))
        without_consent = factory.Trait(consented_at=None)

    phone = factory.Sequence(lambda n: f"6012{n:08}")
    name = factory.Sequence(lambda n: f"Lead {n}")
    consented_at = factory.LazyFunction(timezone.now)
    consent_source = "sign-up form"

    @factory.post_generation  # type: ignore[untyped-decorator]
    def niches(self, create: bool, names: list[str] | None) -> None:
        if create:
            self.niches.add(*Niche.ensure(names or []).values())  # type: ignore[attr-defined]

    @factory.post_generation  # type: ignore[untyped-decorator]
    def triggers(self, create: bool, names: list[str] | None) -> None:
        if create:
            self.triggers.add(*Trigger.ensure(names or []).values())  # type: ignore[attr-defined]


class CampaignFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Campaign
        skip_postgeneration_save = True

    class Params:
        sending = factory.Trait(
            status=Campaign.Status.SENDING,
            scheduled_at=factory.LazyFunction(timezone.now),
            started_at=factory.LazyFunction(timezone.now),
            fanned_out_at=factory.LazyFunction(timezone.now),
        )

    title = factory.Sequence(lambda n: f"Campaign {n}")
    message = "Hi {name|there}, the shop is open."


class SequenceFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Sequence

    name = factory.Sequence(lambda n: f"Sequence {n}")
    trigger = factory.SubFactory(TriggerFactory)
    status = Sequence.Status.ACTIVE


class SequenceStepFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = SequenceStep

    sequence = factory.SubFactory(SequenceFactory)
    position = factory.Sequence(lambda n: n + 1)
    delay_seconds = 0
    message = "Hi {name|there}, one more thing."


class SequenceContactFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = SequenceContact

    sequence = factory.SubFactory(SequenceFactory)
    lead = factory.SubFactory(LeadFactory)


class AttachmentFactory(factory.django.DjangoModelFactory):
    """A picture of one point, stored as an upload is."""

    class Meta:
        model = Attachment

    name = factory.Sequence(lambda n: f"picture {n}.png")
    content = PNG

    @classmethod
    def _create(
        cls, model_class: type[Attachment], *args: object, name: str, content: bytes
    ) -> Attachment:
        return Attachment.objects.keep(ContentFile(content), name)


class BroadcastMessageFactory(factory.django.DjangoModelFactory):
    """A pending message of a campaign that is sending, on a device that a broadcaster holds."""

    class Meta:
        model = BroadcastMessage

    device = factory.SubFactory(DeviceFactory, online=True)
    lead = factory.SubFactory(LeadFactory)
    campaign = factory.SubFactory(CampaignFactory, sending=True)
    recipient_phone = factory.SelfAttribute("lead.phone")
    recipient_name = factory.SelfAttribute("lead.name")
    body = "Hi there, the shop is open."
    scheduled_at = factory.LazyFunction(lambda: timezone.now() - timedelta(seconds=5))


def claimed_of(message: BroadcastMessage) -> Claimed:
    """Returns it as the broadcaster has it in hand that claimed it."""
    (claimed,) = Claimed.read(BroadcastMessage, pk=message.pk)
    return claimed
