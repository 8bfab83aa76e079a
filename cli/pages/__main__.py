# SPDX-License-Identifier: Apache-2.0
"""Writes the man pages and shell completions of attend and attend-bench, made of what their --help prints:
python3 cli/pages FOLDER PROGRAM... They go to FOLDER/man, bash, zsh and fish."""

import datetime
import os
import pathlib
import subprocess
import sys

import completions
from help_text import read
from man import page

BENCH = "measure attention kernels beside the limits of the machine"


def made_on():
    """The day of the pages: one that repeated builds have in common, or that of the newest entry of the news."""
    news = pathlib.Path(__file__).resolve().parents[2] / "NEWS.md"
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or news.stat().st_mtime)
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%d")


def main(folder, programs):
    attend = programs[0]
    overview = read(attend)
    purposes = {row.term: row.text for title, rows in overview.sections for row in rows if title.startswith("commands")}
    commands = [read(attend, command) for command in purposes]
    pages = {overview: "attention on the CPU, checked and measured"}
    pages.update((command, purposes[command.command.split()[1]]) for command in commands)
    benches = [read(program) for program in programs[1:]]
    pages.update((bench, BENCH) for bench in benches)
    version = subprocess.run([attend, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.split()[1]
    names = [each.name for each in pages]
    files = {f"man/{each.name}.1": page(each, purpose, version, made_on(), overview, names) for each, purpose in pages.items()}
    for whole, parts in [(overview, commands)] + [(bench, []) for bench in benches]:
        name = whole.command
        files[f"bash/{name}"] = completions.bash(whole, parts, name)
        files[f"zsh/_{name}"] = completions.zsh(whole, parts, name)
        files[f"fish/{name}.fish"] = completions.fish(whole, parts, name)
    for name, text in files.items():
        path = pathlib.Path(folder, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
