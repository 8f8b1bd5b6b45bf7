from __future__ import annotations

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("devices", "0006_first_contacts_blocked"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name="device",
            name="deleted_at",
            field=models.DateTimeField(
                blank=True, editable=False, null=True, verbose_name="deleted"
            ),
        ),
        migrations.CreateModel(
            name="Pairing",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                (
                    "method",
                    models.CharField(
                        choices=[("qr", "Scan a QR code"), ("code", "Type a code of 8 characters")],
                        max_length=4,
                        verbose_name="method",
                    ),
                ),
                ("phone", models.CharField(blank=True, max_length=15, verbose_name="phone")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("requested", "waiting for a broadcaster"),
                            ("started", "asking WhatsApp for a code"),
                            ("showing", "waiting for the phone"),
                            ("finishing", "linked, exchanging keys"),
                            ("done", "linked"),
                            ("failed", "failed"),
                            ("cancelled", "cancelled"),
                        ],
                        default="requested",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("is_open", models.BooleanField(default=True, editable=False, null=True)),
                ("reason", models.CharField(blank=True, max_length=16, verbose_name="because")),
                (
                    "linked_phone",
                    models.CharField(blank=True, max_length=15, verbose_name="linked number"),
                ),
                ("code", models.TextField(blank=True, verbose_name="code")),
                ("code_expires_at", models.DateTimeField(blank=True, null=True)),
                (
                    "claimed_by",
                    models.CharField(blank=True, max_length=64, verbose_name="broadcaster"),
                ),
                (
                    "session",
                    models.CharField(
                        blank=True, editable=False, max_length=64, verbose_name="session"
                    ),
                ),
                ("seen_at", models.DateTimeField(blank=True, editable=False, null=True)),
                (
                    "accepted_by",
                    models.CharField(max_length=150, verbose_name="notice accepted by"),
                ),
                (
                    "notice_version",
                    models.CharField(max_length=20, verbose_name="version of the notice"),
                ),
                ("created_at", models.DateTimeField(verbose_name="started")),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "device",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="pairings",
                        to="devices.device",
                        verbose_name="device",
                    ),
                ),
                (
                    "started_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="started by",
                    ),
                ),
            ],
            options={
                "verbose_name": "pairing",
                "verbose_name_plural": "pairings",
                "db_table": "pairings",
                "ordering": ["-pk"],
                "default_permissions": (),
                "indexes": [models.Index(fields=["is_open", "state"], name="idx_pairing_open")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("device", "is_open"), name="unique_open_pairing"
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Unlinking",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("session", models.CharField(max_length=64, unique=True, verbose_name="session")),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("requested", "WhatsApp is being told"),
                            ("started", "WhatsApp is being told now"),
                            ("done", "logged out"),
                            ("failed", "WhatsApp could not be told"),
                        ],
                        default="requested",
                        max_length=10,
                        verbose_name="state",
                    ),
                ),
                ("tries", models.PositiveSmallIntegerField(default=0, verbose_name="tries")),
                (
                    "claimed_by",
                    models.CharField(blank=True, max_length=64, verbose_name="broadcaster"),
                ),
                ("seen_at", models.DateTimeField(blank=True, editable=False, null=True)),
                ("created_at", models.DateTimeField(verbose_name="asked for")),
                ("finished_at", models.DateTimeField(blank=True, null=True, verbose_name="ended")),
                (
                    "device",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="unlinkings",
                        to="devices.device",
                        verbose_name="device",
                    ),
                ),
                (
                    "requested_by",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                        verbose_name="asked for by",
                    ),
                ),
            ],
            options={
                "verbose_name": "logging out",
                "verbose_name_plural": "loggings out",
                "db_table": "unlinkings",
                "ordering": ["-pk"],
                "default_permissions": (),
                "indexes": [models.Index(fields=["state"], name="idx_unlinking_state")],
            },
        ),
    ]
