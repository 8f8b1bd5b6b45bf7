"""Comparing a moment on record with one that was read off it before."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q


def no_later(field: str, at: datetime) -> Q:
    """Returns the condition that this field is still what it was when `at` was read off it, or
    earlier.

    SQLite compares text, and its clock writes three digits, where a value has six, or none on the
    full second. Nobody changes it within a millisecond.
    """
    return Q(**{f"{field}__lt": at + timedelta(milliseconds=1)})
