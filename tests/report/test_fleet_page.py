"""The fleet's page: other people's words stay words, and only web addresses become links."""

from __future__ import annotations

from softprompt_core.report.fleet_page import Cell, fleet_page

EVIL = "<script>alert('x')</script> & \"quoted\""


def test_other_peoples_words_never_become_markup() -> None:
    cell = Cell(EVIL, note=EVIL, tone="bad", link=f"http://host/{EVIL}")
    page = fleet_page([EVIL], [[cell]], summary=EVIL, source=EVIL)
    assert "<script" not in page and page.count("&lt;script&gt;") == 6 and 'x"' not in page


def test_only_web_addresses_become_links() -> None:
    page = fleet_page(
        ["task"], [[Cell("a", link="https://host/a")], [Cell("b", link="javascript:alert(1)")]], summary="", source=""
    )
    assert page.count("<a ") == 1 and '<a href="https://host/a">a</a>' in page and "javascript" not in page


def test_colour_note_and_nothing_at_all() -> None:
    page = fleet_page(
        ["task", "health"], [[Cell("a", note="since May"), Cell("healthy", tone="good")]], summary="1 task", source="now"
    )
    assert '<td>a<small>since May</small></td><td><b class="good">healthy</b></td>' in page.replace("\n", "")
    assert "<p>No task yet.</p>" in fleet_page(["task"], [], summary="0 tasks", source="now")
