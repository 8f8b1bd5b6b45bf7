from __future__ import annotations

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command

pytestmark = pytest.mark.django_db


def granted(name: str) -> set[str]:
    rows = Group.objects.get(name=name).permissions.select_related("content_type")
    return {f"{row.content_type.app_label}.{row.codename}" for row in rows}


def test_a_fresh_database_has_the_three_groups() -> None:
    assert set(Group.objects.values_list("name", flat=True)) == {"Admin", "Operator", "Viewer"}


def test_viewers_may_look_at_everything_and_change_nothing() -> None:
    looks = granted("Viewer")

    assert {"leads.view_lead", "devices.view_device", "broadcasts.view_broadcastmessage"} <= looks
    assert all(permission.split(".")[1].startswith("view_") for permission in looks)
    assert not any(permission.startswith("auth.") for permission in looks)


def test_operators_may_do_the_daily_work_and_delete_nothing() -> None:
    daily = granted("Operator")

    assert granted("Viewer") < daily
    assert {
        "campaigns.add_campaign",
        "campaigns.send_campaign",
        "leads.import_lead",
        "leads.opt_out_lead",
        "broadcasts.settle_broadcastmessage",
        "devices.change_device",
        "sequences.add_sequencestep",
    } <= daily
    assert not any("delete_" in permission for permission in daily)
    assert "devices.add_device" not in daily
    assert not any(permission.startswith("auth.") for permission in daily)


def test_admins_may_do_everything_including_devices_users_and_schedules() -> None:
    everything = granted("Admin")

    assert granted("Operator") < everything
    assert {
        "devices.add_device",
        "devices.delete_device",
        "auth.add_user",
        "django_q.change_schedule",
        "admin.view_logentry",
    } <= everything
    # A schedule names any function of Python, and the scheduler runs it.
    assert "django_q.add_schedule" not in everything


def test_no_permission_is_there_twice() -> None:
    """The migration made them before post_migrate, which must have found them."""
    rows = list(Permission.objects.values_list("content_type", "codename"))

    assert len(rows) == len(set(rows))


@pytest.mark.django_db(transaction=True)
def test_the_groups_go_and_come_back_and_keep_what_was_added() -> None:
    call_command("migrate", "config", "zero", verbosity=0)
    try:
        assert not Group.objects.filter(name__in=["Admin", "Operator", "Viewer"]).exists()
        own = Group.objects.create(name="Viewer")
        own.permissions.add(Permission.objects.get(codename="add_niche"))
        user = User.objects.create_user("own")
        user.groups.add(own)
    finally:
        call_command("migrate", "config", verbosity=0)

    assert "leads.add_niche" in granted("Viewer")
    assert "leads.view_lead" in granted("Viewer")
    assert user.groups.get() == own
