from __future__ import annotations
from django.db import models
class BroadcastMessageQuerySet(models.QuerySet): pass
class WorkerQuerySet(models.QuerySet): pass
