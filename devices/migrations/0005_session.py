from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0004_first_contacts"),
    ]

    operations = [
        migrations.AddField(
            model_name="device",
            name="session",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                editable=False,
                max_length=64,
                verbose_name="session",
            ),
        ),
        migrations.AddField(
            model_name="device",
            name="session_epoch",
            field=models.PositiveBigIntegerField(db_default=0, default=0, editable=False),
        ),
    ]
