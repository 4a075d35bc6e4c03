#!/usr/bin/python3
"""How long the live page takes to show a change: from the answer of a match in an engine, through the statistics page in
shared memory, `cistern metrics --listen` and HTTP, to the text that Chromium shows.

    make && make build/tests/e2e/engine && bench/live_page.py [--changes N] [--build DIR]

Prints the median and the extremes, in ms. The time includes up to 10 ms of asking the browser.
"""
import argparse
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def open_browser(profile):
    options = Options()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--disable-background-networking", "--user-data-dir=" + profile):
        options.add_argument(word)
    options.binary_location = shutil.which("chromium")
    return webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--changes", type=int, default=16)
    ap.add_argument("--build", default=os.path.join(TOP, "build"))
    a = ap.parse_args()
    took = []
    with tempfile.TemporaryDirectory() as tmp:
        engine = subprocess.Popen([os.path.join(a.build, "tests/e2e/engine")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, env={**os.environ, "TMPDIR": tmp})
        engine.stdout.readline()
        exporter = subprocess.Popen([os.path.join(a.build, "cistern"), "metrics", "--listen", "0", "--pid", str(engine.pid)],
                                    stderr=subprocess.PIPE, text=True)
        browser = open_browser(os.path.join(tmp, "profile"))

        def ask(words):
            engine.stdin.write(words + "\n")
            engine.stdin.flush()
            return engine.stdout.readline()

        def shown():
            return browser.execute_script("const e = document.querySelector('#tile-hits .note'); return e && e.textContent")
        try:
            ask("put 4")
            browser.get(re.search(r"http://\S+?/(?=metrics)", exporter.stderr.readline()).group())
            ask("match 4")
            while not shown():
                time.sleep(0.1)
            for i in range(a.changes):
                time.sleep(1.3 + 0.07 * (i % 10))  # nothing is on its way any more, and not in step with anybody's clock
                before = shown()
                for _ in range(int(1.6 ** i)):  # the share since the start moves less and less
                    ask("match 4" if i % 2 else "match 8")  # four of these are there
                start = time.monotonic()
                while shown() == before and time.monotonic() - start < 10:
                    time.sleep(0.005)
                took.append(1000 * (time.monotonic() - start))
        finally:
            browser.quit()
            for p in (exporter, engine):
                p.kill()
                p.wait()
    print("%d changes, ms until they are shown: median %.0f, %.0f to %.0f"
          % (len(took), statistics.median(took), min(took), max(took)))


main()
