//! Every option of grace-init and its subcommands. What clap is told, `-h` and `--help`, the `GRACE_INIT_` variables and
//! docs/reference.md follow from what stands here.

use std::ffi::OsString;
use std::time::Duration;

use tracing::level_filters::LevelFilter;

use super::spec::{CommandLineSpec, Flag, Group, Many, One, Operands, group};
use super::values::{self, Ladder, Limit, OptionalPath, Rule};
use crate::control::protocol::Until;
use crate::plan::{AfterFailure, LogFormat, Step};
use crate::signal::{Signal, SignalSet};

group! {
    /// What the shutdown is made of; `hook` has these too.
    ShutdownOptions {
        grace: One<Limit> = One::text("grace", "DUR", values::grace,
            "time the orchestrator gives, or none for no deadline [what the place usually gives]")
            .short('g')
            .details("Write the pod's terminationGracePeriodSeconds, or docker stop -t, here as it is. \
                TERMINATION_GRACE_PERIOD_SECONDS is read too. An assumed grace does not kill the command when it ends.");
        reserve: One<Duration> = One::text("reserve", "DUR", values::duration,
            "kept back at its end for SIGKILL, reaping, post-stop and the report [2s, at most a fifth of the grace]");
        drain: One<Duration> = One::text("drain", "DUR", values::duration,
            "keep serving this long before anything else, so that load balancers notice [0]")
            .short('d');
        pre_stop: Many<Step> = Many::bytes("pre-stop", "CMD", values::step,
            "command to run before the stop signal; repeat for a chain [none]")
            .short('p');
        pre_stop_timeout: One<Duration> = One::text("pre-stop-timeout", "DUR", values::positive_duration,
            "time limit of each step [what the chain has left]");
        pre_stop_failure: One<AfterFailure> = One::text("pre-stop-failure", "MODE", values::after_failure,
            "after a failed or overdue step: continue with the next, or skip the rest [continue]");
        stop_signal: One<Ladder> = One::text("stop-signal", "LADDER", values::ladder,
            "signal that stops the command, or a ladder TERM:10s,INT:5s [the signal received, or TERM]")
            .details("Each rung waits that long for the command to end, the last one until the deadline.");
        stop_window: One<Duration> = One::text("stop-window", "DUR", values::duration,
            "time the command always keeps between its stop signal and SIGKILL [a third of the budget, at most 10s]")
            .details("The budget is the grace less the reserve. The default is at least as long as the ladder, and shrinks \
                to what the drain leaves (half of that if there are pre-stop steps), but not below a tenth of the budget.");
    }
}

group! {
    /// What only the init has.
    InitOptions {
        stop_on: One<SignalSet> = One::text("stop-on", "SIGNALS", values::stop_on,
            "received signals that begin the shutdown [TERM,INT]");
        leftover_grace: One<Limit> = One::text("leftover-grace", "DUR", values::limit,
            "when the command exits by itself: time from SIGTERM to SIGKILL for its other processes, or none [5s]");
        post_stop: Many<Step> = Many::bytes("post-stop", "CMD", values::step,
            "command to run after everything has gone; repeatable [none]");
        single_child: Flag = Flag::new("single-child",
            "relay signals to the command alone, not to its process group")
            .short('c')
            .details("On a terminal, Ctrl-C begins the shutdown with -c, and below a shell with job control. Otherwise \
                (docker run -it) the command has the terminal to itself: Ctrl-C reaches it alone, and neither drain nor \
                chain nor summary follows. If it ignores Ctrl-C there, docker stop or SIGTERM to the init ends it.");
        rewrite: Many<Rule> = Many::text("rewrite", "FROM:TO", values::rule,
            "relay FROM as TO; TO 0 drops it; repeatable [none]")
            .short('r')
            .with_commas();
        exit_zero: Many<u8> = Many::text("exit-zero", "CODE", values::exit_code,
            "report this exit status of the command as 0 (143 for a JVM, say); repeatable [none]")
            .short('e')
            .with_commas();
        split_string: One<OsString> = One::bytes("split-string", "STR", values::any,
            "split STR into further arguments: a #! line passes only one word")
            .short('S');
        parent_death_signal: One<Signal> = One::text("parent-death-signal", "SIG", values::signal,
            "get SIG when our own parent dies [none]");
        report: One<OptionalPath> = One::bytes("report", "PATH", values::optional_path,
            "existing file for the report of a shutdown that went wrong, or none [the pod's termination log]");
        control: One<OptionalPath> = One::bytes("control", "PATH", values::optional_path,
            "control socket, a directory for it, or none [in a container: in /run, /dev/shm or /tmp; else none]");
    }
}

