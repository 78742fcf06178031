//! The environment as a second command line: each long option of ours reads `GRACE_INIT_<NAME>`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};

use super::spec::{CommandLineSpec, Spec};
use super::values;

const PREFIX: &str = "GRACE_INIT_";
const GRACE: &str = "grace";
/// What a pod gets from its template where nothing was written for us; a common name for the same number.
pub const PODS_GRACE: &str = "TERMINATION_GRACE_PERIOD_SECONDS";
/// Options that only make sense on the command line.
const WITHOUT_VARIABLE: [&str; 3] = ["help", "version", "split-string"];
/// What we set ourselves, for steps and for clients.
const SET_BY_US: [&str; 4] =
    ["GRACE_INIT_SIGNAL", "GRACE_INIT_STEP", "GRACE_INIT_REMAINING_MS", "GRACE_INIT_SOCKET"];
/// They change what is said and not what is done, and hold for an init below us as well.
const KEPT_FOR_CHILDREN: [&str; 2] = ["log-level", "log-format"];

/// What the command line is read against. All that it knows of the machine comes through here.
pub struct Environment<'a> {
    /// The variables, each once.
    pub variables: Vec<(&'a OsStr, &'a OsStr)>,
    /// Whether we are a container's first process.
    pub is_first_process: bool,
    /// Whether a program can be found: by its path, or by its name on the PATH.
    pub is_program: &'a dyn Fn(&OsStr) -> bool,
    /// Makes a path absolute.
    pub absolute: &'a dyn Fn(&Path) -> PathBuf,
}

impl Default for Environment<'_> {
    /// An ordinary process without variables, for which every program is there.
    fn default() -> Self {
        Self {
            variables: Vec::new(),
            is_first_process: false,
            is_program: &|_| true,
            absolute: &Path::to_path_buf,
        }
    }
}

impl<'a> Environment<'a> {
    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&'a OsStr> {
        self.variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether a variable is there, and not empty.
    pub fn is_set(&self, name: &str) -> bool {
        self.variable(name).is_some_and(|value| !value.is_empty())
    }
}

/// What the variables say, for options that the command line leaves out.
#[derive(Debug, Default)]
pub struct FromVariables {
    /// As words of a command line.
    pub words: Vec<OsString>,
    /// The variables of this command's options that are there, whether used or not.
    pub present: Vec<String>,
    /// The variable that the grace comes from.
    pub grace: Option<&'static str>,
    /// What is wrong and was passed over.
    pub warnings: Vec<String>,
}

impl FromVariables {
    /// The variable that an option such as `--grace` was read from.
    pub fn source_of(&self, option: &str) -> Option<String> {
        match (option.strip_prefix("--")?, self.grace) {
            ("grace", Some(name)) => Some(name.to_owned()),
            (long, _) => Some(variable_called(long)),
        }
    }
}

fn variable_called(long: &str) -> String {
    format!("{PREFIX}{}", long.to_ascii_uppercase().replace('-', "_"))
}

/// The variable that holds an option.
pub fn variable_of(spec: &Spec) -> Option<String> {
    (spec.is_long && !WITHOUT_VARIABLE.contains(&spec.name)).then(|| variable_called(spec.name))
}

/// Reads the variables of a command line's options, but not of those that are `on_the_line`.
///
/// # Errors
/// A flag's value that says neither yes nor no.
pub fn read(
    command_line: &CommandLineSpec,
    on_the_line: &dyn Fn(&str) -> bool,
    environment: &Environment<'_>,
) -> Result<FromVariables> {
    let mut read = FromVariables::default();
    for (name, value) in &environment.variables {
        let Some(suffix) = name.as_bytes().strip_prefix(PREFIX.as_bytes()) else { continue };
        let Some(spec) = option_of(command_line, suffix) else {
            // A probe may run every second: only what lasts warns.
            if command_line.warns {
                read.warnings.extend(warning_of_unknown(&name.to_string_lossy()));
            }
            continue;
        };
        if !KEPT_FOR_CHILDREN.contains(&spec.name) {
            read.present.push(variable_called(spec.name));
        }
        let value = value.as_bytes().trim_ascii();
        if value.is_empty() || on_the_line(spec.name) {
            continue;
        }
        if spec.name == GRACE {
            read.grace = Some("GRACE_INIT_GRACE");
        }
        read.words.extend(words_of(spec, value)?);
    }
    let has_grace = command_line.options().any(|option| option.spec().name == GRACE);
    if has_grace && read.grace.is_none() && !on_the_line(GRACE) {
        pods_grace(&mut read, environment);
    }
    Ok(read)
}

