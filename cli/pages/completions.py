# SPDX-License-Identifier: Apache-2.0
"""What bash, zsh and fish complete, of what programs print for --help."""

import re

SAID = "# Made of what --help prints; do not edit.\n"
KERNELS = """attend kernels 2>/dev/null | awk 'NR > 1 && (all || $2 == "forward") { print $1 }' all="""


def short(text):
    """The first clause of a description."""
    text = re.split(r"[;:] |\. |\n", text)[0]
    return text if len(text) <= 70 else text[:67].rsplit(" ", 1)[0] + " ..."


def kind(option):
    """What completes the value: 'none', 'kernels', 'files', 'words' or 'nothing' that can be known."""
    if not option.value:
        return "none"
    if option.names[-1] == "--kernel":
        return "kernels"
    return "files" if option.is_file else "words" if option.choices else "nothing"


def google(help_text):
    """Names of Google Benchmark's options."""
    return re.findall(r"\[(--\w+)=", "\n".join(help_text.verbatim))


def takes_files(help_text):
    """Whether there are arguments that are files, beside options."""
    return any(title == "positional arguments" for title, _ in help_text.sections)


# ---------------------------------------------------------------------------------------------------------------- bash


def bash_values(help_text):
    """Branches of a case on the option in front: what its value may be."""
    groups = {}
    for option in help_text.options:
        what = kind(option)
        all_kernels = int("GLOB" in option.value)
        action = {"files": "_attend_files; return", "nothing": "return"}.get(what)
        if what == "kernels":
            action = f'_attend_words "auto $({KERNELS}{all_kernels})"; return'
        elif what == "words":
            action = f'_attend_words "{" ".join(option.choices)}"; return'
        if action:
            names = [name for each in option.names for name in (each, each + "=") if name[-1] == "=" or not option.optional_value]
            groups.setdefault(action, []).extend(names)
    return [f"      {' | '.join(names)}) {action} ;;" for action, names in groups.items()]


def bash_words(help_text):
    return " ".join([name for option in help_text.options for name in option.names if name.startswith("--")] + google(help_text))


def bash(overview, commands, name):
    """`commands`: the help of each command; none for a program that has none."""
    lines = ["# bash completion for " + name + "\n" + SAID, """\
_attend_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur")
}

_attend_files() {
  compopt -o filenames
  mapfile -t COMPREPLY < <(compgen -f -- "$cur")
}

# Those of the command's options that are not given yet.
_attend_options() {
  local option left=()
  for option in $1; do
    [[ " ${COMP_WORDS[*]:1:COMP_CWORD-1} " == *" $option "* ]] || left+=("$option")
  done
  _attend_words "${left[*]}"
}
"""]
    function = "_" + name.replace("-", "_")
    lines.append(f"""{function}() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
  # bash takes --option=value for three words
  if [ "$cur" = = ]; then
    cur='' before+='='
  elif [ "$before" = = ]; then
    before=${{COMP_WORDS[COMP_CWORD-2]}}=
  fi""")
    if commands:
        names = " ".join(command.command.split()[1] for command in commands)
        lines.append(f"""  if [ "$COMP_CWORD" -eq 1 ]; then
    _attend_words "{names} {bash_words(overview)}"
    return
  fi
  case ${{COMP_WORDS[1]}} in""")
    else:
        commands = [overview]
        lines.append("  case $1 in")
    for command in commands:
        word = command.command.split()[1] if " " in command.command else "*"
        values = bash_values(command)
        cases = ["    case $before in", *values, "    esac"] if values else []
        plain = "; [[ $cur == -* ]] || _attend_files" if takes_files(command) else ""
        lines += [f"  {word})", *cases, f'    _attend_options "{bash_words(command)}"{plain}', "    ;;"]
    lines += ["  esac", "}", f"complete -F {function} {name}", ""]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------------- zsh


def zsh_quote(text):
    return text.replace("'", "'\\''")


