from __future__ import annotations
from django.db import models
class SequenceQuerySet(models.QuerySet): pass
class SequenceContactQuerySet(models.QuerySet): pass
