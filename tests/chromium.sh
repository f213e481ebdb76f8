#!/bin/sh
# Prints the path of a Chromium for the browser tests; installs one where there is none: Debian's package when root,
# Playwright's own otherwise. Everything but the path goes to standard error.
# In: QFUND_CHROMIUM, which is taken as given if set, and PYTHON, one that has Playwright.
set -eu

if [ -n "${QFUND_CHROMIUM:-}" ] && ! [ -x "$QFUND_CHROMIUM" ]; then
    echo "QFUND_CHROMIUM is $QFUND_CHROMIUM, and no program is there." >&2
    exit 1
fi

found() {
    # Fails too where Playwright itself does not start for want of a library.
    own=$("$PYTHON" -c 'from playwright.sync_api import sync_playwright as start
with start() as playwright:
    print(playwright.chromium.executable_path)') || return
    for path in "${QFUND_CHROMIUM:-}" /usr/bin/chromium "$own"; do
        [ -x "$path" ] && echo "$path" && return
    done
    return 1
}

found 2>/dev/null && exit
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    {
        apt-get update --quiet || true # one unreachable source of many: the next line tells whether it mattered
        # libatomic1 is Playwright's.
        DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes --no-install-recommends \
            chromium fonts-liberation libatomic1
    } >&2
else
    "$PYTHON" -m playwright install chromium >&2
fi
found || { echo "No Chromium was found or could be installed: set QFUND_CHROMIUM to the path of one." >&2; exit 1; }
