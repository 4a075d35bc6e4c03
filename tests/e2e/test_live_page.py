"""The live page in headless Chromium: what it shows of numbers that are known, and what it says when something is wrong.

Most tests feed it from an exporter of their own (fake_exporter.py); the last one from `cistern metrics` and a store.
"""

import os
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from fake_exporter import PAGE, Exporter, Store

TOP = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ.get("CISTERN_BUILD", TOP / "build"))
CISTERN = os.environ.get("CISTERN", str(BUILD / "cistern"))
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
try:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.support.ui import Select
except ImportError:
    webdriver = None

needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER and webdriver),
                                   reason="no chromium, chromedriver or python3-selenium (tools/setup.sh validators)")
GIB = 1 << 30
PATIENCE = 120


def wait(what, seconds=PATIENCE):
    """Until what() is true; its last answer or error in the words of the failure."""
    end, last = time.monotonic() + seconds, None
    while time.monotonic() < end:
        last = what()
        if last:
            return last
        time.sleep(0.1)
    raise AssertionError(f"never came: {what.__doc__ or what}; at last {last!r}")


class Page:
    """The page in a browser, by the words on it."""

    def __init__(self, browser):
        self.browser = browser

    def open(self, url):
        self.browser.get(url)

    def text(self, where):
        return self.browser.execute_script(
            "const e = document.querySelector(arguments[0]); return e ? e.textContent : null", where)

    def tile(self, name):
        return self.text(f"#tile-{name} b"), self.text(f"#tile-{name} .note")

    def chart(self, name):
        return self.browser.execute_script(
            "return document.querySelector(arguments[0]).getAttribute('aria-label')", f"#chart-{name} > svg")

    def says(self, words, kind=None):
        """The one line, whole or its beginning."""
        def now():
            line = self.text("#says")
            return line.startswith(words) and (kind is None or self.kind() == kind)
        now.__doc__ = f"{words!r}"
        try:
            wait(now)
        except AssertionError as e:
            raise AssertionError(f"{e}; it says {self.text('#says')!r} ({self.kind()}): {self.text('#why')!r}") from None

    def kind(self):
        return self.browser.execute_script("return document.getElementById('status').className")

    def shows(self, tile, *expected):
        def now():
            return self.tile(tile)[:len(expected)] == expected
        now.__doc__ = f"{expected} in {tile}"
        try:
            wait(now)
        except AssertionError as e:
            raise AssertionError(f"{e}; it shows {self.tile(tile)}") from None

    def row(self, name):
        return self.browser.execute_script(
            "return [...document.querySelectorAll('#trouble-' + arguments[0] + ' td')].map(e => e.textContent)", name)

    def processes(self):
        return self.browser.execute_script("return [...document.querySelectorAll('#procs tbody tr')]"
                                           ".map(r => [...r.children].map(c => c.textContent))")

    def pick(self, words):
        box = Select(self.browser.find_element("id", "pick"))
        box.select_by_visible_text(next(o.text for o in box.options if words in o.text))


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = Options()
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1280,1000",
                 "--no-first-run", "--disable-background-networking", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                 f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(word)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(service=Service(DRIVER), options=options)
    driver.set_page_load_timeout(PATIENCE)
    yield driver
    driver.quit()


@pytest.fixture
def exporter():
    e = Exporter()
    yield e
    e.stop()


@pytest.fixture
def page(browser, exporter):
    yield Page(browser)
    browser.get("about:blank")  # no more questions to an exporter that ends


def looks(exporter, n=2):
    """Until the page has asked n times more."""
    have = exporter.asked.count("/metrics")
    wait(lambda: exporter.asked.count("/metrics") >= have + n)


def busy(pid=101, **more):
    """A store that has served 80 % since its start."""
    s = Store(pid, **more)
    s.add(match_keys=1000, match_blocks=800, get_hit_blocks=800, get_miss_blocks=0, get_error_blocks=0,
          get_bytes=800 * (2 << 20), put_stored_blocks=150, put_bytes=150 * (2 << 20), put_dropped_blocks=0,
          put_dropped_full_blocks=0, put_dropped_budget_blocks=0, put_dropped_retired_blocks=0, saved_tokens=51200,
          saved_seconds=300, spent_seconds=12, io_timeouts=0, bad_checksum_blocks=0, shadow_differs=0)
    s.gauges |= dict(usage_bytes=300 * GIB, capacity_bytes=400 * GIB, filesystem_used_bytes=512 * GIB,
                     filesystem_free_bytes=512 * GIB, read_staging_used_bytes=1 * GIB)
    return s


