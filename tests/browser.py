# SPDX-License-Identifier: MIT
"""A page in headless Chromium: what its reader would see, and what it asks of the network.

The browser runs in a network namespace of its own, without an outside. The page is shown in frames
of several widths; a script beside it, not in it, looks at each.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Seen", "browser", "look_at"]

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
_CALM = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-extensions"),
    *("--disable-dev-shm-usage", "--allow-file-access-from-files", "--enable-logging=stderr"),
    *(
        "--virtual-time-budget=20000",
        "--timeout=60000",
        "--window-size=1400,900",
        "--hide-scrollbars",
    ),
)
_ERRAND = "not an origin"
_SCRIPT = """
function rgb(text) {
  const parts = text.match(/[\\d.]+/g).map(Number);
  return parts.length < 4 ? [...parts, 1] : parts;
}
function light(text) {
  const part = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const [r, g, b] = rgb(text).map(part);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
function contrast(view, element) {
  let back = element;
  while (back.parentElement && rgb(view.getComputedStyle(back).backgroundColor)[3] === 0)
    back = back.parentElement;
  const pair = [light(view.getComputedStyle(element).color),
                light(view.getComputedStyle(back).backgroundColor)].sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
}
function look(frame) {
  const view = frame.contentWindow, page = frame.contentDocument;
  const texts = [...page.body.querySelectorAll('*')].filter(e => e.checkVisibility() &&
    [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()));
  const faint = texts.map(e => [contrast(view, e), e.textContent.trim().slice(0, 60)]);
  const wide = [...page.body.querySelectorAll('*')].filter(e => e.checkVisibility() &&
    !e.closest('.scroll') && e.getBoundingClientRect().right > view.innerWidth + 1);
  return {
    width: view.innerWidth,
    scroll_width: page.documentElement.scrollWidth,
    wide: wide.map(e => e.outerHTML.slice(0, 80)),
    images: [...page.images].map(i => i.complete ? i.naturalWidth : 0),
    tables: [...page.querySelectorAll('table')].map(t => t.rows.length),
    captions: [...page.querySelectorAll('caption')].map(c => c.textContent.trim()),
    background: view.getComputedStyle(page.body).backgroundColor,
    least_contrast: faint.sort((a, b) => a[0] - b[0])[0],
    text: page.body.innerText,
  };
}
onload = () => {
  document.getElementById('found').textContent =
    JSON.stringify([...document.querySelectorAll('iframe')].map(look));
};
"""


@dataclass(frozen=True)
class Seen:
    """What was seen of a page.

    :ivar frames: by width in pixels, what the script above found.
    :ivar console: what the page made the browser complain of.
    :ivar requests: addresses other than files that were asked for.
    """

    frames: dict[int, dict[str, Any]]
    console: list[str]
    requests: list[str]


def browser() -> str | None:
    """The browser's path; None where there is none, or only Ubuntu's snap."""
    for name in _NAMES:
        path = shutil.which(name)
        if path is not None and "snap" not in os.path.realpath(path):
            return path
    return None


def look_at(page: Path, *, widths: tuple[int, ...], dark: bool = False) -> Seen:
    """Open a page in frames of these widths."""
    program = browser()
    assert program is not None
    frames = "".join(
        f'<iframe src="{page.name}" style="width:{width}px;height:900px;border:0"></iframe>'
        for width in widths
    )
    around = page.with_name("around.html")
    around.write_text(f'<pre id="found"></pre>{frames}<script>{_SCRIPT}</script>')
    log, profile = page.with_name("net.json"), page.with_name("profile")
    command = [
        *(("unshare", "--net") if os.geteuid() == 0 else ()),
        program,
        *_CALM,
        f"--user-data-dir={profile}",
        f"--log-net-log={log}",
        "--host-resolver-rules=MAP * ~NOTFOUND",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--dump-dom",
        around.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr
    seen = json.loads(html.unescape(found[1]))
    return Seen(
        frames={frame["width"]: frame for frame in seen},
        console=[
            line
            for line in done.stderr.splitlines()
            if ":CONSOLE" in line and "source: chrome://" not in line  # pages of its own
        ],
        requests=_requests(json.loads(log.read_text())),
    )


def _requests(log: dict[str, Any]) -> list[str]:
    """Addresses that a page asked for; the browser's own errands come from no origin."""
    asked = (event.get("params", {}) for event in log["events"])
    return sorted({p["url"] for p in asked if p.get("initiator", _ERRAND) != _ERRAND})
