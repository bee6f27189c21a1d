"""A real Chromium, without a window, for tests of pages."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # it may be missing
    from selenium.webdriver.chrome.webdriver import WebDriver

CHROMIUM = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[WebDriver]:
    """A selenium driver; skips the test, saying what is missing, where there is no browser to drive."""
    selenium = pytest.importorskip("selenium.webdriver", reason="needs selenium: pip install -e '.[test]'")
    exceptions = pytest.importorskip("selenium.common.exceptions")
    browser = next(filter(None, map(shutil.which, CHROMIUM)), None)
    driver = shutil.which("chromedriver")
    if not browser or not driver:
        pytest.skip("needs Chromium and its driver: apt-get install chromium-headless-shell chromium-driver")
    options = selenium.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = selenium.Chrome(options=options, service=selenium.ChromeService(driver))
    try:
        yield started
    finally:
        # Quitting ends the driver, but not a browser whose start script (Debian's) runs it as a child. A browser that
        # closes cannot answer any more.
        with suppress(exceptions.WebDriverException):
            started.execute_cdp_cmd("Browser.close", {})
        started.quit()


def pretend(driver: WebDriver, scheme: str = "light", width: int = 1200) -> None:
    """Show pages as to someone who prefers this colour scheme and no motion, in a window of so many pixels."""
    preferences = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in preferences.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
