# What zsh offers for a command line: complete.zsh DIRECTORY LINE
#
# zsh completes in a terminal only, so a second shell runs in one. There compadd, through which every offer passes, also prints it.
zmodload zsh/zpty
zpty shell 'PS1= zsh -f -i'
say() { zpty -w shell "$1" }
say 'PS1= PS2= RPS1='
say "fpath=($1 \$fpath); autoload -Uz compinit; compinit -D -u"
say 'compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
    local -a offers; builtin compadd -A offers "$@"
    local offer; for offer in $offers; do print -r -- "<$offer>"; done
    builtin compadd "$@"
}'
say 'at_the_end() { print "<""end>" }; comppostfuncs=(at_the_end); bindkey "^I" complete-word; LISTMAX=10000; print "<""ready>"'
zpty -r shell said '*<ready>*'
zpty -w -n shell "$2"$'\t'
zpty -r shell said '*<end>*'
print -r -- $said | grep -o '<[^>]*>' | tr -d '<>' | grep -vx end
zpty -d shell
