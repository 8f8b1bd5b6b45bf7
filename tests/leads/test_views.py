from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, connection
from django.test import Client
from django.urls import reverse

from leads.import_results import SHOWN_PROBLEMS
from leads.models import Lead
from leads.uploads import sweep
from tests.factories import LeadFactory
from tests.leads.pressing import press

pytestmark = pytest.mark.django_db

CSV = "Name,Phone\nAli,0123456789\nSiti,123\n=Tan,+60 3-8446 4946\n"


@pytest.fixture
def upload_folder(settings: Any, tmp_path: Path) -> Path:
    settings.BASE_DIR = tmp_path
    return tmp_path / "var" / "uploads"


def upload(client: Client, content: str = CSV, **data: str) -> Any:
    file = SimpleUploadedFile("leads.csv", content.encode())
    return client.post(reverse("leads:upload"), {"file": file, **data})


def test_what_writes_is_not_done_by_following_a_link(operator_client: Client) -> None:
    for name, args in (("import", []), ("discard", []), ("ask_again", [1])):
        assert operator_client.get(reverse(f"leads:{name}", args=args)).status_code == 405


def test_the_list_shows_who_may_be_messaged(viewer_client: Client) -> None:
    LeadFactory(name="Ali")
    LeadFactory(name="Siti", opted_out=True)
    LeadFactory(name="Tan", without_consent=True)
    page = viewer_client.get(reverse("leads:list")).content.decode()
    for words in ("Ali", "Siti", "Tan", "may be messaged", "opted out", "no consent"):
        assert words in page


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=ali", {"Ali"}),
        ("q=012-111+2222", {"Ali"}),
        ("q=6012111", {"Ali"}),
        ("status=customer", {"Siti"}),
        ("niche=VITAC", {"Siti"}),
        ("may=yes", {"Ali"}),
        ("may=opted_out", {"Siti"}),
        ("may=no_consent", {"Tan"}),
        ("may=nonsense&before=x", {"Ali", "Siti", "Tan"}),
        ("q=nobody", set()),
    ],
)
def test_the_list_is_narrowed(viewer_client: Client, query: str, names: set[str]) -> None:
    LeadFactory(name="Ali", phone="60121112222")
    siti = LeadFactory(name="Siti", opted_out=True, niches=["VITAC"], status="customer")
    LeadFactory(name="Tan", without_consent=True)
    query = query.replace("VITAC", str(siti.niches.get().pk))
    page = viewer_client.get(f"{reverse('leads:list')}?{query}").context["page"]
    assert {lead.name for lead in page.rows} == names


def test_the_list_goes_back_and_forth_without_counting(
    viewer_client: Client, django_assert_max_num_queries: Any
) -> None:
    keys = [LeadFactory().pk for _ in range(120)][::-1]
    seen, url = [], reverse("leads:list")
    for _ in range(3):
        with django_assert_max_num_queries(14):
            page = viewer_client.get(url).context["page"]
        seen.append([lead.pk for lead in page.rows])
        url = f"{reverse('leads:list')}?before={page.older}"
    assert [pk for rows in seen for pk in rows] == keys
    assert page.older is None
    back = viewer_client.get(f"{reverse('leads:list')}?after={page.newer}").context["page"]
    assert [lead.pk for lead in back.rows] == seen[1]
    first = viewer_client.get(f"{reverse('leads:list')}?after={back.newer}").context["page"]
    assert [lead.pk for lead in first.rows] == seen[0]
    assert first.newer is None


def test_a_file_is_looked_through_before_anything_is_stored(
    operator_client: Client, upload_folder: Path
) -> None:
    response = upload(operator_client)
    assert response["Location"] == reverse("leads:review")
    page = operator_client.get(reverse("leads:review"))
    assert page.context["report"].counts == {"created": 1, "refused": 2}
    assert "Import 1 new lead" in page.content.decode()
    assert "no consent on record" in page.content.decode()
    assert not Lead.objects.exists()


