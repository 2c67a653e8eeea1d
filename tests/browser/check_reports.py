#!/usr/bin/env python3
"""Opens reports in headless Chromium, on a phone and a desk, light and dark, as people would: looks at the charts,
moves the pointer over them, uses the keyboard, switches script off; nothing may be fetched or logged as an error.

    check_reports.py [--screenshots FOLDER] [--faults] FILE...

Exits with 77 where there is no Chromium. Python's standard library is enough: Chromium speaks its debugging protocol
over a pipe, messages of JSON that end with a zero byte.
"""
import argparse
import base64
import fcntl
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import time

PATIENCE = 180  # seconds for an answer; machines that build beside the test are slow
WIDTHS = (360, 1280)
MODES = ("light", "dark")
FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync --disable-dev-shm-usage --hide-scrollbars --remote-debugging-pipe""".split()

# Runs in the page and returns a list of what is wrong with it.
LOOK = r"""
(() => {
  const problems = [], say = text => problems.push(text);
  const seen = element => element.getClientRects().length > 0 && getComputedStyle(element).visibility === 'visible';
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.scroll'));
    say(`the page scrolls sideways: ${document.documentElement.scrollWidth} > ${innerWidth}, ${wide.slice(0, 3).map(e => e.outerHTML.slice(0, 80))}`);
  }
  if (!document.title || !document.documentElement.lang || document.querySelectorAll('h1').length !== 1) say('no title, language or heading');

  const rgb = text => (text.match(/[\d.]+/g) || []).map(Number);
  const luminance = c => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => {
    const s = c[i] / 255;
    return sum + share * (s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4);
  }, 0);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = rgb(getComputedStyle(e).backgroundColor);
      if (color.length === 3 || color[3] > 0) return color;
    }
    return [255, 255, 255];
  };
  const contrast = (element, property) => {
    const [a, b] = [luminance(rgb(getComputedStyle(element)[property])), luminance(ground(element))].sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
  };
  const need = (selector, property, least) => {
    for (const e of document.querySelectorAll(selector))
      if (seen(e) && contrast(e, property) < least) { say(`contrast of ${selector} is ${contrast(e, property).toFixed(2)}, less than ${least}`); break; }
  };
  need('h1, h2, p, a, figcaption strong, figcaption span, summary, th, td, dt, dd, code, .legend li', 'color', 4.5);
  need('.unit', 'color', 4.5);
  need('.axes text', 'fill', 4.5);
  for (let i = 0; i < 8; ++i) need(`.c${i} .stroke`, 'stroke', 3);

  for (const plot of document.querySelectorAll('.plot')) {
    const charts = [...plot.querySelectorAll('svg')].filter(seen);
    if (charts.length !== 1) { say(`${charts.length} drawings of one chart are visible`); continue; }
    const svg = charts[0], box = svg.getBoundingClientRect(), scale = box.width / svg.viewBox.baseVal.width;
    const name = (svg.getAttribute('aria-label') || svg.querySelector('title')?.textContent || '').trim();
    if (svg.getAttribute('role') !== 'img' || !name || !svg.querySelector('desc').textContent.trim()) say('a chart without text alternative');
    if (box.width < 250 || box.height < 150) say(`chart "${name}" is only ${box.width} x ${box.height}`);
    for (const text of svg.querySelectorAll('text')) {
      const r = text.getBoundingClientRect();
      if (parseFloat(getComputedStyle(text).fontSize) * scale < 10.5) say(`letters of chart "${name}" are too small`);
      if (r.left < 0 || r.right > innerWidth) say(`"${text.textContent}" of chart "${name}" is cut off`);
    }
    const labels = [...svg.querySelectorAll('.axes text[text-anchor=middle]:not(.none)')].map(e => e.getBoundingClientRect());
    labels.forEach((r, i) => { if (i && r.left < labels[i - 1].right + 2) say(`labels of the x axis of chart "${name}" run together`); });
    for (const line of svg.querySelectorAll('.line')) {
      const marks = line.querySelectorAll('[data-at]'), stroke = line.querySelector('.stroke');
      if (marks.length > 1 && !(stroke && stroke.getTotalLength() > 1)) say(`line "${line.dataset.name}" of chart "${name}" is not drawn`);
      for (const part of line.querySelectorAll('path')) {
        const r = part.getBoundingClientRect();
        if (r.top < box.top - 1 || r.bottom > box.bottom + 1 || r.right > box.right + 1) { say(`line "${line.dataset.name}" leaves chart "${name}"`); break; }
        if (/NaN|inf/.test(part.getAttribute('d'))) say(`chart "${name}" has a path with NaN`);
      }
    }
    if (!plot.parentElement.querySelector('details table')) say(`chart "${name}" has no table of values`);
  }
  for (const image of document.images) {
    if (!image.complete || image.naturalWidth === 0) say(`a picture is not shown: ${image.alt}`);
    if (!image.alt) say('a picture without text alternative');
  }
  return problems;
})()
"""

# The chart that has values and what the script shows for it.
PLOT = "[...document.querySelectorAll('.plot')].find(p => p.querySelector('[data-at]'))"
TIP = """(() => {
  const plot = %s, tip = plot.querySelector('.tip'), r = tip.getBoundingClientRect(), p = plot.getBoundingClientRect();
  return {text: tip.innerText, inside: r.left >= p.left - 1 && r.right <= p.right + 1, on: plot.querySelectorAll('.marks .on').length,
          focused: document.activeElement === plot};
})()""" % PLOT


class Browser:
    """A Chromium with a profile of its own, and the events that a page sent."""

    def __init__(self, program, folder):
        to_browser, self.out = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())
        self.inp, from_browser = (fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in os.pipe())

        def connect():
            os.dup2(to_browser, 3)
            os.dup2(from_browser, 4)

        self.log = open(os.path.join(folder, "chromium.log"), "w+")
        self.process = subprocess.Popen([program, *FLAGS, f"--user-data-dir={folder}/profile", "about:blank"], pass_fds=(3, 4),
                                        preexec_fn=connect, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        os.close(to_browser)
        os.close(from_browser)
        self.buffer, self.events, self.count, self.session = b"", [], 0, None

    def read(self, deadline):
        while b"\0" not in self.buffer:
            if not select.select([self.inp], [], [], max(0, deadline - time.monotonic()))[0]:
                raise TimeoutError("Chromium does not answer")
            data = os.read(self.inp, 1 << 20)
            if not data:
                self.log.seek(0)
                raise RuntimeError("Chromium ended:\n" + self.log.read())
            self.buffer += data
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.count += 1
        message = {"id": self.count, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self.read(deadline)
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        deadline = time.monotonic() + PATIENCE
        while not any(e.get("method") == method for e in self.events):
            self.events.append(self.read(deadline))

    def evaluate(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"].get("description"))
        return answer["result"].get("value")

    def key(self, name):
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=name, code=name,
                      windowsVirtualKeyCode={"Tab": 9, "End": 35, "Home": 36, "ArrowRight": 39, "Escape": 27}[name])

    def open(self, file, width, mode, script=True):
        """A fresh tab with the page loaded, instead of the one before."""
        old, self.session, self.events = self.session, None, []
        if old:
            self.call("Target.closeTarget", targetId=self.target)
        self.target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=self.target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=2 if width < 600 else 1, mobile=width < 600)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": mode}])
        self.call("Emulation.setScriptExecutionDisabled", value=not script)
        self.events = []
        self.url = pathlib.Path(file).resolve().as_uri()
        self.call("Page.navigate", url=self.url)
        self.wait_for("Page.loadEventFired")

    def complaints(self):
        """What the page fetched or logged although it should not."""
        found = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method == "Network.requestWillBeSent":
                url = params["request"]["url"]
                if url != self.url and not url.startswith("data:"):
                    found.append(f"fetches {url}")
            elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
                found.append(f"logs {[a.get('value') for a in params['args']]}")
            elif method == "Runtime.exceptionThrown":
                found.append(f"throws {params['exceptionDetails']}")
            elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                found.append(f"logs {params['entry']['text']}")
        return found

    def screenshot(self, file):
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        image = self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(image))

    def close(self):
        self.session = None
        try:
            self.call("Browser.close")
        except (RuntimeError, TimeoutError, OSError):
            pass
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


def tip_when(browser, condition):
    """What a chart shows as soon as it meets the condition: on a busy machine the page follows an event a little later."""
    for _ in range(40):
        tip = browser.evaluate(TIP)
        if condition(tip):
            break
        time.sleep(0.05)
    return tip


def use_charts(browser):
    """Reads a chart by pointer and by keyboard."""
    problems = []
    browser.evaluate(f"{PLOT}.scrollIntoView({{block: 'center'}})")
    box = browser.evaluate(f"(() => {{ const r = {PLOT}.getBoundingClientRect(); return [r.left, r.top, r.width, r.height]; }})()")
    for share in (0.15, 0.5, 0.98):
        browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + box[2] * share, y=box[1] + box[3] / 2)
        tip = tip_when(browser, lambda t: t["text"] and t["on"] and t["inside"])
        if not tip["text"] or not tip["on"] or not tip["inside"]:
            problems.append(f"the pointer at {share} of a chart shows {tip}")
    browser.call("Input.dispatchMouseEvent", type="mouseMoved", x=1, y=1)
    if tip_when(browser, lambda t: not t["text"])["text"]:
        problems.append("the values stay when the pointer leaves")
    browser.evaluate("document.activeElement.blur()")
    for _ in range(200):
        browser.key("Tab")
        if browser.evaluate(TIP)["focused"]:
            break
    texts = []
    for name in ("Home", "ArrowRight", "End", "Escape"):
        browser.key(name)
        texts.append(browser.evaluate(TIP)["text"])
    points = browser.evaluate(f"new Set([...{PLOT}.querySelectorAll('.wide [data-at]')].map(m => m.dataset.at)).size")
    if not texts[0] or not texts[2] or texts[3] or (points > 2 and len(set(texts[:3])) < 3):
        problems.append(f"Home, right, End, Escape on a chart show {texts}")
    return problems


def check(browser, file, screenshots=None):
    problems = []
    for width in WIDTHS:
        for mode in MODES:
            browser.open(file, width, mode)
            found = browser.evaluate(LOOK)
            if screenshots:
                browser.screenshot(os.path.join(screenshots, f"{pathlib.Path(file).stem}-{width}-{mode}.png"))
            dark = browser.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(c => c < 100)")
            if dark != (mode == "dark"):
                found.append(f"the background does not follow {mode} mode")
            if browser.evaluate(f"!!{PLOT}"):
                found += use_charts(browser)
            found += browser.complaints()
            problems += [f"{width} px, {mode}: {p}" for p in found]
    browser.open(file, WIDTHS[0], "light", script=False)
    problems += [f"without script: {p}" for p in browser.evaluate(LOOK) + browser.complaints()]
    images = [n for n in browser.call("Accessibility.getFullAXTree")["nodes"] if n.get("role", {}).get("value") in ("image", "img")]
    expected = browser.evaluate("document.querySelectorAll('.plot').length + document.images.length")
    if len([n for n in images if n.get("name", {}).get("value")]) < expected:
        problems.append(f"screen readers find {len(images)} named pictures and charts, not {expected}")
    folder = pathlib.Path(file).resolve().parent
    for link in browser.evaluate("[...document.querySelectorAll('a')].map(a => decodeURIComponent(a.getAttribute('href')))"):
        if not (folder / link).is_file():
            problems.append(f"a link leads nowhere: {link}")
    return problems


def check_the_checks(browser, file, folder):
    """Faults put into a good page must be seen."""
    with open(file, encoding="utf-8") as page:
        good = page.read()
    unguarded = good.replace('<meta http-equiv="Content-Security-Policy"', "<meta")
    faults = {
        "fetches http://127.0.0.1:9/": unguarded.replace("</main>", '<img src="http://127.0.0.1:9/x.png" alt="x"></main>'),
        "logs": good.replace("</main>", "<script>console.error('fault')</script></main>"),
        "Content Security Policy": good.replace("</main>", '<img src="http://127.0.0.1:9/x.png" alt="x"></main>'),
        "scrolls sideways": good.replace("</main>", '<div style="width: 1500px">x</div></main>'),
        "is not drawn": good.replace('class="stroke" d="M', 'class="stroke" d="M0 0h0" title="'),
        "contrast": good.replace("--soft: #59626c", "--soft: #c9d2dc"),
        "throws": good.replace("'use strict';", "'use strict'; undefined.x;"),
    }
    problems = []
    for text, page in faults.items():
        broken = os.path.join(folder, "broken.html")
        with open(broken, "w", encoding="utf-8") as out:
            out.write(page)
        browser.open(broken, 1280, "light")
        found = browser.evaluate(LOOK) + browser.complaints()
        if not any(text in p for p in found):
            problems.append(f"a page made to show \"{text}\" only shows {found}")
    return problems


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--screenshots", metavar="FOLDER")
    arguments.add_argument("--faults", action="store_true", help="put faults into the first file and see that they are found")
    arguments.add_argument("files", nargs="+")
    options = arguments.parse_args()
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        print("skipped: there is no Chromium on this machine")
        return 77
    failed = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        browser = Browser(program, folder)
        try:
            for file in options.files:
                problems = check(browser, file, options.screenshots)
                if options.faults and file == options.files[0]:
                    problems += check_the_checks(browser, file, folder)
                failed += len(problems)
                print(f"{'FAIL' if problems else 'ok'}: {file}", *problems, sep="\n  ")
        finally:
            browser.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
