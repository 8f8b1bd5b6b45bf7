from __future__ import annotations

from django.contrib import messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.decorators import permission_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from devices.cards import cards, recent_numbers, simulated_phone
from devices.models import Device
from devices.queryset import DeviceQuerySet


@permission_required("devices.view_device", raise_exception=True)
def device_list(request: HttpRequest) -> HttpResponse:
    devices = Device.objects.all()
    if q := request.GET.get("q", "").strip():
        devices = devices.filter(name__icontains=q)
    page = Paginator(devices, 24).get_page(request.GET.get("page"))
    template = "devices/_cards.html" if request.htmx else "devices/list.html"  # type: ignore[attr-defined]
    return render(request, template, {"page": page, "cards": cards(page), "q": q})


@permission_required("devices.view_device", raise_exception=True)
def detail(request: HttpRequest, pk: int) -> HttpResponse:
    device = get_object_or_404(Device, pk=pk)
    template = "devices/_facts.html" if request.htmx else "devices/detail.html"  # type: ignore[attr-defined]
    return render(request, template, {"device": device, "card": cards([device])[0]})


@require_POST
@permission_required("devices.change_device", raise_exception=True)
def switch(request: HttpRequest, pk: int) -> HttpResponse:
    """Switches the device on or off, as the button says, so that two clicks are not none."""
    get_object_or_404(Device, pk=pk)
    on = request.POST.get("enabled") == "1"
    device = Device.objects.filter(pk=pk)
    if device.filter(enabled=not on).update(enabled=on):
        text = _("Switched on.") if on else _("Switched off: it sends nothing until switched on.")
        _note(request, device, text)
    return redirect("devices:detail", pk)


@require_POST
@permission_required("devices.change_device", raise_exception=True)
def works_again(request: HttpRequest, pk: int) -> HttpResponse:
    get_object_or_404(Device, pk=pk)
    device = Device.objects.filter(pk=pk)
    if device.work_again():
        _note(request, device, _("It works again: a broadcaster connects it and sends what waits."))
    return redirect("devices:detail", pk)


def _note(request: HttpRequest, device: DeviceQuerySet, text: str) -> None:
    """Says what was done, here and in the history of who did what."""
    LogEntry.objects.log_actions(  # type: ignore[call-overload]
        request.user.pk, device, CHANGE, change_message=text, single_object=True
    )
    messages.success(request, text)


@permission_required("devices.view_device", raise_exception=True)
def phone(request: HttpRequest) -> HttpResponse:
    """The simulator's other end: what the phone with this number has received."""
    numbers = recent_numbers()
    typed = "".join(filter(str.isdigit, request.GET.get("phone", "")))
    chosen = typed or (numbers[0].phone if numbers else "")
    template = "devices/_phone.html" if request.htmx else "devices/phone.html"  # type: ignore[attr-defined]
    context = {"numbers": numbers, "chosen": simulated_phone(chosen)}
    return render(request, template, context)
