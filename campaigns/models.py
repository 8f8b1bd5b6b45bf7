from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models, transaction
from django.db.models import Case, Exists, Q, Value, When
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from broadcasts.pacing import Holdup
from broadcasts.rendering import check_message, validate_body
from broadcasts.retrying import survive_conflicts
from broadcasts.timeline import Outlook
from campaigns.agreement import Agreement
from campaigns.audience import Audience
from campaigns.queryset import CampaignQuerySet
from devices.limits import LONGEST_PAUSE
from devices.models import Device, default_timezone, validate_timezone
from devices.queryset import DeviceQuerySet
from leads.models import Lead
from leads.versions import digest

# So many messages are moved while the operator waits; the scheduler moves the rest.
AT_ONCE = 10_000
# Where it may be that no message is written, and it goes on by itself.
UNWRITTEN = ("scheduled", "queuing")


class Campaign(models.Model):
    """One message to an audience at a time."""

    class Status(models.TextChoices):
        DRAFT = "draft", _("draft")
        SCHEDULED = "scheduled", _("scheduled")
        QUEUING = "queuing", _("queuing")
        SENDING = "sending", _("sending")
        PAUSED = "paused", _("paused")
        FINISHED = "finished", _("finished")
        CANCELLED = "cancelled", _("cancelled")

    title = models.CharField(_("title"), max_length=150)
    message = models.TextField(
        _("message"),
        max_length=4096,
        blank=True,  # where a file says it all
        validators=[validate_body],
        help_text=_("{name}, {first_name}, {phone} and {niche} are filled in; {name|there} says "
                    "“there” where no name is known. *bold* _italic_ ~struck~"),
    )  # fmt: skip
    attachment = models.ForeignKey(
        "attachments.Attachment", on_delete=models.PROTECT, null=True, blank=True,
        related_name="campaigns", verbose_name=_("picture, video or document"),
    )  # fmt: skip
    niches = models.ManyToManyField(
        "leads.Niche", blank=True, related_name="campaigns", db_table="campaign_niches",
        verbose_name=_("niches"), help_text=_("Leads in any of these. None chosen: all leads."),
    )  # fmt: skip
    target_status = models.CharField(
        _("lead status"), max_length=10, choices=Lead.Status.choices, blank=True,
        help_text=_("Empty: prospects and customers."),
    )  # fmt: skip
    devices = models.ManyToManyField(
        "devices.Device", blank=True, related_name="campaigns", db_table="campaign_devices",
        verbose_name=_("devices"), help_text=_("None chosen: every device that may send."),
    )  # fmt: skip
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.DRAFT, db_index=True
    )
    scheduled_at = models.DateTimeField(_("scheduled"), null=True, blank=True)
    timezone = models.CharField(
        _("time zone"), max_length=64, default=default_timezone, validators=[validate_timezone]
    )
    min_delay_seconds = models.PositiveSmallIntegerField(
        _("shortest pause"), default=0, validators=[LONGEST_PAUSE],
        help_text=_("Seconds. A campaign may ask for longer pauses than its devices, not shorter."),
    )  # fmt: skip
    max_delay_seconds = models.PositiveSmallIntegerField(
        _("longest pause"), default=0, validators=[LONGEST_PAUSE]
    )

    # "None chosen: all" as it was when it was scheduled: deleting the one niche or device that was
    # chosen must not widen it to everybody.
    for_all_niches = models.BooleanField(default=True, editable=False)
    from_all_devices = models.BooleanField(default=True, editable=False)

    # Fan-out: the audience is frozen at its start, and each chunk commits how far it came.
    audience_max_lead_id = models.PositiveBigIntegerField(null=True, blank=True, editable=False)
    checkpoint_lead_id = models.PositiveBigIntegerField(default=0, editable=False)
    audience_size = models.PositiveIntegerField(_("audience"), null=True, blank=True)
    fanned_out_at = models.DateTimeField(_("queued"), null=True, blank=True)

    started_at = models.DateTimeField(_("started"), null=True, blank=True)
    paused_at = models.DateTimeField(_("paused"), null=True, blank=True)
    # Of a pause before that one, for messages that were not back from it.
    earlier_pause_seconds = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    resumed_at = models.DateTimeField(null=True, blank=True, editable=False)
    # As the scheduler's latest pass reckons it; pages ask every second and only read it.
    expected_finish_at = models.DateTimeField(_("expected finish"), null=True, editable=False)
    # As well: for how many devices something of it waits, and what Holdup says of those.
    waiting_devices = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    held_devices = models.PositiveIntegerField(default=0, db_default=0, editable=False)
    held_by = models.CharField(max_length=20, blank=True, default="", db_default="", editable=False)
    goes_on_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(_("finished"), null=True, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True,
        related_name="campaigns", verbose_name=_("created by"),
    )  # fmt: skip
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    OUTLOOK = ("expected_finish_at", "waiting_devices", "held_devices", "held_by", "goes_on_at")

    objects = CampaignQuerySet.as_manager()

    class Meta:
        db_table = "campaigns"
        ordering = ["-pk"]
        verbose_name = _("campaign")
        verbose_name_plural = _("campaigns")
        permissions = [("send_campaign", "Can schedule, pause, resume and cancel campaigns")]

    def __str__(self) -> str:
        return self.title

    def clean(self) -> None:
        # Without a longest pause the devices' own is it, or the shortest where that is longer.
        # One that is too long by itself says so.
        shortest = self.min_delay_seconds or 0
        if 0 < (self.max_delay_seconds or 0) < shortest <= LONGEST_PAUSE.limit_value:
            raise ValidationError(
                {"max_delay_seconds": _("The longest pause is shorter than the shortest.")}
            )
        check_message(self.message, self.attachment)

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    @property
    def is_editable(self) -> bool:
        """Once queued, people are getting it: what they read and who they are is settled."""
        return self.status == self.Status.DRAFT

    @property
    def sends_since(self) -> datetime | None:
        """When it began, or was resumed, whichever was later: it may have been paused and resumed
        before it began."""
        times = filter(None, (self.started_at, self.resumed_at))
        since: datetime | None = max(times, default=None)
        return since

    @property
    def pauses(self) -> str:
        """The pauses that it asks its devices for, in words: each keeps its own where those are
        longer."""
        shortest = self.min_delay_seconds
        longest = max(shortest, self.max_delay_seconds)
        if not longest:
            return gettext("pauses as its devices have them")
        if shortest == longest:
            text = ngettext(
                "pauses of %(longest)d second at least",
                "pauses of %(longest)d seconds at least",
                longest,
            )
        else:
            text = gettext("pauses of %(shortest)d to %(longest)d seconds at least")
        return text % {"shortest": shortest, "longest": longest}

    def usable_devices(self) -> list[Device]:
        """The devices that its messages may be given to."""
        return Audience.of(self).usable_devices()

    @property
    def has_lost_its_devices(self) -> bool:
        """Whether devices were chosen for it, none of which exists any more."""
        mine = Device.objects.kept().filter(campaigns=self)
        return not (self.from_all_devices or mine.exists())

    def devices_instead(self) -> DeviceQuerySet:
        """The devices for those of its messages whose device was deleted."""
        chosen, or_all = self.devices.all(), self.from_all_devices
        return Device.objects.instead_of_deleted(chosen, or_all=or_all)

    @property
    def holdup(self) -> Holdup:
        """What held its devices when the scheduler last looked."""
        return Holdup(self.waiting_devices, self.held_devices, self.held_by, self.goes_on_at)

    def outlook_changes(self, outlook: Outlook) -> dict[str, Any]:
        """Returns the columns, with their new values, in which this is not what is written down."""
        values = dict(zip(self.OUTLOOK, (outlook.ends_at, *outlook.holdup), strict=True))
        return {name: value for name, value in values.items() if getattr(self, name) != value}

    def counts(self) -> dict[str, int]:
        """Returns how many of its messages have each status."""
        return self.messages.counts()

    @property
    def is_late(self) -> bool:
        """Whether the time that it was to start at is past."""
        return self.scheduled_at is not None and self.scheduled_at <= timezone.now()

    @property
    def mark(self) -> str:
        """By which a page says what it showed of this campaign: what decides who gets what, when,
        from where and how fast."""
        return digest(
            self.message,
            self.attachment_id,
            self.target_status,
            sorted(niche.pk for niche in self.niches.all()),
            sorted(device.pk for device in self.devices.all()),
            self.scheduled_at.timestamp() if self.scheduled_at else None,
            self.timezone,
            self.min_delay_seconds,
            self.max_delay_seconds,
        )

    def agreement(self, will_receive: int) -> Agreement:
        """What somebody agrees to who sends it, having seen that so many receive it."""
        same = Campaign.objects.saying_the_same(self).exclude(status=self.Status.DRAFT)
        return Agreement(self.mark, will_receive, frozenset(same.values_list("pk", flat=True)))

    @survive_conflicts
    def send(self, agreed: Agreement) -> bool:
        """Schedules it as it was agreed to. False: it is something else by now, or no draft.

        With the rows locked, a save comes before and is seen, or after and finds no draft; of two
        that say the same, the second sees the first.
        """
        with transaction.atomic():
            same = Campaign.objects.saying_the_same(self).values_list("pk", flat=True)
            rows = Campaign.objects.filter(pk__in=[self.pk, *same]).order_by("pk")
            now = {row.pk: row for row in rows.select_for_update()}.get(self.pk)
            if now is None:
                return False
            # Read once, for the mark and for schedule(): a niche is deleted without this lock.
            models.prefetch_related_objects([now], "niches", "devices")
            if agreed.surprises(now.agreement(agreed.will_receive)):
                return False
            changed = now.schedule(now.scheduled_at)
        self.refresh_from_db()
        return changed

    def schedule(self, at: datetime | None = None) -> bool:
        """Sends it at that time, or now. False: it is no draft any more, or was just scheduled."""
        return self._change(
            [self.Status.DRAFT],
            self.Status.SCHEDULED,
            scheduled_at=at or Now(),
            for_all_niches=not self.niches.all(),
            from_all_devices=not self.devices.all(),
        )

    def unschedule(self) -> bool:
        """Makes a draft of it again, with the start that it had, as long as no message of it is
        written.

        That is decided by the row that the fan-out moves before it writes: one of the two is first.
        """
        unwritten = Campaign.objects.filter(pk=self.pk, status__in=UNWRITTEN, checkpoint_lead_id=0)
        changed = unwritten.update(
            status=self.Status.DRAFT,
            started_at=None,
            resumed_at=None,
            audience_max_lead_id=None,
            audience_size=None,
        )
        self.refresh_from_db()
        return bool(changed)

    @property
    def may_be_unscheduled(self) -> bool:
        """Whether no message of it is written, and none will be if it is a draft again."""
        return self.status in UNWRITTEN and not self.checkpoint_lead_id

    def discard(self) -> bool:
        """Deletes the draft. False: it is no draft any more."""
        # Out of reach first: a deletion reads before it deletes, and Send might come between.
        if not self._change([self.Status.DRAFT], self.Status.CANCELLED):
            return False
        return bool(Campaign.objects.filter(pk=self.pk).delete()[0])

    def start(self) -> bool:
        """Begins to queue its messages, if it is due: since it was read as that it may have become
        a draft, and been scheduled for later."""
        due = Campaign.objects.due().filter(pk=self.pk)
        changed = due.update(status=self.Status.QUEUING, started_at=Now())
        if changed:  # or it may not be there any more
            self.refresh_from_db()
        return bool(changed)

    def pause(self) -> bool:
        """Stops it at once: from now on nothing more is claimed. What is on the wire finishes."""
        self._reopen()
        carried = timedelta()
        if self.messages.filter(status="paused").exists():
            # Not all are back from the pause before this one, whose time is theirs as well.
            carried = self._paused_for
        changed = self._change(
            [self.Status.SCHEDULED, self.Status.QUEUING, self.Status.SENDING],
            self.Status.PAUSED,
            paused_at=Now(),
            earlier_pause_seconds=round(carried.total_seconds()),
        )
        return changed and self._settle_at_once()

    def resume(self) -> bool:
        """Goes on where it was paused."""
        paused = Campaign.objects.filter(pk=self.pk, status=self.Status.PAUSED)
        changed = paused.update(
            status=Case(
                When(started_at__isnull=True, then=Value(self.Status.SCHEDULED)),
                When(fanned_out_at__isnull=True, then=Value(self.Status.QUEUING)),
                default=Value(self.Status.SENDING),
            ),
            resumed_at=Now(),
            expected_finish_at=None,
            held_devices=0,
        )
        return bool(changed) and self._settle_at_once()

    def cancel(self) -> bool:
        """Ends it for good. What is on the wire finishes, the rest is cancelled, and so is whoever
        of its audience is not listed yet."""
        self._reopen()
        now = self.Status
        changed = self._change(
            [now.SCHEDULED, now.QUEUING, now.SENDING, now.PAUSED], now.CANCELLED, finished_at=Now()
        )
        return changed and self._settle_at_once()

    @property
    def is_cancelled(self) -> bool:
        return self.status == self.Status.CANCELLED

    @property
    def is_being_listed(self) -> bool:
        """Whether the scheduler goes on to list its audience: it is being queued, or was cancelled
        before all of it was listed. `CampaignQuerySet.being_listed` says the same."""
        began = self.is_cancelled and self.audience_max_lead_id is not None
        return self.fanned_out_at is None and (began or self.status == self.Status.QUEUING)

    def settle_messages(self, *, limit: int | None = None) -> int:
        """Moves its messages where its state says they belong; returns how many it moved.

        The claim looks at the campaign itself, so nothing waits for this. Each move is guarded by
        the state in its own statement: a pause that crosses a resume is put right by whoever
        comes last, or by the scheduler's next pass.
        """
        self.refresh_from_db()
        state = Q(Exists(Campaign.objects.filter(pk=self.pk, status=self.status)))
        match self.status:
            case self.Status.PAUSED:
                return self.messages.hold(state, limit=limit)
            case self.Status.SENDING:
                return self.messages.unhold(state, paused_for=self._paused_for, limit=limit)
            case self.Status.CANCELLED:
                return self.messages.cancel(state, limit=limit)
        return 0

    @property
    def _paused_for(self) -> timedelta:
        """How long its last pause was, once that is over."""
        if not (self.resumed_at and self.paused_at):
            return timedelta()
        latest = max(self.resumed_at - self.paused_at, timedelta())
        return latest + timedelta(seconds=self.earlier_pause_seconds)

    def _reopen(self) -> None:
        """Of a finished one something may leave again that the scheduler has not seen yet: that can
        be stopped like everything else."""
        Campaign.objects.filter(pk=self.pk).reopen()
        self.refresh_from_db()

    def _settle_at_once(self) -> bool:
        """Moves what an operator can wait for, and has the scheduler move the rest now rather than
        in a minute: each claim steps over every held row that stands before what may leave. The
        same for the list of a campaign that is not all written."""
        if self.settle_messages(limit=AT_ONCE) >= AT_ONCE or self.is_being_listed:
            Campaign.objects.process_soon()
        return True

    def _change(
        self, expected: list[Campaign.Status], status: Campaign.Status, **values: Any
    ) -> bool:
        changed = Campaign.objects.filter(pk=self.pk, status__in=expected).update(
            status=status, **values
        )
        self.refresh_from_db()
        return bool(changed)
