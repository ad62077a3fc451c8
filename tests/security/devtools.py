"""A page in a real browser that is clicked and typed into: the DevTools protocol through a pipe."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.security.chromium import found

SECONDS = 90  # for any one answer of the browser

Event = dict[str, Any]


class Page:
    """One tab. `events` are what the browser said of its console, its network and its policies."""

    def __init__(self, profile: Path) -> None:
        command = [found(), "--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += [f"--user-data-dir={profile}", "--remote-debugging-pipe"]
        if os.geteuid() == 0:  # the browser's own sandbox refuses to start as root
            command.append("--no-sandbox")
        there, self._write = os.pipe()
        self._read, back = os.pipe()

        def places() -> None:  # the protocol's: commands come in at 3, answers go out at 4
            one, other = os.dup(there), os.dup(back)
            os.dup2(one, 3)
            os.dup2(other, 4)

        self._process = subprocess.Popen(
            command,
            preexec_fn=places,  # noqa: PLW1509 (it only moves two files)
            close_fds=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(there)
        os.close(back)
        self._number, self._rest, self._session = 0, b"", ""
        self.events: list[Event] = []
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
        except (EOFError, BrokenPipeError):
            self._process.wait()
            pytest.skip("the browser does not start here")
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **params: Any) -> Any:
        """The browser's answer to a command of the protocol; what it says before that is kept."""
        self._number += 1
        message: Event = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self.events.append(answer)
        assert "error" not in answer, (method, answer["error"])
        return answer["result"]

    def _next(self) -> Event:
        end = time.monotonic() + SECONDS
        while b"\0" not in self._rest:
            ready, *_ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise TimeoutError("the browser does not answer")
            if not (part := os.read(self._read, 1 << 16)):
                raise EOFError("the browser has ended")
            self._rest += part
        text, _, self._rest = self._rest.partition(b"\0")
        return json.loads(text)

    def open(self, page: Path) -> Self:
        """Open a page from disk, and wait for what it does as it opens."""
        self.call("Page.navigate", url=page.absolute().as_uri())
        self.until("document.readyState === 'complete'")
        return self

    def of(self, script: str) -> Any:
        """The value of an expression of JavaScript in the page."""
        done = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.of(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def size(self, width: int, height: int = 900) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    def media(self, medium: str = "screen", scheme: str = "light") -> None:
        """As a screen or on paper, light or dark."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", media=medium, features=features)

    def key(self, name: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if name == "Enter" and kind == "keyDown" else {}
            self.call(
                "Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code, **text
            )

    def type(self, selector: str, text: str) -> None:
        """Write into a field."""
        self.of(f"document.querySelector({json.dumps(selector)}).focus()")
        self.call("Input.insertText", text=text)

    def refused(self) -> list[str]:
        """What the browser said against the page: exceptions, errors, warnings, breaches of its policy."""
        found = []
        for event in self.events:
            said = event.get("params", {})
            match event.get("method"):
                case "Runtime.exceptionThrown" | "Log.entryAdded" | "Runtime.consoleAPICalled":
                    found.append(json.dumps(said))
                case "Audits.issueAdded" if said["issue"]["code"] == "ContentSecurityPolicyIssue":
                    found.append(json.dumps(said))
        return found

    def asked(self) -> list[str]:
        """Every address that was asked for, but the page itself and what stands in it."""
        requests = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = [str(event["params"]["request"]["url"]) for event in requests]
        return [address for address in addresses[1:] if not address.startswith("data:")]
