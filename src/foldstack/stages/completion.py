"""Stage: a script that lets the shell complete commands, options and models."""

from __future__ import annotations

from foldstack.commands import COMMANDS, GENERAL
from foldstack.records import CompletionScript

SCRIPT = """\
# eval "$(foldstack completion)" in bash; in zsh after: autoload bashcompinit && bashcompinit
_foldstack() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} command= each
    for each in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $each in {either}) command=$each ;; esac
    done
    case $command in
{cases}
        *) COMPREPLY=($(compgen -W "{commands} {general}" -- "$word")) ;;
    esac
    [ "${{#COMPREPLY[@]}}" -gt 0 ] || COMPREPLY=($(compgen -f -- "$word"))
}}
complete -o filenames -F _foldstack foldstack
"""


def completion() -> CompletionScript:
    """Return the script, from the table of commands."""
    general = " ".join(f"--{option.name}" for option in GENERAL)
    cases = []
    for command in COMMANDS.values():
        words = [f"--{option.name}" for option in command.options]
        words += command.choice.choices if command.choice else []
        reply = f'COMPREPLY=($(compgen -W "{" ".join([*words, general])}" -- "$word"))'
        cases.append(f"        {command.name}) {reply} ;;")
    return CompletionScript(
        script=SCRIPT.format(
            either="|".join(COMMANDS),
            cases="\n".join(cases),
            commands=" ".join(COMMANDS),
            general=general,
        )
    )
