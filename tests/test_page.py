"""The page at ``/`` in a real browser: Debian's chromium, or the one that CHROMIUM names."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from live_server import ready, serving

from rerank_plugins import shared_scorer
from rerank_plugins.errors import OverloadedError
from rerank_plugins.serving import ServedModel, ServerOptions
from rerank_plugins.testing import FailingScorer, FakeScorer

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")
if not CHROMIUM:
    pytest.skip("test_page.py needs chromium (or CHROMIUM=path)", allow_module_level=True)

from playwright.sync_api import Browser, Page, expect, sync_playwright  # noqa: E402

SCORES = {"bad": -3.0, "good": 2.0, "<b>bold</b>": 0.0}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    arguments = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Yield a page that fails the test for an error in its console, or a request elsewhere."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: (
            # A refused request is logged by the browser itself.
            problems.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith("http://127.0.0.1:") else problems.append(request.url)
        ),
    )
    yield page
    context.close()
    assert problems == []


def fill(page: Page, *passages: str, query: str = "why") -> None:
    page.get_by_label("Query").fill(query)
    page.get_by_label("Passages, one a line").fill("\n".join(passages))


def rank(page: Page) -> None:
    page.get_by_role("button", name="Rank").click()


def test_passages_are_ranked_with_the_place_that_each_had(page: Page) -> None:
    with serving(FakeScorer(SCORES)) as client:
        page.goto(str(ready(client).base_url))
        fill(page, "bad", "<b>bold</b>", "good")
        rank(page)
        ranking = page.get_by_role("region", name="Ranking by fake")
        items = ranking.get_by_role("listitem")
        expect(items).to_have_count(3)
        expect(items.nth(0)).to_contain_text("good")
        expect(items.nth(0)).to_contain_text("was 3")
        expect(items.nth(1)).to_contain_text("<b>bold</b>")  # as text, not as HTML
        expect(items.nth(1)).to_contain_text("as before")
        bar = items.nth(0).get_by_role("progressbar")
        expect(bar).to_have_attribute("value", "0.8807970779778823")
        page.get_by_text("This request as curl and as Python").click()
        expect(page.locator("#curl")).to_contain_text('"query": "why"')
        expect(page.locator("#python")).to_contain_text("RemoteScorer(")


def test_everything_can_be_done_with_the_keyboard(page: Page) -> None:
    with serving(FakeScorer(SCORES)) as client:
        page.goto(str(ready(client).base_url))
        page.get_by_label("Query").focus()
        page.keyboard.press("Control+A")
        page.keyboard.type("why")
        page.keyboard.press("Tab")
        page.keyboard.press("Control+A")
        page.keyboard.type("bad\ngood")
        page.get_by_label("Query").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("listitem")).to_have_count(2)


def test_two_models_stand_side_by_side(page: Page) -> None:
    one, other = FakeScorer({"a": 1.0, "b": 2.0}), FakeScorer({"a": 2.0, "b": 1.0})
    with serving(ServedModel("one", lambda: one), ServedModel("other", lambda: other)) as client:
        page.goto(str(ready(client).base_url))
        fill(page, "a", "b")
        rank(page)
        for name, first in (("one", "b"), ("other", "a")):
            ranking = page.get_by_role("region", name=f"Ranking by {name}")
            expect(ranking.get_by_role("listitem").nth(0).locator(".passage")).to_have_text(first)


def test_a_file_is_read_and_a_wrong_line_is_named(page: Page, tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.jsonl", tmp_path / "wrong.jsonl"
    good.write_text('{"text": "good"}\n\n{"text": "bad"}\n', encoding="utf-8")
    wrong.write_text('{"text": "good"}\n{"title": "bad"}\n', encoding="utf-8")
    with serving(FakeScorer(SCORES)) as client:
        page.goto(str(ready(client).base_url))
        page.get_by_label("Choose a file").set_input_files(good)
        expect(page.get_by_role("status")).to_contain_text("2 passages from good.jsonl")
        expect(page.get_by_label("Passages, one a line")).to_have_value("good\nbad")
        page.get_by_label("Choose a file").set_input_files(wrong)
        expect(page.get_by_role("status")).to_contain_text("wrong.jsonl, line 2")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("some.txt", "\ufeffgood\r\n\r\nbad\r\n"),
        ("some.jsonl", '{"text": "good"}\n{"text": "b\\nad"}'),
    ],
)
def test_a_dropped_file_becomes_the_passages(page: Page, name: str, content: str) -> None:
    with serving(FakeScorer(SCORES)) as client:
        page.goto(str(ready(client).base_url))
        drop = """([name, content]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([content], name));
            document.getElementById("passages").dispatchEvent(
                new DragEvent("drop", {dataTransfer: transfer, cancelable: true}));
        }"""
        page.evaluate(drop, [name, content])
        expect(page.get_by_role("status")).to_contain_text(f"2 passages from {name}")
        wanted = "good\nbad" if name.endswith("txt") else "good\nb ad"
        expect(page.get_by_label("Passages, one a line")).to_have_value(wanted)


def test_the_code_that_is_shown_gives_the_same_ranking(page: Page) -> None:
    with serving(FakeScorer(SCORES)) as client:
        page.goto(str(ready(client).base_url))
        fill(page, "bad", "<b>bold</b>", "good")
        page.get_by_label("Passages, one a line").press("Control+Enter")
        page.get_by_text("This request as curl and as Python").click()
        page.get_by_role("button", name="Copy Python").click()
        curl, python = (page.locator(f"#{name}").inner_text() for name in ("curl", "python"))
        answer = json.loads(run("bash", "-c", curl))
        assert [row["index"] for row in answer["results"]] == [2, 1, 0]
        printed = run(sys.executable, "-c", python).splitlines()
    assert printed == ["0 2.0 good", "1 0.0 <b>bold</b>", "2 -3.0 bad"]


def run(*command: str) -> str:
    root = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_cut_off_and_text_is_readable(page: Page, scheme: str, width: int) -> None:
    with serving(FakeScorer(SCORES)) as client:
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        page.goto(str(ready(client).base_url))
        fill(page, "bad", "good")
        rank(page)
        expect(page.get_by_role("listitem")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        light = page.evaluate(
            "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (sum(light) > 3 * 128) is (scheme == "light")
        for selector in ("body", ".before", ".score", "#rank"):
            assert contrast(page, selector) >= 4.5, selector


def contrast(page: Page, selector: str) -> float:
    """Return the contrast of an element's text and what is behind it, as WCAG 2 defines it."""
    colours = page.evaluate(
        """(selector) => {
            const found = document.querySelector(selector);
            const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
            let behind = found;
            while (numbers(getComputedStyle(behind).backgroundColor)[3] === 0)
                behind = behind.parentElement;
            return [getComputedStyle(found).color, getComputedStyle(behind).backgroundColor]
                .map(numbers);
        }""",
        selector,
    )
    low, high = sorted(luminance(colour[:3]) for colour in colours)
    return (high + 0.05) / (low + 0.05)


