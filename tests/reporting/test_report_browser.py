"""The report in a real Chromium: clicks, keys, colour schemes and window sizes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import chromium, pretend
from report_store import HOSTILE, PLAYED, play
from stores import attack, defense, open_match, record, store_bounds
from typed import Batch

from arena.geometry.norms import NORMS
from arena.reporting.html import write_report
from arena.store.store import Store, open_store

if TYPE_CHECKING:  # selenium may be missing
    from selenium.webdriver.chrome.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

CONTRAST = 4.5  # WCAG 2.2, success criterion 1.4.3: least contrast of text


@pytest.fixture(scope="module")
def driver() -> Iterator[WebDriver]:
    with chromium() as driver:
        yield driver


@pytest.fixture(scope="module")
def exact(mnist: Batch, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """The page's file and the adversarials behind it."""
    folder = tmp_path_factory.mktemp("report")
    store = open_store(str(folder / "arena.db"))
    images = play(store, mnist)
    store_bounds(store, {1: 1.25}, **PLAYED)
    write_report(store, folder / "page.html")
    store.close()
    return folder / "page.html", images


@pytest.fixture
def page(driver: WebDriver, exact: tuple[Path, list[np.ndarray]]) -> Iterator[WebDriver]:
    """The driver at the page, its images unpacked; afterwards nothing may have gone wrong in it."""
    waiting = pytest.importorskip("selenium.webdriver.support.wait")
    pretend(driver)
    driver.get(exact[0].as_uri())
    waiting.WebDriverWait(driver, 60).until(lambda driver: all_of(driver, "#samples button"))
    yield driver
    assert driver.get_log("browser") == []
    assert driver.title == "Robustness on mnist, test: arena report"  # the attack of that name would have changed it
    assert driver.execute_script("return performance.getEntriesByType('resource')") == []


def all_of(driver: WebDriver, selector: str) -> list[WebElement]:
    return driver.find_elements("css selector", selector)


def column(table: WebElement, place: int) -> list[str]:
    rows = table.find_elements("css selector", "tbody tr")
    return [row.find_elements("css selector", "th, td")[place].text for row in rows]


