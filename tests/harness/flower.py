"""Flower and a browser to look at it with."""
import json
import os
import shutil
import sys
import urllib.request
from contextlib import contextmanager

from . import PROJECT
from .daemon import clean_environment
from .processes import ProcessUnderTest
from .redis_server import free_port
from .waiting import eventually

PATIENCE = 60.0
#: Of the browser's window, in pixels.
WIDTH, HEIGHT = 1280, 800


class Flower(ProcessUnderTest):
    """`celery flower` on a port of its own."""

    def __init__(self, env, directory):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        command = [sys.executable, "-m", "celery", "-A", "imgbackend", "flower", "--address=127.0.0.1", f"--port={port}"]
        environment = clean_environment(**env, FLOWER_UNAUTHENTICATED_API="true")
        super().__init__(command, directory / "flower.log", environment, PROJECT)

    def ask(self, path, post=False):
        """The text it answers with; none where it doesn't (yet)."""
        request = urllib.request.Request(self.url + path, data=b"" if post else None)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def json(self, path, **options):
        """The same, read."""
        return json.loads(self.ask(path, **options) or "{}")

    def alive(self):
        """Whether a node is online, by its name."""
        return self.json("/api/workers?status=1")

    def task(self, result, state):
        """What it knows of a task once that has this state."""
        path = f"/api/task/info/{result.id}"
        seen = lambda: self.json(path)
        return eventually(lambda: seen().get("state") == state and seen(), PATIENCE, lambda: f"{seen()}\n{self.log()}")


class Browser:
    """One page of Flower at a time in Chromium. What is clicked or read has to appear first."""

    def __init__(self, driver, flower):
        self.driver = driver
        self.flower = flower

    def open(self, path):
        """Go to a page."""
        self.driver.get(self.flower.url + path)

    def find(self, selector):
        """The elements of the page that a CSS selector names."""
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        """Their texts, as one sees them. They are read in one go: some pages renew themselves every second."""
        read = "return Array.from(document.querySelectorAll(arguments[0]), found => found.innerText.trim())"
        return self.driver.execute_script(read, selector)

    def rows(self, table):
        """The cells of a table's rows."""
        read = ("return Array.from(document.querySelectorAll(arguments[0] + ' tbody tr'), "
                "row => Array.from(row.cells, cell => cell.innerText.trim()))")
        return self.driver.execute_script(read, table)

    def until(self, predicate):
        """Wait for something of the page; fail with what it shows instead."""
        return eventually(predicate, PATIENCE, lambda: self.texts("body")[0])

    def click(self, selector):
        """Click on the one element of this selector."""
        (button,) = self.until(lambda: self.find(selector))
        button.click()

    def fill(self, selector, value):
        """Write something into the one field of this selector."""
        (field,) = self.until(lambda: self.find(selector))
        field.clear()
        field.send_keys(str(value))

    def told(self, part):
        """Wait until Flower says this in the corner of the page."""
        self.until(lambda: any(part in text for text in self.texts(".toast")))

    def picture(self, file):
        """Keep the page as a PNG, in a window that is as high as it takes."""
        measure = "return document.documentElement.scrollHeight - window.innerHeight + window.outerHeight"
        self.driver.set_window_size(WIDTH, self.driver.execute_script(measure))
        self.driver.save_screenshot(str(file))


@contextmanager
def browser(flower, directory):
    """A headless Chromium of Debian's; nothing is downloaded."""
    from selenium import webdriver

    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    assert all(programs), "chromium and chromedriver are missing: sh tests/setup.sh browser"
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    wanted = ["headless=new", f"window-size={WIDTH},{HEIGHT}", f"user-data-dir={directory}/chromium", "disable-dev-shm-usage"]
    if os.geteuid() == 0:
        wanted.append("no-sandbox")  # which Chromium refuses to set up for root
    for option in wanted:
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    try:
        yield Browser(driver, flower)
    finally:
        driver.quit()
