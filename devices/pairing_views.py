"""The pages that link a device to a phone, and take that back."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from devices.forms import PairForm
from devices.models import Device
from devices.pairing import Pairing
from devices.transports import PAIRED
from devices.views import note


def _device(pk: int) -> Device:
    return get_object_or_404(Device.objects.kept(), pk=pk, transport__in=PAIRED)


@never_cache  # who has the code has the account
@permission_required("devices.change_device", raise_exception=True)
def pair(request: HttpRequest, pk: int) -> HttpResponse:
    """Starts a pairing, and shows how far it is; asked again every second while it is open."""
    device = _device(pk)
    Pairing.objects.close_abandoned()
    running = Pairing.objects.on_screen(device)
    if request.htmx and running and running.version == request.GET.get("seen"):  # type: ignore[attr-defined]
        return HttpResponse(status=204)
    form = PairForm(request.POST or None, device=device, by=request.user, last=running)  # type: ignore[arg-type]
    if request.method == "POST" and form.is_valid():
        started = form.start(request.user)  # type: ignore[arg-type]
        if running and running.is_open:
            messages.warning(request, _("It is being linked already. Cancel that to begin anew."))
        else:
            note(request, device, _("Linking it: %s.") % started.get_method_display(), say=False)
        return redirect("devices:pair", pk)
    is_new = "again" in request.GET and not (running and running.is_open)
    pairing = None if is_new or request.method == "POST" else running
    template = "devices/_pairing.html" if request.htmx else "devices/pair.html"  # type: ignore[attr-defined]
    return render(request, template, {"device": device, "form": form, "pairing": pairing})


@require_POST
@permission_required("devices.change_device", raise_exception=True)
def cancel_pairing(request: HttpRequest, pk: int) -> HttpResponse:
    running = Pairing.objects.open().filter(device=_device(pk)).first()
    if running and running.cancel():
        messages.success(request, _("Cancelled. Nothing was linked."))
    return redirect("devices:pair", pk)


@permission_required("devices.change_device", raise_exception=True)
def log_out(request: HttpRequest, pk: int) -> HttpResponse:
    device = _device(pk)
    if request.method != "POST":
        return render(request, "devices/log_out.html", {"device": device})
    if device.log_out(request.user):  # type: ignore[arg-type]
        note(request, device, _("Logged out."), say=False)
    return redirect("devices:detail", pk)