group! {
    /// What is logged, and how.
    LogOptions {
        log_level: One<LevelFilter> = One::text("log-level", "LEVEL", values::log_level,
            "off, error, warn, info, debug or trace [info]");
        log_format: One<LogFormat> = One::text("log-format", "FORMAT", values::log_format,
            "text or json, on standard error [text]");
        verbose: Flag = Flag::new("verbose", "the same as --log-level debug").short('v');
    }
}

group! {
    /// What the init does instead of running a command.
    ExplainOptions {
        explain: Flag = Flag::new("explain", "print the timeline that these settings produce, and exit");
    }
}

group! {
    /// What prints a text and exits.
    AboutOptions {
        short_help: Flag = Flag::new("short-help", "print a short help").only_short('h');
        help: Flag = Flag::new("help", "print every option in detail, with its variable");
        version: Flag = Flag::new("version", "print the version").short('V');
    }
}

group! {
    /// Which init a client talks to.
    TargetOptions {
        pid: One<i32> = One::text("pid", "N", values::pid, "PID of the init [1]");
        control: One<OptionalPath> = One::bytes("control", "PATH", values::optional_path,
            "its control socket, or the directory of that [where it is in /run, /dev/shm or /tmp]");
    }
}

group! {
    /// What `stop` has.
    StopOptions {
        until: One<Until> = One::text("until", "WHEN", values::until,
            "return when everything has ended (stopped), or when drain and chain are over (prepared) [stopped]");
        timeout: One<Duration> = One::text("timeout", "DUR", values::duration,
            "return 124 after this time; the shutdown goes on [no limit]");
    }
}

group! {
    /// What `status` has.
    StatusOptions {
        json: Flag = Flag::new("json", "for programs: one JSON object");
    }
}

group! {
    /// What `ready` has.
    ReadyOptions {
        serving: Flag = Flag::new("serving", "ready until the command is told to stop: for readiness probes");
    }
}

group! {
    /// What `hook` has beside the shutdown's options.
    HookOptions {
        pid: One<i32> = One::text("pid", "N", values::pid, "process to stop [1]");
        kill: Flag = Flag::new("kill", "send it SIGKILL at the deadline; needs --stop-signal");
    }
}

pub static RUN: CommandLineSpec = CommandLineSpec {
    name: "grace-init",
    about: "Runs COMMAND, relays signals, reaps, and shuts down gracefully: an init for containers.",
    groups: &[
        ShutdownOptions::OPTIONS,
        InitOptions::OPTIONS,
        LogOptions::OPTIONS,
        ExplainOptions::OPTIONS,
        AboutOptions::OPTIONS,
    ],
    operands: Operands::Command,
    warns: true,
    after_help: "\
DUR is 500ms, 10s, 1m30s, or a number of seconds. A signal is TERM, SIGTERM, 15 or RTMIN+1.
Exit status: the command's own, or 128 and the signal that ended it; 125 wrong usage,
126 not executable, 127 not found.

  grace-init -- nginx -g 'daemon off;'
  grace-init --grace 30s --drain 5s --stop-signal QUIT -- nginx -g 'daemon off;'
  #!/usr/bin/grace-init -S --grace 10s /bin/sh
  grace-init pre-stop | stop | cancel | status | ready | hook | copy-to --help
",
    after_long_help: "
CMD is split into words as a shell quotes them and runs without a shell; outside single quotes $NAME
and ${NAME} are variables of the step: MAINPID, GRACE_INIT_SIGNAL, GRACE_INIT_STEP,
GRACE_INIT_REMAINING_MS and the environment's; $$ is a dollar sign.
A CMD that begins with @ is built in and needs no program in the image.

The command line wins over a variable, and an empty variable counts as unset. The variable of a
repeatable option holds one value a line; # begins a comment.
",
    lists_builtins: true,
    ..CLIENT
};

