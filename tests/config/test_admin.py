from __future__ import annotations

from collections.abc import Callable
from typing import Any

import factory
import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import connection
from django.db.models import Model
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django_q.models import OrmQ, Schedule, Task

from broadcasts.models import BroadcastMessage, Worker
from campaigns.models import Campaign
from devices.models import Device, SimulatedMessage
from devices.pairing import Pairing, Unlinking
from leads.models import Lead, Niche, Trigger
from sequences.models import Sequence, SequenceContact
from tests import factories

pytestmark = pytest.mark.django_db


class LogEntryFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = LogEntry

    user = factory.LazyFunction(lambda: User.objects.get_or_create(username="somebody")[0])
    action_flag = 2


class WorkerFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Worker

    id = factory.Sequence(lambda n: f"worker-{n}")
    hostname = "host"
    pid = 1
    started_at = factory.LazyFunction(timezone.now)
    heartbeat_at = factory.LazyFunction(timezone.now)


class SimulatedMessageFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = SimulatedMessage

    device = factory.SubFactory(factories.DeviceFactory)
    phone = "60123456789"
    body = "Hi"


class PairingFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Pairing

    device = factory.SubFactory(factories.DeviceFactory)
    method = "qr"
    created_at = factory.LazyFunction(timezone.now)


class UnlinkingFactory(factory.django.DjangoModelFactory):
    class Meta:
        model = Unlinking

    device = factory.SubFactory(factories.DeviceFactory)
    session = factory.Sequence(lambda n: f"session-{n}")
    requested_by = factory.LazyFunction(lambda: User.objects.get_or_create(username="somebody")[0])
    created_at = factory.LazyFunction(timezone.now)


# What stands for each model in the lists: one more row, with related rows of its own.
ROWS: dict[type[Model], Callable[[], Any]] = {
    Lead: lambda: factories.LeadFactory(niches=["VITAC"], device=factories.DeviceFactory()),
    Niche: factories.NicheFactory,
    Trigger: factories.TriggerFactory,
    Device: factories.DeviceFactory,
    SimulatedMessage: SimulatedMessageFactory,
    Campaign: lambda: factories.BroadcastMessageFactory().campaign,
    Sequence: lambda: factories.SequenceStepFactory().sequence,
    SequenceContact: lambda: factories.SequenceContactFactory(
        next_step=factories.SequenceStepFactory()
    ),
    BroadcastMessage: lambda: [
        factories.BroadcastMessageFactory(campaign=None, sequence=factories.SequenceFactory()),
        factories.BroadcastMessageFactory(),
    ][0],
    Worker: WorkerFactory,
    Pairing: PairingFactory,
    Unlinking: UnlinkingFactory,
    LogEntry: LogEntryFactory,
}
LOOK_ONLY = [
    BroadcastMessage, LogEntry, Pairing, SequenceContact, SimulatedMessage, Unlinking, Worker,
]  # fmt: skip
EDITABLE = [Lead, Niche, Trigger, Device, Campaign, Sequence]
models = pytest.mark.parametrize("model", ROWS, ids=lambda model: model.__name__)


