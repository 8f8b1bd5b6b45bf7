from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0005_session"),
    ]

    operations = [
        migrations.AddField(
            model_name="device",
            name="first_contacts_blocked_until",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="no new people until"
            ),
        ),
    ]
