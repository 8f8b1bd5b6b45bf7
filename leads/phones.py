"""Phone numbers: people write them in a dozen ways, Siaran stores E.164 digits without the plus."""

from __future__ import annotations

import re
import unicodedata

import phonenumbers
from django.db.models import Q
from django.utils.translation import gettext as _
from phonenumbers import NumberParseException, PhoneNumberType

_SCIENTIFIC = re.compile(r"^\s*\d(?:[.,]\d+)?\s*E\s*\+?\s*\d+\s*$", re.IGNORECASE)
_FLOAT = re.compile(r"^(\+?\d+)\.0$")
_LETTERS = re.compile(r"[^\W\d_]")
# Types that can hold a WhatsApp account. A fixed line can in principle (WhatsApp Business verifies
# by call), but in a lead list it is a mistyped or shop number that a broadcast should not hit.
_MOBILE = {
    PhoneNumberType.MOBILE,
    PhoneNumberType.FIXED_LINE_OR_MOBILE,
    PhoneNumberType.PERSONAL_NUMBER,
}


class InvalidPhone(ValueError):
    """A number that nobody can be reached at; the message says why, in the operator's words."""


def normalise_phone(text: str, region: str) -> str:
    """Returns E.164 digits without the plus, e.g. `60123456789`.

    `region` is the ISO country of numbers written without a country code. Full-width digits,
    direction marks, the prefix 00 and digits with the country code but no plus are understood.
    Raises InvalidPhone.
    """
    text = unicodedata.normalize("NFKC", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cc")).strip()
    if not text:
        raise InvalidPhone(_("The number is empty."))
    if _SCIENTIFIC.match(text):
        raise InvalidPhone(
            _("A spreadsheet has shortened this number and its last digits are lost.")
        )
    # "628123456789.0" is a column that a program read as decimals; the digit is not the number's.
    text = _FLOAT.sub(r"\1", text)
    if _LETTERS.search(text):
        raise InvalidPhone(_("This is not a phone number: it contains letters."))
    number = _parse(text, region)
    if not phonenumbers.is_valid_number(number):
        raise InvalidPhone(_("No such number: the digits do not fit its country's numbering plan."))
    if phonenumbers.number_type(number) not in _MOBILE:
        raise InvalidPhone(_("This is a landline or service number, not a mobile number."))
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164).removeprefix("+")


def begins_with(text: str, region: str, field: str = "phone") -> Q | None:
    """Returns a filter for stored numbers that begin as somebody writes them: 012…, +60 12…, 6012….

    None where the text is no number's beginning. A range, which every database reads off the index
    (SQLite's LIKE would scan), between two rows of digits: where a colon or a tilde sorts is the
    collation's to say.
    """
    if any(map(str.isalpha, text)) or not any(map(str.isdigit, text)):
        return None
    digits = "".join(str(unicodedata.digit(c)) for c in text if c.isdigit())  # of any script
    prefix = _as_stored(digits, region)
    begins = Q((f"{field}__gte", prefix))
    if head := prefix.rstrip("9"):
        begins &= Q((f"{field}__lt", f"{head[:-1]}{int(head[-1]) + 1}"))
    return begins


def _as_stored(digits: str, region: str) -> str:
    """Returns the first digits of a number without the prefixes that are for dialling."""
    if digits.startswith("00"):
        return digits[2:]
    if digits.startswith("0"):
        return f"{phonenumbers.country_code_for_region(region)}{digits[1:]}"
    return digits


def display_phone(phone: str) -> str:
    """Returns stored digits as people read them: `+60 12-345 6789`."""
    try:
        number = phonenumbers.parse(f"+{phone}")
    except NumberParseException:
        return phone
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.INTERNATIONAL)


def _parse(text: str, region: str) -> phonenumbers.PhoneNumber:
    digits = "".join(filter(str.isdigit, text))
    if digits.startswith("00"):
        text = f"+{digits[2:]}"
    try:
        number = phonenumbers.parse(text, region)
        if phonenumbers.is_valid_number(number) or "+" in text:
            return number
        # "6281..." in a Malaysian list: a neighbour's number whose plus was lost. Not so with a
        # country code of one digit: a local number with a digit too many would become American.
        return number if digits[0] in "017" else phonenumbers.parse(f"+{digits}")
    except NumberParseException as error:
        raise InvalidPhone(_("This is not a phone number.")) from error
