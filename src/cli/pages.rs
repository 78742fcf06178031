//! The manual page and the completions for shells, written from the description of the options. The files stand in `.packaging/`;
//! only tests compile this, so the program carries nothing of it.

use std::fmt::Write;

use super::command_lines;
use super::environment::variable_of;
use super::spec::{CommandLineSpec, Operands, Spec};
use crate::builtin;

/// A file in `.packaging/` and what must stand in it.
struct Page {
    path: &'static str,
    text: String,
}

/// Every generated file. The first of the command lines is the program's own, the others are its subcommands.
fn all(command_lines: &[&CommandLineSpec]) -> Vec<Page> {
    vec![
        Page { path: "grace-init.1", text: manual(command_lines) },
        Page { path: "completions/grace-init.bash", text: bash(command_lines) },
        Page { path: "completions/_grace-init", text: zsh(command_lines) },
        Page { path: "completions/grace-init.fish", text: fish(command_lines) },
    ]
}

/// How shells complete a value.
enum Values {
    Words(&'static [&'static str]),
    Signals,
    Files,
    Commands,
    /// A duration, a number, a rule: nothing to offer.
    Free,
}

/// By what the help calls the value. Which words are valid is the reader's to know: a test has it read each of them.
fn values(spec: &Spec) -> Option<Values> {
    Some(match spec.value? {
        "MODE" => Values::Words(&["continue", "skip"]),
        "LEVEL" => Values::Words(&["off", "error", "warn", "info", "debug", "trace"]),
        "FORMAT" => Values::Words(&["text", "json"]),
        "WHEN" => Values::Words(&["stopped", "prepared"]),
        "LADDER" | "SIGNALS" | "SIG" => Values::Signals,
        "PATH" => Values::Files,
        "CMD" => Values::Commands,
        "DUR" | "FROM:TO" | "CODE" | "STR" | "N" => Values::Free,
        other => panic!("how do shells complete a value that is called {other}?"),
    })
}

/// The words that are offered for a value.
fn words(spec: &Spec) -> &'static [&'static str] {
    match values(spec) {
        Some(Values::Words(words)) => words,
        Some(Values::Signals) => SIGNALS,
        Some(Values::Files | Values::Commands | Values::Free) | None => &[],
    }
}

/// Those that commands are stopped by.
const SIGNALS: &[&str] = &["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"];

/// `-g` and `--grace`
fn spellings(spec: &Spec) -> Vec<String> {
    let short = spec.short.map(|letter| format!("-{letter}"));
    let long = spec.is_long.then(|| format!("--{}", spec.name));
    short.into_iter().chain(long).collect()
}

/// The help without the default.
fn summary(spec: &Spec) -> &'static str {
    spec.help.split(" [").next().unwrap_or(spec.help)
}

fn subcommand(command_line: &CommandLineSpec) -> &'static str {
    command_line.name.strip_prefix("grace-init ").unwrap_or(command_line.name)
}

/// The first sentence of what a subcommand does.
fn about(command_line: &CommandLineSpec) -> &'static str {
    command_line.about.split_once(". ").map_or(command_line.about.trim_end_matches('.'), |(first, _)| first)
}

// The manual page.

/// A paragraph of the texts below the options.
enum Paragraph<'a> {
    ExitStatus(String),
    Text(String),
    /// Lines to keep as they are.
    Example(Vec<&'a str>),
}

/// A blank line parts paragraphs, and so does a line that begins with this.
const OPENER: &str = "Exit status: ";

fn paragraphs<'a>(text: &'a str) -> Vec<Paragraph<'a>> {
    let mut blocks: Vec<Vec<&str>> = vec![Vec::new()];
    for line in text.lines() {
        if line.is_empty() || line.starts_with(OPENER) {
            blocks.push(Vec::new());
        }
        if let Some(block) = blocks.last_mut().filter(|_| !line.is_empty()) {
            block.push(line);
        }
    }
    blocks.retain(|block| !block.is_empty());
    let paragraph = |block: Vec<&'a str>| {
        let text = block.join(" ");
        match text.strip_prefix(OPENER) {
            Some(statuses) => Paragraph::ExitStatus(statuses.to_owned()),
            None if text.starts_with("  ") => {
                Paragraph::Example(block.into_iter().map(str::trim_start).collect())
            }
            None => Paragraph::Text(text),
        }
    };
    blocks.into_iter().map(paragraph).collect()
}

