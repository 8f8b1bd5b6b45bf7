from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models, transaction
from django.db.models import Case, Count, F, Q, Value, When
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _

from leads.phones import begins_with, display_phone
from leads.tags import fold_tag


class Tag(models.Model):
    """A word that leads carry. Stored folded, so that " Vitac" and "VITAC" are one."""

    name = models.CharField(_("name"), max_length=100, unique=True)

    class Meta:
        abstract = True
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        self.name = fold_tag(self.name)

    @classmethod
    def ensure(cls, names: Iterable[str]) -> dict[str, Self]:
        """Returns the tags of these folded names by name, creating those that are missing.

        One by one: the database's collation decides which names are the same (MySQL finds CAFE
        for CAFÉ), and an installation has few tags.
        """
        return {name: cls._default_manager.get_or_create(name=name)[0] for name in set(names)}


class Niche(Tag):
    """A segment. Matched exactly, never by substring."""

    class Meta(Tag.Meta):
        db_table = "niches"
        verbose_name = _("niche")
        verbose_name_plural = _("niches")


class Trigger(Tag):
    """A keyword that enrols a lead in the sequences that start on it."""

    class Meta(Tag.Meta):
        db_table = "triggers"
        verbose_name = _("trigger")
        verbose_name_plural = _("triggers")


class SkipReason(models.TextChoices):
    """Why a lead of an audience gets no message."""

    OPTED_OUT = "opted_out", _("opted out")
    DUPLICATE = "duplicate", _("duplicate number")
    NO_CONSENT = "no_consent", _("no consent on record")
    NOT_ON_WHATSAPP = "not_on_whatsapp", _("not on WhatsApp")
    LEAD_DELETED = "lead_deleted", _("lead was deleted")
    NO_DEVICE = "no_device", _("no device to send from")


# Numbers change hands, and people come to WhatsApp: what it said of one is so for so long.
PRESENCE_LASTS = timedelta(days=90)


def skip_reason(path: str = "") -> Case:
    """Returns the expression that says why a lead may not be messaged, '' where it may.

    The one statement of the rule: the operator's count before sending, the fan-out and the
    broadcaster all read it, so they cannot disagree. `path` leads to the lead: "lead__".
    """
    another = Q((f"{path}person__isnull", False)) & ~Q((f"{path}person", F(f"{path}pk")))
    recently = Now() - PRESENCE_LASTS
    reasons = (
        (Q((f"{path}opted_out_at__isnull", False)), SkipReason.OPTED_OUT),
        (another, SkipReason.DUPLICATE),
        (Q((f"{path}consented_at__isnull", True)), SkipReason.NO_CONSENT),
        (Q((f"{path}not_on_whatsapp_at__gt", recently)), SkipReason.NOT_ON_WHATSAPP),
    )
    return Case(
        *(When(condition, then=Value(reason.value)) for condition, reason in reasons),
        default=Value(""),
        output_field=models.CharField(),
    )