def serve(exporter, page, *stores):
    exporter.stores = list(stores)
    page.open(exporter.url)
    wait(lambda: page.processes() is not None and len(page.processes()) == len(stores))


def more(exporter, store, **numbers):
    with exporter.lock:
        store.add(**numbers)


@needs_browser
def test_no_process_yet(exporter, page):
    page.open(exporter.url)
    page.says("No process with an open store on this host.", "idle")
    exporter.stores = [busy()]
    page.says("Serving 80 % of blocks from storage; nothing wrong.", "ok")  # all that it did came since the last look
    assert page.text("#where").endswith("1 store open")


@needs_browser
def test_numbers(exporter, page):
    """What is known goes in, what a person would work out from it comes out."""
    a, b = busy(101, shard=0), busy(102, shard=1)
    serve(exporter, page, a, b)
    page.shows("saved", "10 min", "for 24 s of reading")
    page.shows("tokens", "51.2 thousand")  # both shards count the same ones
    page.shows("room", "75 %", "300 GiB of 400 GiB")  # and lie on one root
    assert page.tile("hits") == ("–", "since start 80 %")
    assert "File system: 512 GiB of 1 TiB (50 %)" in page.text("#storage")
    assert "Gain: 9.6 min" in page.text("#worth")
    assert "for reads now 25 %" in page.chart("staging") and "for writes now 0 %" in page.chart("staging")

    def feed():  # the page forgets within ten seconds, so it gets more of the same for as long as it is looked at
        with exporter.lock:
            a.add(match_keys=60, match_blocks=50, get_hit_blocks=50, get_bytes=50 << 21)
            b.add(match_keys=40, match_blocks=25, get_hit_blocks=25, get_bytes=25 << 21)
            a.took(0.003, 100)  # all between 1.6 and 3.2 ms: half within 2.4, 99 % within 3.184
        return True
    wait(lambda: feed() and "found now 75 %" in page.chart("hits"))
    wait(lambda: feed() and page.tile("wait") == ("2.4 ms", "99 % within 3.18 ms"))
    page.says("Serving 75 % of blocks from storage; nothing wrong.", "ok")
    assert re.search(r"read now \d.*/s, in five minutes between 0/s and \d", page.chart("blocks")), page.chart("blocks")
    assert [p[:4] for p in page.processes()] == [["101", "llama-3.1-70b", "0", "/3fs/stage/3fs/rtp_llm"],
                                                 ["102", "llama-3.1-70b", "1", "/3fs/stage/3fs/rtp_llm"]]


@needs_browser
def test_rates(exporter, page):
    """Bytes per second are what the server handed out over the time between the looks, by the page's own clock."""
    s = busy()
    serve(exporter, page, s)
    looks(exporter)
    more(exporter, s, get_bytes=1 << 30, put_bytes=1 << 20)
    got = wait(lambda: re.search(r"read now \S+ \S+, in five minutes between 0 B/s and ([\d.]+) ([KM])iB/s", page.chart("bytes")))
    # One GiB over the 2.5 s that a rate covers: at most two looks of half a second of them, at the start of the page.
    assert 0 < float(got.group(1)) / (1024 if got.group(2) == "K" else 1) <= 1024 / 0.5
    wait(lambda: "read now 0 B/s" in page.chart("bytes") and "written now 0 B/s" in page.chart("bytes"))


@needs_browser
@pytest.mark.parametrize("what, line, kind", [
    (dict(breaker_open=1), "Storage is not answering: breaker open since ", "bad"),
    (dict(breaker_puts_open=1), "Storage refuses writes: stopped since ", "bad"),
    (dict(breaker_ranks=2), "Storage is not answering on another shard.", "bad"),
    (dict(tripped=1), "A process gave up on the cache after an internal error.", "bad"),
    (dict(handle_age_seconds=40), "A process does not report any more.", "warn"),
])
def test_state_is_said_and_taken_back(exporter, page, what, line, kind):
    s = busy()
    serve(exporter, page, s, busy(102))
    page.says("Idle; nothing wrong.", "ok")
    with exporter.lock:
        s.gauges.update(what)
    page.says(line, kind)
    assert "process 101" in page.text("#why")
    assert [p[9][0] for p in page.processes()] == ["✕" if kind == "bad" else "!", "✓"]
    if "since" in line:
        assert re.search(r"since \d\d:\d\d:\d\d", page.text("#says"))
    with exporter.lock:
        s.gauges.update({k: 0 for k in what})
    page.says("Idle; nothing wrong.", "ok")