/// Text for roff, in which a backslash, a hyphen, quotes and a dot at the start of a line have a meaning.
fn roff(text: &str) -> String {
    let mut escaped = String::new();
    if text.starts_with(['.', '\'']) {
        escaped.push_str("\\&");
    }
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '^' => escaped.push_str("\\(ha"),
            '~' => escaped.push_str("\\(ti"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn sentence(text: &str) -> String {
    let end = if text.ends_with('.') { "" } else { "." };
    roff(&format!("{text}{end}"))
}

fn synopsis(command_line: &CommandLineSpec) -> String {
    let operands = match command_line.operands {
        Operands::None => "",
        Operands::Command | Operands::MixedCommand => " [\\-\\-] \\fICOMMAND\\fR [\\fIARG\\fR]...",
        Operands::Destination => " \\fIDEST\\fR",
    };
    format!("\\fB{}\\fR [\\fIOPTIONS\\fR]{operands}\n", roff(command_line.name))
}

fn manual_options(text: &mut String, command_line: &CommandLineSpec) {
    for option in command_line.options() {
        let spec = option.spec();
        let names: Vec<String> =
            spellings(spec).iter().map(|name| format!("\\fB{}\\fR", roff(name))).collect();
        let value = spec.value.map(|value| format!(" \\fI{}\\fR", roff(value))).unwrap_or_default();
        let (help, default) = spec.help.split_once(" [").unwrap_or((spec.help, ""));
        let _ = writeln!(text, ".TP\n{}{value}\n{}", names.join(", "), sentence(help));
        if !spec.details.is_empty() {
            let _ = writeln!(text, "{}", sentence(spec.details));
        }
        if let Some(default) = default.strip_suffix(']') {
            let _ = writeln!(text, ".br\nDefault: {}.", roff(default));
        }
        if let Some(variable) = variable_of(spec) {
            let _ = writeln!(text, ".br\nVariable: \\fB{variable}\\fR.");
        }
    }
}

fn exit_statuses(text: &str) -> String {
    paragraphs(text)
        .into_iter()
        .filter_map(|paragraph| match paragraph {
            Paragraph::ExitStatus(text) => Some(text),
            Paragraph::Text(_) | Paragraph::Example(_) => None,
        })
        .map(|text| format!("{}\n", roff(&text)))
        .collect()
}

/// When the changelog says that this version was released.
fn release_date() -> &'static str {
    let changelog = include_str!("../../CHANGELOG.md");
    let heading = concat!("## [", env!("CARGO_PKG_VERSION"), "] - ");
    changelog
        .lines()
        .find_map(|line| line.strip_prefix(heading))
        .expect("the changelog has this version's date")
}

const SHUTDOWN: &str = "A stop signal, or grace-init stop, begins a shutdown of these phases. One clock runs through all of them, and the init \
    exits as soon as the last process is gone.";
const PHASES: [(&str, &str); 6] = [
    ("drain", "The command keeps serving while load balancers take it out."),
    ("pre-stop", "The steps of --pre-stop run, one after the other."),
    ("stop", "The command gets its stop signal, or the signals of the ladder."),
    ("leftovers", "Once the command has exited, the processes that it left behind get SIGTERM."),
    ("kill", "At the deadline, whatever still runs gets SIGKILL."),
    ("post-stop", "The steps of --post-stop run."),
];

fn manual(command_lines: &[&CommandLineSpec]) -> String {
    let (own, subcommands) = command_lines.split_first().unwrap();
    let mut text = format!(
        ".\\\" Written by src/cli/pages.rs from the options in src/cli/options.rs.\n.TH GRACE\\-INIT 1 {} \"grace\\-init {}\" \"User Commands\"\n\
         .SH NAME\ngrace\\-init \\- container init built around graceful shutdown\n.SH SYNOPSIS\n",
        release_date(),
        roff(env!("CARGO_PKG_VERSION"))
    );
    let synopses: Vec<String> = command_lines.iter().map(|command_line| synopsis(command_line)).collect();
    text.push_str(&synopses.join(".br\n"));
    let _ = writeln!(text, ".SH DESCRIPTION\n{}\n.P\n{}", roff(own.about), roff(SHUTDOWN));
    for (phase, what) in PHASES {
        let _ = writeln!(text, ".TP\n\\fB{}\\fR\n{}", roff(phase), roff(what));
    }
    text.push_str(".SH OPTIONS\n");
    manual_options(&mut text, own);
    text.push_str(".SH COMMANDS\n");
    for subcommand in subcommands {
        let _ = write!(text, ".SS {}\n{}", roff(subcommand.name), sentence(subcommand.about) + "\n");
        manual_options(&mut text, subcommand);
        let statuses = exit_statuses(subcommand.after_help);
        if !statuses.is_empty() {
            let _ = write!(text, ".P\nExit status: {statuses}");
        }
    }
    text.push_str(".SH VALUES\n");
    let mut examples = Vec::new();
    let below = [own.after_help, own.after_long_help].map(paragraphs).into_iter().flatten();
    let mut separator = "";
    for paragraph in below {
        match paragraph {
            Paragraph::Text(paragraph) => {
                let _ = writeln!(text, "{separator}{}", roff(&paragraph));
                separator = ".P\n";
            }
            Paragraph::Example(lines) => examples.extend(lines),
            Paragraph::ExitStatus(_) => {}
        }
    }
    text.push_str(".SH BUILT-IN COMMANDS\n");
    for entry in builtin::TABLE {
        let _ = write!(text, ".TP\n\\fB{}\\fR\n{}\n", roff(&entry.usage()), roff(entry.doc));
    }
    let _ = write!(text, ".SH EXIT STATUS\n{}", exit_statuses(own.after_help));
    text.push_str(".SH EXAMPLES\n.nf\n");
    for example in examples {
        let _ = writeln!(text, "{}", roff(example));
    }
    text.push_str(".fi\n.SH SEE ALSO\n\\fBsignal\\fR(7), \\fBpid_namespaces\\fR(7)\n");
    text
}

// Completions.

const GENERATED: &str = "Written by src/cli/pages.rs from the options in src/cli/options.rs.";

/// The spellings of the options whose value is the next word.
fn with_value(command_line: &CommandLineSpec) -> Vec<String> {
    command_line
        .options()
        .map(|option| option.spec())
        .filter(|spec| spec.value.is_some())
        .flat_map(spellings)
        .collect()
}

fn bash(command_lines: &[&CommandLineSpec]) -> String {
    let (_, subcommands) = command_lines.split_first().unwrap();
    let names: Vec<&str> = subcommands.iter().map(|command_line| subcommand(command_line)).collect();
    let mut options = String::new();
    let mut value_cases = String::new();
    for command_line in command_lines {
        let all: Vec<String> = command_line.options().flat_map(|option| spellings(option.spec())).collect();
        let pattern = subcommand(command_line);
        let _ = writeln!(options, "        {pattern}) options=\"{}\" ;;", all.join(" "));
    }
    let mut seen: Vec<&str> = Vec::new();
    for spec in
        command_lines.iter().flat_map(|command_line| command_line.options()).map(|option| option.spec())
    {
        let Some(values) = values(spec) else { continue };
        if seen.contains(&spec.name) {
            continue;
        }
        seen.push(spec.name);
        let reply = match values {
            Values::Words(words) => format!("COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))", words.join(" ")),
            Values::Signals => format!("COMPREPLY=($(compgen -W \"{}\" -- \"$cur\"))", SIGNALS.join(" ")),
            Values::Files => "_filedir".to_owned(),
            Values::Commands => "COMPREPLY=($(compgen -c -- \"$cur\"))".to_owned(),
            Values::Free => continue,
        };
        let _ = writeln!(value_cases, "        {}) {reply}; return ;;", spellings(spec).join("|"));
    }
    let mut free: Vec<String> =
        command_lines.iter().flat_map(|command_line| with_value(command_line)).collect();
    free.sort();
    free.dedup();
    let all_names = names.join(" ");
    let pattern = names.join("|");
    let no_command: Vec<&str> = subcommands
        .iter()
        .filter(|line| line.operands == Operands::None)
        .map(|line| subcommand(line))
        .collect();
    format!(
        "# bash completion for grace-init. {GENERATED}

_grace_init() {{
    local cur prev words cword split
    _init_completion -s || return

    local first=1 place subcommand=grace-init options
    if ((cword > 1)); then
        case ${{words[1]}} in
        {pattern}) subcommand=${{words[1]}} first=2 ;;
        esac
    fi
    # The first word that is neither an option nor its value begins the command, which completes itself.
    for ((place = first; place < cword; place++)); do
        case ${{words[place]}} in
        --) ((place++)); break ;;
        {with_value}) ((place++)) ;;
        -*) ;;
        *) break ;;
        esac
    done
    if ((place < cword)) || [[ $place -eq $cword && ${{words[cword-1]}} == -- ]]; then
        [[ $subcommand != grace-init ]] || _command_offset \"$place\"
        return
    fi

    case $prev in
{value_cases}        {with_value}) return ;;
    esac
    $split && return

    case $subcommand in
{options}    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W \"$options\" -- \"$cur\"))
        return
    fi
    case $subcommand in
        grace-init)
            COMPREPLY=($(compgen -c -- \"$cur\"))
            ((cword > 1)) || COMPREPLY+=($(compgen -W \"{all_names}\" -- \"$cur\"))
            ;;
        {no_command}) ;;
        *) _filedir ;;
    esac
}} &&
    complete -F _grace_init grace-init