def luminance(colour: list[float]) -> float:
    parts = [each / 255 for each in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_missing_key_and_a_full_queue_are_told_in_words(page: Page) -> None:
    options = ServerOptions(api_key=("secret",))
    with serving(FailingScorer(OverloadedError("full")), options=options) as client:
        ready(client)
        page.goto(str(client.base_url))
        expect(page.get_by_role("status")).to_contain_text("asks for an API key")
        page.get_by_label("Key, kept in this tab only").fill("secret")
        page.get_by_label("Key, kept in this tab only").press("Tab")
        expect(page.get_by_role("checkbox")).to_have_count(1)
        fill(page, "good")
        rank(page)
        expect(page.get_by_role("status")).to_contain_text("Try again in 1 s")


def test_a_long_passage_shows_the_part_that_its_score_comes_from(page: Page) -> None:
    long = "the river flows through town and on " * 300
    with serving(shared_scorer("embedded", device="cpu")) as client:
        page.goto(str(ready(client).base_url))
        fill(page, "list.sort() sorts a list in place", long, query="how do I sort a list?")
        rank(page)
        expect(page.get_by_text("Cut: its end was not read.")).to_have_count(1)
        expect(page.locator("mark")).to_have_count(1)
        expect(page.get_by_text("The score comes from the marked characters, 1 to")).to_have_count(
            1
        )
        if folder := os.environ.get("SCREENSHOTS"):  # to look at
            page.screenshot(path=f"{folder}/page_1280.png", full_page=True)
            page.set_viewport_size({"width": 390, "height": 800})
            page.screenshot(path=f"{folder}/page_390.png", full_page=True)
            page.emulate_media(color_scheme="dark")
            page.screenshot(path=f"{folder}/page_dark.png", full_page=True)
