"""What a browser posts for a sequence."""

from __future__ import annotations

from typing import Any


def step(position: Any, message: str, delay: Any = 1, unit: Any = 86_400, **rest: Any) -> dict:
    return {"position": position, "message": message, "delay": delay, "unit": unit, **rest}


def form(*steps: dict, initial: int = 0, **rest: Any) -> dict[str, Any]:
    """What the browser posts."""
    data = {"name": "Welcome", "trigger_word": "coldvitac ", "description": "", **rest}
    data |= {"steps-TOTAL_FORMS": len(steps), "steps-INITIAL_FORMS": initial}
    for number, fields in enumerate(steps):
        data |= {f"steps-{number}-{name}": value for name, value in fields.items()}
    return data


def of(sequence: Any, **changes: dict) -> dict[str, Any]:
    """What the browser posts for a sequence that is there, with these changes by position."""
    steps = []
    for s in sequence.steps.all():
        unit = 1 if s.delay_seconds % 60 else 60
        fields = step(s.position, s.message, s.delay_seconds // unit, unit, id=s.pk)
        steps.append(fields | changes.get(f"step{s.position}", {}))
    return form(*steps, initial=len(steps), name=sequence.name)
