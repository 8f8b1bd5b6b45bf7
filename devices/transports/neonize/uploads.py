"""One account's files on WhatsApp's media server: each is uploaded once, for all who get it.

What a message carries of a file is where it is and the key to it, whoever it goes to. Nobody reads
a file before a message names it, so an upload that comes to nothing has sent nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.utils.translation import gettext as _

from devices.transports.base import Media, Outcome, Refused, Unknown
from devices.transports.neonize.answers import SOON, masked, outcome_of
from devices.transports.neonize.client import ClientError

logger = logging.getLogger(__name__)

# Within what a send may take. A slow one goes on by itself, and the message's next try finds it.
UPLOAD_SECONDS = 8.0
# One that says nothing for so long never will.
GIVEN_UP_SECONDS = 300.0
# WhatsApp deletes what is old, and who was away for weeks still has to find it.
REUSED_SECONDS = timedelta(hours=12).total_seconds()
MOST = 50  # campaigns and steps that one account sends for at a time

Upload = Callable[[str, bytes], Any]


@dataclass(slots=True)
class Uploaded:
    began_at: float = field(default_factory=time.monotonic)
    reference: Future[Any] = field(default_factory=Future)

    def is_good(self) -> bool:
        age = time.monotonic() - self.began_at
        if not self.reference.done():
            return age < GIVEN_UP_SECONDS
        return not self.reference.exception() and age < REUSED_SECONDS


class Uploads:
    def __init__(self, device_id: int) -> None:
        self._device_id = device_id
        self._known: OrderedDict[tuple[str, str], Uploaded] = OrderedDict()  # the latest last

    def of(self, media: Media, upload: Upload) -> tuple[Any, Outcome | None]:
        """Returns what a message has to carry of this file; or, if it is not there, what becomes of
        the message. Called for one message at a time."""
        key = media.kind, media.sha256
        uploaded = self._known.pop(key, None)
        if not uploaded or not uploaded.is_good():
            uploaded = Uploaded()
            work = (media, upload, uploaded.reference)
            threading.Thread(
                target=self._upload, args=work, daemon=True, name="neonize-upload"
            ).start()
        self._known[key] = uploaded
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        try:
            return uploaded.reference.result(UPLOAD_SECONDS), None
        except TimeoutError:
            reason = _("The file is still on its way to WhatsApp's media server.")
            return None, Refused("uploading", reason, SOON)
        except ClientError as error:
            return None, _refusal(str(error))
        except Exception as error:  # noqa: BLE001 (of the database: nothing has left)
            logger.error("Device %s: a file could not be read: %s", self._device_id, error)
            reason = _("The file could not be read from the database.")
            return None, Refused("file_not_read", reason, SOON)

    def _upload(self, media: Media, upload: Upload, reference: Future[Any]) -> None:
        try:
            reference.set_result(upload(media.kind, media.read()))
        except Exception as error:  # noqa: BLE001 (somebody waits for this answer)
            reference.set_exception(error)


def _refusal(text: str) -> Outcome:
    outcome = outcome_of(text, lambda: [])
    if isinstance(outcome, Unknown):  # of a message that had gone out; this one has not
        return Refused("not_uploaded", masked(text), SOON)
    return outcome
