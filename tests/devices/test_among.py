from __future__ import annotations

import pytest
from django.db.models import Q

from devices.among import Among
from leads.models import Lead
from tests.factories import LeadFactory

pytestmark = pytest.mark.django_db


def test_among_finds_the_rows_of_these_keys() -> None:
    first, second, _third = LeadFactory.create_batch(3)

    assert set(Lead.objects.filter(Among("pk", [first.pk, second.pk, 10**12]))) == {first, second}


def test_among_follows_a_foreign_key_by_its_column() -> None:
    kept, _other = LeadFactory.create_batch(2)
    Lead.objects.update(person=kept)

    assert Lead.objects.filter(Among("person_id", [kept.pk])).count() == 2


def test_among_no_keys_is_no_row() -> None:
    lead = LeadFactory()

    assert not Lead.objects.filter(Among("pk", [])).exists()
    assert list(Lead.objects.filter(Q(Among("pk", [])) | Q(pk=lead.pk))) == [lead]
    assert Lead.objects.filter(Among("pk", [])).update(source="changed") == 0
    assert list(Lead.objects.exclude(Among("pk", []))) == [lead]


def test_among_takes_numbers_only() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Among("pk", ["1) OR (1=1"])  # type: ignore[list-item]


def test_among_is_compared_with_nothing_so_that_an_index_serves() -> None:
    sql, parameters = Lead.objects.filter(Among("pk", [1, 2])).order_by().query.sql_with_params()

    assert sql.endswith(" IN (1, 2)")
    assert parameters == ()
