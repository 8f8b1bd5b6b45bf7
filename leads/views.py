from __future__ import annotations

import logging
from collections.abc import Iterator

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.contrib.contenttypes.models import ContentType
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from leads.forms import LeadFilterForm, UploadForm
from leads.import_results import report_lines
from leads.importing import LeadImport
from leads.models import Lead
from leads.paging import window
from leads.spreadsheets import UnreadableFile
from leads.uploads import ImportStopped, Upload

logger = logging.getLogger(__name__)


@permission_required("leads.view_lead", raise_exception=True)
def lead_list(request: HttpRequest) -> HttpResponse:
    form = LeadFilterForm(request.GET)
    leads = form.leads().select_related("device").prefetch_related("niches")
    page = window(leads, request.GET)
    context = {"form": form, "page": page, "any": page.rows or Lead.objects.exists()}
    return render(request, "leads/list.html", context)


@permission_required("leads.import_lead", raise_exception=True)
def upload(request: HttpRequest) -> HttpResponse:
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST" and form.is_valid():
        Upload.keep(request.session, **form.cleaned_data)
        return redirect("leads:review")
    return render(request, "leads/upload.html", {"form": form})


@permission_required("leads.import_lead", raise_exception=True)
def review(request: HttpRequest) -> HttpResponse:
    """What importing the uploaded file would do; once it is imported, what that did."""
    kept = Upload.of(request.session)
    if kept is None:
        return _gone(request)
    if (imported := kept.imported) is not None:
        return render(request, "leads/imported.html", {"upload": kept, "imported": imported})
    try:
        report = kept.dry_run()
    except UnreadableFile as error:
        return _unreadable(request, error)
    return render(request, "leads/review.html", {"upload": kept, "report": report})


@permission_required("leads.import_lead", raise_exception=True)
def refused(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """The rows that are not used, with reasons, as a CSV file to mend and upload again."""
    kept = Upload.of(request.session)
    if kept is None:
        return _gone(request)
    try:
        kept.read_through()  # an answer that has begun cannot say any more that it breaks off
    except UnreadableFile as error:
        return _unreadable(request, error)

    def lines() -> Iterator[str]:
        with kept.path.open("rb") as file:
            lead_import = LeadImport(file, kept.options(dry_run=True))
            yield from report_lines(lead_import.layout.headings, lead_import.results())

    response = StreamingHttpResponse(lines(), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = 'attachment; filename="rows-not-used.csv"'
    return response


@require_POST
@permission_required("leads.import_lead", raise_exception=True)
def import_upload(request: HttpRequest) -> HttpResponse:
    kept = Upload.of(request.session)
    if kept is None:
        return _gone(request)
    if not _is_meant(request, kept):
        return redirect("leads:review")
    try:
        if kept.import_leads():
            _log_import(request, kept, _("Imported leads from a file."))
    except UnreadableFile as error:
        return _unreadable(request, error)
    except ImportStopped as stopped:
        logger.exception("An import from the web broke off")
        said = _("The import broke off. %(count)s rows were imported before and stay.")
        said %= {"count": f"{stopped.rows:,}"}
        _log_import(request, kept, said)
        messages.error(request, f"{said} {_('Import the file again: nothing comes twice.')}")
    return redirect("leads:review")


@require_POST
@permission_required("leads.import_lead", raise_exception=True)
def discard(request: HttpRequest) -> HttpResponse:
    if kept := Upload.of(request.session):
        if not _is_meant(request, kept):
            return redirect("leads:review")
        kept.discard(request.session)
    return redirect("leads:upload")


@permission_required("leads.view_lead", raise_exception=True)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    leads = Lead.objects.with_skip_reason().select_related("device", "person")
    lead = get_object_or_404(leads.prefetch_related("niches", "triggers"), pk=pk)
    # When each left or ended, or else is to leave. Read only by who may see messages.
    told = lead.messages.annotate(at=Coalesce("sent_at", "finished_at", "scheduled_at"))
    history = told.select_related("attachment").order_by("-at", "-pk")[:20]
    return render(request, "leads/detail.html", {"lead": lead, "history": history})


@permission_required("leads.opt_out_lead", raise_exception=True)
def opt_out(request: HttpRequest, pk: int) -> HttpResponse:
    """Asks, by GET; does it, by POST, once."""
    asked = get_object_or_404(Lead, pk=pk)
    if request.method != "POST":
        return render(request, "leads/opt_out.html", {"lead": asked})
    lead = Lead.objects.filter(pk=pk)
    if lead.opt_out(source=_("recorded by %(user)s") % {"user": request.user.get_username()}):
        LogEntry.objects.log_actions(  # type: ignore[call-overload]
            request.user.pk, lead, CHANGE, change_message=_("Opted out."), single_object=True
        )
        messages.success(request, _("Opted out: no campaign or sequence will write to this lead."))
    return redirect("leads:detail", pk)


@require_POST
@permission_required("leads.change_lead", raise_exception=True)
def ask_again(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Lead, pk=pk)
    lead = Lead.objects.filter(pk=pk)
    if lead.ask_again():
        said = _("Nothing is known any more: WhatsApp is asked before the next message.")
        LogEntry.objects.log_actions(  # type: ignore[call-overload]
            request.user.pk, lead, CHANGE, change_message=said, single_object=True
        )
        messages.success(request, said)
    return redirect("leads:detail", pk)


def _is_meant(request: HttpRequest, kept: Upload) -> bool:
    """Whether the page that this came from showed the upload that is kept: in another tab there may
    have been a later one, with what was said of it."""
    if request.POST.get("upload") == kept.mark:
        return True
    said = _("Nothing was done: another file, %(name)s, was uploaded since. This is that one.")
    messages.error(request, said % {"name": kept.filename})
    return False


def _log_import(request: HttpRequest, kept: Upload, said: str) -> None:
    LogEntry.objects.create(
        user_id=request.user.pk,  # type: ignore[misc]
        content_type=ContentType.objects.get_for_model(Lead),
        object_repr=kept.filename[:200],
        action_flag=ADDITION,
        change_message=said,
    )


def _unreadable(request: HttpRequest, error: UnreadableFile) -> HttpResponse:
    messages.error(request, str(error))
    return redirect("leads:upload")


def _gone(request: HttpRequest) -> HttpResponse:
    messages.error(request, _("The uploaded file is no longer here. Please upload it again."))
    return redirect("leads:upload")
