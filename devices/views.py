from __future__ import annotations

from django.contrib import messages
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.decorators import permission_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from devices.cards import bound_to, cards, recent_numbers, simulated_phone
from devices.forms import DeviceForm, NewDeviceForm
from devices.models import Device


@permission_required("devices.view_device", raise_exception=True)
def device_list(request: HttpRequest) -> HttpResponse:
    devices = Device.objects.kept()
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


@permission_required("devices.add_device", raise_exception=True)
def new(request: HttpRequest) -> HttpResponse:
    form = NewDeviceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        device = form.save()
        note(request, device, _("Added."), flag=ADDITION)
        return redirect("devices:detail" if device.is_paired else "devices:pair", device.pk)
    return render(request, "devices/form.html", {"form": form})


@permission_required("devices.change_device", raise_exception=True)
def edit(request: HttpRequest, pk: int) -> HttpResponse:
    device = get_object_or_404(Device.objects.kept(), pk=pk)
    form = DeviceForm(request.POST or None, instance=device)
    if request.method == "POST" and form.is_valid():
        form.save()
        note(request, device, _("Saved. Broadcasters go by it within 20 seconds."))
        return redirect("devices:detail", pk)
    name = Device.objects.values_list("name", flat=True).get(pk=pk)  # not the one being written
    return render(request, "devices/form.html", {"form": form, "device": device, "name": name})


@require_POST
@permission_required("devices.change_device", raise_exception=True)
def switch(request: HttpRequest, pk: int) -> HttpResponse:
    """Switches the device on or off, as the button says, so that two clicks are not none."""
    device = get_object_or_404(Device.objects.kept(), pk=pk)
    on = request.POST.get("enabled") == "1"
    if Device.objects.kept().filter(pk=pk, enabled=not on).update(enabled=on):
        # What that means, its page says as long as it is off.
        note(request, device, _("Switched on.") if on else _("Switched off."), say=on)
    return redirect("devices:detail", pk)


@require_POST
@permission_required("devices.change_device", raise_exception=True)
def works_again(request: HttpRequest, pk: int) -> HttpResponse:
    device = get_object_or_404(Device.objects.kept(), pk=pk)
    if Device.objects.filter(pk=pk).work_again():
        note(request, device, _("It works again: a broadcaster connects it and sends what waits."))
    return redirect("devices:detail", pk)


@permission_required("devices.delete_device", raise_exception=True)
def delete(request: HttpRequest, pk: int) -> HttpResponse:
    device = get_object_or_404(Device.objects.kept(), pk=pk)
    if request.method != "POST":
        context = {"device": device, "card": cards([device])[0], "bound": bound_to(device)}
        return render(request, "devices/delete.html", context)
    named = f"{device} (+{device.phone})" if device.phone else str(device)
    if device.remove(request.user):  # type: ignore[arg-type]  # the decorator has seen to that
        text = _("Deleted: %(device)s.") % {"device": named}
        note(request, device, text, flag=DELETION)
    return redirect("devices:list")


def note(
    request: HttpRequest, device: Device, text: str, *, flag: int = CHANGE, say: bool = True
) -> None:
    """Says what was done, here and in the history of who did what."""
    LogEntry.objects.log_actions(  # type: ignore[call-overload]
        request.user.pk, [device], flag, change_message=text, single_object=True
    )
    if say:
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
