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
        ("https://example.com/_a_/*b*", "https://example.com/_a_/*b*"),
        ("see _https://example.com/a_b_", "see _https://example.com/a_b_"),
        ("`a *b*` and `", "<code>a *b*</code> and `"),
        ("`two\nlines`", "`two\nlines`"),
        ("* one *two*\n- three", "• one <strong>two</strong>\n• three"),
        ("1. one\n2. _two_", "1. one\n2. <em>two</em>"),
        ("a - b * c", "a - b * c"),
        ("> *so* they say\nwe", "<q><strong>so</strong> they say</q>\nwe"),
        (">none\na > b", "&gt;none\na &gt; b"),
        ("```a```- b", "<code>a</code>- b"),
        ("*RM 8*/unit, ~RM 10~.", "<strong>RM 8</strong>/unit, <s>RM 10</s>."),
        ("* bold*", "• bold*"),
        ("a * b* c", "a * b* c"),
        ("**", "**"),
        ("*harga* murah *sekali*", "<strong>harga</strong> murah <strong>sekali</strong>"),
        ("*你好*", "<strong>你好</strong>"),
        ("_*~all~*_", "<em><strong><s>all</s></strong></em>"),
        ("*one\nline*", "*one\nline*"),
        ("two\nlines", "two\nlines"),
        ("", ""),
    ],
)
def test_a_message_looks_as_on_the_phone(text: str, html: str) -> None:
    assert whatsapp(text) == html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "*<b>*",
        "```<img src=x>```",
        '_" onload="x_',
        "&lt;b&gt;",
        "> <img src=x>",
        "`<b>`",
        "- <b>",
        "https://x.example/<b>",
    ],
)
def test_nothing_of_the_text_becomes_markup(text: str) -> None:
    html = str(whatsapp(text))
    for ours in ("strong", "em", "s", "code", "q"):
        html = html.replace(f"<{ours}>", "").replace(f"</{ours}>", "")
    assert not set("<>\"'") & set(html)


def test_text_that_calls_itself_safe_is_escaped_too() -> None:
    assert whatsapp(mark_safe("<b>")) == "&lt;b&gt;"


def test_a_flood_of_marks_is_shown_and_not_followed_for_ever() -> None:
    assert whatsapp("*_" * 2000 + "x" + "_*" * 2000)
