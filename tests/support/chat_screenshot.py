"""The README's picture of the chat page: a real conversation with the demo model, in headless Chromium.

PYTHONPATH=tests python -m support.chat_screenshot docs/images/chat.png
"""

import json
import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect, sync_playwright

from support.served_process import served_process

WEATHER = {
    "name": "get_weather",
    "description": "Get the weather of a city",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
SIZE = ViewportSize(width=1100, height=720)


def converse(page: Page) -> None:
    """Two turns, one of them with a call."""
    page.click("#open-settings")
    page.locator("[name=temperature]").fill("0")
    page.locator("[name=tools]").fill(json.dumps([{"type": "function", "function": WEATHER}]))
    page.keyboard.press("Escape")
    page.fill("#prompt", "What is the weather in Oslo?")
    page.press("#prompt", "Enter")
    result = page.get_by_label("Result of get_weather")
    result.fill('{"temperature": 21, "condition": "sunny"}')
    result.press("Enter")
    expect(page.locator("article.assistant").last).to_contain_text("tokens/s")


def main() -> None:
    path = Path(sys.argv[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    with served_process("grist", "--port", "0", step_delay_s=None) as served, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE)
        page.goto(served.address + "/ui/")
        converse(page)
        page.screenshot(path=path)
        browser.close()


if __name__ == "__main__":
    main()
