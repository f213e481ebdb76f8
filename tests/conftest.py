"""What holds for every test: nothing is kept in, or found in, the home of whoever runs them."""

import atexit
import os
import shutil
import tempfile

_HOME = tempfile.mkdtemp(prefix="qfund-tests-")
os.environ["QFUND_HOME"] = _HOME
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
