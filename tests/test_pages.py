# SPDX-License-Identifier: Apache-2.0
"""Checks the man pages and shell completions: that they have every option of --help, that man and mandoc find nothing to
complain of, and what bash, zsh and fish complete in the end."""

import os
import pathlib
import pty
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

from cli_support import ATTEND, ROOT, attend

PAGES = pathlib.Path(os.environ.get("BUILD_DIR", ROOT / "build"), "pages").resolve()
BENCH = pathlib.Path(ATTEND).with_name("attend-bench")
COMMANDS = ("info", "kernels", "layer", "run", "report", "tune", "verify")


def helps():
    """Names of man pages, and the help that they are made of."""
    yield "attend", attend("--help").stdout
    for command in COMMANDS:
        yield f"attend-{command}", attend(command, "--help").stdout
    if (PAGES / "man/attend-bench.1").exists():
        yield "attend-bench", subprocess.run([BENCH, "--help"], check=True, capture_output=True, text=True).stdout


def options(text):
    """Every option that a help names as such: at the beginning of a line, after another one, or in a short form."""
    return set(re.findall(r"--[a-z][a-z0-9_-]*", "\n".join(re.match(r" *\[?((?:(?:-\w(?: \w+)?, )?--[a-z][a-z0-9_-]*\S*(?: [A-Z]\S*)? ?)*)",
                                                                 line)[1] for line in text.splitlines())))


def plain(page):
    """The text of a man page, as it stands, without what the formatter is told."""
    return re.sub(r"\\f[BIR]", "", page).replace(r"\-", "-")


class Pages(unittest.TestCase):
    def test_every_option_is_there(self):
        for name, text in helps():
            wanted = options(text)
            self.assertIn("--help", wanted, name)
            self.assertGreaterEqual(len(wanted), {"attend-run": 30, "attend-layer": 40, "attend-bench": 20}.get(name, 2), name)
            program, _, command = name.partition("-")
            if name == "attend-bench":
                program, command = name, ""
            page = plain((PAGES / f"man/{name}.1").read_text())
            bash = (PAGES / f"bash/{program}").read_text()
            zsh = (PAGES / f"zsh/_{program}").read_text()
            fish = (PAGES / f"fish/{program}.fish").read_text()
            if command:
                bash = bash.split(f"\n  {command})")[1].split("\n    ;;")[0]
                zsh = zsh.split(f"\n    {command})")[1].split("\n      ;;")[0]
                fish = "\n".join(line for line in fish.splitlines() if f"from {command}'" in line)
            for option in wanted:
                end = r"(?![\w-])"
                self.assertRegex(page, rf"(?m)^(\.TP\n|.*[ ,\[]|){option}{end}", name)
                self.assertRegex(bash.rsplit("_attend_options", 1)[-1] if command else bash, option + end, name)
                self.assertRegex(zsh, rf"{option}=?-?\[", name)
                self.assertRegex(fish, rf"-l {option[2:]}{end}", name)

    def test_no_option_is_there_that_the_program_lacks(self):
        known = dict(helps())
        for name, text in known.items():
            documented = set(re.findall(r"(?m)^\.TP\n(--[a-z0-9-]+)", plain((PAGES / f"man/{name}.1").read_text())))
            self.assertLessEqual(documented, options(text), name)

    def test_formatters_find_nothing_to_complain_of(self):
        pages = sorted(PAGES.glob("man/*.1"))
        self.assertGreaterEqual(len(pages), 8)
        missing = [tool for tool in ("man", "mandoc") if not shutil.which(tool)]
        if missing:
            self.skipTest(f"SKIPPED: {' and '.join(missing)} not installed")
        for page in pages:
            for command in (["mandoc", "-Tlint", page], ["man", "--warnings=w", "-Tutf8", "-P", "cat", "-l", page]):
                run = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C.UTF-8", "MANWIDTH": "80"})
                self.assertEqual((run.returncode, run.stderr), (0, ""), f"{page.name}: {run.stdout}")
                if command[0] == "mandoc":
                    self.assertEqual(run.stdout, "")
                else:
                    for heading in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "SEE ALSO"):
                        self.assertRegex(re.sub(".\b", "", run.stdout), rf"(?m)^{heading}$")


# What is on the command line, and what a tab makes of it.
LINES = [
    ("attend ru", "attend run"),
    ("attend run --kv-l", "attend run --kv-lengths"),
    ("attend run --causal=t", "attend run --causal=top-left"),
    ("attend run --q arr", "attend run --q array.npy"),
    ("attend layer --weight-layout in", "attend layer --weight-layout in-out"),
    ("attend report --format m", "attend report --format markdown"),
    ("attend report oth", "attend report other.npy"),
    ("attend verify --ker", "attend verify --kernel"),
    ("attend-bench --list", "attend-bench --list-shapes"),
]


