"""`completion bash`: a script with which bash completes the commands and flags of beam-etl."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from beam_etl.exit_codes import DONE
from beam_etl.flags import load_parser

# The first word may be a command; whatever follows `=` of a flag with choices is one of them; anything else is a path.
_SCRIPT = """\
# Completion of beam-etl for bash; for zsh, say `autoload -U bashcompinit; bashcompinit` before.
_beam_etl() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" flag="" words={flags}
    if [[ "${{COMP_WORDS[COMP_CWORD-1]}}" == "=" ]]; then
        flag="${{COMP_WORDS[COMP_CWORD-2]}}"
    elif [[ "$word" == "=" ]]; then
        flag="${{COMP_WORDS[COMP_CWORD-1]}}"
        word=""
    fi
    case "$flag" in
{choices}
        "") [[ $COMP_CWORD -eq 1 ]] && words="{commands} $words" ;;
        *) words="" ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -o bashdefault -F _beam_etl beam-etl
"""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m beam_etl completion",
        description="Prints a script for the shell: source <(beam-etl completion bash)",
    )
    parser.add_argument("shell", choices=("bash",))
    parser.parse_args(arguments)
    print(completion_script(), end="")
    return DONE


def completion_script() -> str:
    from beam_etl.commands.table import COMMANDS

    actions = load_parser("beam-etl", "")._actions
    flags = sorted(option for action in actions for option in action.option_strings if option.startswith("--"))
    choices = [
        f"        {action.option_strings[0]}) words={shlex.quote(' '.join(map(str, action.choices)))} ;;"
        for action in actions
        if action.choices
    ]
    return _SCRIPT.format(
        flags=shlex.quote(" ".join([*flags, "--preflight_only"])),
        choices="\n".join(choices),
        commands=" ".join(COMMANDS),
    )
