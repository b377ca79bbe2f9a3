"""The scripts that make bash, zsh and fish complete blobpack's arguments, in place of click's.

click's own scripts split `s3://bucket` at the colon (bash) and names at a comma (fish), don't quote blanks (bash), and add
a blank behind a "/" (bash, zsh).
"""

from __future__ import annotations

import os
import re

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
        """Return the completions of the part of a word that bash takes for the word, quoted for the line.

        A name is hostile input: on the line, `;` or `$` would be a part of the command.
        """
        found = super().get_completions(args, incomplete)
        value = incomplete.partition("=")[2] if incomplete.startswith("-") else incomplete
        quote = open_quote(os.environ["COMP_LINE"][: int(os.environ["COMP_POINT"])])
        # outside of quotes, bash begins a new word behind each of these
        breaks = set(":=").intersection("" if quote else os.environ.get("COMP_WORDBREAKS", ""))
        kept = 1 + max((value.rfind(character) for character in breaks), default=-1)
        return [
            CompletionItem(quoted_in(quote, item.value[kept:]), item.type)
            if item.type == "plain"
            else item
            for item in found
            # between double quotes, bash expands "!", and nothing protects it there
            if not (quote == '"' and "!" in item.value)
        ]


def open_quote(typed: str) -> str:
    """Return the quotation mark that is open at the end of a line of bash; empty if none is."""
    quote, escaped = "", False
    for character in typed:
        if escaped:
            escaped = False
        elif character == "\\" and quote != "'":
            escaped = True
        elif character == quote:
            quote = ""
        elif not quote and character in "'\"":
            quote = character
    return quote


def quoted_in(quote: str, value: str) -> str:
    """Quote a text for a line of bash, behind a quotation mark that is open, or none."""
    if quote == "'":
        return value.replace("'", "'\\''")
    special = r"[\\\"$`]" if quote else r"[^\w@%+,./:=-]"
    return re.sub(special, r"\\\g<0>", value)


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
