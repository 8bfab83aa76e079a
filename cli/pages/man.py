# SPDX-License-Identifier: Apache-2.0
"""Man pages of what programs print for --help, in the macros of man(7)."""

import re

SPECIAL = {"\\": r"\(rs", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}


def roff(text):
    """Plain text, in which the formatter changes no character."""
    text = "".join(SPECIAL.get(character, character) for character in text)
    return r"\&" + text if text.startswith(".") else text


def usage(text):
    """Names of options and commands in bold, what stands for a value in italics."""
    words = [rf"\fI{roff(word)}\fR" if re.fullmatch(r"[\[\]=.A-Z0-9_|,]*[A-Z]{1,}[\[\]=.A-Z0-9_|,a-z]*", word) else
             rf"\fB{roff(word)}\fR" if re.fullmatch(r"[a-z-]+", word) else roff(word) for word in re.split(r"([ \[\]|=]+)", text)]
    return "".join(words)


def paragraph(text):
    """In lines of at most 80 characters, as mandoc -Tlint wants them."""
    lines, at = [], 0
    for word in "".join(SPECIAL.get(character, character) for character in text).split(" "):
        if lines and at + 1 + len(word) <= 79:
            lines[-1] += " " + word
        else:
            lines.append(r"\&" + word if word.startswith(".") else word)
        at = len(lines[-1])
    return "\n".join(lines)


def page(help_text, purpose, version, date, overview, others):
    """`overview`: the help of the whole program, whose environment and exit status hold for a command, too."""
    name = help_text.name
    lines = [f'.TH {name.upper().replace("-", chr(92) + "-")} 1 {date} "attend {version}" "User Commands"', ".SH NAME",
             paragraph(f"{name} - {purpose}"), ".SH SYNOPSIS"]
    for form in help_text.usage:
        lines += [usage(form), ".br"]
    lines[-1:] = [".SH DESCRIPTION"]
    for number, text in enumerate(help_text.about):
        lines += ([".PP"] if number else []) + [paragraph(text)]
    others_of_it = []
    heading = False
    for title, rows in help_text.sections:
        if not any(row.options for row in rows) and (title.startswith("environment") or help_text is overview):
            others_of_it.append((title, rows))
            continue
        if not heading:
            lines.append(".SH OPTIONS")
            heading = True
        if title and title != "options":
            head, colon, rest = title.partition(": ")
            lines.append(f".SS {roff(head[0].upper() + head[1:])}")
            if colon:
                lines.append(paragraph(rest[0].upper() + rest[1:] + "."))
        for row in rows:
            lines += [".TP", usage(row.term) if row.options else rf"\fB{roff(row.term)}\fR", paragraph(row.text)]
    if help_text.verbatim:
        lines += [f".SS {roff(help_text.verbatim[0])}", ".EX", *map(roff, help_text.verbatim[1:]), ".EE"]
    for title, rows in others_of_it:
        lines.append(f".SH {roff(title.split(' (')[0].upper())}")
        for row in rows:
            lines += [".TP", rf"\fB{roff(row.term)}\fR", paragraph(row.text)]
    notes = help_text.notes + ([] if any(note.startswith("exit status: ") for note in help_text.notes) else
                               [note for note in overview.notes if note.startswith("exit status: ")])
    for note in notes:
        if note.startswith("exit status: "):
            lines += [".SH EXIT STATUS", paragraph(note.removeprefix("exit status: ") + ".")]
        else:
            lines += [".SH NOTES", paragraph(note)]
    if help_text is not overview:
        lines += [".SH ENVIRONMENT", r"\fBattend\fR(1) lists the variables that are read."]
    lines += [".SH EXAMPLES", ".EX", *map(roff, help_text.examples), ".EE", ".SH SEE ALSO"]
    lines += [rf"\fB{roff(other)}\fR(1)," for other in sorted(others) if other != name]
    lines[-1] = lines[-1].rstrip(",")
    return "\n".join(lines) + "\n"
