#!/bin/sh
# Prints the path of a Chromium for the browser tests; installs one where there is none: Debian's package when root,
# Playwright's own otherwise. Everything but the path goes to standard error.
# In: QFUND_CHROMIUM, which is taken as given if set, and PYTHON, one that has Playwright.
set -eu

playwrights() {
    "$PYTHON" -c 'from playwright.sync_api import sync_playwright as start
with start() as playwright:
    print(playwright.chromium.executable_path)'
}

found() {
    if [ -n "${QFUND_CHROMIUM:-}" ]; then
        [ -x "$QFUND_CHROMIUM" ] || { echo "QFUND_CHROMIUM is $QFUND_CHROMIUM, and no program is there." >&2; exit 1; }
        echo "$QFUND_CHROMIUM"
    elif [ -x /usr/bin/chromium ]; then
        echo /usr/bin/chromium
    else
        path=$(playwrights) && [ -x "$path" ] && echo "$path"
    fi
}

found && exit
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    {
        apt-get update --quiet || true # one unreachable source of many: the next line tells whether it mattered
        DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends chromium fonts-liberation
    } >&2
else
    "$PYTHON" -m playwright install chromium >&2
fi
found || { echo "No Chromium was found or could be installed: set QFUND_CHROMIUM to the path of one." >&2; exit 1; }
