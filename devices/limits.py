"""How much of a pace is too much, whoever asks for it."""

from __future__ import annotations

from django.core.validators import MaxValueValidator
from django.utils.translation import gettext_lazy as _

# There is a second between two messages at least, so that a cap above these would be none.
AT_MOST_AN_HOUR = MaxValueValidator(
    3600, _("One device sends 3,600 messages an hour at most. Leave it empty for no cap.")
)
AT_MOST_A_DAY = MaxValueValidator(
    86_400, _("One device sends 86,400 messages a day at most. Leave it empty for no cap.")
)
LONGEST_PAUSE = MaxValueValidator(3600, _("A pause is 3,600 seconds at most: one hour."))
