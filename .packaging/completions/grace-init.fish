# fish completion for grace-init. Written by src/cli/pages.rs from the options in src/cli/options.rs.

# Whether the words so far select this subcommand.
function __fish_grace_init_in
    set -l words (commandline -poc)
    test "$words[2]" = $argv[1]
end

# Whether they are the init's own options, and its command has not begun.
function __fish_grace_init_own
    set -l words (commandline -poc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case -g --grace --reserve -d --drain -p --pre-stop --pre-stop-timeout --pre-stop-failure --stop-signal --stop-window --stop-on --leftover-grace --post-stop -r --rewrite -e --exit-zero -S --split-string --parent-death-signal --report --control --log-level --log-format
                set -e words[1]
            case --
                return 1
            case '-*'
            case '*'
                return 1
        end
        set -e words[1]
    end
end

# Whether they can hold a command.
function __fish_grace_init_runs
    set -l words (commandline -poc)
    not contains -- "$words[2]" pre-stop stop cancel status ready hook copy-to
end

complete -c grace-init -f
complete -c grace-init -n __fish_grace_init_runs -a '(__fish_complete_subcommand -g --grace --reserve -d --drain -p --pre-stop --pre-stop-timeout --pre-stop-failure --stop-signal --stop-window --stop-on --leftover-grace --post-stop -r --rewrite -e --exit-zero -S --split-string --parent-death-signal --report --control --log-level --log-format)'
complete -c grace-init -n __fish_grace_init_own -s g -l grace -x -d 'time the orchestrator gives, or none for no deadline'
complete -c grace-init -n __fish_grace_init_own -l reserve -x -d 'kept back at its end for SIGKILL, reaping, post-stop and the report'
complete -c grace-init -n __fish_grace_init_own -s d -l drain -x -d 'keep serving this long before anything else, so that load balancers notice'
complete -c grace-init -n __fish_grace_init_own -s p -l pre-stop -x -a '(__fish_complete_command)' -d 'command to run before the stop signal; repeat for a chain'
complete -c grace-init -n __fish_grace_init_own -l pre-stop-timeout -x -d 'time limit of each step'
complete -c grace-init -n __fish_grace_init_own -l pre-stop-failure -x -a 'continue skip' -d 'after a failed or overdue step: continue with the next, or skip the rest'
complete -c grace-init -n __fish_grace_init_own -l stop-signal -x -a 'TERM INT QUIT HUP USR1 USR2 WINCH' -d 'signal that stops the command, or a ladder TERM:10s,INT:5s'
complete -c grace-init -n __fish_grace_init_own -l stop-window -x -d 'time the command always keeps between its stop signal and SIGKILL'
complete -c grace-init -n __fish_grace_init_own -l stop-on -x -a 'TERM INT QUIT HUP USR1 USR2 WINCH' -d 'received signals that begin the shutdown'
complete -c grace-init -n __fish_grace_init_own -l leftover-grace -x -d 'when the command exits by itself: time from SIGTERM to SIGKILL for its other processes, or none'
complete -c grace-init -n __fish_grace_init_own -l post-stop -x -a '(__fish_complete_command)' -d 'command to run after everything has gone; repeatable'
complete -c grace-init -n __fish_grace_init_own -s c -l single-child -d 'relay signals to the command alone, not to its process group'
complete -c grace-init -n __fish_grace_init_own -s r -l rewrite -x -d 'relay FROM as TO; TO 0 drops it; repeatable'
complete -c grace-init -n __fish_grace_init_own -s e -l exit-zero -x -d 'report this exit status of the command as 0 (143 for a JVM, say); repeatable'
complete -c grace-init -n __fish_grace_init_own -s S -l split-string -x -d 'split STR into further arguments: a #! line passes only one word'
complete -c grace-init -n __fish_grace_init_own -l parent-death-signal -x -a 'TERM INT QUIT HUP USR1 USR2 WINCH' -d 'get SIG when our own parent dies'
complete -c grace-init -n __fish_grace_init_own -l report -r -F -d 'existing file for the report of a shutdown that went wrong, or none'
complete -c grace-init -n __fish_grace_init_own -l control -r -F -d 'control socket, a directory for it, or none'
complete -c grace-init -n __fish_grace_init_own -l log-level -x -a 'off error warn info debug trace' -d 'off, error, warn, info, debug or trace'
complete -c grace-init -n __fish_grace_init_own -l log-format -x -a 'text json' -d 'text or json, on standard error'
complete -c grace-init -n __fish_grace_init_own -s v -l verbose -d 'the same as --log-level debug'
complete -c grace-init -n __fish_grace_init_own -l explain -d 'print the timeline that these settings produce, and exit'
complete -c grace-init -n __fish_grace_init_own -s h -d 'print a short help'
complete -c grace-init -n __fish_grace_init_own -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n __fish_grace_init_own -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a pre-stop -d 'A preStop hook: asks the container\'s init for drain and chain, and waits until they are over'
complete -c grace-init -n '__fish_grace_init_in pre-stop' -l pid -x -d 'PID of the init'
complete -c grace-init -n '__fish_grace_init_in pre-stop' -l control -r -F -d 'its control socket, or the directory of that'
complete -c grace-init -n '__fish_grace_init_in pre-stop' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in pre-stop' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in pre-stop' -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a stop -d 'Asks a running init for the whole shutdown, and waits for it'
complete -c grace-init -n '__fish_grace_init_in stop' -l pid -x -d 'PID of the init'
complete -c grace-init -n '__fish_grace_init_in stop' -l control -r -F -d 'its control socket, or the directory of that'
complete -c grace-init -n '__fish_grace_init_in stop' -l until -x -a 'stopped prepared' -d 'return when everything has ended (stopped), or when drain and chain are over (prepared)'
complete -c grace-init -n '__fish_grace_init_in stop' -l timeout -x -d 'return 124 after this time; the shutdown goes on'
complete -c grace-init -n '__fish_grace_init_in stop' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in stop' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in stop' -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a cancel -d 'Takes back a pre-stop that was a mistake, while the command has not been told to stop'
complete -c grace-init -n '__fish_grace_init_in cancel' -l pid -x -d 'PID of the init'
complete -c grace-init -n '__fish_grace_init_in cancel' -l control -r -F -d 'its control socket, or the directory of that'
complete -c grace-init -n '__fish_grace_init_in cancel' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in cancel' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in cancel' -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a status -d 'Tells how a running init stands'
complete -c grace-init -n '__fish_grace_init_in status' -l pid -x -d 'PID of the init'
complete -c grace-init -n '__fish_grace_init_in status' -l control -r -F -d 'its control socket, or the directory of that'
complete -c grace-init -n '__fish_grace_init_in status' -l json -d 'for programs: one JSON object'
complete -c grace-init -n '__fish_grace_init_in status' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in status' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in status' -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a ready -d 'Exits with 0 while the command runs, and with 1 once a shutdown began'
complete -c grace-init -n '__fish_grace_init_in ready' -l pid -x -d 'PID of the init'
complete -c grace-init -n '__fish_grace_init_in ready' -l control -r -F -d 'its control socket, or the directory of that'
complete -c grace-init -n '__fish_grace_init_in ready' -l serving -d 'ready until the command is told to stop: for readiness probes'
complete -c grace-init -n '__fish_grace_init_in ready' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in ready' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in ready' -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a hook -d 'A preStop hook for images whose ENTRYPOINT is another program: drain and chain run here, and with --stop-signal the process is stopped from here'
complete -c grace-init -n '__fish_grace_init_in hook' -s g -l grace -x -d 'time the orchestrator gives, or none for no deadline'
complete -c grace-init -n '__fish_grace_init_in hook' -l reserve -x -d 'kept back at its end for SIGKILL, reaping, post-stop and the report'
complete -c grace-init -n '__fish_grace_init_in hook' -s d -l drain -x -d 'keep serving this long before anything else, so that load balancers notice'
complete -c grace-init -n '__fish_grace_init_in hook' -s p -l pre-stop -x -a '(__fish_complete_command)' -d 'command to run before the stop signal; repeat for a chain'
complete -c grace-init -n '__fish_grace_init_in hook' -l pre-stop-timeout -x -d 'time limit of each step'
complete -c grace-init -n '__fish_grace_init_in hook' -l pre-stop-failure -x -a 'continue skip' -d 'after a failed or overdue step: continue with the next, or skip the rest'
complete -c grace-init -n '__fish_grace_init_in hook' -l stop-signal -x -a 'TERM INT QUIT HUP USR1 USR2 WINCH' -d 'signal that stops the command, or a ladder TERM:10s,INT:5s'
complete -c grace-init -n '__fish_grace_init_in hook' -l stop-window -x -d 'time the command always keeps between its stop signal and SIGKILL'
complete -c grace-init -n '__fish_grace_init_in hook' -l pid -x -d 'process to stop'
complete -c grace-init -n '__fish_grace_init_in hook' -l kill -d 'send it SIGKILL at the deadline; needs --stop-signal'
complete -c grace-init -n '__fish_grace_init_in hook' -l log-level -x -a 'off error warn info debug trace' -d 'off, error, warn, info, debug or trace'
complete -c grace-init -n '__fish_grace_init_in hook' -l log-format -x -a 'text json' -d 'text or json, on standard error'
complete -c grace-init -n '__fish_grace_init_in hook' -s v -l verbose -d 'the same as --log-level debug'
complete -c grace-init -n '__fish_grace_init_in hook' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in hook' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in hook' -s V -l version -d 'print the version'
complete -c grace-init -n __fish_use_subcommand -a copy-to -d 'Copies this program to DEST, for an init container from an image without cp'
complete -c grace-init -n '__fish_grace_init_in copy-to' -F
complete -c grace-init -n '__fish_grace_init_in copy-to' -s h -d 'print a short help'
complete -c grace-init -n '__fish_grace_init_in copy-to' -l help -d 'print every option in detail, with its variable'
complete -c grace-init -n '__fish_grace_init_in copy-to' -s V -l version -d 'print the version'