/// What the subcommands have in common.
pub const CLIENT: CommandLineSpec = CommandLineSpec {
    name: "",
    about: "",
    groups: &[],
    operands: Operands::None,
    abbreviates: false,
    warns: false,
    after_help: "",
    after_long_help: "",
    lists_builtins: false,
};

pub static PRE_STOP: CommandLineSpec = CommandLineSpec {
    name: "grace-init pre-stop",
    about: "A preStop hook: asks the container's init for drain and chain, and waits until they are over. The command goes \
            on serving until the orchestrator's stop signal comes.",
    groups: &[TargetOptions::OPTIONS, AboutOptions::OPTIONS],
    after_help: "\
Exit status: 0 all went well, 1 a step failed, was overdue or was cut short, 125 wrong usage or no
permission, 127 no init there.
",
    ..CLIENT
};

pub static STOP: CommandLineSpec = CommandLineSpec {
    name: "grace-init stop",
    about: "Asks a running init for the whole shutdown, and waits for it.",
    groups: &[TargetOptions::OPTIONS, StopOptions::OPTIONS, AboutOptions::OPTIONS],
    after_help: "\
Exit status: 0 everything ended by itself, 1 a step failed or something was killed, 124 the timeout
passed, 125 wrong usage or no permission, 127 no init there.
",
    ..CLIENT
};

pub static CANCEL: CommandLineSpec = CommandLineSpec {
    name: "grace-init cancel",
    about: "Takes back a pre-stop that was a mistake, while the command has not been told to stop.",
    groups: &[TargetOptions::OPTIONS, AboutOptions::OPTIONS],
    ..CLIENT
};

pub static STATUS: CommandLineSpec = CommandLineSpec {
    name: "grace-init status",
    about: "Tells how a running init stands.",
    groups: &[TargetOptions::OPTIONS, StatusOptions::OPTIONS, AboutOptions::OPTIONS],
    after_help: "\
Exit status: 0, 124 the init does not answer, 125 wrong usage or no permission, 127 no init there.
",
    ..CLIENT
};

pub static READY: CommandLineSpec = CommandLineSpec {
    name: "grace-init ready",
    about: "Exits with 0 while the command runs, and with 1 once a shutdown began.",
    groups: &[TargetOptions::OPTIONS, ReadyOptions::OPTIONS, AboutOptions::OPTIONS],
    after_help: "\
Exit status: 0 ready, 1 not, 124 the init does not answer, 125 wrong usage or no permission,
127 no init there.
",
    ..CLIENT
};

pub static HOOK: CommandLineSpec = CommandLineSpec {
    name: "grace-init hook",
    about: "A preStop hook for images whose ENTRYPOINT is another program: drain and chain run here, and with --stop-signal \
            the process is stopped from here.",
    groups: &[ShutdownOptions::OPTIONS, HookOptions::OPTIONS, LogOptions::OPTIONS, AboutOptions::OPTIONS],
    warns: true,
    after_help: "\
Exit status: 0 all went well, 1 a step failed or was overdue, 124 the process is still there at the
deadline, 125 wrong usage or no permission, 127 no such process.
",
    ..CLIENT
};

pub static COPY_TO: CommandLineSpec = CommandLineSpec {
    name: "grace-init copy-to",
    about: "Copies this program to DEST, for an init container from an image without cp.",
    groups: &[AboutOptions::OPTIONS],
    operands: Operands::Destination,
    ..CLIENT
};
