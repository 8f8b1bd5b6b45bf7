"""What verify_ledger prints adds up, column by column and line by line."""

from __future__ import annotations

import re

import pytest
from django.core.management import call_command
from django.utils import timezone

from broadcasts.models import BroadcastMessage, Worker
from campaigns.models import Campaign
from config import ledger
from tests.factories import (
    BroadcastMessageFactory,
    CampaignFactory,
    DeviceFactory,
    SequenceFactory,
    SequenceStepFactory,
)

pytestmark = pytest.mark.django_db


def printed(capsys: pytest.CaptureFixture[str], **options: int) -> list[str]:
    with pytest.raises(SystemExit):  # these rows are no real history
        call_command("verify_ledger", again_after=0, **options)
    return capsys.readouterr().out.splitlines()


def table(lines: list[str]) -> dict[str, dict[str, int]]:
    """The figures of the table: {row: {column: number}}."""
    [head] = [n for n, line in enumerate(lines) if line.startswith("state ")]
    [foot] = [n for n, line in enumerate(lines) if line.startswith("together ")]
    columns = lines[head].split()[1:]
    rows = [line.split() for line in lines[head + 1 : foot + 1]]
    return {
        name: dict(zip(columns, (int(cell.replace(",", "")) for cell in cells), strict=True))
        for name, *cells in rows
    }


def numbers(lines: list[str], heading: str) -> list[int]:
    """The first number of each line that stands under the heading."""
    start = next(n for n, line in enumerate(lines) if line.startswith(heading))
    found = []
    for line in lines[start + 1 :]:
        if not line.startswith("  "):
            break
        if "left out" not in line:
            said = line.split(":")[-1]
            found.append(int(re.findall(r"\d+", said)[0]))
    return found


@pytest.fixture
def _history() -> None:
    """Seven campaigns, six sequences with messages and one without, and a try of a device."""
    device = DeviceFactory(online=True)
    for n in range(7):
        campaign = CampaignFactory(sending=True, audience_size=n + 1)
        BroadcastMessageFactory.create_batch(n, campaign=campaign, device=device, status="sent")
        BroadcastMessageFactory(
            campaign=campaign, device=None, status="skipped", skip_reason="opted_out"
        )
    for n in range(6):
        step = SequenceStepFactory()
        BroadcastMessageFactory.create_batch(
            n + 1, campaign=None, sequence=step.sequence, sequence_step=step, device=device
        )
    SequenceFactory()
    BroadcastMessageFactory(campaign=None, priority=0, device=device)


@pytest.mark.usefixtures("_history")
def test_origins_add_up_to_all_and_states_to_each_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = table(printed(capsys))
    together = rows.pop("together")

    for row in [*rows.values(), together]:
        assert row["campaigns"] + row["sequences"] + row["others"] == row["together"]
        assert row["received"] <= row["simulated"] <= row["together"]
    for column, total in together.items():
        assert sum(row[column] for row in rows.values()) == total
    assert together["together"] == BroadcastMessage.objects.count()


@pytest.mark.usefixtures("_history")
def test_campaigns_and_sequences_that_are_named_and_the_rest_add_up_to_their_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = printed(capsys)
    together = table(lines)["together"]

    assert numbers(lines, "campaigns:") == [7, 6, 5, 4, 3, 3]
    assert sum(numbers(lines, "campaigns:")) == together["campaigns"] == 28
    # The newest of them has none, and need not be named.
    assert sum(numbers(lines, "sequences:")) == together["sequences"] == 21
    assert "  3 of other campaigns" in lines
    assert "  3 of other sequences" in lines


@pytest.mark.usefixtures("_history")
def test_asked_about_one_campaign_it_counts_that_alone(capsys: pytest.CaptureFixture[str]) -> None:
    campaign = Campaign.objects.order_by("-pk")[0]

    lines = printed(capsys, campaign=campaign.pk)

    together = table(lines)["together"]
    assert together["campaigns"] == together["together"] == 7
    assert "sequences" not in together
    assert f"  {campaign}: an audience of 7 = 6 sent + 1 skipped" in lines


def test_a_state_that_nobody_knows_is_counted_as_well(capsys: pytest.CaptureFixture[str]) -> None:
    BroadcastMessageFactory(status="lost")
    rows = table(printed(capsys))
    assert rows["lost"]["campaigns"] == rows["together"]["together"] == 1


def test_that_the_figures_are_of_several_moments_is_said_where_a_broadcaster_runs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    BroadcastMessageFactory(status="lost")
    assert "A broadcaster is running" not in " ".join(printed(capsys))
    now = timezone.now()
    Worker.objects.create(id="one", hostname="host", pid=1, started_at=now, heartbeat_at=now)
    assert "A broadcaster is running" in " ".join(printed(capsys))


def test_without_messages_everything_is_nothing() -> None:
    assert all(not counts for counts in ledger.by_origin().values())
