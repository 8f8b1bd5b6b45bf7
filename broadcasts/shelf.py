"""The files that messages carry, ready for the sessions of one broadcaster process."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

from django.db import connection
from django.utils.translation import gettext as _

from attachments.models import Attachment
from broadcasts.claimed import Claimed
from devices.transports.base import Media, OutgoingMessage, always

MOST_BYTES = 64 * 1024 * 1024  # four of the largest


class FileGone(LookupError):
    """A message's file is not there: without it the message says something else."""


class Shelf:
    """What the files are is known before their messages are handed over, with one query for those
    that are new; what is in one is read when a session asks for it, which is when it uploads it.

    That happens in a sender's thread, for one file at a time: whoever wants the same one meanwhile
    finds it here. A file that was pushed out is read again.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._media: dict[int, Media] = {}  # rows never change
        self._contents: OrderedDict[int, bytes] = OrderedDict()  # the latest used last
        self._reading = threading.Lock()
        self._most_bytes = most_bytes

    def know(self, messages: Iterable[Claimed]) -> None:
        """To be called for these messages before they are packed, in the database's thread."""
        ids = {message.attachment_id for message in messages if message.attachment_id}
        if not (new := ids - self._media.keys()):
            return
        for found in Attachment.objects.filter(pk__in=new):
            self._media[found.pk] = Media(
                id=found.pk,
                kind=found.kind,  # type: ignore[arg-type]  # a choice of the model
                content_type=found.content_type,
                name=found.name,
                size=found.size,
                sha256=found.sha256,
                read=partial(self._read, found.pk),
                width=found.width,
                height=found.height,
            )

    def pack(self, message: Claimed, may_leave: Callable[[], bool] = always) -> OutgoingMessage:
        """Returns what a session is asked to send. Raises FileGone."""
        media = self._media.get(message.attachment_id or 0)
        if message.attachment_id and not media:
            raise FileGone(_("The file of this message is gone."))
        return OutgoingMessage(message.key, message.phone, message.body, media, may_leave)

    def _read(self, pk: int) -> bytes:
        with self._reading:
            content = self._contents.pop(pk, None)
            if content is None:
                content = _read_from_database(pk)
            self._contents[pk] = content
            while sum(map(len, self._contents.values())) > self._most_bytes:
                self._contents.popitem(last=False)
            return content


def _read_from_database(pk: int) -> bytes:
    try:
        return Attachment.objects.get(pk=pk).read()
    finally:
        connection.close()  # this thread's, which needs it no more
