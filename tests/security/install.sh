#!/usr/bin/env bash
# Installs the browser that tests/security needs, Debian's Chromium, where this user may; else says why not and fails.
set -euo pipefail
have() { command -v chromium chromium-browser google-chrome chrome | grep -q .; }
have && exit 0
command -v apt-get >/dev/null || { echo "No browser here, and no apt-get to install it with."; exit 1; }
[ "$(id -u)" = 0 ] || { echo "No browser here, and only root may install it (apt-get install chromium)."; exit 1; }
export DEBIAN_FRONTEND=noninteractive
install() { apt-get install -qq -y --no-install-recommends chromium >/dev/null 2>&1; }
install || { apt-get update -qq >/dev/null 2>&1 && install; } || true
have || { echo "No browser here: apt-get install chromium did not work."; exit 1; }
