from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def take_numbers_away(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """They were made up, and may be those of real accounts, which could not be paired then."""
    devices = apps.get_model("devices", "Device").objects.using(schema_editor.connection.alias)
    devices.filter(transport="simulator").update(phone=None)


class Migration(migrations.Migration):
    dependencies = [("devices", "0009_simulator_keys")]

    operations = [migrations.RunPython(take_numbers_away, migrations.RunPython.noop)]
