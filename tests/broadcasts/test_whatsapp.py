from __future__ import annotations

import pytest
from django.utils.safestring import mark_safe

from broadcasts.templatetags.whatsapp import whatsapp


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("*bold* _italic_ ~struck~", "<strong>bold</strong> <em>italic</em> <s>struck</s>"),
        ("```a *b*\nc```", "<code>a *b*\nc</code>"),
        ("_a *b* c_", "<em>a <strong>b</strong> c</em>"),
        ("*a _b* c_", "<strong>a _b</strong> c_"),
        ("*bold*, *too*.", "<strong>bold</strong>, <strong>too</strong>."),
        ("a_file_name 2*3*4", "a_file_name 2*3*4"),
        ("https://example.com/a_b_c", "https://example.com/a_b_c"),
        ("* a list *", "* a list *"),
        ("*one\nline*", "*one\nline*"),
        ("two\nlines", "two\nlines"),
        ("", ""),
    ],
)
def test_a_message_looks_as_on_the_phone(text: str, html: str) -> None:
    assert whatsapp(text) == html


@pytest.mark.parametrize(
    "text",
    ["<script>alert(1)</script>", "*<b>*", "```<img src=x>```", '_" onload="x_', "&lt;b&gt;"],
)
def test_nothing_of_the_text_becomes_markup(text: str) -> None:
    html = str(whatsapp(text))
    for ours in ("strong", "em", "s", "code"):
        html = html.replace(f"<{ours}>", "").replace(f"</{ours}>", "")
    assert not set("<>\"'") & set(html)


def test_text_that_calls_itself_safe_is_escaped_too() -> None:
    assert whatsapp(mark_safe("<b>")) == "&lt;b&gt;"


def test_a_flood_of_marks_is_shown_and_not_followed_for_ever() -> None:
    assert whatsapp("*_" * 2000 + "x" + "_*" * 2000)
