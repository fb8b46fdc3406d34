"""The completion for fish: a line for each thing that may stand in a command."""

from __future__ import annotations

from collections.abc import Iterator

from commands import Command, Program, Word, filled

NAMES = r"""# Names that the daemon knows; nothing, quickly, while it is away.
function __tsctl_names
    set -l words (commandline -opc)
    set -l socket (string match -- '--socket=*' $words)
    set -l place (contains -i -- --socket $words)
    and set socket --socket $words[(math $place + 1)]
    timeout 2 tsctl $socket $argv --json 2>/dev/null |
        string match -rag '"name": *"([A-Za-z0-9._-]*)"' | sort -u
end

"""

DRIVER = r"""# Completion of PROGRAM for fish. Made by generate.py, which see: do not edit.

NAMES
# Whether the words so far are this command, and where a number is given that many words of it.
function __PROGRAM_at
    set -l commands COMMANDS
    set -l values VALUES
    set -l command
    set -l place 0
    set -l is_value no
    for word in (commandline -opc)[2..-1]
        set -l path (string trim -- "$command $word")
        if test $is_value = yes
            set is_value no
        else if string match -q -- '-*' $word
            contains -- $path $values; and set is_value yes
        else if contains -- $path $commands
            set command $path
        else
            set place (math $place + 1)
        end
    end
    test "$command" = "$argv[1]"; or return 1
    not set -q argv[2]; or test $place -eq $argv[2]
end

complete -c PROGRAM -f
TABLES
"""


def completion(program: Program) -> str:
    """The file for a program."""
    commands = list(program.root.all())
    paths = [command.path for command in commands if command.path]
    values = [
        f"{command.path} {name}".strip()
        for command in commands
        for option in command.options
        if option.value
        for name in option.names
    ]
    lines = [line for command in commands for line in lines_of(program.name, command)]
    text = DRIVER.replace("COMMANDS", " ".join(map(quoted, paths)))
    text = text.replace("VALUES", " ".join(map(quoted, values)))
    return filled(text, program, NAMES, "\n".join(lines) + "\n")


def lines_of(program: str, command: Command) -> Iterator[str]:
    """All that is offered in one command."""
    path = quoted(command.path)
    here = f"complete -c {program} -n {quoted(f'__{program}_at {path}')}"
    for option in command.options:
        names = " ".join(
            f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}" for name in option.names
        )
        taken = "" if option.value is None else " " + offer(option.value, is_required=True)
        yield f"{here} {names}{taken} -d {quoted(option.about)}"
    for below in command.commands:
        first = f"complete -c {program} -n {quoted(f'__{program}_at {path} 0')}"
        yield f"{first} -a {below.name} -d {quoted(below.about)}"
    for place, word in enumerate(command.words):
        if word.kind != "anything":
            at = quoted(f"__{program}_at {path} {place}")
            yield f"complete -c {program} -n {at} {offer(word, is_required=False)}"


def offer(word: Word, *, is_required: bool) -> str:
    """What may stand there; `is_required`: an option's value."""
    value = "-x" if is_required else ""
    named = {
        "files": "-r -F" if is_required else "-F",
        "folders": f"{value} -a '(__fish_complete_directories)'",
        "models": f"{value} -a '(__tsctl_names list)'",
        "runtimes": f"{value} -a '(__tsctl_names runtime list)'",
        "words": f"{value} -a {quoted(' '.join(word.words))}",
        "anything": value,
    }
    return named[word.kind].strip()


def quoted(text: str) -> str:
    """In single quotes."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
