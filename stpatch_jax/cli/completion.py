"""What completes commands, recipes and flags in a shell: `eval "$(stpatch --completion)"`."""

_SCRIPT = r"""# For bash; zsh reads it too.
[ -z "$ZSH_VERSION" ] || { autoload -U +X compinit bashcompinit && compinit && bashcompinit; }
_stpatch() {
  local words command="${COMP_WORDS[1]}" flag='--[a-z][a-z0-9.-]+'
  local -x COLUMNS=200
  case "$COMP_CWORD $command" in
    1*) words="COMMANDS" ;;
    "2 train" | "2 search" | "2 recipes") words=$(stpatch recipes | sed '/^$/,$d; s/ .*//') ;;
    *train | *search)
      words=$(stpatch "$command" "${COMP_WORDS[2]}" --help-all 2>/dev/null | grep -oE -e "$flag") ;;
    *) words=$(stpatch "$command" --help 2>/dev/null | grep -oE -e "$flag") ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _stpatch stpatch"""


def completion(*commands: str) -> str:
    """The script of a shell, for these commands; it asks them for what they know."""
    return _SCRIPT.replace("COMMANDS", " ".join(commands))