class LeadQuerySet(models.QuerySet["Lead"]):
    def with_skip_reason(self) -> Self:
        """Annotates each lead with why it may not be messaged, or '' where it may."""
        return self.annotate(skip_reason=skip_reason())

    def messageable(self) -> Self:
        """Of the leads of `with_skip_reason`, those who may be messaged."""
        return self.filter(Q(skip_reason=""))

    def by_device(self) -> Counter[int | None]:
        """Returns how many of these leads stay with which device; None: with none so far."""
        counted = self.order_by().values_list("device_id").annotate(Count("pk"))
        return Counter(dict(counted))

    def at(self, phone: str) -> Self:
        """The leads whom WhatsApp knows by this number, also duplicates."""
        found = self.filter(Q(phone=phone) | Q(whatsapp_phone=phone))
        # By key: an update by either of two numbers would lock every row that it looks at.
        return self.filter(pk__in=list(found.order_by().values_list("pk", flat=True)))

    def unasked(self) -> Self:
        """Leads of whom it is not known, or not any more, whether they are on WhatsApp."""
        recently = Now() - PRESENCE_LASTS
        known = Q(on_whatsapp_at__gt=recently) | Q(not_on_whatsapp_at__gt=recently)
        return self.exclude(known)

    def note_presence(self, answers: Mapping[str, str]) -> None:
        """Writes down what WhatsApp says of these numbers: by which it knows each, '' for none."""
        leads = self.filter(phone__in=sorted(answers)).order_by("pk")
        found = list(leads.values_list("pk", "phone", "whatsapp_phone"))
        there = [pk for pk, phone, _before in found if answers[phone] == phone]
        nobody = [pk for pk, phone, _before in found if not answers[phone]]
        self.filter(pk__in=there).update(**self._present(), whatsapp_phone=None)
        self.filter(pk__in=nobody).update(
            not_on_whatsapp_at=Now(), on_whatsapp_at=None, whatsapp_phone=None
        )
        for pk, phone, _before in found:
            if answers[phone] not in ("", phone):
                self.filter(pk=pk).update(**self._present(), whatsapp_phone=answers[phone])
        before = {name for _pk, _phone, name in found if name}
        self.mark_duplicates(before | {name or phone for phone, name in answers.items()})

    def ask_again(self) -> int:
        """Forgets that these are not on WhatsApp, so that it is asked once more; returns of how
        many it was so. By which number it knew them stays: until it says otherwise that is true."""
        return self.filter(not_on_whatsapp_at__isnull=False).update(
            not_on_whatsapp_at=None, on_whatsapp_at=None
        )

    def mark_duplicates(self, numbers: Iterable[str]) -> None:
        """Of leads that are one of these numbers on WhatsApp, lets the first be the person.

        They would get everything twice. Marked where it can become so (when a lead is new, and when
        WhatsApp names a number), since who may be messaged is asked of a million leads at a time.
        What one of them wants no more, none of them gets.

        Called when what makes them so is committed: of two at a time the later one sees both.
        """
        numbers = sorted(set(numbers))
        own = self.filter(phone__in=numbers, whatsapp_phone=None, person__isnull=False)
        renamed = self.filter(whatsapp_phone__in=numbers)
        doubtful = {*own.values_list("phone", flat=True)}
        doubtful |= {lead.whatsapp_phone or "" for lead in renamed.only("whatsapp_phone")}
        if not doubtful:
            return
        with transaction.atomic():
            groups: dict[str, list[Lead]] = defaultdict(list)
            named = Q(phone__in=doubtful, whatsapp_phone=None) | Q(whatsapp_phone__in=doubtful)
            keys = sorted(self.filter(named).order_by().values_list("pk", flat=True))
            for lead in self.filter(pk__in=keys).select_for_update().order_by("pk"):
                groups[lead.whatsapp_phone or lead.phone].append(lead)
            for leads in groups.values():
                same = self.filter(pk__in=[lead.pk for lead in leads])
                same.update(person=leads[0] if len(leads) > 1 else None)
                for out in [lead for lead in leads if lead.opted_out_at][:1]:
                    same.opt_out(source=out.opt_out_source)

    @staticmethod
    def _present() -> dict[str, Any]:
        return {"on_whatsapp_at": Now(), "not_on_whatsapp_at": None}

    def skip_counts(self) -> dict[str, int]:
        """Returns how many of the leads of `with_skip_reason` have each reason; '' for none."""
        reasons = self.order_by().values_list(F("skip_reason"))
        return dict(reasons.annotate(Count("pk")))

    def matching(
        self,
        *,
        niches: Iterable[Niche] = (),
        status: str = "",
        between: tuple[int, int] | None = None,
    ) -> Self:
        """Leads in any of the niches (no niche given: all) with the status ('': any).

        `between`: only those with an id above the first and up to the second.
        """
        leads = self.filter(status=status) if status else self
        after, upto = between or (None, None)
        if between:
            leads = leads.filter(pk__gt=after, pk__lte=upto)
        if niche_ids := [niche.pk for niche in niches]:
            carriers = Lead.niches.through.objects.filter(niche_id__in=niche_ids)
            if between:  # databases would gather the carriers of all of the table first
                carriers = carriers.filter(lead_id__gt=after, lead_id__lte=upto)
            leads = leads.filter(pk__in=carriers.values("lead_id"))
        return leads

    def search(self, text: str) -> Self:
        """Leads whose number begins so, as people write numbers, or whose name contains it."""
        begins = begins_with(text, settings.PHONE_REGION)
        return self.filter(begins or Q(name__icontains=text.strip()))

    def opt_out(self, *, source: str) -> int:
        """Records that these people want no more messages, under whichever of their numbers;
        returns how many of these are new."""
        several = self.filter(person__isnull=False).order_by()
        people = set(several.values_list("person_id", flat=True))
        now = {"opted_out_at": Now(), "opt_out_source": source}
        new = self.filter(opted_out_at__isnull=True).update(**now)
        if people:
            Lead.objects.filter(person__in=people, opted_out_at__isnull=True).update(**now)
        return new


