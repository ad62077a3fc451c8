"""Known weaknesses of what requirements.lock pins: `make audit`, a part of `make check`.

Offline: everything is pinned to one version, at or above the versions that closed the advisories below, and
installed as pinned. Online: pip-audit against its advisory service, where the tool is installed and the
service answers; else a line says why not. Exit status 1 where something is wrong.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parents[1] / "requirements.lock"
SECONDS = 120

# package -> first version without it, what it is. Of what reads files and addresses of strangers.
CLOSED = {
    "torch": ("2.6.0", "CVE-2025-32434: torch.load ran code even with weights_only"),
    "transformers": ("4.53.0", "CVE-2025-6921: a weight-decay pattern could hang the process"),
    "jinja2": ("3.1.6", "CVE-2025-27516: a template could leave the sandbox"),
    "pyyaml": ("5.4", "CVE-2020-14343: full_load ran code"),
    "requests": ("2.32.4", "CVE-2024-47081: .netrc logins sent to the wrong host"),
    "urllib3": ("2.6.0", "CVE-2025-66418: unbounded chain of decompressions"),
    "certifi": ("2024.7.4", "CVE-2024-39689: a root certificate that is no longer trusted"),
    "idna": ("3.7", "CVE-2024-3651: long names took quadratic time"),
    "h11": ("0.16.0", "CVE-2025-43859: lenient chunked bodies, request smuggling"),
    "aiohttp": ("3.12.14", "CVE-2025-53643: request smuggling by trailers"),
    "tqdm": ("4.66.3", "CVE-2024-34062: command-line options were evaluated"),
    "pillow": ("10.3.0", "CVE-2024-28219: buffer overflow"),
    "pyarrow": ("14.0.1", "CVE-2023-47248: reading a file ran code"),
    "scikit-learn": ("1.5.0", "CVE-2024-5206: training data kept in a vectoriser"),
    "setuptools": ("78.1.1", "CVE-2025-47273: package_index wrote outside its folder"),
    "nltk": ("3.9", "CVE-2024-39705: data packages held pickles"),
    "filelock": ("3.20.1", "CVE-2025-68146: a link in place of the lock file"),
    "fonttools": ("4.60.2", "CVE-2025-66034: varLib wrote outside its folder"),
}


def main() -> int:
    pins, faults = read_lock()
    faults += [fault for name, version in pins.items() if (fault := too_old(name, version))]
    faults += [fault for name, version in pins.items() if (fault := installed_otherwise(name, version))]
    for fault in faults:
        print(f"audit: {fault}", file=sys.stderr)
    known = len(CLOSED.keys() & pins.keys())
    print(f"audit: {len(pins)} packages pinned, {known} held against known advisories, {len(faults)} faults")
    return 1 if ask_service() or faults else 0


def read_lock() -> tuple[dict[str, str], list[str]]:
    """Package -> version, and lines that are no exact pin of a package from the index."""
    pins, faults = {}, []
    for line in LOCK.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        found = re.fullmatch(r"([A-Za-z0-9][\w.-]*)==([\w.!]+)(?:\s*;.*|  # alone)?", line)
        if found is None:
            faults.append(f"requirements.lock: {line!r} is not `name==version`; no other source is trusted")
        else:
            pins[re.sub(r"[-_.]+", "-", found[1]).lower()] = found[2]
    return pins, faults


def too_old(name: str, version: str) -> str | None:
    """What an advisory says against this version."""
    first, what = CLOSED.get(name, ("0", ""))
    return (
        f"{name} {version} is older than {first} ({what}); run make lock"
        if key(version) < key(first)
        else None
    )


def key(version: str) -> tuple[int, ...]:
    """Release numbers; a pre-release counts as its release."""
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z+]", version)[0]))


def installed_otherwise(name: str, version: str) -> str | None:
    """A package that is installed in another version than the audited one."""
    try:
        found = importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None  # of another platform
    return (
        None
        if found == version
        else f"{name} {found} is installed, requirements.lock says {version}; run make"
    )


def ask_service() -> bool:
    """Whether pip-audit's service knows a weakness; where it was not asked, a line says why."""
    tool = shutil.which("pip-audit")
    if tool is None:
        print("audit: advisory service not asked: pip-audit is not installed (pipx install pip-audit)")
        return False
    command = [tool, "--requirement", str(LOCK), "--no-deps", "--disable-pip", "--format", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
        packages = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        print(f"audit: advisory service not asked: no answer within {SECONDS} s")
        return False
    except (ValueError, KeyError):
        why = (done.stderr.strip().splitlines() or ["no answer"])[-1][:200]
        print(f"audit: advisory service not asked: {why}")
        return False
    weak = [(package["name"], fault["id"]) for package in packages for fault in package.get("vulns", [])]
    for name, fault in weak:
        print(f"audit: {name}: {fault}", file=sys.stderr)
    # A package that the service does not know counts as nothing found; a mirror of the index knows none.
    answered = sum("skip_reason" not in package for package in packages)
    print(f"audit: the advisory service knows {answered} of {len(packages)} packages, {len(weak)} weaknesses")
    return bool(weak)


if __name__ == "__main__":
    sys.exit(main())