",
        with_value = free.join("|"),
        no_command = no_command.join("|"),
    )
}

fn zsh(command_lines: &[&CommandLineSpec]) -> String {
    let (own, subcommands) = command_lines.split_first().unwrap();
    let quote = |text: &str| text.replace('\'', "'\\''");
    let escape = |text: &str| quote(text).replace('[', "\\[").replace(']', "\\]").replace(':', "\\:");
    let arguments = |command_line: &CommandLineSpec| {
        let mut lines = String::new();
        for option in command_line.options() {
            let spec = option.spec();
            let action = match values(spec) {
                None => String::new(),
                Some(Values::Words(words)) => {
                    format!(":{}:({})", spec.value.unwrap_or_default(), words.join(" "))
                }
                Some(Values::Signals) => {
                    format!(":{}:({})", spec.value.unwrap_or_default(), SIGNALS.join(" "))
                }
                Some(Values::Files) => ":PATH:_files".to_owned(),
                Some(Values::Commands) => ":CMD:_command_names -e".to_owned(),
                Some(Values::Free) => format!(":{}: ", escape(spec.value.unwrap_or_default())),
            };
            let names = spellings(spec);
            let help = escape(summary(spec));
            // A long option's value may follow a "=" as well, a short one's its letter.
            for name in &names {
                let repeated = if spec.repeats { "*" } else { "" };
                let others = if spec.repeats || names.len() < 2 {
                    String::new()
                } else {
                    format!("({})", names.join(" "))
                };
                let takes = match (spec.value, name.starts_with("--")) {
                    (None, _) => "",
                    (Some(_), true) => "=",
                    (Some(_), false) => "+",
                };
                let _ = writeln!(lines, "        '{others}{repeated}{name}{takes}[{help}]{action}' \\");
            }
        }
        lines
    };
    let mut cases = String::new();
    let mut described = String::new();
    for command_line in subcommands {
        let name = subcommand(command_line);
        let _ = writeln!(described, "        '{name}:{}'", quote(about(command_line)));
        let _ = write!(
            cases,
            "        {name})\n            shift words; ((CURRENT--))\n            _arguments -s -S \\\n"
        );
        for line in arguments(command_line).lines() {
            let _ = writeln!(cases, "        {line}");
        }
        if command_line.operands == Operands::Destination {
            cases.push_str("                ':DEST:_files'\n");
        } else {
            cases.truncate(cases.trim_end_matches(" \\\n").len());
            cases.push('\n');
        }
        cases.push_str("            return\n            ;;\n");
    }
    format!(
        "#compdef grace-init
# {GENERATED}

_grace_init_first() {{
    local -a subcommands=(
{described}    )
    _describe -t subcommands subcommand subcommands
    _command_names -e
}}

_grace_init() {{
    if ((CURRENT > 2)); then
        case $words[2] in
{cases}        esac
    fi
    _arguments -s -S \\
{own}        '(-):command:_grace_init_first' \\
        '*::arguments:_normal'
}}

_grace_init \"$@\"
",
        own = arguments(own),
    )
}

