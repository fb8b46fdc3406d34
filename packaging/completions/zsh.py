"""The completion for zsh: a call of `_arguments` for each command."""

from __future__ import annotations

from collections.abc import Iterator

from commands import Command, Option, Program, Word, filled

NAMES = r"""# Names that the daemon knows; nothing, quickly, while it is away.
_tsctl_names() {
    local -a names socket=(${(M)said:#--socket=*})
    local place=$said[(i)--socket]
    (( place < $#said )) && socket=(--socket ${(Q)said[place + 1]})
    names=(${(f)"$(timeout 2 tsctl $socket "$@" --json 2>/dev/null |
        grep -o '"name": *"[A-Za-z0-9._-]*"' | cut -d'"' -f4 | sort -u)"})
    compadd -a names
}
_tsctl_models() { _tsctl_names list }
_tsctl_runtimes() { _tsctl_names runtime list }

"""

DRIVER = r"""#compdef PROGRAM
# Completion of PROGRAM for zsh. Made by generate.py, which see: do not edit.

NAMES
TABLES
# The words as they stand: functions below see those from their command on.
local -a said=($words)
_PROGRAM "$@"
"""


def completion(program: Program) -> str:
    """The file for a program."""
    functions = [function(program.name, command) for command in program.root.all()]
    return filled(DRIVER, program, NAMES, "\n".join(functions))


def function(program: str, command: Command) -> str:
    """What `_arguments` is told of one command, and where to go on from there."""
    specs = [*map(option_spec, command.options)]
    if command.commands:
        specs += ["'1: :->command'", "'*:: :->rest'"]
    for place, word in enumerate(command.words, 1):
        specs.append(quoted(f"{place}:{':' * word.is_optional}{word.name}:{action(word)}"))
    lines = [
        f"{function_name(program, command)}() {{",
        "    local curcontext=$curcontext state line",
        "    typeset -A opt_args",
        "    _arguments -C -S \\\n        " + " \\\n        ".join(specs),
    ]
    if command.commands:
        lines += choice(program, command)
    return "\n".join([*lines, "}", ""])


def choice(program: str, command: Command) -> Iterator[str]:
    """The lines that offer the commands below one, and go on with the one that was chosen."""
    yield "    case $state in"
    yield "        command)"
    yield "            local -a commands=("
    for below in command.commands:
        yield "                " + quoted(f"{below.name}:{below.about}")
    yield "            )"
    yield "            _describe command commands ;;"
    yield "        rest)"
    yield "            case $words[1] in"
    for below in command.commands:
        yield f"                {below.name}) {function_name(program, below)} ;;"
    yield "            esac ;;"
    yield "    esac"


def function_name(program: str, command: Command) -> str:
    """The name of its function."""
    return "_".join((f"_{program}", *command.path.replace("-", "_").split()))


def option_spec(option: Option) -> str:
    """One option, of whose names only one is offered."""
    about = "".join("\\" + letter if letter in "[]:" else letter for letter in option.about)
    rest, names = f"[{about}]", list(option.names)
    if option.value is not None:
        rest += f":{option.value.name}:{action(option.value)}"
        # The value may follow as a word of its own, or after these.
        names = [name + ("=" if name.startswith("--") else "+") for name in names]
    if len(names) == 1:
        return quoted(names[0] + rest)
    return f"'({' '.join(option.names)})'{{{','.join(names)}}}{quoted(rest)}"


def action(word: Word) -> str:
    """How zsh finds what may stand there."""
    named = {"files": "_files", "folders": "_files -/", "anything": " "}
    if word.words:
        return f"({' '.join(word.words)})"
    return named.get(word.kind) or f"_tsctl_{word.kind}"


def quoted(text: str) -> str:
    """In single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"
