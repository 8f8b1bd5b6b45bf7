"""What the admin pages of all apps share: lists that stay quick, and actions that ask first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.paginator import Paginator
from django.db.models import Count, Max, Model, QuerySet, Value
from django.db.models.functions import Coalesce
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.functional import Promise, cached_property
from django.utils.html import format_html
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from leads.moments import no_later

# Above this many rows an action writes one line of history for all, not one for each.
LOGGED_ONE_BY_ONE = 1_000

# A status that this many rows have is common.
COMMON = 10_000

# Status → the colour of its tag; the word stands beside it.
TONES = {
    "ok": {"active", "completed", "finished", "online", "sent"},
    "info": {"processing", "queued", "queuing", "scheduled", "sending"},
    "warn": {"expired", "paused", "restricted", "stopped"},
    "bad": {"banned", "failed", "logged_out"},
    "odd": {"unknown"},
}


def tag(status: str, label: str) -> str:
    """Returns `label` as a coloured tag, safe HTML."""
    tone = next((tone for tone, statuses in TONES.items() if status in statuses), "")
    return format_html('<span class="tag {}">{}</span>', tone, label)


def count_some(rows: QuerySet[Any], most: int) -> int:
    """Returns how many rows there are, or `most` where there are more: it looks no further."""
    return rows.order_by().values("pk")[:most].count()


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts up to MOST rows and no further: a list of a million is narrowed, not leafed through.

    `has_more` says that the count stopped there.
    """

    MOST = 10_000

    @cached_property
    def _counted(self) -> int:
        rows = self.object_list
        assert isinstance(rows, QuerySet)
        return count_some(rows, self.MOST + 1)

    @cached_property
    def count(self) -> int:
        return min(self._counted, self.MOST)

    @property
    def has_more(self) -> bool:
        return self._counted > self.MOST


class StatusFilter(admin.ChoicesFieldListFilter):
    """Goes by the index where a status is rare, and by the newest rows where it is common.

    To show the newest 50 of half a million, the database would read all of them off the index of
    the status and sort them. Going down the key it meets 50 soon.
    """

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        rows: QuerySet[Any] = super().queryset(request, queryset)  # type: ignore[assignment]
        if self.lookup_val and count_some(rows, COMMON) == COMMON:
            # An expression is not in any index.
            walked = queryset.alias(walked=Coalesce(self.field_path, Value("")))
            rows = walked.filter(walked__in=self.lookup_val)
        return rows


class NewestRelatedFilter(admin.RelatedFieldListFilter):
    """Offers the 15 newest and the one chosen: thousands of choices would be no filter.

    Others are reached from their own list, whose links carry the filter.
    """

    SHOWN = 15

    def field_choices(
        self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin[Any]
    ) -> list[tuple[str, Any]]:
        rows = field.remote_field.model._default_manager
        newest = list(rows.order_by("-pk")[: self.SHOWN])
        chosen = [pk for pk in self.lookup_val or [] if pk.isdecimal()]
        if chosen and int(chosen[-1]) not in {row.pk for row in newest}:
            newest += rows.filter(pk=chosen[-1])
        return [(row.pk, str(row)) for row in newest]

    def has_output(self) -> bool:
        # A filter without output is not applied: a link with one choice would show everything.
        return True


