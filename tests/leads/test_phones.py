from __future__ import annotations

import pytest

from broadcasts.models import BroadcastMessage
from leads.phones import InvalidPhone, begins_with, display_phone, normalise_phone
from tests.factories import BroadcastMessageFactory

SPELLINGS = [
    ("0123456789", "60123456789"),
    ("012-345 6789", "60123456789"),
    ("012-3456789", "60123456789"),
    ("123456789", "60123456789"),  # a spreadsheet took the leading zero
    ("'0123456789", "60123456789"),
    ("60123456789", "60123456789"),
    ("60 12-345 6789", "60123456789"),
    ("+60 12-345 6789", "60123456789"),
    ("+6 012-345 6789", "60123456789"),
    ("(+60)123456789", "60123456789"),
    ("+60 (0)12 345 6789", "60123456789"),
    ("(+60)0123456789", "60123456789"),
    ("0060123456789", "60123456789"),
    ("\u202a+60123456789\u202c", "60123456789"),  # direction marks of a phone's contact list
    ("６０１２３４５６７８９", "60123456789"),  # noqa: RUF001 (full width)
    ("٠١٢٣٤٥٦٧٨٩", "60123456789"),
    (" 60123456789\n", "60123456789"),
    ("60123456789.0", "60123456789"),
    ("011-1234 5678", "601112345678"),
    ("+62 811-6410-4575", "6281164104575"),
    ("6281164104575", "6281164104575"),  # a neighbour's number whose plus was lost
    ("6591234567", "6591234567"),
    ("+44 7400 474362", "447400474362"),
    ("+1 202 555 0123", "12025550123"),
]

REFUSALS = [
    ("", "empty"),
    ("   ", "empty"),
    ("\u202a\u202c", "empty"),
    ("6.01234E+10", "spreadsheet"),
    ("6,01234e+10", "spreadsheet"),
    ("abc0123", "letters"),
    ("n/a", "letters"),
    ("-", "not a phone number"),
    ("+60", "not a phone number"),
    ("999999999999999999", "not a phone number"),
    ("0123456789 / 0134567890", "not a phone number"),
    ("123", "No such number"),
    ("0123456789012", "No such number"),
    ("+62 812", "No such number"),
    ("12345678901", "No such number"),  # local with a digit too many, not an American
    ("03-8446 4946", "landline"),
    ("1300 38 3544", "landline"),
]


@pytest.mark.parametrize(("text", "phone"), SPELLINGS)
def test_a_number_is_read_however_it_is_written(text: str, phone: str) -> None:
    assert normalise_phone(text, "MY") == phone


@pytest.mark.parametrize(("text", "reason"), REFUSALS)
def test_what_is_no_mobile_number_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(InvalidPhone, match=reason):
        normalise_phone(text, "MY")


@pytest.mark.parametrize(("_text", "phone"), SPELLINGS)
def test_what_was_normalised_stays_as_it_is(_text: str, phone: str) -> None:
    if not phone.startswith("1"):  # American numbers need their plus elsewhere
        assert normalise_phone(phone, "MY") == phone
    assert normalise_phone(f"+{phone}", "MY") == phone


def test_the_region_decides_about_numbers_without_a_country_code() -> None:
    assert normalise_phone("9123 4567", "SG") == "6591234567"
    with pytest.raises(InvalidPhone):
        normalise_phone("9123 4567", "MY")


def test_numbers_are_shown_as_people_read_them() -> None:
    assert display_phone("60123456789") == "+60 12-345 6789"
    assert display_phone("999") == "999"


@pytest.mark.parametrize("text", ["siti", "012 a", "", "-", "+"])
def test_what_is_no_number_s_beginning_finds_no_number(text: str) -> None:
    assert begins_with(text, "MY") is None


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["012-34", "+60 12", "6012", "00 60 1234", "٠١٢"])
def test_a_number_is_found_by_its_beginning_whatever_column_it_is_in(text: str) -> None:
    message = BroadcastMessageFactory(recipient_phone="60123456789")
    BroadcastMessageFactory(recipient_phone="60133456789")

    begins = begins_with(text, "MY", "recipient_phone")

    assert begins
    assert BroadcastMessage.objects.filter(begins).get() == message
