"""The completion for bash: four tables, and a function that walks the words by them."""

from __future__ import annotations

import shlex

from commands import Program, Word, filled

NAMES = r"""# Names that the daemon knows; nothing, quickly, while it is away.
_tsctl_names() {
    timeout 2 tsctl "$@" --json 2>/dev/null |
        grep -o '"name": *"[A-Za-z0-9._-]*"' | cut -d'"' -f4 | sort -u
}

"""

DRIVER = r"""# Completion of PROGRAM for bash. Made by generate.py, which see: do not edit.

NAMES
TABLES
_PROGRAM() {
    local current=${COMP_WORDS[COMP_CWORD]} command='' kind='' option='' place=0 i word
    local -a socket=()
    COMPREPLY=()
    for ((i = 1; i < COMP_CWORD; i++)); do
        word=${COMP_WORDS[i]}
        if [[ $word == '=' ]]; then
            continue
        elif [[ -n $kind ]]; then
            [[ $option == --socket ]] && socket=(--socket "$word")
            kind=''
        elif [[ $word == -* ]]; then
            option=$word
            kind=$(_PROGRAM_value "${command:+$command }$word")
        elif [[ " $(_PROGRAM_commands "$command") " == *" $word "* ]]; then
            command=${command:+$command }$word
        else
            place=$((place + 1))
        fi
    done
    [[ $current == '=' ]] && current=''
    if [[ -z $kind && $current == -* ]]; then
        kind="words $(_PROGRAM_options "$command")"
    elif [[ -z $kind ]]; then
        kind="words $(_PROGRAM_commands "$command")"
        [[ $kind == 'words ' ]] && kind=$(_PROGRAM_word "${command:+$command }$place")
    fi
    case $kind in
        files | folders)
            compopt -o filenames 2>/dev/null
            [[ $kind == files ]] && kind='file' || kind='directory'
            mapfile -t COMPREPLY < <(compgen -A "$kind" -- "$current")
            ;;
        models) _PROGRAM_offer "$(_tsctl_names "${socket[@]}" list)" ;;
        runtimes) _PROGRAM_offer "$(_tsctl_names "${socket[@]}" runtime list)" ;;
        words*) _PROGRAM_offer "${kind#words}" ;;
    esac
}

_PROGRAM_offer() {
    mapfile -t COMPREPLY < <(compgen -W "$1" -- "$current")
}

complete -F _PROGRAM PROGRAM
"""


def completion(program: Program) -> str:
    """The file for a program."""
    commands = list(program.root.all())
    tables = {
        "commands": {c.path: " ".join(one.name for one in c.commands) for c in commands},
        "options": {c.path: " ".join(n for o in c.options for n in o.names) for c in commands},
        "value": {
            f"{c.path} {name}".strip(): offer(option.value)
            for c in commands
            for option in c.options
            if option.value
            for name in option.names
        },
        "word": {
            f"{c.path} {place}".strip(): offer(word)
            for c in commands
            for place, word in enumerate(c.words)
        },
    }
    functions = [table(program.name, name, rows) for name, rows in tables.items()]
    return filled(DRIVER, program, NAMES, "\n".join(functions))


def offer(word: Word) -> str:
    """What to offer for a word, as the driver reads it."""
    return " ".join(("words", *word.words)) if word.words else word.kind


def table(program: str, name: str, rows: dict[str, str]) -> str:
    """A function that prints what stands behind a key; nothing for all others."""
    cases = "".join(
        f"        {shlex.quote(key)}) echo {shlex.quote(value)} ;;\n"
        for key, value in rows.items()
        if value
    )
    return f"_{program}_{name}() {{\n    case $1 in\n{cases}        *) ;;\n    esac\n}}\n"
