# bash completion for grace-init. Written by src/cli/pages.rs from the options in src/cli/options.rs.

_grace_init() {
    local cur prev words cword split
    _init_completion -s || return

    local first=1 place subcommand=grace-init options
    if ((cword > 1)); then
        case ${words[1]} in
        pre-stop|stop|cancel|status|ready|hook|copy-to) subcommand=${words[1]} first=2 ;;
        esac
    fi
    # The first word that is neither an option nor its value begins the command, which completes itself.
    for ((place = first; place < cword; place++)); do
        case ${words[place]} in
        --) ((place++)); break ;;
        --control|--drain|--exit-zero|--grace|--leftover-grace|--log-format|--log-level|--parent-death-signal|--pid|--post-stop|--pre-stop|--pre-stop-failure|--pre-stop-timeout|--report|--reserve|--rewrite|--split-string|--stop-on|--stop-signal|--stop-window|--timeout|--until|-S|-d|-e|-g|-p|-r) ((place++)) ;;
        -*) ;;
        *) break ;;
        esac
    done
    if ((place < cword)) || [[ $place -eq $cword && ${words[cword-1]} == -- ]]; then
        [[ $subcommand != grace-init ]] || _command_offset "$place"
        return
    fi

    case $prev in
        -p|--pre-stop) COMPREPLY=($(compgen -c -- "$cur")); return ;;
        --pre-stop-failure) COMPREPLY=($(compgen -W "continue skip" -- "$cur")); return ;;
        --stop-signal) COMPREPLY=($(compgen -W "TERM INT QUIT HUP USR1 USR2 WINCH" -- "$cur")); return ;;
        --stop-on) COMPREPLY=($(compgen -W "TERM INT QUIT HUP USR1 USR2 WINCH" -- "$cur")); return ;;
        --post-stop) COMPREPLY=($(compgen -c -- "$cur")); return ;;
        --parent-death-signal) COMPREPLY=($(compgen -W "TERM INT QUIT HUP USR1 USR2 WINCH" -- "$cur")); return ;;
        --report) _filedir; return ;;
        --control) _filedir; return ;;
        --log-level) COMPREPLY=($(compgen -W "off error warn info debug trace" -- "$cur")); return ;;
        --log-format) COMPREPLY=($(compgen -W "text json" -- "$cur")); return ;;
        --until) COMPREPLY=($(compgen -W "stopped prepared" -- "$cur")); return ;;
        --control|--drain|--exit-zero|--grace|--leftover-grace|--log-format|--log-level|--parent-death-signal|--pid|--post-stop|--pre-stop|--pre-stop-failure|--pre-stop-timeout|--report|--reserve|--rewrite|--split-string|--stop-on|--stop-signal|--stop-window|--timeout|--until|-S|-d|-e|-g|-p|-r) return ;;
    esac
    $split && return

    case $subcommand in
        grace-init) options="-g --grace --reserve -d --drain -p --pre-stop --pre-stop-timeout --pre-stop-failure --stop-signal --stop-window --stop-on --leftover-grace --post-stop -c --single-child -r --rewrite -e --exit-zero -S --split-string --parent-death-signal --report --control --log-level --log-format -v --verbose --explain -h --help -V --version" ;;
        pre-stop) options="--pid --control -h --help -V --version" ;;
        stop) options="--pid --control --until --timeout -h --help -V --version" ;;
        cancel) options="--pid --control -h --help -V --version" ;;
        status) options="--pid --control --json -h --help -V --version" ;;
        ready) options="--pid --control --serving -h --help -V --version" ;;
        hook) options="-g --grace --reserve -d --drain -p --pre-stop --pre-stop-timeout --pre-stop-failure --stop-signal --stop-window --pid --kill --log-level --log-format -v --verbose -h --help -V --version" ;;
        copy-to) options="-h --help -V --version" ;;
    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$cur"))
        return
    fi
    case $subcommand in
        grace-init)
            COMPREPLY=($(compgen -c -- "$cur"))
            ((cword > 1)) || COMPREPLY+=($(compgen -W "pre-stop stop cancel status ready hook copy-to" -- "$cur"))
            ;;
        pre-stop|stop|cancel|status|ready|hook) ;;
        *) _filedir ;;
    esac
} &&
    complete -F _grace_init grace-init