def url(model: type[Model], page: str = "changelist", *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


@pytest.fixture
def boss_client() -> Client:
    client = Client()
    client.force_login(User.objects.create_superuser("boss"))
    return client


@pytest.fixture
def staff(client: Client) -> Callable[[str], Client]:
    """Signs in somebody of that group who may enter the admin."""

    def sign_in(group: str) -> Client:
        user = User.objects.create_user(f"staff {group}", is_staff=True)
        user.groups.add(*Group.objects.filter(name=group))
        client.force_login(user)
        return client

    return sign_in


def test_every_model_of_ours_is_in_the_admin() -> None:
    ours = {"broadcasts", "campaigns", "devices", "leads", "sequences"}
    registered = {model for model in admin.site._registry if model._meta.app_label in ours}

    assert registered == set(ROWS) - {LogEntry}


@models
def test_list_renders(boss_client: Client, model: type[Model]) -> None:
    ROWS[model]()

    assert boss_client.get(url(model)).status_code == 200


@models
def test_change_page_renders(boss_client: Client, model: type[Model]) -> None:
    row = ROWS[model]()

    assert boss_client.get(url(model, "change", row.pk)).status_code == 200
    assert boss_client.get(url(model, "history", row.pk)).status_code == 200


@models
def test_add_page_renders_only_for_what_people_write(
    boss_client: Client, model: type[Model]
) -> None:
    expected = 403 if model in LOOK_ONLY else 200

    assert boss_client.get(url(model, "add")).status_code == expected


@pytest.mark.parametrize("model", LOOK_ONLY, ids=lambda model: model.__name__)
def test_nobody_writes_or_deletes_what_the_engine_writes(
    boss_client: Client, model: type[Model]
) -> None:
    row = ROWS[model]()

    assert boss_client.post(url(model, "change", row.pk), {"status": "sent"}).status_code == 403
    assert boss_client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


@models
def test_list_costs_the_same_queries_with_5_and_50_rows(
    boss_client: Client, model: type[Model]
) -> None:
    def queries() -> list[str]:
        with CaptureQueriesContext(connection) as captured:
            assert boss_client.get(url(model)).status_code == 200
        return [query["sql"] for query in captured]

    for _ in range(5):
        ROWS[model]()
    queries()  # fills Django's cache of content types
    few = queries()
    for _ in range(45):
        ROWS[model]()
    many = queries()

    assert len(many) == len(few), "\n".join(many)


@models
def test_outsiders_stay_out(outsider_client: Client, model: type[Model]) -> None:
    answer = outsider_client.get(url(model))

    assert answer.status_code == 302
    assert answer.url.startswith(reverse("admin:login"))  # type: ignore[attr-defined]


def test_the_anonymous_are_asked_to_sign_in(client: Client) -> None:
    assert client.get(url(Lead)).status_code == 302


@models
def test_staff_without_rights_see_nothing(
    staff: Callable[[str], Client], model: type[Model]
) -> None:
    assert staff("none").get(url(model)).status_code == 403


@pytest.mark.parametrize("model", EDITABLE, ids=lambda model: model.__name__)
def test_viewers_look_and_do_not_act(staff: Callable[[str], Client], model: type[Model]) -> None:
    row = ROWS[model]()
    client = staff("Viewer")

    page = client.get(url(model))
    assert page.status_code == 200
    assert 'name="action"' not in page.text
    assert client.get(url(model, "change", row.pk)).status_code == 200
    assert client.post(url(model, "change", row.pk), {"name": "x"}).status_code == 403
    assert client.get(url(model, "add")).status_code == 403
    assert client.post(url(model, "delete", row.pk), {"post": "yes"}).status_code == 403


def test_the_schedulers_own_pages_work(boss_client: Client) -> None:
    Task.objects.create(id="a", name="a", func="x", success=True, started=timezone.now(),
                        stopped=timezone.now())  # fmt: skip
    Task.objects.create(id="b", name="b", func="x", success=False, started=timezone.now(),
                        stopped=timezone.now())  # fmt: skip
    for name in ("schedule", "success", "failure", "ormq"):
        assert boss_client.get(reverse(f"admin:django_q_{name}_changelist")).status_code == 200
    schedule = Schedule.objects.all()[0]
    assert boss_client.get(url(Schedule, "change", schedule.pk)).status_code == 200
    new = {"func": "os.system", "args": "'id'", "schedule_type": "O", "repeats": -1}
    assert boss_client.post(url(Schedule, "add"), new).status_code == 403
    boss_client.post(url(Schedule, "change", schedule.pk), new | {"minutes": 5})
    assert not Schedule.objects.filter(func="os.system").exists()
    assert boss_client.get(reverse("admin:django_q_success_change", args=["a"])).status_code == 200
    assert OrmQ.objects.count() == 0


@pytest.mark.parametrize("page", ["index", "login", "password_change"])
def test_pages_suit_the_content_security_policy(boss_client: Client, page: str) -> None:
    answer = boss_client.get(reverse(f"admin:{page}"), follow=True)

    assert "'unsafe-inline'" not in answer["Content-Security-Policy"]
    assert "<style" not in answer.text
    assert "css/admin.css" in answer.text


def test_a_lead_is_written_as_on_paper_and_stored_as_digits(boss_client: Client) -> None:
    form = {"phone": "012-345 6789", "name": "Siti", "status": "prospect"}

    assert boss_client.post(url(Lead, "add"), form).status_code == 302
    assert Lead.objects.get().phone == "60123456789"

    refused = boss_client.post(url(Lead, "add"), form | {"phone": "hello"})
    assert refused.status_code == 200
    assert "contains letters" in refused.text


def test_consent_is_recorded_with_where_it_was_given(boss_client: Client) -> None:
    form = {"phone": "012-345 6789", "status": "prospect",
            "consented_at_0": "2026-11-01", "consented_at_1": "10:00:00"}  # fmt: skip

    refused = boss_client.post(url(Lead, "add"), form)
    assert "Say where they agreed." in refused.text

    assert boss_client.post(url(Lead, "add"), form | {"consent_source": "fair"}).status_code == 302
    assert Lead.objects.get().consented_at is not None


def test_the_number_of_a_lead_does_not_change(boss_client: Client) -> None:
    lead = factories.LeadFactory(phone="60123456789")

    boss_client.post(
        url(Lead, "change", lead.pk), {"phone": "60199999999", "name": "New", "status": "customer"}
    )

    lead.refresh_from_db()
    assert (lead.phone, lead.name) == ("60123456789", "New")


def test_who_opted_out_cannot_be_deleted(boss_client: Client) -> None:
    lead = factories.LeadFactory(opted_out=True)

    assert boss_client.post(url(Lead, "delete", lead.pk), {"post": "yes"}).status_code == 403
    assert boss_client.post(
        url(Lead, "delete", factories.LeadFactory().pk), {"post": "yes"}
    ).status_code == 302  # fmt: skip


@pytest.mark.parametrize("model", [Device, Niche], ids=lambda model: model.__name__)
def test_what_is_in_use_cannot_be_deleted(boss_client: Client, model: type[Model]) -> None:
    factories.LeadFactory(niches=["VITAC"])
    used = factories.BroadcastMessageFactory().device if model is Device else Niche.objects.get()
    unused = ROWS[model]()

    assert boss_client.post(url(model, "delete", used.pk), {"post": "yes"}).status_code == 403
    assert boss_client.post(url(model, "delete", unused.pk), {"post": "yes"}).status_code == 302


def test_only_drafts_can_be_edited(boss_client: Client) -> None:
    campaign = factories.CampaignFactory(sending=True)

    assert boss_client.post(
        url(Campaign, "change", campaign.pk), {"title": "Other"}
    ).status_code == 403  # fmt: skip
    assert (
        boss_client.post(url(Campaign, "delete", campaign.pk), {"post": "yes"}).status_code == 403
    )


@pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite locks the whole file, in BEGIN IMMEDIATE"
)
def test_a_draft_is_locked_while_it_is_saved(boss_client: Client) -> None:
    """Or somebody schedules it between the check that it is a draft and the writing."""
    campaign = factories.CampaignFactory()

    with CaptureQueriesContext(connection) as captured:
        boss_client.post(url(Campaign, "change", campaign.pk), {"title": "Other"})

    assert any("FOR UPDATE" in query["sql"] for query in captured)


