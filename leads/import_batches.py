"""Applying rows of an import to the database, up to a thousand in one transaction."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import connection
from django.db.models import Model
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext as _

from leads.consent import Consent
from leads.import_results import COLUMNS, Options, Outcome, Result
from leads.models import Lead, Niche, Tag, Trigger

# What a row may change in a lead, in one statement for all of a batch; an opt-out is not of it.
CHANGED = ("name", "status", "source", "consented_at", "consent_source")


@dataclass(slots=True)
class Row:
    """A row that can be used, with its fields in the form they are stored in."""

    result: Result
    name: str
    status: str
    source: str
    niches: list[str]
    triggers: list[str]
    consent: Consent


class Batch:
    """Up to a thousand usable rows by number, applied in one transaction."""

    def __init__(self, rows: dict[int, Row], options: Options) -> None:
        self.rows = {row.result.phone: row for row in rows.values()}
        self.options = options
        # Locked, so that what is compared here is what is changed below. In the order of the
        # numbers, so that two imports of one list queue up instead of blocking each other.
        leads = Lead.objects.filter(phone__in=self.rows).order_by("phone")
        if not options.dry_run:
            leads = leads.select_for_update()
        self.existing = {lead.phone: lead for lead in leads}
        self.new_niches: set[str] = set()  # that it creates, or would

    def apply(self) -> None:
        changed = [self._change(lead) for lead in self.existing.values()]
        new = self.rows.keys() - self.existing.keys()
        created = [self._new(row) for phone, row in self.rows.items() if phone in new]
        if not self.options.dry_run:
            _upsert(created, update_fields=["phone"])  # the lead of a rival import stays as it is
            _upsert(
                [lead for lead in changed if lead is not None],
                update_fields=[*CHANGED, "updated_at"],
            )
            self._give_device()
        ids = {phone: lead.pk for phone, lead in self.existing.items()}
        if not self.options.dry_run:
            ids = dict(Lead.objects.filter(phone__in=self.rows).values_list("phone", "pk"))
        self._join_tags(Niche, "niches", ids)
        self._join_tags(Trigger, "triggers", ids)
        for row in self.rows.values():
            if row.result.changes and row.result.outcome == Outcome.UNCHANGED:
                row.result.outcome = Outcome.UPDATED

    def _new(self, row: Row) -> Lead:
        row.result.outcome = Outcome.CREATED
        consent = row.consent.source
        row.result.lacks_consent = not consent
        return Lead(
            phone=row.result.phone,
            name=row.name,
            status=row.status or Lead.Status.PROSPECT,
            source=row.source,
            device_id=self.options.device_id,
            consented_at=timezone.now() if consent else None,
            consent_source=consent,
        )

    def _change(self, lead: Lead) -> Lead | None:
        """Notes what the row changes in the lead; returns it as it will be, None if no field is."""
        row, options = self.rows[lead.phone], self.options
        values = {"name": row.name, "status": row.status, "source": row.source}
        new: dict[str, Any] = {
            name: text for name, text in values.items() if text and text != getattr(lead, name)
        }
        row.result.changes += [
            f"{COLUMNS[name].verbose_name}: {getattr(lead, name) or '-'} → {text}"
            for name, text in new.items()
        ]
        consent = row.consent.source
        if consent and not lead.consented_at:
            row.result.changes.append(_("consent recorded"))
            new |= {"consented_at": timezone.now(), "consent_source": consent}
        if row.consent.denied and lead.consented_at:
            row.result.remarks.append(
                _("The list says no consent, but there is some on record, which stays. Opt out "
                  "whoever wants no more messages.")
            )  # fmt: skip
        if options.device_id and not lead.device_id:
            row.result.changes.append(_("device set"))
        row.result.lacks_consent = not (lead.consented_at or consent)
        if lead.opted_out_at:
            row.result.remarks.append(_("Opted out before: stays opted out."))
        if not new:
            return None
        # Without its key, so that the database finds the row by its number alone. What is kept is
        # written as it was read, under the lock: also consent on record.
        kept = {name: getattr(lead, name) for name in CHANGED}
        return Lead(phone=lead.phone, **{**kept, **new})

    def _give_device(self) -> None:
        if self.options.device_id:
            mine = Lead.objects.filter(pk__in=[lead.pk for lead in self.existing.values()])
            mine.filter(device=None).update(device_id=self.options.device_id)

    def _join_tags(self, model: type[Tag], name: str, ids: dict[str, int]) -> None:
        wanted = {phone: getattr(row, name) for phone, row in self.rows.items()}
        tags = _tag_ids(model, set(itertools.chain(*wanted.values())))
        new = {tag for tag, pk in tags.items() if pk is None}
        if not self.options.dry_run:
            created = model.ensure(new)
            tags |= {tag: its.pk for tag, its in created.items()}
            new = {its.name for its in created.values()}  # CAFE alone, where CAFÉ is the same
        if model is Niche:
            self.new_niches = new
        through: type[Model] = getattr(Lead, name).through
        column = f"{model._meta.model_name}_id"
        has = set(
            through._default_manager.filter(
                lead_id__in=[lead.pk for lead in self.existing.values()]
            ).values_list("lead_id", column)
        )
        pairs = set()
        for phone, names in wanted.items():
            result = self.rows[phone].result
            missing = [tag for tag in names if (ids.get(phone), tags[tag]) not in has]
            if phone in self.existing:
                result.changes += [f"{model._meta.verbose_name}: + {tag}" for tag in missing]
            pairs |= {(ids.get(phone), tags[tag]) for tag in missing}
        if not self.options.dry_run:
            _upsert(
                [through(lead_id=lead_id, **{column: tag_id}) for lead_id, tag_id in sorted(pairs)],
                update_fields=["lead"],
                key=["lead", column.removesuffix("_id")],
            )
            # Whoever joins a niche may come into an audience by it: the books go by this.
            joined = {lead_id for lead_id, _tag in pairs if lead_id}
            Lead.objects.filter(pk__in=sorted(joined)).update(updated_at=Now())


def _tag_ids(model: type[Tag], names: Iterable[str]) -> dict[str, int | None]:
    """Returns the key of each tag by the name in the file; None where there is none yet."""
    # One by one like Tag.ensure: the database's collation decides which names are the same.
    tags = model._default_manager
    return {name: tags.filter(name=name).values_list("pk", flat=True).first() for name in names}


def _upsert(
    rows: Sequence[Model], *, update_fields: list[str], key: list[str] | None = None
) -> None:
    """Inserts the rows; where the key is there already, sets `update_fields` only.

    Not ignore_conflicts: on MySQL that is INSERT IGNORE, which also cuts what does not fit.
    """
    if not rows:
        return
    type(rows[0])._default_manager.bulk_create(
        rows,
        update_conflicts=True,
        update_fields=update_fields,
        unique_fields=(key or ["phone"])
        if connection.features.supports_update_conflicts_with_target
        else None,
    )
