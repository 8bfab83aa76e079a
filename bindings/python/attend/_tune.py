# SPDX-License-Identifier: Apache-2.0
"""attend.tune(): what `attend tune` does, from Python."""

import os
import tempfile
import threading

from . import _attend


def tune(seconds=60, *, threads=None, profile=None):
    """Measures the kernels on this machine and writes its profile, by which the fastest is chosen from then on.

    seconds  about how long to measure, 1 to 86400: 60 is quick, 300 good, 1200 thorough. Let nothing else run meanwhile.
    threads  the most threads a run may have; default: as attention() has them
    profile  the file to write; default: ATTEND_PROFILE, else the place in the cache directory where it is looked for

    Ctrl-C ends it early, with a profile of what was measured. Returns (path, a line that says what was measured).
    ValueError for bad arguments and variables, RuntimeError if too little was measured, OSError if it cannot be written.
    """
    if not 1 <= seconds <= 86400:
        raise ValueError(f"seconds is {seconds}, expected 1 to 86400")
    if threads is not None and not 1 <= threads <= 1024:
        raise ValueError(f"threads is {threads}, expected 1 to 1024")
    path = os.fspath(profile) if profile is not None else _attend._profile_path()
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    outcome = {}

    def work():
        try:
            outcome["result"] = _attend._tune(float(seconds), threads or 0)
        except BaseException as error:  # raised again by the calling thread
            outcome["error"] = error

    worker = threading.Thread(target=work, name="attend.tune")  # so that Ctrl-C reaches the calling thread
    worker.start()
    while worker.is_alive():
        try:
            worker.join()
        except KeyboardInterrupt:
            _attend._stop_tuning()
    if "error" in outcome:
        raise outcome["error"]
    text, report = outcome["result"]
    if text is None:
        raise RuntimeError(f"too few shapes were measured to make a profile: {report}")
    descriptor, temporary = tempfile.mkstemp(prefix=".attend-profile-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _attend.clear_plans()  # they were made without it
    return path, report
