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
        migrations.AlterField(
            model_name="broadcastmessage",
            name="skip_reason",
            field=models.CharField(
                blank=True,
                choices=[
                    ("opted_out", "opted out"),
                    ("duplicate", "duplicate number"),
                    ("no_consent", "no consent on record"),
                    ("not_on_whatsapp", "not on WhatsApp"),
                    ("lead_deleted", "lead was deleted"),
                    ("no_device", "no device to send from"),
                ],
                max_length=20,
                verbose_name="left out because",
            ),
        ),
    ]