def test_the_kept_file_is_private(operator_client: Client, upload_folder: Path) -> None:
    upload(operator_client)
    (path,) = upload_folder.iterdir()
    assert len(path.stem) >= 32
    assert (path.stat().st_mode & 0o777, upload_folder.stat().st_mode & 0o777) == (0o600, 0o700)


def test_the_import_is_done_once_and_says_what_it_did(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client, consent="October fair", niches="vitac", status="customer")
    for _click in range(2):
        response = press(operator_client, "import")
        assert response["Location"] == reverse("leads:review")
    lead = Lead.objects.get()
    assert (lead.status, lead.consent_source) == ("customer", "October fair")
    assert [str(niche) for niche in lead.niches.all()] == ["VITAC"]
    page = operator_client.get(reverse("leads:review"))
    assert page.context["imported"]["created"] == 1
    assert LogEntry.objects.filter(object_repr="leads.csv").count() == 1


def test_before_and_after_it_says_which_rows_are_not_used_or_change_and_which_niches_are_new(
    operator_client: Client, upload_folder: Path
) -> None:
    LeadFactory(phone="60123456780", name="Ali", niches=["VITAC"])
    rows = "0123456780,Abu,VITAC\n" + "".join(f"{n},Nobody,NONE\n" for n in range(60))
    upload(operator_client, f"Phone,Name,Niche\n{rows}", niches="fair")
    before = operator_client.get(reverse("leads:review")).content.decode()
    press(operator_client, "import")
    after = operator_client.get(reverse("leads:review")).content.decode()
    for page in (before, after):
        assert "name: Ali → Abu; niche: + FAIR" in page
        assert page.count('<td class="num">') == 1 + SHOWN_PROBLEMS
        assert "The first 50 of 60." in page
        assert reverse("leads:refused") in page
        assert "NONE</b>" not in page
    assert "This niche is new, and will be made: <b>FAIR</b>" in before
    assert "This niche was new: <b>FAIR</b>" in after


def test_the_refused_rows_are_downloaded_with_reasons(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client)
    response = operator_client.get(reverse("leads:refused"))
    assert "attachment" in response["Content-Disposition"]
    lines = b"".join(response).decode("utf-8-sig").splitlines()
    assert lines[0] == "Row,Outcome,Reason,Name,Phone"
    assert lines[1].startswith("3,refused,")
    assert lines[2].endswith("'=Tan,'+60 3-8446 4946")


def test_somebody_elses_upload_is_out_of_reach(
    operator_client: Client, admin_client: Client, upload_folder: Path
) -> None:
    upload(operator_client)
    for name in ("review", "refused"):
        response = admin_client.get(reverse(f"leads:{name}"))
        assert response["Location"] == reverse("leads:upload")
    press(admin_client, "import")
    assert not Lead.objects.exists()


@pytest.mark.parametrize("button", ["import", "discard"])
def test_a_button_is_about_the_file_of_its_page(
    button: str, operator_client: Client, upload_folder: Path
) -> None:
    """In another tab a later one was uploaded, with another consent."""
    upload(operator_client)
    first = operator_client.get(reverse("leads:review")).context["upload"]
    upload(operator_client, "Phone\n0123456781\n", consent="October fair")
    page = operator_client.get(reverse("leads:review"))
    second = page.context["upload"]
    posted = f'<input type="hidden" name="upload" value="{second.mark}">'
    assert page.content.decode().count(posted) == 2, "both buttons say which file they are about"

    response = operator_client.post(reverse(f"leads:{button}"), {"upload": first.mark}, follow=True)

    assert response.redirect_chain == [(reverse("leads:review"), 302)]
    assert "Nothing was done: another file" in response.content.decode()
    assert not Lead.objects.exists()
    assert second.path.exists()
    press(operator_client, "import")
    assert Lead.objects.get().consent_source == "October fair"


def test_discarding_and_uploading_anew_leave_no_file_behind(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client)
    upload(operator_client)
    press(operator_client, "import")
    press(operator_client, "discard")
    assert list(upload_folder.iterdir()) == []
    assert operator_client.get(reverse("leads:review")).status_code == 302


