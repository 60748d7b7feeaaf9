"""Comments and summaries, read by a parser of the Markdown that GitHub reads."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import samples
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from onnxlint_q.finding import Suppression, Suppressor
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.report.services.markdown import LONGEST, MARK
from onnxlint_q.report.words import markdown, markdown_block, markdown_code, shown
from onnxlint_q.workflow.results import Run

pytest.importorskip("linkify_it", reason="linkify-it-py is not installed; it is in the extra dev")
READER = MarkdownIt("gfm-like")
OURS = {"<br>", "<!-- -->"}
RUNS = ("small", "chained", "remedied", "large", "quantised", "nothing", "empty", "hostile", "costly", "tried")


def tokens(text: str) -> list[Token]:
    return [token for block in READER.parse(text) for token in (block, *(block.children or ()))]


def plain(text: str) -> str:
    """What a reader sees of it."""
    kinds = {"text", "code_inline", "text_special"}
    return "".join(token.content for token in tokens(text) if token.type in kinds and token.type != "inline")


@pytest.mark.parametrize("name", RUNS)
def test_no_run_brings_markup_of_its_own(name: str) -> None:
    text = render(getattr(samples, name)(), ReportFormat.MARKDOWN)
    assert text.startswith(f"{MARK}\n### onnxlint-q: ") and len(text) <= LONGEST + 100
    told = tokens(text)
    assert {token.content for token in told if token.type == "html_inline"} <= OURS
    blocks = [token.content.strip() for token in told if token.type == "html_block"]
    assert all(re.fullmatch(rf"{MARK}|<details><summary>\d+ suppressed</summary>|</details>", one) for one in blocks)
    assert not [token for token in told if token.type in {"link_open", "image", "em_open", "strikethrough_open"}]
    assert {token.tag for token in told if token.type == "heading_open"} <= {"h3", "h4"}


@pytest.mark.parametrize("name", RUNS)
def test_tables_keep_their_columns(name: str) -> None:
    text = render(getattr(samples, name)(), ReportFormat.MARKDOWN)
    columns: list[int] = []
    for token in tokens(text):
        if token.type == "tr_open":
            columns.append(0)
        columns[-1:] = [columns[-1] + 1] if token.type in {"td_open", "th_open"} else columns[-1:]
    assert set(columns) <= {3, 4}
    assert len(columns) == len([line for line in text.splitlines() if line.startswith("| ")])


HOSTILE = (
    "@someone #12 !5 GH-3 https://evil.example www.evil.example a@b.example",
    "[text](https://evil.example) ![image](x) <b>bold</b> &amp; &lt;",
    "*a* _b_ __c__ ~~d~~ `e` $f$ | g | \\| h",
    "- item",
    "1. item",
    "# heading",
    "```",
)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_reads_as_it_is(text: str) -> None:
    told = tokens(markdown(text))
    assert plain(markdown(text)) == text
    assert {token.type for token in told} <= {
        "paragraph_open",
        "paragraph_close",
        "inline",
        "text",
        "text_special",
        "html_inline",
    }
    assert not re.search(r"[@#!]\w|//|www\.\w", "\n".join(token.content for token in told if token.type == "text"))


@given(st.text(max_size=60))
def test_any_text_reads_as_it_is(text: str) -> None:
    safe = shown(text).strip()
    assert plain(markdown(safe)).strip() == safe


@given(st.text(max_size=60))
def test_any_name_is_code(text: str) -> None:
    safe = shown(text).strip()
    told = [token.content for token in tokens(markdown_code(safe).replace("\\|", "|")) if token.type == "code_inline"]
    assert told == ([safe] if safe else [])


@given(st.lists(st.text(alphabet="`~a \t", max_size=8), max_size=4))
def test_any_lines_are_a_block(lines: list[str]) -> None:
    text = "\n".join(lines)
    (block,) = (token for token in tokens(markdown_block(text)) if token.type == "fence")
    assert block.content.rstrip("\n") == text.rstrip("\n")


def test_a_rule_leads_to_its_page_where_one_is_known() -> None:
    (model,) = samples.small().models
    text = render(Run((model,)), ReportFormat.MARKDOWN)
    assert "QW001 unequal-channel-ranges<br>`onnxlint-q rule QW001`" in text
    paged = render(Run((replace(model, rule_pages="https://example.org/{code}"),)), ReportFormat.MARKDOWN)
    links = [token.attrs["href"] for token in tokens(paged) if token.type == "link_open"]
    assert "https://example.org/QW001" in links and "onnxlint-q rule" not in paged


def test_what_is_suppressed_is_folded_away_with_the_reason() -> None:
    (model,) = samples.small().models
    why = Suppression(Suppressor.MODEL, "the metadata of 'x'", "by @hand")
    text = render(
        Run((replace(model, suppressed=(replace(samples.static("bn"), suppression=why),)),)), ReportFormat.MARKDOWN
    )
    assert "<details><summary>1 suppressed</summary>\n\n| rule |" in text
    assert "by @<!-- -->hand (the metadata of 'x')" in text


def test_a_report_of_many_models_is_cut_and_says_so() -> None:
    run = Run(samples.large().models * 80)
    text = render(run, ReportFormat.MARKDOWN)
    assert len(text) <= LONGEST + 100 and re.search(r"The report is cut: \d+ more models\.\n$", text)