class ConfirmedAction:
    """An admin action that states its count and its effect, asks, and then does it once.

    `applies_to` narrows the chosen rows to those that the action changes; `work` changes them
    and returns how many it did (an int), or the rows themselves. Both the offer and the doing
    need the permission `may`, a name such that the admin has `has_<may>_permission(request)`.
    Signed work is told who asked for it: `work(rows, user)`. `dated` names the field that says
    since when a row is as it is, where it may become so once more: then it is another question.
    """

    def __init__(
        self,
        label: Promise,
        *,
        effect: Promise,
        may: str,
        applies_to: Callable[[Any], Any],
        work: Callable[..., int | Sequence[Model]],
        nothing: Promise,
        is_signed: bool = False,
        dated: str = "",
    ) -> None:
        self.short_description = label
        self.allowed_permissions = [may]
        self.effect = effect
        self.work = work
        self.is_signed = is_signed
        self.dated = dated
        self.applies_to = applies_to
        self.nothing = nothing

    def __call__(
        self, model_admin: QuickAdmin, request: HttpRequest, chosen: QuerySet[Any]
    ) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            return self.ask(model_admin, request, chosen)
        if (last_pk := request.POST.get("last_pk", "")).isdecimal():
            # Rows that came after the question was put are not part of the answer.
            chosen = chosen.filter(pk__lte=last_pk)
        if self.dated and (last_at := parse_datetime(request.POST.get("last_at", ""))):
            chosen = chosen.filter(no_later(self.dated, last_at))
        changed = self.do(request, self.applies_to(chosen.order_by()))
        names = {
            "label": self.short_description,
            "count": changed,
            "one": model_admin.opts.verbose_name,
            "many": model_admin.opts.verbose_name_plural,
        }
        done = ngettext("%(label)s: %(count)d %(one)s.", "%(label)s: %(count)d %(many)s.", changed)
        model_admin.message_user(request, done % names)
        return None

    def ask(
        self, model_admin: QuickAdmin, request: HttpRequest, chosen: QuerySet[Any]
    ) -> TemplateResponse:
        applicable = self.applies_to(chosen.order_by())
        figures = applicable.aggregate(count=Count("pk"), last_pk=Max("pk"))
        context = {
            **model_admin.admin_site.each_context(request),
            "opts": model_admin.opts,
            "title": self.short_description,
            "effect": self.effect,
            "nothing": self.nothing,
            "chosen": chosen.order_by().count(),
            "sample": applicable.order_by("-pk")[:10],
            "action": request.POST["action"],
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox": ACTION_CHECKBOX_NAME,
            "select_across": request.POST.get("select_across", "0"),
            **figures,
        }
        if self.dated and (last_at := applicable.aggregate(at=Max(self.dated))["at"]):
            context["last_at"] = last_at.isoformat()
        return TemplateResponse(request, "admin/confirm_action.html", context)

    def do(self, request: HttpRequest, rows: QuerySet[Any]) -> int:
        """Does the work on these rows, writes who asked for it, and returns how many changed."""
        pks = list(rows.values_list("pk", flat=True)[: LOGGED_ONE_BY_ONE + 1])
        if len(pks) <= LOGGED_ONE_BY_ONE:
            rows = rows.filter(pk__in=pks)  # what joins them from here on is not written down
        changed = self.work(rows, request.user) if self.is_signed else self.work(rows)
        said = str(self.short_description)
        if not isinstance(changed, int):
            pks = [row.pk for row in changed]
            changed = len(pks)
        elif changed < len(pks) <= LOGGED_ONE_BY_ONE:
            # Somebody else was first with some of them, and a number does not say with which.
            said = _("Asked for: %(label)s. %(changed)d of the %(chosen)d rows changed.") % {
                "label": said, "changed": changed, "chosen": len(pks),
            }  # fmt: skip
        log_action(request, rows.model, pks, changed, said)
        return changed


def log_action(
    request: HttpRequest, model: type[Model], pks: list[Any], changed: int, message: str
) -> None:
    """Writes the admin's history: a line a row, or one line for all when there are very many."""
    if not changed or request.user.pk is None:
        return
    if len(pks) <= LOGGED_ONE_BY_ONE:
        rows = model._default_manager.filter(pk__in=pks)
        LogEntry.objects.log_actions(request.user.pk, rows, CHANGE, message)
        return
    LogEntry.objects.create(
        user_id=request.user.pk,
        content_type=ContentType.objects.get_for_model(model),
        object_repr=f"{changed} {model._meta.verbose_name_plural}",
        action_flag=CHANGE,
        change_message=message,
    )


class QuickAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that costs the same with a million rows, and a form that saves only its own fields."""

    paginator = BoundedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 50

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        # Django's bulk deletion reads all that hangs on the rows: for a device, every message.
        actions = super().get_actions(request)
        actions.pop("delete_selected", None)
        return actions

    def save_model(
        self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool
    ) -> None:
        """Writes what the form changed and nothing else.

        A whole row would put back the lease, the status or the counters as they were when the
        form was read.
        """
        if not change:
            return super().save_model(request, obj, form, change)
        columns = obj._meta.concrete_fields
        changed = [column.name for column in columns if column.name in form.changed_data]
        if form.changed_data:  # also where it is niches, which are no column
            stamps = [column.name for column in columns if getattr(column, "auto_now", False)]
            obj.save(update_fields=[*changed, *stamps])


class LookOnlyAdmin(QuickAdmin):
    """Rows that the engine writes: to be looked at, and acted on by actions alone."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
