from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("broadcasts", "0006_attachment"),
    ]

    operations = [
        migrations.AddField(
            model_name="worker",
            name="can_pair",
            field=models.BooleanField(db_default=False, default=False, verbose_name="pairs phones"),
        ),
    ]
