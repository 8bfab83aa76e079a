# SPDX-License-Identifier: Apache-2.0
"""Reads what programs print for --help, as cli/help.c and argparse lay it out."""

import os
import re
import subprocess


class Option:
    """An option: its names, what stands for its value, and what it does."""

    def __init__(self, names, value, text):
        self.names, self.value, self.text = names, value, text

    @property
    def optional_value(self):
        return self.value.startswith("[=")

    @property
    def choices(self):
        """The words that the value may be."""
        parts = self.value.strip("[=]{}").split("[")[0].replace(",", "|" if self.value.startswith("{") else ",").split("|")
        return [part for part in parts if re.fullmatch("[a-z][a-z0-9-]*", part)]

    @property
    def is_file(self):
        return "FILE" in re.split(r"[|.]", self.value)


class Row:
    """What stands in one line: options or words (terms), and what they mean."""

    def __init__(self, term, text):
        self.term, self.text = term, text

    @property
    def options(self):
        found = []
        for names, value in re.findall(r"((?:-\w(?: [A-Z]+)?, )?--[a-z][a-z0-9-]*)(\[=[^\]]*\]|[ =](?![-\s])\S+)?", self.term):
            found.append(Option([name.split(" ")[0] for name in names.split(", ")], value.strip(" ="), self.text)
                         if not value.startswith("[") else Option([names], value, self.text))
        return found


class Help:
    """The help of a program or command."""

    def __init__(self, command, text):
        self.command, self.usage, self.about, self.sections, self.notes, self.examples, self.verbatim = command, [], [], [], [], [], []
        for block in re.split(r"\n\n(?!   )", text.rstrip("\n")):
            lines = block.split("\n")
            if lines[0].startswith("usage: "):
                self.usage = [line.removeprefix("usage:").strip() for line in lines]
            elif lines[0] == "examples" or (self.examples and lines[0].startswith("  ")):
                self.examples += ([""] if self.examples else []) + [line[2:] for line in lines if line != "examples"]
            elif lines[0] == "Google Benchmark's options":
                self.verbatim = lines
            else:
                self._rows(lines)

    def _rows(self, lines):
        begin = next((i for i, line in enumerate(lines) if line.startswith("  ")), len(lines))
        words = " ".join(lines[:begin]).rstrip(":")
        if begin == len(lines):
            (self.notes if self.sections else self.about).append(words)
            return
        rows = []
        for line in lines[begin:]:
            if line.startswith("   "):
                rows[-1].text = f"{rows[-1].text} {line.strip()}".strip()
            else:
                term, _, text = line.strip().partition("  ")
                rows.append(Row(term, text.strip()))
        self.sections.append((words, rows))

    @property
    def options(self):
        return [option for _, rows in self.sections for row in rows for option in row.options]

    @property
    def name(self):
        """As man pages are named."""
        return self.command.replace(" ", "-")


def read(program, *command):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTEND_")} | {"COLUMNS": "112"}
    run = subprocess.run([program, *command, "--help"], stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return Help(" ".join([os.path.basename(program), *command]), run.stdout)