def press(driver: WebDriver, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(driver).send_keys(*keys).perform()


def pixels(driver: WebDriver, canvas: WebElement) -> np.ndarray:
    """The red channel of a canvas [28, 28]."""
    script = "const c = arguments[0]; return [...c.getContext('2d').getImageData(0, 0, c.width, c.height).data]"
    return np.array(driver.execute_script(script, canvas), np.uint8).reshape(28, 28, 4)[..., 0]


def focused(driver: WebDriver) -> WebElement:
    return driver.switch_to.active_element


def test_a_click_sorts_a_column_and_another_turns_it(page: WebDriver) -> None:
    table = all_of(page, "#leaderboard details table")[0]
    page.execute_script("arguments[0].closest('details').open = true", table)
    headers = table.find_elements("css selector", "thead th")
    (place,) = [place for place, header in enumerate(headers) if header.text.startswith("Median")]
    header = headers[place]
    two, five = "2 [0, \u221e]", "5 [0, \u221e]"
    assert sorted(column(table, place)) == [two, five]
    header.find_element("css selector", "button").click()
    assert column(table, place) == [five, two] and header.get_attribute("aria-sort") == "descending"
    header.find_element("css selector", "button").click()
    assert column(table, place) == [two, five] and header.get_attribute("aria-sort") == "ascending"
    table.find_element("css selector", "thead button").click()
    assert header.get_attribute("aria-sort") is None


def choose(page: WebDriver, control: str, text: str) -> None:
    from selenium.webdriver.support.select import Select

    Select(page.find_element("id", control)).select_by_visible_text(text)


def test_a_sample_shows_its_images_and_its_bound(
    page: WebDriver, exact: tuple[Path, list[np.ndarray]], mnist: Batch
) -> None:
    choose(page, "defense", "cnn")
    samples = all_of(page, "#samples button")
    samples[1].click()
    shown = page.find_element("id", "sample")
    assert "Sample 1, label 1" in shown.text
    assert "lower bound 1.25 (joint, estimate)" in shown.text
    assert "fragile" in shown.text
    clean, adversarial, difference = shown.find_elements("css selector", "canvas")
    assert np.array_equal(pixels(page, clean), np.round(mnist[0][1, 0].numpy() * 255))
    assert np.abs(pixels(page, adversarial) / 255 - exact[1][1][0]).max() < 0.2 / 15
    changed = exact[1][1][0] != mnist[0][1, 0].numpy()
    assert np.array_equal(pixels(page, difference) == 255, changed)
    assert samples[1].get_attribute("aria-pressed") == "true" and not samples[0].get_attribute("aria-pressed")
    samples[4].click()
    assert "rejected: boundary" in shown.text
    assert "no lower bound stored" in shown.text


def test_each_attack_of_the_chosen_defense(page: WebDriver) -> None:
    all_of(page, "#samples button")[0].click()
    choose(page, "defense", "cnn")
    assert [attack.text for attack in all_of(page, ".adversarials figcaption b")] == ["boundary", "fgm"]
    choose(page, "defense", HOSTILE)
    assert all_of(page, ".adversarials figure") == []
    assert f"error: {HOSTILE}" in page.find_element("id", "sample").text


def test_the_keyboard_goes_everywhere(page: WebDriver) -> None:
    from selenium.webdriver import Keys

    press(page, Keys.TAB)
    assert focused(page).text == "Skip to the leaderboard" and focused(page).is_displayed()
    seen = []
    for _ in range(60):
        press(page, Keys.TAB)
        seen.append(focused(page).get_attribute("id") or focused(page).tag_name)
        outline = page.execute_script("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", seen
        if focused(page).find_elements("xpath", "self::button[parent::*[@id='samples']]"):
            break
    assert {"a", "button", "summary", "input", "defense", "block"} <= set(seen)
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert "Sample 2," in page.find_element("id", "sample").text
    assert focused(page).get_attribute("aria-pressed") == "true"


def test_a_header_is_sorted_by_the_keyboard(page: WebDriver) -> None:
    from selenium.webdriver import Keys

    button = all_of(page, "#leaderboard th button")[4]
    page.execute_script("arguments[0].focus()", button)
    press(page, Keys.ENTER)
    assert all_of(page, "#leaderboard th")[4].get_attribute("aria-sort") == "descending"


def test_the_curves_are_read_at_the_slider_and_the_pointer(page: WebDriver) -> None:
    from selenium.webdriver import ActionChains, Keys

    chart = all_of(page, "figure.chart")[0]
    accuracy, bound = (chart.find_element("css selector", f"tbody .{name}") for name in ("accuracy", "bound"))
    assert chart.find_element("css selector", ".at").text == "1.5"
    assert accuracy.text == "60.0%" and bound.text == "0.0%"
    slider = chart.find_element("css selector", "input")
    slider.send_keys(*[Keys.ARROW_LEFT] * 20)
    assert chart.find_element("css selector", ".at").text == "1"
    assert accuracy.text == "60.0%" and bound.text == "100.0%"  # not beyond 1 itself, but 2, 3 and infinity
    plot = chart.find_element("css selector", ".plot")
    ActionChains(page).move_to_element_with_offset(plot, plot.size["width"] // 2 - 2, 0).perform()
    assert 2.9 < float(chart.find_element("css selector", ".at").text) < 3
    assert accuracy.text == "40.0%"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_colour_schemes(page: WebDriver, scheme: str) -> None:
    pretend(page, scheme)
    background = luminance(page, "document.body", "backgroundColor")
    assert (background < 0.1) == (scheme == "dark")
    for selector in ("body", ".lead", "th button", "a", "summary", "figcaption"):
        text = luminance(page, f"document.querySelector('{selector}')", "color")
        assert (max(text, background) + 0.05) / (min(text, background) + 0.05) >= CONTRAST, selector


def luminance(driver: WebDriver, element: str, property_: str) -> float:
    """Relative luminance (WCAG 2.2) of an element's computed colour."""
    color = driver.execute_script(f"return getComputedStyle({element}).{property_}")
    channels = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))


def test_a_narrow_window_scrolls_in_one_direction(page: WebDriver) -> None:
    pretend(page, width=360)
    assert page.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_a_screenshot_has_the_colours_of_the_scheme(page: WebDriver) -> None:
    corners = {}
    for scheme in ("dark", "light"):
        pretend(page, scheme)
        corners[scheme] = corner(page.get_screenshot_as_png())
    assert max(corners["dark"]) < 80 and min(corners["light"]) > 175


def corner(png: bytes) -> tuple[int, ...]:
    """The first pixel of a PNG of 8 bits a channel, which no filter changes: red, green, blue."""
    data, place = b"", 8
    while place < len(png):
        length, kind = struct.unpack_from(">I4s", png, place)
        data += png[place + 8 : place + 8 + length] if kind == b"IDAT" else b""
        place += 12 + length
    return tuple(zlib.decompress(data)[1:4])


def test_without_scripts_the_tables_are_there(page: WebDriver) -> None:
    page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.refresh()
        assert "The gallery needs JavaScript." in page.find_element("id", "gallery").text
        assert "80.0%" in page.find_element("id", "leaderboard").text
        assert "60.0%" in page.find_element("id", "curves").text
        assert not page.find_element("css selector", "input").is_displayed()
    finally:
        page.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture
def large(mnist: Batch, tmp_path: Path) -> Iterator[Store]:
    """10 000 samples, 6 defenses, 3 norms: an adversarial for each, its perturbation the size of real ones."""
    rng, clean = np.random.default_rng(0), mnist[0].numpy()[:, 0]
    store = open_store(str(tmp_path / "large.db"))
    for name, norm in product(("cnn", "binary-cnn", "nearest-neighbor", "madry", "binary-abs", "abs"), NORMS):
        match = open_match(store, defense(name), attack(norm, norm), **PLAYED)
        for start in range(0, len(clean), 1000):
            noise = rng.standard_normal((1000, 28, 28), dtype=np.float32)
            size = {"l2": 1.5 / 28 * noise, "linf": 0.3 * np.sign(noise), "l0": noise * (noise > 2.2)}[norm]
            images = np.clip(clean[start : start + 1000] + size, 0, 1)[:, None]
            store.append(match, [record(start + i, distance=1 + i / 1000, adversarial=images[i]) for i in range(1000)])
        store.finish(match)
    yield store
    store.close()


@pytest.mark.slow
def test_ten_thousand_samples_and_six_defenses_fit_into_a_page(
    driver: WebDriver, large: Store, mnist: Batch, tmp_path: Path
) -> None:
    assert write_report(large, tmp_path / "page.html") < 80e6
    pretend(driver)
    driver.get((tmp_path / "page.html").as_uri())
    waiting = pytest.importorskip("selenium.webdriver.support.wait")
    assert "180000 adversarials, the closest of each sample" in driver.find_element("id", "gallery").text
    assert driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd") < 20_000  # ms
    choose(driver, "block", "9900 to 9999")
    shown = driver.find_element("id", "sample")
    waiting.WebDriverWait(driver, 60).until(lambda _: "Sample 9900" in shown.text)
    all_of(driver, "#samples button")[99].click()
    assert "Sample 9999" in shown.text
    clean = np.round(255 * mnist[0][9999, 0].numpy())
    assert np.array_equal(pixels(driver, all_of(driver, "#sample canvas")[0]), clean)
