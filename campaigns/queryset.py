from __future__ import annotations
from django.db import models
class CampaignQuerySet(models.QuerySet): pass