def test_a_campaign_remembers_who_made_it(boss_client: Client) -> None:
    form = {"title": "Raya", "message": "Hi", "min_delay_seconds": 0, "max_delay_seconds": 0,
            "timezone": "Asia/Kuala_Lumpur", "status": "sending"}  # fmt: skip

    assert boss_client.post(url(Campaign, "add"), form).status_code == 302

    campaign = Campaign.objects.get()
    assert campaign.created_by == User.objects.get(username="boss")
    assert campaign.status == "draft"


def test_user_managers_cannot_make_themselves_superusers(staff: Callable[[str], Client]) -> None:
    boss = User.objects.create_superuser("boss")
    client = staff("Admin")
    me = User.objects.get(username="staff Admin")

    assert client.post(url(User, "change", boss.pk), {"username": "boss"}).status_code == 403
    assert (
        client.post(reverse("admin:auth_user_password_change", args=[boss.pk])).status_code == 403
    )
    client.post(
        url(User, "change", me.pk),
        {"username": "me", "is_active": "on", "is_staff": "on", "is_superuser": "on",
         "date_joined_0": "2026-01-01", "date_joined_1": "10:00:00"},
    )  # fmt: skip
    me.refresh_from_db()
    assert (me.username, me.is_superuser) == ("me", False)
