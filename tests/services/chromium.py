"""Chromium without a window, steered by selenium: Debian's packages chromium and chromium-driver.

Every browser has a new profile, and keeps what it downloads in a directory of its own.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from services.process import ServerProcess, answers, clean_environment, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.remote.webdriver import WebDriver
    from selenium.webdriver.remote.webelement import WebElement

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1100",
)
SCREENSHOTS = Path(os.environ.get("SHARDFLOW_SCREENSHOTS") or Path(__file__).parents[2] / "build" / "screenshots")
PATIENCE = 60.0  # for the pages of a server that shares a small machine with the browser

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Browser:
    """A browser, and the few things that all tests of pages do with it."""

    driver: WebDriver
    downloads: Path
    log: Path

    def open(self, url: str) -> None:
        self.driver.get(url)

    def until(self, what: Callable[[], T], seconds: float = PATIENCE, name: str = "what was waited for") -> T:
        """What a function returns, as soon as that is true; pages that change while it looks are no matter."""
        from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
        from selenium.webdriver.support.ui import WebDriverWait

        changing = (NoSuchElementException, StaleElementReferenceException)
        return WebDriverWait(self.driver, seconds, 0.1, changing).until(
            lambda _: what(), f"{name} did not come in {seconds:.0f} s"
        )

    def find(self, xpath: str, seconds: float = PATIENCE) -> WebElement:
        """The first visible element of an XPath, as soon as there is one."""
        return self.until(lambda: self._visible(xpath), seconds, xpath)[0]

    def _visible(self, xpath: str) -> list[WebElement]:
        return [element for element in self.driver.find_elements("xpath", xpath) if element.is_displayed()]

    def find_text(self, text: str, seconds: float = PATIENCE) -> WebElement:
        """The first visible element whose own text is this one."""
        return self.find(f'//body//*[text()[normalize-space()="{text}"]]', seconds)

    def download(self, click: Callable[[], None]) -> Path:
        """The file, not an empty one, that a click makes the browser save."""
        before = self._saved()
        click()
        return self.until(lambda: next(iter(self._saved() - before), None))

    def _saved(self) -> set[Path]:
        """What is complete: until then there is an empty file, and one of another name with what has come."""
        names = {entry.name for entry in os.scandir(self.downloads) if entry.stat().st_size}
        return {
            self.downloads / name for name in names if not name.startswith(".") and not name.endswith(".crdownload")
        }

    def forget(self) -> None:
        """Leave the page, and forget what pages have kept.

        It is left for what its server says of a page that is not there: with the process of its pages, which another
        site would end, the browser would lose what it knows of their scripts.
        """
        here = urlsplit(self.driver.current_url)
        self.open(f"{here.scheme}://{here.netloc}/no-such-page" if here.netloc else "about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})  # type: ignore[attr-defined]
        everything = {"origin": "*", "storageTypes": "all"}
        self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", everything)  # type: ignore[attr-defined]

    def screenshot(self, name: str) -> Path:
        """The page as it looks now, in a file that stays when the tests have ended."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        path.write_bytes(self.driver.get_screenshot_as_png())
        return path


def missing() -> str | None:
    """Why Chromium can not run here; None when it can."""
    absent = [program for program in ("chromium", "chromedriver") if not shutil.which(program)]
    return f"not installed ({', '.join(absent)}); 'make services' installs it" if absent else None


@contextmanager
def running(home: Path) -> Iterator[Browser]:
    """A browser for as long as the context lasts."""
    from selenium import webdriver

    port, log = free_port(), home / "chromedriver.log"
    argv = ["chromedriver", f"--port={port}"]
    # Not below `home`: the browser makes a socket here, and the paths of sockets have to be short.
    with (
        tempfile.TemporaryDirectory(prefix="shardflow-chromium-", ignore_cleanup_errors=True) as place,
        ServerProcess(argv, log, clean_environment(Path(place))) as server,
    ):
        downloads = Path(place, "downloads")
        downloads.mkdir()
        server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/status"))
        driver = webdriver.Remote(f"http://127.0.0.1:{port}", options=_options(Path(place), downloads))
        try:
            yield Browser(driver, downloads, log)
        finally:
            driver.quit()


def _options(home: Path, downloads: Path) -> Options:
    from selenium.webdriver.chrome.options import Options

    options = Options()
    options.binary_location = str(_launcher(home))
    for flag in (*FLAGS, f"--user-data-dir={home / 'profile'}"):
        options.add_argument(flag)
    preferences = {"download.default_directory": str(downloads), "download.prompt_for_download": False}
    options.add_experimental_option("prefs", preferences)
    return options


def _launcher(home: Path) -> Path:
    """The browser as a program that ends with the driver, so that a killed test run leaves none behind."""
    setpriv = "setpriv --pdeathsig KILL " if shutil.which("setpriv") else ""
    path = home / "chromium"
    path.write_text(f'#!/bin/sh\nexec {setpriv}{shutil.which("chromium")} "$@"\n')
    path.chmod(0o755)
    return path
