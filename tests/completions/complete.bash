# What bash offers for a command line: complete.bash FILE LINE [WORD]... The words are those that readline makes of the line.
source /usr/share/bash-completion/bash_completion
source "$1"
COMP_LINE=$2
shift 2
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9
# It is for readline only.
compopt() { :; }
_grace_init
printf '%s\n' "${COMPREPLY[@]}"
