"""The chat page in a real browser, on the demo model and on scripted ones."""

import json
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from pagemill.backends.fake import FakeBackend
from support.api_server import running_server
from support.served_process import ServedProcess

from .conftest import WatchedPage

pytestmark = pytest.mark.slow

WEATHER = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
HOSTILE = (
    '<img src=x onerror="document.title=1"> <script>document.title=1</script>\n\n'
    "[link](javascript:document.title=1) ![pic](http://evil.example/x.png)\n\n"
    '```html\n</code></pre><script>document.title=1</script>\n```\n\n**bold** `a<b>` <svg onload="document.title=1">'
)


def says(text: str) -> FakeBackend:
    """A model that answers with this."""
    return FakeBackend(reply=lambda prompt: list(text.encode()), max_model_len=8192)


def open_page(page: Page, address: str) -> None:
    page.goto(address + "/ui/")
    expect(page.locator("#model option")).not_to_have_count(0)


def choose_likeliest(page: Page) -> None:
    """Temperature 0: a scripted model then keeps to its script."""
    page.click("#open-settings")
    page.locator("[name=temperature]").fill("0")
    page.keyboard.press("Escape")


def send(page: Page, text: str) -> None:
    page.fill("#prompt", text)
    page.press("#prompt", "Enter")


def answers(page: Page) -> Any:
    return page.locator("article.assistant")


def answered(page: Page, count: int) -> None:
    """Wait for the end of the answer number `count`."""
    expect(answers(page)).to_have_count(count)
    expect(page.locator("#stop")).to_be_hidden()


def test_a_conversation_streams_is_measured_and_survives_a_reload(grist: ServedProcess, watched: WatchedPage) -> None:
    page = watched.page
    open_page(page, grist.address)
    send(page, "Hi, my name is Clara.")
    expect(answers(page)).to_contain_text("Nice to meet you, Clara!")
    answered(page, 1)
    expect(answers(page)).to_contain_text("tokens/s")
    send(page, "What is my name?")
    expect(answers(page).nth(1)).to_contain_text("Your name is Clara.")
    page.reload()
    expect(answers(page).nth(1)).to_contain_text("Your name is Clara.")
    expect(page.locator("#chats li")).to_have_count(1)


def test_an_edited_message_replaces_what_followed_and_an_answer_can_be_made_again(
    grist: ServedProcess, watched: WatchedPage
) -> None:
    page = watched.page
    open_page(page, grist.address)
    send(page, "What is 7 + 5?")
    expect(answers(page)).to_contain_text("7 + 5 = 12")
    answered(page, 1)
    page.get_by_label("Edit your message").click()
    page.get_by_label("Your message", exact=True).fill("What is 2 + 3?")
    page.keyboard.press("Enter")
    expect(answers(page)).to_contain_text("2 + 3 = 5")
    answered(page, 1)
    page.keyboard.press("Alt+r")
    expect(answers(page)).to_contain_text("2 + 3 = 5")
    answered(page, 1)


def test_a_tool_is_called_shown_and_its_result_answered(grist: ServedProcess, watched: WatchedPage) -> None:
    page = watched.page
    open_page(page, grist.address)
    page.click("#open-settings")
    page.locator("[name=tools]").fill(json.dumps(WEATHER))
    page.locator("[name=temperature]").fill("0")
    page.keyboard.press("Escape")
    send(page, "What is the weather in Oslo?")
    call = page.get_by_label("Call of get_weather")
    expect(call).to_contain_text("Oslo")
    call.locator("textarea").fill('{"temperature": 21, "condition": "sunny"}')
    call.locator("textarea").press("Enter")
    expect(answers(page).last).to_contain_text("21")


def test_an_answer_is_stopped_by_escape_and_what_came_stays(watched: WatchedPage) -> None:
    backend = FakeBackend(reply=lambda prompt: [ord("x")] * 4000, step_delay_s=0.01)
    with running_server(backend) as server:
        open_page(watched.page, server.url)
        choose_likeliest(watched.page)
        send(watched.page, "go on")
        expect(answers(watched.page)).to_contain_text("xxx")
        watched.page.keyboard.press("Escape")
        answered(watched.page, 1)
        assert "xxx" in answers(watched.page).inner_text()


def test_what_a_model_writes_becomes_text_and_never_code(watched: WatchedPage) -> None:
    page = watched.page
    with running_server(says(HOSTILE)) as server:
        open_page(page, server.url)
        choose_likeliest(page)
        send(page, "attack")
        expect(answers(page).locator("strong")).to_have_text("bold")
        answered(page, 1)
        assert page.title() != "1"
        assert answers(page).locator("script, img, [onerror], [onload]").count() == 0
        links = answers(page).locator("a")
        assert all("javascript:" not in (links.nth(at).get_attribute("href") or "") for at in range(links.count()))
        expect(answers(page).locator("pre code").first).to_contain_text("<script>document.title=1</script>")


def test_a_server_with_keys_is_asked_with_the_key_that_the_user_types(watched: WatchedPage) -> None:
    page = watched.page
    with running_server(says("hello"), api_key=("sk-secret",)) as server:
        page.goto(server.url + "/ui/")
        page.locator("#question-field").fill("sk-secret")
        page.keyboard.press("Enter")
        expect(page.locator("#model option")).to_have_count(1)
        choose_likeliest(page)
        send(page, "hi")
        expect(answers(page)).to_contain_text("hello")
    watched.problems[:] = [problem for problem in watched.problems if "401" not in problem]  # which the browser logs


def test_errors_are_shown_as_the_server_tells_them(watched: WatchedPage) -> None:
    page = watched.page
    with running_server(FakeBackend(max_model_len=64)) as server:
        open_page(page, server.url)
        send(page, "word " * 200)
        expect(page.get_by_text("maximum context length")).to_be_visible()
    watched.problems[:] = [problem for problem in watched.problems if "400" not in problem]


def test_everything_is_reached_by_keyboard(grist: ServedProcess, watched: WatchedPage) -> None:
    page = watched.page
    open_page(page, grist.address)
    page.keyboard.type("What is 1 + 1?")  # the field has the focus from the start
    page.keyboard.press("Enter")
    expect(answers(page)).to_contain_text("1 + 1 = 2")
    answered(page, 1)
    page.keyboard.press("Alt+s")
    expect(page.locator("#settings")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Alt+n")
    expect(answers(page)).to_have_count(0)
    page.keyboard.press("Alt+/")
    expect(page.locator("#shortcut-list")).to_be_visible()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1100])
def test_axe_finds_nothing_to_complain_of(grist: ServedProcess, watched: WatchedPage, theme: Any, width: int) -> None:
    page = watched.page
    page.emulate_media(color_scheme=theme)
    page.set_viewport_size({"width": width, "height": 760})
    open_page(page, grist.address)
    send(page, "Sort these words: stone apple moon")
    expect(answers(page)).to_contain_text("apple moon stone")
    answered(page, 1)
    violations = Axe().run(page).response["violations"]
    assert [(item["id"], [node["target"] for node in item["nodes"]]) for item in violations] == []
