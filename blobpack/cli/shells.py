"""The scripts that make bash, zsh and fish complete blobpack's arguments, in place of click's.

click's own scripts split `s3://bucket` at the colon (bash) and names at a comma (fish), don't quote blanks (bash), and add
a blank behind a "/" (bash, zsh).
"""

from __future__ import annotations

import os

from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

BASH = r"""%(complete_func)s() {
    local IFS=$'\n' line value
    COMPREPLY=()
    for line in $(COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" COMP_WORDBREAKS="$COMP_WORDBREAKS" \
        %(complete_var)s=bash_complete "$1" 2>/dev/null); do
        value=${line#*,}
        case $line in
            file,*) compopt -o default ;;
            dir,*) compopt -o dirnames ;;
            plain,*)
                [[ $value != */ ]] || compopt -o nospace
                # inside of quotes that were typed, nothing is quoted again
                [[ ${COMP_WORDS[COMP_CWORD]} == [\"\']* ]] || printf -v value %%q "$value"
                COMPREPLY+=("$value")
                ;;
        esac
    done
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

ZSH = r"""#compdef %(prog_name)s
%(complete_func)s() {
    local -a values folders response
    local type value
    response=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \
        %(complete_var)s=zsh_complete %(prog_name)s 2>/dev/null)}")
    for line in $response; do
        type=${line%%%%,*} value=${line#*,}
        if [[ $type == file ]]; then
            _path_files -f
        elif [[ $type == dir ]]; then
            _path_files -/
        elif [[ $value == */ ]]; then
            folders+=("$value")
        elif [[ $type == plain ]]; then
            values+=("$value")
        fi
    done
    (( ! $#folders )) || compadd -U -S '' -a folders
    (( ! $#values )) || compadd -U -a values
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

FISH = r"""function %(complete_func)s
    for line in (COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l item (string split -m 1 , -- $line)
        switch $item[1]
            case file
                __fish_complete_path $item[2]
            case dir
                __fish_complete_directories $item[2]
            case plain
                echo $item[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


class Bash(BashComplete):
    """Completion for bash."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the cursor's, and that word."""
        # The line itself: COMP_WORDS is split at ":" and "=", too.
        typed = os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])]
        words = split_arg_string(typed)
        incomplete = "" if typed[-1:].isspace() or len(words) < 2 else words.pop()
        return words[1:], incomplete

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Return the completions of the part of a word that bash takes for the word."""
        found = super().get_completions(args, incomplete)
        _, _, value = (
            incomplete.rpartition("=") if incomplete.startswith("-") else ("", "", incomplete)
        )
        if ":" not in os.environ.get("COMP_WORDBREAKS", ""):
            return found
        kept = value.rfind(":") + 1
        return [CompletionItem(item.value[kept:], item.type) for item in found]


class Zsh(ZshComplete):
    """Completion for zsh."""

    source_template = ZSH

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a completion as a line."""
        return f"{item.type},{item.value}"


class Fish(FishComplete):
    """Completion for fish."""

    source_template = FISH

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a completion as a line, with its description behind a tab."""
        return f"{item.type},{item.value}" + (f"\t{item.help}" if item.help else "")


def register() -> None:
    """Make click use these classes."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)
