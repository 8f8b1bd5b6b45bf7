"""What the admin pages write: what the form changed and nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import Model
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_q.models import Schedule

from devices.models import Device
from sequences.models import Sequence
from tests import factories

pytestmark = pytest.mark.django_db


def url(model: type[Model], pk: int) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk])


@pytest.fixture
def boss_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


def test_saving_a_device_leaves_its_lease_alone(boss_client: Client) -> None:
    """The form was read before a broadcaster took the device."""
    device = factories.DeviceFactory()
    model_admin = admin.site.get_model_admin(Device)
    request = boss_client.get(url(Device, device.pk)).wsgi_request
    form = model_admin.get_form(request, device)(
        {"name": "Renamed", "transport": "simulator", "enabled": "on", "min_delay_seconds": 5,
         "max_delay_seconds": 15, "timezone": "Asia/Kuala_Lumpur"}, instance=device,
    )  # fmt: skip
    assert form.is_valid(), form.errors
    Device.objects.filter(pk=device.pk).update(worker_id="w", lease_epoch=7)

    model_admin.save_model(request, form.instance, form, change=True)

    saved = Device.objects.get(pk=device.pk)
    assert (saved.name, saved.worker_id, saved.lease_epoch) == ("Renamed", "w", 7)


def test_saving_a_sequence_does_not_undo_a_pause_that_came_meanwhile(boss_client: Client) -> None:
    sequence = factories.SequenceStepFactory().sequence
    model_admin = admin.site.get_model_admin(Sequence)
    request = boss_client.get(url(Sequence, sequence.pk)).wsgi_request
    read = Sequence.objects.get(pk=sequence.pk)
    form = model_admin.get_form(request, read)(
        {"name": "Renamed", "trigger": sequence.trigger_id}, instance=read
    )
    assert form.is_valid(), form.errors
    sequence.pause()

    model_admin.save_model(request, form.instance, form, change=True)

    sequence.refresh_from_db()
    assert (sequence.name, sequence.status) == ("Renamed", "paused")


def test_the_devices_of_a_sequence_are_chosen_for_good(boss_client: Client) -> None:
    """Or deleting the only one of them would let it send from every device."""
    step, device = factories.SequenceStepFactory(), factories.DeviceFactory()
    sequence = step.sequence
    form = {"name": sequence.name, "trigger": sequence.trigger_id, "devices": [device.pk],
            "steps-TOTAL_FORMS": 1, "steps-INITIAL_FORMS": 1, "steps-0-id": step.pk,
            "steps-0-sequence": sequence.pk, "steps-0-position": 1, "steps-0-message": "Hi",
            "steps-0-delay_seconds": 0}  # fmt: skip
    address = url(Sequence, sequence.pk)

    assert boss_client.post(address, form).status_code == 302
    sequence.refresh_from_db()
    assert not sequence.from_all_devices

    assert boss_client.post(address, form | {"devices": []}).status_code == 302
    sequence.refresh_from_db()
    assert sequence.from_all_devices


def test_saving_a_schedule_does_not_let_it_run_a_second_time(boss_client: Client) -> None:
    """The scheduler has just done it, and put its next time."""
    schedule = Schedule.objects.filter(schedule_type=Schedule.MINUTES).first()
    assert schedule
    model_admin = admin.site.get_model_admin(Schedule)
    request = boss_client.get(url(Schedule, schedule.pk)).wsgi_request
    day, clock = f"{timezone.localtime(schedule.next_run):%Y-%m-%d %H:%M:%S}".split()
    data = {"next_run_0": day, "next_run_1": clock}
    data |= {f"initial-{name}": value for name, value in data.items()}  # as the page has them
    form = model_admin.get_form(request, schedule)(
        {"minutes": 7, "repeats": -1, **data}, instance=schedule
    )
    assert form.is_valid(), form.errors
    later = timezone.now() + timedelta(minutes=9)
    Schedule.objects.filter(pk=schedule.pk).update(next_run=later, task="done")

    model_admin.save_model(request, form.instance, form, change=True)

    saved = Schedule.objects.get(pk=schedule.pk)
    assert (saved.minutes, saved.next_run, saved.task) == (7, later, "done")