@needs_browser
@pytest.mark.parametrize("what, line, kind, row", [
    (dict(bad_checksum_blocks=3), "Storage returned damaged data; it was caught.", "bad", "bad_checksum_blocks"),
    (dict(shadow_differs=3), "Stored blocks differ from what the engine computed.", "bad", "shadow_differs"),
    (dict(io_timeouts=3), "Storage is slow or refuses requests.", "warn", "io_timeouts"),
    (dict(put_dropped_blocks=3, put_stored_blocks=9), "25 % of new blocks are not stored.", "warn", "other"),
    (dict(put_dropped_blocks=3, put_dropped_full_blocks=3), "100 % of new blocks are not stored.", "warn",
     "put_dropped_full_blocks"),
])
def test_events_are_counted(exporter, page, what, line, kind, row):
    s = busy()
    s.add(io_timeouts=7, bad_checksum_blocks=7, shadow_differs=7, put_dropped_blocks=14, put_dropped_full_blocks=7)
    serve(exporter, page, s)
    page.says("Idle; nothing wrong.", "ok")  # what was before the page was opened is no news
    wait(lambda: page.row(row) == ["0", "7"])
    looks(exporter)
    more(exporter, s, **what)
    page.says(line, kind)
    wait(lambda: page.row(row) == ["3", "10"])


@needs_browser
def test_breaker_open_before_the_page(exporter, page):
    s = busy()
    s.gauges["breaker_open"] = 1
    serve(exporter, page, s)
    page.says("Storage is not answering: breaker open since before this page was opened.", "bad")


@needs_browser
def test_restart_under_the_same_number(exporter, page):
    """Counters that begin anew are no fall: what they say came since."""
    s = busy()
    serve(exporter, page, s)
    looks(exporter)
    anew = busy()
    anew.counters = {k: 0 for k in anew.counters} | {"match_keys": 10, "match_blocks": 4, "get_hit_blocks": 4}
    exporter.stores = [anew]
    page.says("Serving 40 % of blocks from storage; nothing wrong.", "ok")
    assert page.tile("hits")[1] == "since start 40 %"
    assert "-" not in page.chart("blocks") + page.chart("bytes") + page.chart("hits")


@needs_browser
def test_process_that_goes(exporter, page):
    a, b = busy(101), busy(202)
    b.add(saved_seconds=300)
    serve(exporter, page, a, b)
    page.pick("process 202")
    page.shows("saved", "10 min")
    assert [p[0] for p in page.processes()] == ["202"]
    exporter.stores = [a]
    page.says("This process has ended.", "warn")
    wait(lambda: "(ended)" in page.text("#pick"))
    page.pick("all processes")
    page.says("Idle; nothing wrong.", "ok")
    page.shows("saved", "5 min")
    wait(lambda: "(ended)" not in page.text("#pick"))
    assert [p[0] for p in page.processes()] == ["101"] and "-" not in page.chart("bytes")
    exporter.stores = []
    page.says("No process with an open store on this host.", "idle")


@needs_browser
def test_several_stores_of_one_process(exporter, page):
    a, b = busy(101, model="one"), busy(101, model="two")
    a.labels["handle"], b.labels["handle"] = 1, 2
    serve(exporter, page, a, b)
    assert [p[:2] for p in page.processes()] == [["101/1", "one"], ["101/2", "two"]]


@needs_browser
def test_exporter_that_stops(exporter, page):
    serve(exporter, page, busy())
    exporter.stop()
    page.says("Out of date: no news since ", "warn")
    assert re.search(r"since \d\d:\d\d:\d\d\.$", page.text("#says")) and page.text("#pulse") == "not connected"
    assert page.browser.execute_script("return document.body.classList.contains('stale')")
    exporter.start()
    page.says("Idle; nothing wrong.", "ok")
    assert not page.browser.execute_script("return document.body.classList.contains('stale')")