def test_files_that_nobody_came_back_for_are_removed(
    operator_client: Client, upload_folder: Path
) -> None:
    upload_folder.mkdir(parents=True)
    old = upload_folder / "old.csv"
    old.write_text("x")
    os.utime(old, (time.time() - 90_000,) * 2)
    upload(operator_client)
    assert not old.exists()
    assert len(list(upload_folder.iterdir())) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("Name,Address\nAli,KL\n", "No column holds phone numbers"),
        ("", "empty"),
        ("Phone\n" + "0123456789\n" * 500_000, "up to 3.0"),
    ],
)
def test_a_file_that_cannot_be_imported_is_refused_at_its_field(
    operator_client: Client, upload_folder: Path, content: str, reason: str
) -> None:
    response = upload(operator_client, content)
    assert response.status_code == 200
    assert reason in str(response.context["form"].errors["file"])
    assert not upload_folder.exists()


# A file that breaks off, and an import that does

BROKEN = "Phone\n" + "".join(f"01{n:08}\n" for n in range(20_000_000, 20_001_500)) + "x" * 140_000


def test_a_file_that_breaks_off_stores_nothing_and_says_where(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client, BROKEN)
    response = press(operator_client, "import", follow=True)
    assert "cannot be read after row 1501" in response.content.decode()
    assert not Lead.objects.exists()
    assert not LogEntry.objects.exists()
    assert len(list(upload_folder.iterdir())) == 1  # and it may be tried again


def test_the_refused_rows_of_a_file_that_breaks_off_are_no_half_a_download(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client, BROKEN)
    response = operator_client.get(reverse("leads:refused"), follow=True)
    assert response.redirect_chain == [(reverse("leads:upload"), 302)]
    assert "cannot be read after row 1501" in response.content.decode()


def test_an_import_that_breaks_off_says_how_far_it_came(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client, BROKEN[:-140_000])

    def lose_the_database(execute: Any, sql: str, *rest: Any) -> Any:
        table = connection.ops.quote_name(Lead._meta.db_table)
        if sql.startswith(f"INSERT INTO {table}") and Lead.objects.count() == 1000:
            raise OperationalError("server has gone away")
        return execute(sql, *rest)

    with connection.execute_wrapper(lose_the_database):
        response = press(operator_client, "import", follow=True)
    assert Lead.objects.count() == 1000
    assert "1,000 rows were imported before" in response.content.decode()
    entry = LogEntry.objects.get(object_repr="leads.csv")
    assert "1,000 rows" in entry.get_change_message()
    press(operator_client, "import")
    assert Lead.objects.count() == 1500


def test_an_upload_of_another_version_is_no_upload(
    operator_client: Client, upload_folder: Path
) -> None:
    upload(operator_client)
    session = operator_client.session
    session["lead_upload"] = {**session["lead_upload"], "colour": "blue"}
    session.save()
    response = operator_client.get(reverse("leads:review"))
    assert response["Location"] == reverse("leads:upload")
    assert upload(operator_client)["Location"] == reverse("leads:review")


def test_sweeping_passes_over_what_another_request_removes(
    upload_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload_folder.mkdir(parents=True)
    for name in ("old", "new"):
        (upload_folder / f"{name}.csv").write_text("x")
    os.utime(upload_folder / "old.csv", (time.time() - 90_000,) * 2)
    gone = upload_folder / "gone.csv"
    listed = [gone, *upload_folder.iterdir()]
    monkeypatch.setattr(Path, "glob", lambda *_args: iter(listed))
    assert sweep() == 1
    assert [path.name for path in upload_folder.iterdir()] == ["new.csv"]


@pytest.mark.parametrize("niche", ["9" * 23, "none of them", "-1"])
def test_a_niche_that_there_is_not_is_ignored(viewer_client: Client, niche: str) -> None:
    LeadFactory(name="Siti")

    response = viewer_client.get(reverse("leads:list"), {"niche": niche})

    assert response.status_code == 200
    assert "Siti" in response.content.decode()
