from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Case, Exists, F, OuterRef, Q, Value, When
from django.db.models.expressions import Combinable
from django.db.models.functions import Coalesce, Greatest, Now

from devices.among import Among
from devices.transports import PAIRED

if TYPE_CHECKING:
    from devices.models import Device

# For how long, where WhatsApp does not say. Its app on the phone shows hours to days: a first
# contact a day finds out soon enough, and does not press.
FIRST_CONTACTS_BLOCKED = timedelta(days=1)


class DeviceQuerySet(models.QuerySet["Device"]):
    def kept(self) -> Self:
        """Devices that nobody has deleted. Those stay for the sake of their messages."""
        return self.filter(deleted_at__isnull=True)

    def usable(self) -> Self:
        """Devices that may be given messages: switched on, paired, and not lost to WhatsApp."""
        return self.filter(self._is_usable())

    def usable_of(self, chosen: Iterable[Device], *, or_all: bool) -> Self:
        """Of the devices chosen those that may be given messages; of all, if none was chosen."""
        ids = [device.pk for device in chosen]
        return self.usable() if or_all and not ids else self.usable().filter(pk__in=ids)

    def none_usable_of(self, owners: str) -> Q:
        """The condition for campaigns or sequences, by what devices call them, that `usable_of` has
        nothing for them."""
        chosen = self.filter(**{owners: OuterRef("pk")}).order_by()
        from_all = Q(from_all_devices=True) & ~Q(Exists(chosen))
        return ~Q(Exists(chosen.usable())) & ~(from_all & Q(Exists(self.usable().order_by())))

    def instead_of_deleted(self, chosen: Iterable[Device], *, or_all: bool) -> Self:
        """Where to what waited for a device that was deleted: those chosen that may be given
        messages, or else that exist, for one of which it waits; where none exists any more, all."""
        ids = [device.pk for device in chosen]
        ours = self.kept() if or_all and not ids else self.kept().filter(pk__in=ids)
        for devices in (ours, self.kept()):
            for found in (devices.usable(), devices):
                if found.exists():
                    return found
        return self.none()

    def unpaired(self) -> Self:
        """Devices that send nothing before a phone has linked them."""
        return self.filter(_is_unpaired(), enabled=True)

    def blocked(self) -> Self:
        """Devices that WhatsApp lets send nothing, as far as we have heard."""
        return self.filter(status__in=self.model.BLOCKED)

    def held_up(self) -> Self:
        """Devices that send less than they might, or nothing, because of what WhatsApp said."""
        resting = Q(restricted_until__gt=Now()) | Q(first_contacts_blocked_until__gt=Now())
        return self.filter(Q(status__in=self.model.BLOCKED) | resting)

    def work_again(self) -> int:
        """Takes the operator's word that WhatsApp lets these send again; returns how many.

        A block without an end has no other way back: nobody connects what is logged out or banned.
        """
        connected = self.held_up().filter(status=self.model.Status.ONLINE)
        again = connected.update(first_contacts_blocked_until=None)
        return again + self.held_up().update(
            status=self.model.Status.OFFLINE,
            status_reason="",
            status_changed_at=Now(),
            restricted_until=None,
            first_contacts_blocked_until=None,
        )

    def block_first_contacts(self, until: datetime | Combinable | None) -> int:
        """Records that WhatsApp lets these write only to people they have talked with."""
        return self.update(first_contacts_blocked_until=until or Now() + FIRST_CONTACTS_BLOCKED)

    def pair(self, session: str) -> int:
        """Gives them this session, which any broadcaster that has its file opens from now on.

        A new pairing is a new name, so that nobody opens an older file again. Of what was handed
        over under the leases so far, the new session knows nothing.
        """
        return self.update(
            session=session,
            session_epoch=F("lease_epoch"),
            status=self.model.Status.OFFLINE,
            status_reason="",
            status_changed_at=Now(),
            restricted_until=None,
            first_contacts_blocked_until=None,
        )

    def change_account(self) -> int:
        """Notes that these send through another account from the next lease on: what is handed over
        until then leaves through the former one, and of that the next knows nothing."""
        return self.update(session_epoch=F("lease_epoch"))

    def leased(self) -> Self:
        """Devices that a broadcaster holds right now, by the database's clock."""
        return self.filter(lease_expires_at__gt=Now()).exclude(worker_id="")

    def online(self) -> Self:
        return self.leased().filter(enabled=True, status=self.model.Status.ONLINE)

    def free(self) -> Self:
        """Devices without a holder, or whose holder let the lease run out. None that was given up
        and is to be left alone for now."""
        return self.filter(self._is_free())

    def calling(self, worker_id: str) -> Self:
        """Those that a broadcaster has to act on, and none where all is well: devices it holds that
        may not be used any more, or whose block may be over; and free ones. Annotated with which of
        these they are, `usable`, `over` and `free`."""
        status = self.model.Status
        # Its time is over, or an operator has said that it works again.
        over = Q(worker_id=worker_id) & (self._is_unblocked() | Q(status=status.OFFLINE))
        gone = Q(worker_id=worker_id) & ~self._is_usable()
        # Told first, row by row: what most of them are.
        leased = Q(lease_expires_at__gt=Now()) & ~Q(worker_id="")
        well = Q(enabled=True, status=status.ONLINE) & leased & ~_is_unpaired()
        calling = self.filter(~well, gone | over | (self._is_usable() & self._is_free()))
        return calling.annotate(usable=self._is_usable(), free=self._is_free(), over=over)

    def held_by(self, epochs: Mapping[int, int], worker_id: str) -> Self:
        """Of the devices {id: lease epoch}, those that `worker_id` still holds in that epoch."""
        held = Q(pk__in=[])
        for epoch in set(epochs.values()):
            ids = [pk for pk, of_device in epochs.items() if of_device == epoch]
            held |= Q(Among("pk", sorted(ids)), lease_epoch=epoch)
        return self.filter(held, worker_id=worker_id)

    def take_leases(self, ids: Iterable[int], worker_id: str) -> dict[int, int]:
        """Leases the free ones of these devices, of which `worker_id` works none yet; returns
        {device id: lease epoch} of those that are its own now.

        One compare-and-set per row, so of two broadcasters that want a device one gets it. The
        epoch grows with every change of hands: it fences whatever the former holder still does.
        Repeated after a lost answer it returns what the first try took.
        """
        ids = sorted(ids)
        self.filter(pk__in=ids).free().update(
            worker_id=worker_id,
            lease_epoch=F("lease_epoch") + 1,
            lease_expires_at=Now() + timedelta(seconds=settings.LEASE_SECONDS),
        )
        return dict(self.filter(pk__in=ids, worker_id=worker_id).values_list("pk", "lease_epoch"))

    def renew_leases(self, epochs: Mapping[int, int], worker_id: str) -> set[int]:
        """Extends the leases {device id: epoch} by LEASE_SECONDS; returns the ids still held."""
        held = self.held_by(epochs, worker_id)
        renewed = held.update(lease_expires_at=Now() + timedelta(seconds=settings.LEASE_SECONDS))
        if renewed == len(epochs):
            return set(epochs)
        return set(held.order_by().values_list("pk", flat=True))

    def release_leases(self, epochs: Mapping[int, int], worker_id: str) -> int:
        """Gives leases back; returns how many were still held."""
        return self.held_by(epochs, worker_id).update(
            worker_id="",
            lease_expires_at=None,
            # Before the status: MySQL goes by what was assigned already.
            status_changed_at=Case(When(status="online", then=Now()), default="status_changed_at"),
            status=_offline_if_online(),
        )

    def put_off(self, until: Mapping[int, datetime | Combinable]) -> int:
        """Lets these devices {id: moment} send nothing before then; returns how many.

        A later moment stays: who sent from a device may say so late, and others have since.
        """
        at = Case(
            *(When(pk=pk, then=until[pk]) for pk in sorted(until)),
            output_field=models.DateTimeField(),
        )
        later = Greatest(Coalesce("next_send_at", at), at)
        return self.filter(pk__in=sorted(until)).update(next_send_at=later)

    def change_status(
        self,
        status: Device.Status,
        *,
        reason: str = "",
        until: datetime | Combinable | None = None,
    ) -> int:
        """Records what WhatsApp says of these accounts; returns for how many that is news.

        What WhatsApp blocked is not brought back by a connection that begins or ends, only by
        the end of the time it was blocked for, or by pairing again.
        """
        reason = reason[:255]
        same = Q(status=status, status_reason=reason)
        same &= Q(restricted_until=until) if until else Q(restricted_until__isnull=True)
        changed = self.filter(~same)
        if status in (self.model.Status.OFFLINE, self.model.Status.ONLINE):
            changed = changed.exclude(Q(status__in=self.model.BLOCKED) & ~_block_is_over())
        return changed.update(
            status=status,
            status_reason=reason,
            status_changed_at=Now(),
            restricted_until=until,
        )

    def _is_usable(self) -> Q:
        lost = Q(status__in=[self.model.Status.LOGGED_OUT, self.model.Status.BANNED])
        return Q(enabled=True) & ~_is_unpaired() & ~(lost & ~_block_is_over())

    def _is_unblocked(self) -> Q:
        return Q(status__in=self.model.BLOCKED) & _block_is_over()

    def _is_free(self) -> Q:
        nobodys = (
            Q(worker_id="") | Q(lease_expires_at__isnull=True) | Q(lease_expires_at__lte=Now())
        )
        resting = Q(status=self.model.Status.OFFLINE, restricted_until__gt=Now())
        return nobodys & ~(resting & Q(restricted_until__isnull=False))


def _is_unpaired() -> Q:
    return Q(transport__in=PAIRED, session="")


def _block_is_over() -> Q:
    return Q(restricted_until__isnull=False, restricted_until__lte=Now())


def _offline_if_online() -> Case:
    return Case(When(status="online", then=Value("offline")), default=F("status"))