def offers():
    """What is on the command line, and all that is offered then."""
    yield "attend run --dtype ", {"f32", "f16", "bf16"}
    yield "attend run --q a", {"array.npy", "a b.npy"}
    kernels = re.findall(r"(?m)^(\S+) +(\S+)", attend("kernels").stdout)[1:]
    yield "attend run --kernel ", {"auto"} | {name for name, operation in kernels if operation == "forward"}
    yield "attend verify --kernel ", {"auto"} | {name for name, _ in kernels}


class Completions(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        for name in "array.npy", "a b.npy", "other.npy":
            self.folder.joinpath(name).touch()
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ATTEND")}
        self.environment |= {"PATH": f"{pathlib.Path(ATTEND).parent}:{os.environ['PATH']}", "HOME": folder.name, "TERM": "dumb",
                             "XDG_CONFIG_HOME": folder.name, "ZDOTDIR": folder.name, "LC_ALL": "C.UTF-8", "COLUMNS": "200"}
        self.lines = [line for line in LINES if "bench" not in line[0] or (PAGES / "bash/attend-bench").exists()]

    def need(self, shell):
        if not shutil.which(shell):
            self.skipTest(f"SKIPPED: {shell} is not installed")

    def run_shell(self, *command):
        run = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60)
        self.assertEqual((run.returncode, run.stderr), (0, ""), command)
        return run.stdout

    def type_in(self, setup, *shell):
        """Types lines and a tab each into a shell on a terminal, and has it print what they have become."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.chdir(self.folder)
            os.execvpe(shell[0], shell, self.environment)

        def wait_for(text):
            """None: for the end of the shell."""
            seen, end = b"", time.monotonic() + 60
            while text is None or text not in seen:
                if not select.select([terminal], [], [], max(0, end - time.monotonic()))[0]:
                    raise AssertionError(f"{shell[0]} printed {seen!r}, expected {text!r}")
                try:
                    seen += os.read(terminal, 65536)
                except OSError:
                    break
            self.assertTrue(text is None or text in seen, seen)
        try:
            os.write(terminal, setup.encode() + b"; PS1=READ; PS1+='Y> '\n")
            wait_for(b"READY> ")
            for line, _ in self.lines:
                os.write(terminal, line.encode() + b"\t' >>lines\x01print_line '\n")
                wait_for(b"READY> ")
            os.write(terminal, b"exit\n")
            wait_for(None)
        finally:
            os.close(terminal)
            os.waitpid(pid, 0)
        typed = self.folder.joinpath("lines").read_text().splitlines()
        self.assertEqual([line.rstrip(" =") for line in typed], [whole for _, whole in self.lines])

    def test_bash_on_a_terminal(self):
        setup = f"""print_line() {{ printf '%s\\n' "$1"; }}; bind 'set enable-bracketed-paste off'; for f in {PAGES}/bash/*; do source $f; done"""
        self.type_in(setup, "bash", "--norc", "--noprofile", "-i")

    def test_zsh_on_a_terminal(self):
        self.need("zsh")
        setup = f"""print_line() print -r -- "$1"; PROMPT_EOL_MARK=; unset zle_bracketed_paste; fpath=({PAGES}/zsh $fpath); autoload -Uz compinit; compinit -u -D"""
        self.type_in(setup, "zsh", "-f", "-i")

    def test_bash_offers(self):
        for line, expected in offers():
            script = f"""set -u
              compopt() {{ :; }}  # works in a completion of readline's only
              source '{PAGES}/bash/attend'
              COMP_WORDS=({' '.join(f"'{word}'" for word in line.split(' '))}) COMPREPLY=()
              COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
              complete -p attend >complete.txt; _attend; printf '%s\n' "${{COMPREPLY[@]}}" """
            self.assertEqual(set(self.run_shell("bash", "--norc", "-c", script).splitlines()), expected, line)

    def test_fish_offers(self):
        self.need("fish")
        for line, expected in [*offers(), *((line, {whole.split()[-1]}) for line, whole in self.lines)]:
            script = f"for file in {PAGES}/fish/*; source $file; end; complete --do-complete '{line}'"
            offered = {offer.split("\t")[0].replace("\\ ", " ") for offer in self.run_shell("fish", "--no-config", "-c", script).splitlines()}
            self.assertEqual({offer.rstrip("=") for offer in offered}, expected, line)


if __name__ == "__main__":
    if not PAGES.exists():
        print("SKIPPED: this build has no man pages and completions: its program does not run here, or there is no Python")
        sys.exit(77)
    unittest.main()
