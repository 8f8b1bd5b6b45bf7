from __future__ import annotations

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0002_transport_names"),
    ]

    operations = [
        migrations.RemoveField(model_name="simulatedsession", name="messages"),
    ]