def zsh_spec(option):
    text = re.sub(r"([\[\]:\\])", r"\\\1", short(option.text))
    what = kind(option)
    action = {"files": "_files", "words": "(" + " ".join(option.choices) + ")", "nothing": "( )",
              "kernels": "_attend_kernels " + str(int("GLOB" in option.value))}.get(what)
    label = re.sub(r"([:\\])", r"\\\1", option.value.strip("[=]"))
    specs = []
    for name in option.names:
        if what == "none":
            spec = f"{name}[{text}]"
        elif option.optional_value:
            spec = f"{name}=-[{text}]::{label}:{action}"
        else:
            spec = f"{name}{'=' if name.startswith('--') else ''}[{text}]:{label}:{action}"
        if len(option.names) > 1:
            spec = f"({' '.join(option.names)}){spec}"
        specs.append(f"'{zsh_quote(spec)}'")
    return specs


def zsh_arguments(help_text, indent):
    specs = [spec for option in help_text.options for spec in zsh_spec(option)]
    specs += [f"'{name}=[Google Benchmark]:value:( )'" for name in google(help_text)]
    if takes_files(help_text):
        specs.append("'*:file:_files'")
    return f"_arguments \\\n{indent}  " + f" \\\n{indent}  ".join(specs)


def zsh(overview, commands, name):
    lines = [f"#compdef {name}\n{SAID}"]
    if any(kind(option) == "kernels" for command in commands for option in command.options):
        lines.append(f"_attend_kernels() {{\n  compadd auto $({KERNELS}$1)\n}}\n")
    function = "_" + name
    lines.append(f"{function}() {{")
    if not commands:
        lines.append("  " + zsh_arguments(overview, "  "))
    else:
        purposes = {row.term: row.text for title, rows in overview.sections for row in rows if title.startswith("commands")}
        lines += ["  local -a commands=("]
        lines += [f"    '{zsh_quote(word)}:{zsh_quote(text)}'" for word, text in purposes.items()]
        lines += ["  )", "  if (( CURRENT == 2 )); then", "    _describe -t commands command commands",
                  "    " + zsh_arguments(overview, "    "), "    return", "  fi", "  shift words", "  (( CURRENT-- ))",
                  "  case $words[1] in"]
        for command in commands:
            lines += [f"    {command.command.split()[1]})", f"      {zsh_arguments(command, '      ')}", "      ;;"]
        lines += ["  esac"]
    lines += ["}", "", f'{function} "$@"', ""]
    return "\n".join(lines)


# ---------------------------------------------------------------------------------------------------------------- fish


def fish_quote(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def fish_line(name, condition, option):
    what = kind(option)
    words = ["complete", "-c", name] + (["-n", fish_quote(condition)] if condition else [])
    for each in option.names:
        words += ["-l", each[2:]] if each.startswith("--") else ["-s", each[1:]]
    if what == "files":
        words.append("-rF")
    elif what == "words":
        words += ["-f" if option.optional_value else "-x", "-a", fish_quote(" ".join(option.choices))]
    elif what == "kernels":
        words += ["-x", "-a", fish_quote(f"auto ({KERNELS}{int('GLOB' in option.value)})")]
    elif what == "nothing":
        words.append("-x")
    else:
        words.append("-f")
    return " ".join(words + ["-d", fish_quote(short(option.text))])


def fish(overview, commands, name):
    lines = [f"# fish completion for {name}\n{SAID}", f"complete -c {name} -f"]
    if not commands:
        lines += [fish_line(name, "", option) for option in overview.options]
        lines += [f"complete -c {name} -x -l {each[2:]} -d 'Google Benchmark'" for each in google(overview)]
        return "\n".join(lines) + "\n"
    purposes = {row.term: row.text for title, rows in overview.sections for row in rows if title.startswith("commands")}
    lines += [f"complete -c {name} -n __fish_use_subcommand -a {word} -d {fish_quote(text)}" for word, text in purposes.items()]
    lines += [fish_line(name, "__fish_use_subcommand", option) for option in overview.options]
    for command in commands:
        word = command.command.split()[1]
        condition = f"__fish_seen_subcommand_from {word}"
        lines += [fish_line(name, condition, option) for option in command.options]
        if takes_files(command):
            lines.append(f"complete -c {name} -n {fish_quote(condition)} -F")
    return "\n".join(lines) + "\n"