fn fish(command_lines: &[&CommandLineSpec]) -> String {
    let (own, subcommands) = command_lines.split_first().unwrap();
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
    let names: Vec<&str> = subcommands.iter().map(|command_line| subcommand(command_line)).collect();
    let mut text = format!(
        "# fish completion for grace-init. {GENERATED}

# Whether the words so far select this subcommand.
function __fish_grace_init_in
    set -l words (commandline -poc)
    test \"$words[2]\" = $argv[1]
end

# Whether they are the init's own options, and its command has not begun.
function __fish_grace_init_own
    set -l words (commandline -poc)
    set -e words[1]
    while set -q words[1]
        switch $words[1]
            case {with_value}
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
    not contains -- \"$words[2]\" {names}
end

complete -c grace-init -f
complete -c grace-init -n __fish_grace_init_runs -a '(__fish_complete_subcommand {with_value})'
",
        names = names.join(" "),
        with_value = with_value(own).join(" "),
    );
    for command_line in command_lines {
        let condition = if command_line.name == own.name {
            "__fish_grace_init_own".to_owned()
        } else {
            format!("'__fish_grace_init_in {}'", subcommand(command_line))
        };
        if command_line.name != own.name {
            let _ = writeln!(
                text,
                "complete -c grace-init -n __fish_use_subcommand -a {} -d {}",
                subcommand(command_line),
                quote(about(command_line))
            );
        }
        if command_line.operands == Operands::Destination {
            let _ = writeln!(text, "complete -c grace-init -n {condition} -F");
        }
        for option in command_line.options() {
            let spec = option.spec();
            let short = spec.short.map(|letter| format!(" -s {letter}")).unwrap_or_default();
            let long = if spec.is_long { format!(" -l {}", spec.name) } else { String::new() };
            let takes = match values(spec) {
                None => String::new(),
                Some(Values::Words(words)) => format!(" -x -a '{}'", words.join(" ")),
                Some(Values::Signals) => format!(" -x -a '{}'", SIGNALS.join(" ")),
                Some(Values::Files) => " -r -F".to_owned(),
                Some(Values::Commands) => " -x -a '(__fish_complete_command)'".to_owned(),
                Some(Values::Free) => " -x".to_owned(),
            };
            let _ = writeln!(
                text,
                "complete -c grace-init -n {condition}{short}{long}{takes} -d {}",
                quote(summary(spec))
            );
        }
    }
    text
}

#[test]
fn the_manual_page_and_the_completions_in_packaging_are_current() {
    let command_lines: Vec<&CommandLineSpec> = command_lines().collect();
    for page in all(&command_lines) {
        let path = format!("{}/.packaging/{}", env!("CARGO_MANIFEST_DIR"), page.path);
        if std::env::var_os("GRACE_INIT_UPDATE").is_some() {
            std::fs::write(&path, &page.text).unwrap();
        }
        let now = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(now == page.text, "{path} is out of date; run: GRACE_INIT_UPDATE=1 cargo test --lib pages");
    }
}

#[test]
fn every_word_that_a_shell_offers_for_a_value_is_accepted() {
    let mut offered = 0;
    for command_line in command_lines() {
        for spec in command_line.options().map(|option| option.spec()) {
            for word in words(spec) {
                let argument = format!("--{}={word}", spec.name);
                assert!(command_line.command().try_get_matches_from([&argument]).is_ok(), "{argument}");
                offered += 1;
            }
        }
    }
    assert!(offered > 20, "only {offered}");
}