@needs_browser
def test_labels_stay_text(exporter, page):
    """Names come from others. Whatever they contain is shown and never run, and does not take the parser in."""
    names = ['<img src=x onerror="window.hacked=1">', '"></option><script>window.hacked=1</script>', "a,le=", 'b",le="5',
             "back\\slash\nline", "} 1 {", "__proto__"]
    stores = [busy(300 + i, model=name, root=f"/root{i}<b>") for i, name in enumerate(names)]
    serve(exporter, page, *stores)

    def feed():
        with exporter.lock:
            for s in stores:
                s.took(0.003, 100)
        return True
    wait(lambda: feed() and all(p[7] == "3.18 ms" for p in page.processes()))
    assert [p[1] for p in page.processes()] == names
    for i, name in enumerate(names):
        assert f"/root{i}<b>" in page.text("#storage") and name in page.text("#pick")
    assert page.browser.execute_script("return window.hacked === undefined && !document.querySelector('img') &&"
                                       " !document.querySelector('main script') && !document.querySelector('#storage b b')")


@needs_browser
def test_no_network(exporter, page):
    page.browser.get_log("browser")
    serve(exporter, page, busy())
    looks(exporter)
    assert set(exporter.asked) == {"/", "/metrics"}
    urls = page.browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)")
    assert set(urls) == {exporter.url + "metrics"}
    assert [e for e in page.browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_self_contained():
    """One small file that names no other place; the namespace of SVG is a name and not a place."""
    text = PAGE.read_text()
    assert len(text.encode()) < 40 << 10
    assert set(re.findall(r"(?:https?:)?//[\w.]+[^\s\"']*", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|<link[^>]+href=\"(?!data:)", text)


@needs_browser
def test_a_change_is_shown_at_the_next_look(exporter, page):
    """The page looks every half second, and the look after a change shows it: within a second, on an idle machine."""
    assert int(re.search(r"\bPOLL = (\d+)", PAGE.read_text()).group(1)) <= 500
    s = busy()
    serve(exporter, page, s)
    page.browser.execute_script("""
        performance.setResourceTimingBufferSize(100000);
        new MutationObserver(() => { if ($("says").textContent.startsWith("Storage is not")) window.after ??=
            performance.getEntriesByType("resource").length; }).observe($("says"), {childList: true, subtree: true,
            characterData: true})""")
    with exporter.lock:
        s.gauges["breaker_open"] = 1
        asked = exporter.asked.count("/metrics")
    page.says("Storage is not answering", "bad")
    # The one under way when it changed, the one that shows it, and what the list of resources may be off by.
    assert asked - 1 <= page.browser.execute_script("return window.after") <= asked + 3


def luminance(colour):
    parts = [int(x) / 255 for x in re.findall(r"\d+", colour)[:3]]
    r, g, b = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_readable_light_and_dark(exporter, page, scheme):
    page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                 {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    try:
        serve(exporter, page, busy())
        colours = page.browser.execute_script("""
            const probe = document.body.appendChild(document.createElement("i")), out = {};
            for (const n of arguments[0]) {
              probe.style.color = "var(--" + n + ")";
              out[n] = getComputedStyle(probe).color;
            }
            probe.remove();
            return out""", ["ink", "soft", "page", "card", "ok", "warn", "bad", "okbg", "warnbg", "badbg", "one", "two", "three"])
    finally:
        page.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert (luminance(colours["page"]) > 0.5) == (scheme == "light")
    for text, ground in [("ink", "page"), ("soft", "page"), ("ink", "card"), ("soft", "card"), ("ok", "okbg"),
                         ("warn", "warnbg"), ("bad", "badbg"), ("bad", "card"), ("ink", "okbg"), ("ink", "badbg")]:
        assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
    for line in ("one", "two", "three"):
        assert contrast(colours[line], colours["card"]) >= 3, line


@needs_browser
def test_without_eyes_and_without_colour(exporter, page):
    serve(exporter, page, busy())
    looks(exporter)
    found = page.browser.execute_script("""
        const all = s => [...document.querySelectorAll(s)];
        return {charts: all("figure > svg").map(e => [e.getAttribute("role"), e.getAttribute("aria-label")]),
          dashes: all("#chart-staging > svg path.line").map(e => getComputedStyle(e).strokeDasharray),
          bars: all(".bar").map(e => e.getAttribute("aria-label")), role: $("status").getAttribute("role"),
          label: $("pick").labels.length, heads: all("th:not([scope])").length, sign: $("status").firstChild.textContent,
          lang: document.documentElement.lang}""")
    assert len(found["charts"]) == 7
    assert all(role == "img" and " now " in label for role, label in found["charts"])
    assert len(set(found["dashes"])) == 3
    assert found["bars"] and all(found["bars"])
    assert (found["role"], found["label"], found["heads"], found["sign"], found["lang"]) == ("status", 1, 0, "✓", "en")


@needs_browser
def test_small_screen_and_picture(exporter, page, tmp_path):
    try:
        page.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                     {"width": 360, "height": 800, "deviceScaleFactor": 1, "mobile": False})
        serve(exporter, page, busy())
        looks(exporter)
        assert page.browser.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    picture = tmp_path / "live.png"
    assert page.browser.save_screenshot(str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10000


@needs_browser
def test_what_a_chart_shows_under_the_pointer(exporter, page):
    serve(exporter, page, busy())
    looks(exporter, 4)
    page.browser.execute_script("""
        const s = document.querySelector("#chart-staging > svg"), r = s.getBoundingClientRect();
        s.dispatchEvent(new PointerEvent("pointermove", {clientX: r.right - 10, clientY: r.top + 20, bubbles: true}))""")
    assert page.browser.execute_script("return !!document.querySelector('#chart-staging .cross')")
    assert " ago 25 %" in page.chart("staging")


@pytest.fixture
def real(tmp_path):
    """A store under load in a process of its own, and `cistern metrics` that serves that process's numbers alone."""
    if subprocess.run([CISTERN, "metrics", "--help"], capture_output=True, timeout=PATIENCE).returncode:
        pytest.skip("this build has no `cistern metrics`")
    started = []

    def start(*words):
        started.append(subprocess.Popen([CISTERN, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        text=True))
        return started[-1]
    bench = start("bench", "get", "--dir", tmp_path, "--block", "64K", "--total", "32M", "--staging", "32M", "--arena", "64M",
                  "--segment", "64M", "--slices", 100000, "--seconds", 0.2)
    exporter = start("metrics", "--listen", 0, "--pid", bench.pid)
    url = re.search(r"http://127\.0\.0\.1:\d+/", exporter.stderr.readline()).group()
    yield bench, url
    for p in reversed(started):
        p.kill()
        p.wait()
        p.stderr.close()


@needs_browser
def test_a_real_store(real, page):
    """From the store's counters through shared memory, HTTP and the page to what a person reads; and its end by SIGKILL."""
    bench, url = real
    page.browser.get_log("browser")
    page.open(url)

    def reading():
        return "found now 100 %" in page.chart("hits") and re.search(r"read now [1-9]", page.chart("bytes"))
    wait(reading)
    assert page.kind() in ("ok", "warn")  # a busy machine may miss a deadline
    assert [p[0] for p in page.processes()] == [str(bench.pid)]
    assert page.processes()[0][3].startswith(bench.args[4])  # its mount
    wait(lambda: re.fullmatch(r"[\d.]+ (µs|ms|s|min)", page.tile("wait")[0]))
    wait(lambda: re.search(r"^Cache.* of |File system: [\d.]+ [KMGT]iB of ", page.text("#storage")))
    assert page.browser.execute_script("return document.documentElement.outerHTML.length") > 10000
    assert [e for e in page.browser.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []
    bench.kill()
    page.says("No process with an open store on this host.", "idle")


@needs_browser
def test_the_command_serves_this_page(real):
    """What lies in the command is what lies in deploy/, and the numbers beside it are those that the page asks for."""
    bench, url = real
    with urllib.request.urlopen(url, timeout=PATIENCE) as r:
        assert r.read() == PAGE.read_bytes() and r.headers["Content-Type"].startswith("text/html")

    def numbers():
        with urllib.request.urlopen(url + "metrics", timeout=PATIENCE) as r:
            return set(re.findall(r"^(cistern_\w+)\{", r.read().decode(), re.M))
    wait(lambda: "cistern_get_bytes_total" in numbers())
    text = PAGE.read_text()
    counters, gauges = (re.search(r"const %s = `(.*?)`" % which, text, re.S).group(1).split()
                        for which in ("COUNTERS", "GAUGES"))
    asked = {f"cistern_{n}_total" for n in counters} | {f"cistern_{n}" for n in gauges}
    assert asked | {re.search(r'const LATENCY = "(\w+)"', text).group(1)} <= numbers()
