from __future__ import annotations

from django.apps.registry import Apps
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def remember(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """Whoever has devices now has chosen them."""
    sequences = apps.get_model("sequences", "Sequence").objects
    chosen = sequences.filter(devices__isnull=False).values_list("pk", flat=True)
    sequences.filter(pk__in=list(chosen)).update(from_all_devices=False)


class Migration(migrations.Migration):
    dependencies = [("sequences", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="sequence",
            name="from_all_devices",
            field=models.BooleanField(db_default=True, default=True, editable=False),
        ),
        migrations.RunPython(remember, migrations.RunPython.noop),
    ]
