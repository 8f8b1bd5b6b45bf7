from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from django_q.admin import ScheduleAdmin
from django_q.models import Failure, OrmQ, Schedule, Success

from config.adminsite import LookOnlyAdmin, QuickAdmin

admin.site.site_header = _("Siaran · administration")
admin.site.site_title = _("Siaran administration")
admin.site.index_title = _("Everything that Siaran keeps")


class TeamAdmin(UserAdmin):  # type: ignore[type-arg]
    """The team. Whoever may manage users cannot become a superuser by it, or sign in as one."""

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        fields = [*super().get_readonly_fields(request, obj)]
        if not request.user.is_superuser:
            fields += ["is_superuser", "user_permissions"]
        return fields

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_touch(request, obj) and super().has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return _may_touch(request, obj) and super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Bulk deletion does not ask about each row.
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions


def _may_touch(request: HttpRequest, user: User | None) -> bool:
    return user is None or not user.is_superuser or request.user.is_superuser


@admin.register(LogEntry)
class LogEntryAdmin(LookOnlyAdmin):
    """Who did what: the history of all pages."""

    list_display = ["action_time", "user", "content_type", "object_repr", "get_change_message"]
    list_select_related = ["user", "content_type"]
    list_filter = ["action_flag"]
    ordering = ["-pk"]
    sortable_by = ()


class TeamGroupAdmin(GroupAdmin):
    """What each group may do. Whoever could change that could give themselves anything."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_superuser)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return bool(request.user.is_superuser)


class SchedulesAdmin(QuickAdmin, ScheduleAdmin):  # type: ignore[misc]
    """How often the scheduler does what. What it does is the migrations' to say: a schedule names
    any function of Python, and the scheduler runs it."""

    fields = ["name", "func", "schedule_type", "minutes", "repeats", "next_run"]
    readonly_fields = ["name", "func", "schedule_type"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class TasksAdmin(LookOnlyAdmin):
    """What the scheduler did, and what it has still to do."""

    list_display = ["name", "func", "started", "stopped", "success"]
    ordering = ["-started"]
    sortable_by = ()


class QueueAdmin(LookOnlyAdmin):
    list_display = ["id", "key", "lock"]
    fields = ["key", "lock"]
    sortable_by = ()


for model, model_admin in (
    (User, TeamAdmin),
    (Group, TeamGroupAdmin),
    (Schedule, SchedulesAdmin),
    (Success, TasksAdmin),
    (Failure, TasksAdmin),
    (OrmQ, QueueAdmin),
):
    admin.site.unregister(model)
    admin.site.register(model, model_admin)
