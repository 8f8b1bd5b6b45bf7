from __future__ import annotations

from django.apps.registry import Apps
from django.contrib.auth.management import create_permissions
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

OURS = ["broadcasts", "campaigns", "devices", "leads", "sequences"]
ALL = [*OURS, "auth", "django_q"]
# Not the right to add a schedule: it names any function of Python, and the scheduler runs it.
SCHEDULER = ["view_schedule", "change_schedule", "view_success", "view_failure", "view_ormq"]
DAILY = {
    "campaigns": ["add_campaign", "change_campaign", "send_campaign"],
    "leads": [
        "add_lead", "change_lead", "import_lead", "opt_out_lead",
        "add_niche", "change_niche", "add_trigger", "change_trigger",
    ],
    "sequences": ["add_sequence", "change_sequence", "add_sequencestep", "change_sequencestep"],
    "devices": ["change_device"],
    "broadcasts": ["settle_broadcastmessage"],
}  # fmt: skip


def create_groups(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Creates the three groups, or gives those that exist what they lack; takes nothing away."""
    using = schema_editor.connection.alias
    for label in [*ALL, "admin"]:
        # Permissions come after the last migration, in post_migrate: too late for the groups.
        # A migration's app configs are stubs, which create_permissions passes over for want of
        # a models module.
        app = apps.get_app_config(label)
        app.models_module = True  # type: ignore[assignment]
        create_permissions(app, verbosity=0, using=using, apps=apps)

    permissions = apps.get_model("auth", "Permission").objects.using(using)
    ours = permissions.filter(content_type__app_label__in=OURS)
    looks = ours.filter(codename__startswith="view_")
    groups = {
        "Viewer": list(looks),
        "Operator": [
            *looks,
            *(
                permissions.get(content_type__app_label=label, codename=codename)
                for label, codenames in DAILY.items()
                for codename in codenames
            ),
        ],
        "Admin": [
            *permissions.filter(content_type__app_label__in=[*OURS, "auth"]),
            *permissions.filter(content_type__app_label="django_q", codename__in=SCHEDULER),
            permissions.get(content_type__app_label="admin", codename="view_logentry"),
        ],
    }
    for name, granted in groups.items():
        group, _ = apps.get_model("auth", "Group").objects.using(using).get_or_create(name=name)
        group.permissions.add(*granted)


def delete_groups(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    groups = apps.get_model("auth", "Group").objects.using(schema_editor.connection.alias)
    groups.filter(name__in=["Admin", "Operator", "Viewer"]).delete()


class Migration(migrations.Migration):
    dependencies = [
        ("contenttypes", "0002_remove_content_type_name"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("admin", "0001_initial"),
        ("django_q", "0016_schedule_intended_date_kwarg"),
        ("devices", "0001_initial"),
        ("leads", "0001_initial"),
        ("campaigns", "0001_initial"),
        ("sequences", "0001_initial"),
        ("broadcasts", "0001_initial"),
    ]

    operations = [migrations.RunPython(create_groups, delete_groups)]
