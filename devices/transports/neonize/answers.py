"""What neonize's error texts say about a message: a text is all that its errors carry.

Where a row's text may come before and after the message has left, the session file decides: the
message's token is in it before the message leaves. A text that is not here says nothing for sure.

Sources: (t) tests/whatsapp/test_troubles.py or test_transport.py, provoked on the wheel;
(s) whatsmeow's send.go, errors.go and user.go, of the version that the wheel is built from.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from devices.transports.base import DeviceBlocked, NotSent, Outcome, Refused, Unknown

RATE_LIMIT = timedelta(minutes=30)
SOON = timedelta(seconds=30)
BROKEN = _("The connection broke while the message was being sent.")


@dataclass(frozen=True, slots=True)
class Answer:
    """A row: how the text begins, what follows, and what an operator is told."""

    text: str  # a regular expression
    outcome: Callable[[str], Outcome]
    sentence: str | Promise = ""
    # It says that nothing left, but may also come after a first attempt that the library made:
    # then the message may be in the file,
    unless_in_store: bool = False
    # or the line broke during the send, and WhatsApp has answered what came over the next one.
    unless_it_broke: bool = False


def _refused(code: str, retry_after: timedelta | None = None) -> Callable[[str], Outcome]:
    return lambda sentence: Refused(code, sentence, retry_after)


def _restricted(code: str, for_: timedelta) -> Callable[[str], Outcome]:
    return lambda sentence: DeviceBlocked(code, sentence, "restricted", for_=for_)


def _known_people_only(sentence: str) -> Outcome:
    return DeviceBlocked("463", sentence, "first_contacts")


def _unknown(code: str) -> Callable[[str], Outcome]:
    return lambda sentence: Unknown(code, sentence)


def _not_sent(sentence: str) -> Outcome:
    return NotSent()


ANSWERS = [
    # WhatsApp refused it: it has answered, so it has not passed it on, unless it came before.
    Answer(
        r"server returned error 463\b",  # (t) no time is given
        _known_people_only,
        _("WhatsApp lets this number write only to people it has talked with. The app on its phone "
          "says until when."),
        unless_it_broke=True,
    ),
    Answer(
        r"server returned error 429\b",  # (t)
        _restricted("429", RATE_LIMIT),
        _("WhatsApp asks this number to send more slowly."),
        unless_it_broke=True,
    ),
    Answer(
        r"server returned error 479\b",  # (t)
        _refused("479"),
        _("WhatsApp does not take this message for this person."),
        unless_it_broke=True,
    ),
    Answer(
        r"server returned error 403\b",  # (s)
        _refused("403"),
        _("WhatsApp does not let this number write to this person: is the person blocked on its "
          "phone?"),
        unless_it_broke=True,
    ),
    # There was no connection to send it over: not a byte was written.
    Answer(
        r"failed to (?:send message node|.*send usync query): websocket not connected$",  # (t)
        _not_sent,
    ),
    # Asked before the message was made.
    Answer(
        r"no LID found for \S+ from server",  # (t)
        _refused("not_on_whatsapp"),
        _("This number is not on WhatsApp."),
    ),
    Answer(
        r"(?:failed to .*: )?info query returned status 429\b",  # (s)
        _restricted("429", RATE_LIMIT),
        _("WhatsApp asks this number to send more slowly."),
    ),
    Answer(
        r"failed to (?:get user info|get device list|send usync query)\b",  # (s)
        _refused("not_looked_up", SOON),
        _("WhatsApp did not say on which devices this person reads."),
    ),
    Answer(
        r"failed to refresh media connections\b",  # (t) without a connection; of files only
        _refused("media_host_down", SOON),
        _("WhatsApp's media server did not answer."),
    ),
    Answer(
        r"(?:failed to upload|upload failed)\b",  # (t) with 503; of files only
        _refused("media_host_down", SOON),
        _("WhatsApp's media server did not take the file."),
    ),
    # Nothing to do with the message.
    Answer(r"client is nil\b", _not_sent),  # (t) stopped
    Answer(r"the store doesn't contain a device JID\b", _not_sent),  # (s) logged out
    Answer(
        # (s) of a second attempt, which the library makes where the line broke (retryFrame)
        r"websocket not connected\b", _not_sent, unless_in_store=True,
    ),
    # It may have arrived.
    Answer(
        r"timed out waiting for message send response\b",  # (s) after 75 s
        _unknown("timed_out"),
        _("WhatsApp did not answer in time."),
    ),
    Answer(
        r"websocket disconnected before message send(?: \(retry\))? returned response\b",  # (t)
        _unknown("disconnected"),
        BROKEN,
    ),
    Answer(
        r"context canceled\b",  # (t) it was closed meanwhile
        _unknown("closed"),
        _("The session was closed while the message was being sent."),
    ),
]  # fmt: skip


def outcome_of(text: str, ids: Callable[[], list[str] | None], *, broke: bool = False) -> Outcome:
    """Returns what became of a message whose send has failed with this text.

    `ids` looks into the session file: the ids under which the message may have left, None where it
    cannot be read. `broke`: the line did during the send, so the library may have sent it twice,
    and the text is about the second time.
    """
    row = next((row for row in ANSWERS if re.match(row.text, text)), None)
    outcome = row.outcome(str(row.sentence)) if row else Unknown("unexpected", masked(text))
    if row and ((row.unless_it_broke and broke) or (row.unless_in_store and ids() != [])):
        outcome = Unknown("disconnected", str(BROKEN))
    if isinstance(outcome, Unknown) and (found := ids()):
        return Unknown(outcome.code, outcome.message, found[-1])
    return outcome


def masked(text: str) -> str:
    """Returns it without what may be somebody's number: it is logged, kept and shown."""
    return re.sub(r"\d{5,}", "…", text)