/// The option whose variable is `GRACE_INIT_` and this.
fn option_of(command_line: &CommandLineSpec, suffix: &[u8]) -> Option<&'static Spec> {
    let is = |spec: &Spec| {
        spec.is_long
            && !WITHOUT_VARIABLE.contains(&spec.name)
            && spec.name.len() == suffix.len()
            && spec.name.bytes().zip(suffix).all(|(name, variable)| match name {
                b'-' => *variable == b'_',
                letter => letter.to_ascii_uppercase() == *variable,
            })
    };
    command_line.options().map(|option| option.spec()).find(|spec| is(spec))
}

fn words_of(spec: &Spec, value: &[u8]) -> Result<Vec<OsString>> {
    let name = spec.name;
    let word = |value: &[u8]| OsString::from_vec([b"--", name.as_bytes(), b"=", value].concat());
    Ok(match (spec.value, spec.repeats) {
        (None, _) => {
            let value = String::from_utf8_lossy(value);
            let yes = values::yes_or_no(&value).map_err(|expected| {
                anyhow!("--{name} {value:?} (from {}): {expected}", variable_called(name))
            })?;
            if yes { vec![format!("--{name}").into()] } else { Vec::new() }
        }
        // One value a line; a line that begins with # is a comment.
        (Some(_), true) => value
            .split(|byte| *byte == b'\n')
            .map(<[u8]>::trim_ascii)
            .filter(|line| !line.is_empty() && !line.starts_with(b"#"))
            .map(word)
            .collect(),
        (Some(_), false) => vec![word(value)],
    })
}

/// Other programs use that name too, so a value that is no duration is not ours to refuse.
fn pods_grace(read: &mut FromVariables, environment: &Environment<'_>) {
    let value = environment.variable(PODS_GRACE).map(|value| value.to_string_lossy()).unwrap_or_default();
    let value = value.trim();
    if value.is_empty() {
        return;
    }
    match values::limit(value) {
        Ok(_) => {
            read.words.push(format!("--grace={value}").into());
            read.grace = Some(PODS_GRACE);
        }
        Err(expected) => read.warnings.push(format!("ignoring {PODS_GRACE} {value:?}: {expected}")),
    }
}

/// What to say of a variable with our prefix that is no option of this command.
fn warning_of_unknown(name: &str) -> Option<String> {
    if SET_BY_US.contains(&name) || is_made_for_a_service(name) {
        return None;
    }
    let mut known: Vec<String> = Vec::new();
    for command_line in super::command_lines() {
        known.extend(command_line.options().filter_map(|option| variable_of(option.spec())));
    }
    if known.iter().any(|known| known == name) {
        return None;
    }
    let nearest = super::nearest(&name.to_ascii_uppercase(), known.iter().map(String::as_str));
    Some(match nearest {
        Some(nearest) => {
            format!("ignoring {name}, which is not a variable of grace-init: did you mean {nearest}?")
        }
        None => format!("ignoring {name}, which is not a variable of grace-init"),
    })
}

/// Kubernetes and Docker's links make these for a Service called grace-init.
fn is_made_for_a_service(name: &str) -> bool {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest == "PORT"
        || rest.starts_with("PORT_")
        || rest.ends_with("_PORT")
        || rest.contains("_PORT_")
}
