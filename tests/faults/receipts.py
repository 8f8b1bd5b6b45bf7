"""Checks of what the witness reported after its sends."""

from __future__ import annotations

from collections.abc import Iterator

from tests.faults.evidence import Evidence

WRITTEN_SHARE = 0.5  # far below what is seen: some are told while everything is cut off


def of_nothing_sent(evidence: Evidence) -> Iterator[str]:
    """What has a receipt was sent, and reported as delivered, or read, under the id on record."""
    sent = {(send["key"], send["id"]) for send in evidence.sends}
    told = {(line["key"], line["id"], line["kind"]) for line in evidence.of("receipt")}
    for message in evidence.messages.values():
        name = message.provider_message_id
        moments = {"delivered": message.delivered_at, "read": message.read_at}
        for kind, at in moments.items():
            # Whoever read a message received it.
            kinds = {kind, "read"}
            is_told = any((message.key, name, each) in told for each in kinds)
            if at and not (is_told and (message.key, name) in sent):
                yield f"{message.key} is {kind}"


def lost(evidence: Evidence) -> Iterator[str]:
    """Most of what processes that nobody killed were told is written down, where the id that it
    names is: of an unsure send without one nothing can find it."""
    told = {
        (line["key"], line["id"])
        for line in evidence.of("receipt")
        if line["pid"] not in evidence.fleet.killed
    }
    of = [m for m in evidence.messages.values() if (m.key, m.provider_message_id) in told]
    missing = [message.key for message in of if not message.delivered_at]
    evidence.facts["receipts"] = f"{len(of) - len(missing)} of {len(of)} written"
    if not of or len(missing) > WRITTEN_SHARE * len(of):
        yield f"{len(missing)} of {len(of)}: {', '.join(missing[:5])}"