class Lead(models.Model):
    """A person who may be messaged, known by a phone number that is unique in the installation."""

    class Status(models.TextChoices):
        PROSPECT = "prospect", _("prospect")
        CUSTOMER = "customer", _("customer")

    phone = models.CharField(
        _("phone"),
        max_length=15,
        unique=True,
        validators=[RegexValidator(r"^[1-9]\d{6,14}$", _("Digits with country code, no plus."))],
        help_text=_("With country code, digits only: 60123456789"),
    )
    name = models.CharField(_("name"), max_length=150, blank=True)
    status = models.CharField(
        _("status"), max_length=10, choices=Status.choices, default=Status.PROSPECT, db_index=True
    )
    niches = models.ManyToManyField(
        Niche, verbose_name=_("niches"), blank=True, related_name="leads", db_table="lead_niches"
    )
    triggers = models.ManyToManyField(
        Trigger,
        verbose_name=_("triggers"),
        blank=True,
        related_name="leads",
        db_table="lead_triggers",
    )
    device = models.ForeignKey(
        "devices.Device",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        related_name="leads",
        verbose_name=_("device"),
        help_text=_("The device that writes to this lead. Set by the first message sent."),
    )
    source = models.CharField(_("source"), max_length=255, blank=True)
    timezone = models.CharField(_("time zone"), max_length=64, blank=True)
    consented_at = models.DateTimeField(_("consented"), null=True, blank=True)
    consent_source = models.CharField(_("where they consented"), max_length=255, blank=True)
    opted_out_at = models.DateTimeField(_("opted out"), null=True, blank=True)
    opt_out_source = models.CharField(_("how they opted out"), max_length=255, blank=True)
    not_on_whatsapp_at = models.DateTimeField(
        _("not on WhatsApp"),
        null=True,
        blank=True,
        help_text=_("When WhatsApp last said that it does not know this number."),
    )
    on_whatsapp_at = models.DateTimeField(
        _("on WhatsApp"),
        null=True,
        blank=True,
        editable=False,
        help_text=_("When WhatsApp last said that it knows this number."),
    )
    # Only where it is another: in Brazil and Mexico a digit that WhatsApp leaves out, or adds.
    whatsapp_phone = models.CharField(
        _("number on WhatsApp"), max_length=15, null=True, blank=True, editable=False, db_index=True
    )
    # Only of people with several leads, of which one gets the messages: itself, of that one.
    person = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, editable=False,
        related_name="+", verbose_name=_("person"),
    )  # fmt: skip
    last_replied_at = models.DateTimeField(_("last reply"), null=True, blank=True)
    # Not `device`: that one can be changed, and a device they never wrote to is new to them.
    replied_to = models.ForeignKey(
        "devices.Device",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        verbose_name=_("replied to"),
    )
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    updated_at = models.DateTimeField(_("updated"), auto_now=True)

    objects = LeadQuerySet.as_manager()

    class Meta:
        db_table = "leads"
        ordering = ["-pk"]
        verbose_name = _("lead")
        verbose_name_plural = _("leads")
        permissions = [("import_lead", "Can import leads"), ("opt_out_lead", "Can opt leads out")]

    def __str__(self) -> str:
        return f"{self.name or _('No name')} {self.display_phone}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        is_new = self._state.adding
        super().save(*args, **kwargs)
        if is_new:  # somebody's number on WhatsApp may be another lead's own
            transaction.on_commit(lambda: Lead.objects.mark_duplicates([self.phone]))

    @property
    def display_phone(self) -> str:
        return display_phone(self.phone)

    @property
    def display_whatsapp(self) -> str:
        """The number that is written to, where it is another; else ''."""
        return display_phone(self.whatsapp_phone) if self.whatsapp_phone else ""
