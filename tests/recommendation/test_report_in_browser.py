"""The report as a browser shows it: at 1600 and 400 pixels, in light and dark, under a pointer, on paper."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from shutil import which

import numpy as np
import pytest
from PIL import Image

from tests.fabricated import DEVICE, fabricated_bundle, fabricated_posterior, tokens_of
from thesis_rec.recommendation.asking import recommend_for
from thesis_rec.recommendation.report import render_report
from thesis_rec.recommendation.request import Request

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        which("chromium") is None or which("chromedriver") is None,
        reason="needs Chromium and its driver: apt-get install chromium chromium-driver",
    ),
]

LONG = "n" * 200


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A report with a name of 200 characters without a place to break, a limit, and a tried model."""
    bundle, new = fabricated_bundle(), tokens_of(LONG, 3)
    request = Request(max_latency_ms=5, device=DEVICE)
    found = recommend_for(bundle, new, request, posterior=fabricated_posterior(bundle, new))
    table = found.table.assign(probed_value=np.nan)
    table.loc[0, "model_id"] = LONG
    table.loc[1, "probed_value"] = table.loc[1, "predicted_value"]
    picture = np.zeros((8, 8, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("report") / "recommendation.html"
    file.write_text(render_report(replace(found, table=table, sample=((picture, LONG),))), encoding="utf-8")
    return file.as_uri(), table


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for argument in (
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
        f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
    ):  # fmt: skip
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(which("chromedriver")))
    yield driver
    driver.quit()


def show(browser, address, width, mode="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": mode}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen", "features": features})
    browser.get(address)


@pytest.mark.parametrize("width", [1600, 1000, 400])
def test_nothing_scrolls_sideways_and_names_are_whole(browser, page, width):
    address, _ = page
    show(browser, address, width)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # No part of the page has a scroll bar of its own, or hides what doesn't fit.
    cut = "return [...document.querySelectorAll('main *')].filter(e => e.scrollWidth > e.clientWidth + 1 && " \
        "getComputedStyle(e).overflowX != 'visible').length"  # fmt: skip
    assert browser.execute_script(cut) == 0
    beyond = "return [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
    assert browser.execute_script(beyond + ".length") == 0
    assert browser.execute_script("return document.querySelector('.best').innerText") == LONG


def test_the_figure_comes_before_the_cards_and_letters_stay_readable(browser, page):
    address, _ = page
    show(browser, address, 400)
    top = "return document.querySelector(arguments[0]).getBoundingClientRect().top"
    assert browser.execute_script(top, ".plot.narrow") < browser.execute_script(top, ".models tbody tr")
    script = "return [...document.querySelectorAll('.plot text')].map(e => e.getBoundingClientRect().height)"
    heights = [height for height in browser.execute_script(script) if height]
    assert heights
    assert min(heights) > 9
    assert browser.execute_script("return document.querySelector('.plot.wide').getBoundingClientRect().width") == 0


def test_one_screen_answers(browser, page):
    address, _ = page
    show(browser, address, 1600)
    bottom = "return document.querySelector(arguments[0]).getBoundingClientRect().bottom"
    assert browser.execute_script(bottom, ".answer code") < 900
    assert browser.execute_script(bottom, ".plot.wide") < 900


def test_the_pointer_shows_model_and_figures(browser, page):
    from selenium.webdriver.common.action_chains import ActionChains

    address, table = page
    show(browser, address, 1600)
    tip = browser.find_element("id", "tip")
    assert not tip.is_displayed()
    last = browser.find_element("css selector", ".plot.wide circle.first")
    ActionChains(browser).move_to_element(last).perform()
    assert tip.is_displayed()
    row = table.iloc[0]
    lines = tip.get_attribute("textContent").split("\n")
    assert lines[0] == LONG
    assert f"accuracy {row['predicted_value']:.3f}" in lines[1]
    assert re.match(r"[\d.]+ ms \((measured|interpolated|predicted)\)", lines[2])
    box = tip.rect
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= 1600
    ActionChains(browser).move_to_element(browser.find_element("css selector", ".best")).perform()
    assert not tip.is_displayed()


def test_the_dark_page_is_dark_and_its_letters_are_light(browser, page):
    address, _ = page
    brightness = {}
    for mode in ("light", "dark"):
        show(browser, address, 1000, mode)
        shot = Image.open(io.BytesIO(browser.get_screenshot_as_png())).convert("L")
        ink = browser.execute_script("return getComputedStyle(document.querySelector('.best')).color")
        brightness[mode] = np.median(np.asarray(shot)), np.mean([int(part) for part in re.findall(r"\d+", ink)[:3]])
    assert brightness["light"][0] > 230 > 60 > brightness["light"][1]
    assert brightness["dark"][0] < 60 < 200 < brightness["dark"][1]


def test_it_prints_on_a4(browser, page):
    address, _ = page
    show(browser, address, 1600, "dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    text = base64.b64decode(printed["data"])
    boxes = re.findall(rb"/MediaBox \[0 0 ([\d.]+) ([\d.]+)\]", text)
    assert 1 <= len(boxes) <= 4
    # Points of 1/72 inch.
    assert {(round(float(w)), round(float(h))) for w, h in boxes} == {(595, 842)}
