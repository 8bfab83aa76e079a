# SPDX-License-Identifier: Apache-2.0
"""`attend report`: the program finds this folder beside itself and hands its arguments over."""

import argparse
import os
import signal
import stat
import sys
import tempfile

from results import BadInput, Found, clean, name_and_path, read

DEBIAN = "/usr/bin/python3"
EXAMPLES = """
examples
  attend-bench --quick --benchmark_out=results.json
  attend report results.json -o report.html
  attend report before=old.json after=new.json -o report.html
  attend report zen3/gcc=zen3.json zen5/gcc=zen5.json -o report.html
  attend report results.json peers.json --format markdown
"""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        fail(message + "; 'attend report --help' explains")


def fail(text):
    """Exactly one line on stderr, whatever is in the text."""
    print(f"attend: report: {clean(text)}", file=sys.stderr)
    sys.exit(2)


def arguments():
    parser = Parser(prog="attend report", usage="attend report [[MACHINE/]NAME=]RESULTS.json... [-o FILE] [--format FORMAT]",
                    formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES, allow_abbrev=False,
                    description="Makes a page of what attend-bench and scripts/peers, llama and offload measured: one file that opens offline.\n"
                    "Several files are set beside the first; files of one NAME are one run. Machines stand side by side.")
    parser.add_argument("results", nargs="+", metavar="RESULTS.json", help="JSON of attend-bench, scripts/peers, scripts/offload or scripts/llama")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the report goes; default, and -: standard output")
    parser.add_argument("--format", choices=("html", "markdown", "csv"), default="html",
                        help="html (needs matplotlib), markdown, or csv: a row for every measurement")
    return parser.parse_args()


def go_on_with_matplotlib():
    """The first python3 on PATH may be a version manager's, which does not see Debian's matplotlib."""
    try:
        import matplotlib  # pylint: disable=import-outside-toplevel,unused-import
    except ImportError:
        if os.path.realpath(sys.executable) == os.path.realpath(DEBIAN) or not os.access(DEBIAN, os.X_OK):
            fail("--format html needs Python's matplotlib (Debian: python3-matplotlib); markdown and csv do without")
        os.execv(DEBIAN, [DEBIAN, "-B", *sys.argv])


def spare(path, inputs):
    """No output may name an input."""
    for each in inputs:
        try:
            same = os.path.isfile(path) and os.path.samefile(each, path)
        except OSError:
            continue  # it is not there, which reading it will tell
        if same:
            fail(f"{each} and --output name the same file, {path}: expected an output that is no input")


def take_after(file, found):
    """Gives a file the mode and, as far as that is ours to give, the owner of the one that it is to replace."""
    mode = found.st_mode & 0o777
    try:
        os.fchown(file, found.st_uid, found.st_gid)
    except OSError:  # where the group is another one, it may do only what all may do
        mode &= 0o707 | (mode & 0o007) << 3
    os.fchmod(file, mode)


def write_whole(path, found, text):
    """To a temporary that is renamed, all or nothing; `found` is what is there already, or None."""
    target = os.path.realpath(path)
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=os.path.dirname(target), prefix=".attend-report-",
                                         delete=False) as file:
            temporary = file.name
            if found:
                take_after(file.fileno(), found)
            else:
                mask = os.umask(0)
                os.umask(mask)
                os.fchmod(file.fileno(), 0o666 & ~mask)
            file.write(text)
        os.replace(temporary, target)
        temporary = None
    finally:
        if temporary:
            os.unlink(temporary)


def write(path, text):
    """As other outputs of attend are written: a pipe or a device as it is, and what a link leads to."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        found = None
    except OSError as failure:
        fail(f"{path}: {failure.strerror}")
    if not os.path.basename(path):
        fail(f"{path}: expected the name of a file")
    stream = found and (stat.S_ISFIFO(found.st_mode) or stat.S_ISCHR(found.st_mode))
    if found and not stream and not stat.S_ISREG(found.st_mode):
        fail(f"{path}: expected a regular file, a pipe or a character device, or none")
    if found and not os.access(path, os.W_OK):
        fail(f"{path}: Permission denied")
    try:
        if stream:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        else:
            write_whole(path, found, text)
    except OSError as failure:
        fail(f"{path}: {failure.strerror}")


def main():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    sys.stdout.reconfigure(encoding="utf-8")
    options = arguments()
    if options.output:
        spare(options.output, [name_and_path(argument)[1] for argument in options.results])
    if options.format == "html":
        go_on_with_matplotlib()
    try:
        found = Found.of([read(argument) for argument in options.results])
    except BadInput as reason:
        fail(str(reason))
    if options.format == "html":
        from page import page  # pylint: disable=import-outside-toplevel
        text = page(found)
    else:
        from text_formats import comma_separated, markdown  # pylint: disable=import-outside-toplevel
        text = (markdown if options.format == "markdown" else comma_separated)(found)
    if options.output not in (None, "-"):
        write(options.output, text)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left to be flushed at the end
        fail("cannot write to standard output")


main()
