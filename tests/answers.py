from __future__ import annotations

from concurrent.futures import Future

from devices.transports.base import Answer, Outcome


def outcome_of(answer: Answer) -> Outcome:
    """Returns what came of a send, once it is there; raises what the transport failed with."""
    return answer.result(timeout=20) if isinstance(answer, Future) else answer
