# SPDX-License-Identifier: Apache-2.0
"""`attend report`: the program finds this folder beside itself and hands its arguments over."""

import argparse
import os
import signal
import sys
import tempfile

from results import BadInput, Peers, Source, merged, read

DEBIAN = "/usr/bin/python3"
EXAMPLES = """
examples
  attend-bench --quick --benchmark_out=results.json
  attend report results.json -o report.html
  attend report before=old.json after=new.json -o report.html
  attend report results.json peers.json --format markdown
"""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        fail(message + "; 'attend report --help' explains")


def fail(text):
    """Exactly one line on stderr, whatever is in the text."""
    line = "".join(c if c.isprintable() else "?" for c in text)
    print(f"attend: report: {line}", file=sys.stderr)
    sys.exit(2)


def arguments():
    parser = Parser(prog="attend report", usage="attend report [NAME=]RESULTS.json... [-o FILE] [--format FORMAT]",
                    formatter_class=argparse.RawDescriptionHelpFormatter, epilog=EXAMPLES, allow_abbrev=False,
                    description="Makes a page of what attend-bench and scripts/peers measured: one file that opens offline.\n"
                    "Several files are set beside the first; files of one NAME are one run.")
    parser.add_argument("results", nargs="+", metavar="RESULTS.json", help="JSON of attend-bench or of scripts/peers")
    parser.add_argument("-o", "--output", metavar="FILE", help="where the report goes; default: standard output")
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


def write(path, text):
    """To a temporary that is renamed: all or nothing."""
    if os.path.isdir(path):
        fail(f"{path}: Is a directory")
    temporary = None
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=os.path.dirname(os.path.abspath(path)),
                                         prefix=".attend-report-", delete=False) as file:
            temporary = file.name
            file.write(text)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
        temporary = None
    except OSError as failure:
        fail(f"{path}: {failure.strerror}")
    finally:
        if temporary:
            os.unlink(temporary)


def main():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(128 + number))
    options = arguments()
    if options.format == "html":
        go_on_with_matplotlib()
    try:
        inputs = [read(argument) for argument in options.results]
    except BadInput as reason:
        fail(str(reason))
    sources = merged([each for each in inputs if isinstance(each, Source)])
    peers = [each for each in inputs if isinstance(each, Peers)]
    if options.format == "html":
        from page import page  # pylint: disable=import-outside-toplevel
        text = page(sources, peers)
    else:
        from text_formats import comma_separated, markdown  # pylint: disable=import-outside-toplevel
        text = (markdown if options.format == "markdown" else comma_separated)(sources, peers)
    text = text.encode("utf-8", "replace").decode()  # the name of a file, and JSON, may hold what is no character
    if options.output:
        write(options.output, text)
        return
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nothing is left to be flushed at the end
        fail("cannot write to standard output")


main()
