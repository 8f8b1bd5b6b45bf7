from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.contrib.auth.models import User
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from config.adminsite import LookOnlyAdmin

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


admin.site.unregister(User)
admin.site.register(User, TeamAdmin)
