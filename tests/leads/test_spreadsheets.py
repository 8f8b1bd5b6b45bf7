from __future__ import annotations

import io

import pytest

from leads.spreadsheets import (
    Record,
    UnreadableFile,
    plain_cell,
    read_layout,
    read_records,
    safe_cell,
)

ALL = "name phone niche status trigger source"


def records(data: bytes) -> list[Record]:
    file = io.BytesIO(data)
    return list(read_records(file, read_layout(file)))


def cells(data: bytes) -> list[list[str]]:
    return [record.cells for record in records(data)]


@pytest.mark.parametrize(
    "data",
    [
        b"Name,Phone\nAli,0123456789\n",
        b"Name,Phone\r\nAli,0123456789\r\n",
        b"Name,Phone\rAli,0123456789\r",
        b"Name,Phone\nAli,0123456789",
        b"Name;Phone\nAli;0123456789\n",
        b"Name\tPhone\nAli\t0123456789\n",
        b"Name|Phone\nAli|0123456789\n",
        b"\xef\xbb\xbfName,Phone\r\nAli,0123456789\r\n",
        "Name\tPhone\r\nAli\t0123456789\r\n".encode("utf-16"),
        b"sep=;\r\nName;Phone\r\nAli;0123456789\r\n",
        b"\n,\nName,Phone\n\nAli,0123456789\n,\n",
    ],
)
def test_a_file_is_read_as_spreadsheets_write_it(data: bytes) -> None:
    assert cells(data) == [["Ali", "0123456789"]]


def test_a_cell_may_hold_line_breaks_and_rows_are_counted_as_a_spreadsheet_does() -> None:
    read = records(b'Phone,Source\n0123456789,"form\r\nline two"\n0133456789,web\n')
    assert [record.row for record in read] == [2, 3]
    assert read[0].cells[1] == "form\r\nline two"


@pytest.mark.parametrize(
    ("headings", "columns"),
    [
        ("Name,Phone Number,Niche,Target Status,Trigger,Source", ALL),
        ("Nama,No. Tel,Segmen,Status,Kata Kunci,Sumber", ALL),
        ("NAMA PENUH,No Telefon", "name phone"),
        ("WhatsApp No.,Full Name", "phone name"),
        ("phone_number,lead_status", "phone status"),
        ("Mobile", "phone"),
    ],
)  # fmt: skip
def test_headings_are_known_by_several_names(headings: str, columns: str) -> None:
    layout = read_layout(io.BytesIO(f"{headings}\n".encode()))
    assert sorted(layout.columns, key=layout.columns.__getitem__) == columns.split()


def test_of_two_columns_of_a_kind_the_plainest_is_used_and_the_other_named() -> None:
    layout = read_layout(io.BytesIO(b"Mobile,Phone,Remarks\n"))
    assert layout.columns == {"phone": 1}
    assert (layout.further, layout.unused) == ({"phone": ["Mobile"]}, ["Remarks"])


@pytest.mark.parametrize("heading", ["Phone", "Mobile no.", "Phone 2", "Tel. (2)", "Home phone"])
def test_a_second_column_of_numbers_is_known_as_one(heading: str) -> None:
    layout = read_layout(io.BytesIO(f"Phone,Name,{heading}\n".encode()))
    assert (layout.further, layout.unused) == ({"phone": [heading]}, [])


@pytest.mark.parametrize("heading", ["Hotel", "Company name", "Status 2", "Consent 2", "2"])
def test_a_heading_that_only_looks_a_little_like_one_is_not_known(heading: str) -> None:
    layout = read_layout(io.BytesIO(f"Phone,Name,{heading}\n".encode()))
    assert (layout.further, layout.unused) == ({}, [heading])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"\n\n,,\n", "empty"),
        (b"Name,Address\nAli,KL\n", "Name, Address"),
        ("Nama,Phone\nJosé,0123456789\n".encode("cp1252"), "Line 2 is not UTF-8"),
        (b"PK\x03\x04rest of a workbook", "not a CSV file"),
        (b"\xd0\xcf\x11\xe0 an old workbook", "not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_whole(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableFile, match=reason):
        read_layout(io.BytesIO(data))


def test_another_encoding_far_down_is_found_before_the_first_row_is_taken() -> None:
    data = b"Name,Phone\n" + b"Ali,0123456789\n" * 20_000 + b"Jos\xe9,0133456789\n"
    with pytest.raises(UnreadableFile, match="20002"):
        read_layout(io.BytesIO(data))


def test_a_quotation_mark_that_is_never_closed_is_told_of() -> None:
    read = records(b'Name,Phone\nAli,0123456789\n"Siti,0133456789\nTan,0143456789\n')
    assert not read[0].problem
    assert "2 lines" in read[1].problem


def test_a_quotation_mark_that_is_closed_much_later_is_told_of() -> None:
    rows = b"Tan,0143456789\n" * 60
    read = records(b'Name,Phone\n"Siti,0133456789\n' + rows + b'"Ali",0123456789\n')
    assert "not closed" in read[0].problem


def test_a_last_row_without_a_line_break_is_whole() -> None:
    assert not records(b'Name,Phone\n"Ali","0123456789"')[0].problem


def test_a_stray_comma_is_told_of_but_empty_cells_at_the_end_are_not() -> None:
    read = records(b"Name,Phone\nMak Cik, Kedai,0123456789\nAli,0133456789,,\n")
    assert "more cells" in read[0].problem
    assert not read[1].problem


def test_a_row_may_be_shorter_than_the_headings() -> None:
    assert cells(b"Phone,Name\n0123456789\n") == [["0123456789"]]


@pytest.mark.parametrize("text", ["=SUM(A1)", "+60123456789", "-1", "@x", "\tx"])
def test_no_cell_is_run_as_a_formula_and_it_comes_back_as_it_was(text: str) -> None:
    assert safe_cell(text) == f"'{text}"
    assert plain_cell(safe_cell(text)) == text


def test_a_plain_cell_is_left_alone() -> None:
    assert safe_cell("Ali") == "Ali"
    assert plain_cell("'Abdul") == "'Abdul"
