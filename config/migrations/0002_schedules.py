from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

SCHEDULES = {
    "campaigns.tasks.process_campaigns": ("Campaigns: queue what is due", 1),
    "sequences.tasks.process_sequences": ("Sequences: queue what is due", 1),
    "broadcasts.tasks.unstick_messages": ("Messages: release what a dead broadcaster held", 1),
    "broadcasts.tasks.expire_messages": ("Messages: expire what is too late to send", 1),
    "broadcasts.tasks.tidy_up": ("Housekeeping: forget broadcasters that ended long ago", 24 * 60),
}


def create_schedules(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Creates the schedules that are missing; one that an operator changed stays as it is."""
    schedules = apps.get_model("django_q", "Schedule").objects.using(schema_editor.connection.alias)
    for func, (name, minutes) in SCHEDULES.items():
        # By function, not by name: a renamed schedule must not get a twin.
        if not schedules.filter(func=func).exists():
            schedules.create(name=name, func=func, schedule_type="I", minutes=minutes, repeats=-1)


def delete_schedules(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    schedules = apps.get_model("django_q", "Schedule").objects.using(schema_editor.connection.alias)
    schedules.filter(func__in=list(SCHEDULES)).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("config", "0001_groups"),
        ("django_q", "0016_schedule_intended_date_kwarg"),
    ]

    operations = [migrations.RunPython(create_schedules, delete_schedules)]
