//! The command line, and all reading of files and printing.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::explain::Timeline;
use super::image::ImageConfig;
use super::inject;
use super::input::{self, Source, Unusable};
use super::pod::Found;
use super::render::text::Style;
use super::render::{github, json, sarif, svg, text};
use super::rules::{self, Finding, Level, Platform, RULES, Settings, Version, View};

/// Nothing to complain of.
const CLEAN: u8 = 0;
/// Findings at or above `--fail-on`.
const FOUND: u8 = 1;
/// Input that cannot be used, or wrong usage.
const UNUSABLE: u8 = 2;

/// What `kubectl get` is asked for where nothing is named.
const WORKLOADS: &str = "deployments,statefulsets,daemonsets,replicasets,jobs,cronjobs,pods";

#[derive(Parser)]
#[command(
    name = "kubectl-grace",
    bin_name = "kubectl grace",
    version,
    about = "See and mend a pod's shutdown before it is deployed.",
    long_about = "See and mend a pod's shutdown before it is deployed.\n\nReads manifests (files, folders, - for standard input) or \
        live objects through your own kubectl. Works for pods with and without grace-init."
)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find what is wrong with how pods stop.
    ///
    /// Exit status: 0 no errors, 1 errors (or what --fail-on says), 2 unusable input.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Show the timeline of each pod's stop.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Put grace-init in front of each container's command.
    #[command(after_help = INJECT_EXAMPLES)]
    Inject(InjectArgs),
    /// List the rules, or explain one.
    Rules {
        /// The rule's code, such as GI204.
        code: Option<String>,
    },
    /// Print completions for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the man page.
    #[command(hide = true)]
    Man,
}

const CHECK_EXAMPLES: &str = "Examples:
  # Check all manifests below a folder
  kubectl grace check -f deploy/

  # Check what Helm or Kustomize renders
  helm template . | kubectl grace check -f -

  # Check live objects
  kubectl grace check deployment/web -n shop
  kubectl grace check --all-namespaces";

const EXPLAIN_EXAMPLES: &str = "Examples:
  kubectl grace explain -f deploy/web.yaml
  kubectl grace explain deployment/web --format svg > web.svg";

const INJECT_EXAMPLES: &str = "Examples:
  # See the change
  kubectl grace inject -f web.yaml --dry-run=diff

  # Apply it
  kubectl grace inject -f web.yaml | kubectl apply -f -

  # Take it back
  kubectl grace inject -f web.yaml --remove";

#[derive(Args)]
struct InputArgs {
    /// Files or folders with manifests; - reads standard input.
    #[arg(short, long = "filename", value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Live objects, as kubectl get takes them: deployment/web, or statefulsets.
    #[arg(value_name = "KIND/NAME")]
    resources: Vec<String>,
    /// The namespace of live objects.
    #[arg(short, long)]
    namespace: Option<String>,
    /// A label selector for live objects.
    #[arg(short = 'l', long)]
    selector: Option<String>,
    /// Live objects of all namespaces.
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// The kubeconfig context for live objects.
    #[arg(long)]
    context: Option<String>,
    /// Look for a pod template in kinds that are not known, such as Argo's Rollout.
    #[arg(long)]
    all_kinds: bool,
    /// What an image says of itself: the output of docker inspect, or of skopeo inspect --config. For every image, or the named one.
    #[arg(long, value_name = "[IMAGE=]FILE")]
    image_config: Vec<String>,
    /// When to use colours.
    #[arg(long, value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Clone, Copy, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Args)]
struct CheckArgs {
    #[command(flatten)]
    input: InputArgs,
    /// How findings are shown.
    #[arg(short = 'o', long, visible_alias = "output", value_enum, default_value_t = CheckFormat::Text)]
    format: CheckFormat,
    /// The least level that makes the exit status 1.
    #[arg(long, value_enum, default_value_t = FailOn::Error)]
    fail_on: FailOn,
    /// Only these rules; GI2 stands for all that begin with it.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    select: Vec<String>,
    /// Not these rules.
    #[arg(long, value_name = "CODE", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Leave out the findings that this file names.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Write the findings of now to this file, for --baseline.
    #[arg(long, value_name = "FILE")]
    write_baseline: Option<PathBuf>,
    /// The cluster's version, such as 1.29.
    #[arg(long, value_name = "VERSION", value_parser = version)]
    kubernetes_version: Option<Version>,
    /// Where the nodes are.
    #[arg(long, value_enum)]
    platform: Option<PlatformName>,
}

#[derive(Clone, Copy, ValueEnum)]
enum PlatformName {
    GkeSpot,
}

#[derive(Clone, Copy, ValueEnum)]
enum CheckFormat {
    Text,
    Json,
    Sarif,
    Github,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailOn {
    Error,
    Warning,
    Note,
    Never,
}

#[derive(Args)]
struct ExplainArgs {
    #[command(flatten)]
    input: InputArgs,
    /// How timelines are shown.
    #[arg(short = 'o', long, visible_alias = "output", value_enum, default_value_t = ExplainFormat::Text)]
    format: ExplainFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum ExplainFormat {
    Text,
    Json,
    Svg,
}

#[derive(Args)]
struct InjectArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The image that holds /grace-init.
    #[arg(long, default_value = "grace-init")]
    image: String,
    /// Only these containers.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    container: Vec<String>,
    /// The drain of containers that serve and have none.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    drain: u64,
    /// Take back what inject did.
    #[arg(long)]
    remove: bool,
    /// Show the change instead of the result.
    #[arg(long, value_enum)]
    dry_run: Option<DryRun>,
    /// Write each file back instead of printing it.
    #[arg(long, conflicts_with = "dry_run")]
    in_place: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DryRun {
    Diff,
}

fn version(text: &str) -> Result<Version, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let minor = text.strip_prefix("1.").and_then(|rest| rest.split(['.', '-', '+']).next());
    minor
        .and_then(|minor| minor.parse().ok())
        .map(Version)
        .ok_or_else(|| "expected a version such as 1.29".to_owned())
}

/// Where the program reads and prints.
pub struct Streams<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output.
    pub output: &'a mut dyn Write,
    /// Standard error.
    pub errors: &'a mut dyn Write,
}

/// Runs the plugin and returns its exit status.
pub fn run(words: impl IntoIterator<Item = std::ffi::OsString>, streams: &mut Streams<'_>) -> u8 {
    let cli = match Cli::try_parse_from(words) {
        Ok(cli) => cli,
        Err(error) => {
            let to_stderr = error.use_stderr();
            let text = error.render();
            let _ =
                if to_stderr { write!(streams.errors, "{text}") } else { write!(streams.output, "{text}") };
            return if to_stderr { UNUSABLE } else { CLEAN };
        }
    };
    match cli.command {
        Verb::Check(arguments) => check(&arguments, streams),
        Verb::Explain(arguments) => explain(&arguments, streams),
        Verb::Inject(arguments) => inject(&arguments, streams),
        Verb::Rules { code } => show_rules(code.as_deref(), streams),
        Verb::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "kubectl-grace", streams.output);
            CLEAN
        }
        Verb::Man => match clap_mangen::Man::new(Cli::command()).render(streams.output) {
            Ok(()) => CLEAN,
            Err(_) => UNUSABLE,
        },
    }
}

/// All that was read, and all that could not be.
struct Input {
    sources: Vec<Source>,
    found: Found,
    unusable: Vec<Unusable>,
    images: Vec<ImageConfig>,
}

impl InputArgs {
    fn is_live(&self) -> bool {
        self.file.is_empty()
    }

    fn read(&self, streams: &mut Streams<'_>) -> Input {
        let mut input =
            Input { sources: Vec::new(), found: Found::default(), unusable: Vec::new(), images: Vec::new() };
        for argument in &self.image_config {
            let (name, file) =
                argument.split_once('=').map_or((None, argument.as_str()), |(name, file)| (Some(name), file));
            let text = std::fs::read_to_string(file).map_err(|error| error.to_string());
            match text.and_then(|text| ImageConfig::parse(&text, name)) {
                Ok(images) => input.images.extend(images),
                Err(reason) => input.unusable.push(Unusable { place: file.to_owned(), reason }),
            }
        }
        if self.is_live() {
            self.read_live(&mut input, streams);
        } else {
            if !self.resources.is_empty() {
                let reason = "give either -f FILE or KIND/NAME, not both".to_owned();
                input.unusable.push(Unusable { place: self.resources.join(" "), reason });
            }
            let (sources, unusable) = input::read_all(&self.file, streams.input);
            input.sources = sources;
            input.unusable.extend(unusable);
        }
        for (index, source) in input.sources.iter().enumerate() {
            match input::parse(source) {
                Ok(documents) => {
                    documents.iter().for_each(|document| input.found.add(index, document, self.all_kinds))
                }
                Err(unusable) => input.unusable.push(unusable),
            }
        }
        if self.is_live() && self.resources.is_empty() {
            // A Deployment's pods are judged by the Deployment.
            let before = input.found.workloads.len();
            input.found.workloads.retain(|workload| !workload.is_owned);
            input.found.passed_over += before - input.found.workloads.len();
        }
        input
    }

    fn read_live(&self, input: &mut Input, streams: &mut Streams<'_>) {
        let wanted = self.selector.is_some()
            || self.namespace.is_some()
            || self.all_namespaces
            || self.context.is_some();
        if self.resources.is_empty() && !wanted {
            let reason = "nothing to read: give -f FILE, KIND/NAME, or --all-namespaces".to_owned();
            input.unusable.push(Unusable { place: "kubectl grace".to_owned(), reason });
            return;
        }
        if std::io::stderr().is_terminal() {
            let _ = writeln!(streams.errors, "reading live objects through kubectl ...");
        }
        let default = [WORKLOADS.to_owned()];
        let resources =
            if self.resources.is_empty() { default.as_slice() } else { self.resources.as_slice() };
        match self.kubectl(resources, self.selector.as_deref()) {
            Ok(text) => {
                input.sources.push(Source { name: format!("kubectl get {}", resources.join(" ")), text })
            }
            Err(unusable) => {
                input.unusable.push(unusable);
                return;
            }
        }
        // Who may not list Services gets notes instead of warnings.
        if let Ok(text) = self.kubectl(&["services".to_owned()], None) {
            input.sources.push(Source { name: "kubectl get services".to_owned(), text });
        }
    }

    fn kubectl(&self, resources: &[String], selector: Option<&str>) -> Result<String, Unusable> {
        let mut command = Command::new("kubectl");
        command.arg("get").args(resources).args(["-o", "json"]).stdin(Stdio::null());
        for (option, value) in [
            ("--namespace", self.namespace.as_deref()),
            ("--selector", selector),
            ("--context", self.context.as_deref()),
        ] {
            if let Some(value) = value {
                command.args([option, value]);
            }
        }
        if self.all_namespaces {
            command.arg("--all-namespaces");
        }
        let unusable = |reason: String| Unusable { place: "kubectl".to_owned(), reason };
        let output = command.output().map_err(|error| unusable(format!("cannot be run: {error}")))?;
        if !output.status.success() {
            return Err(unusable(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        String::from_utf8(output.stdout).map_err(|_| unusable("printed text that is not UTF-8".to_owned()))
    }

    fn style(&self) -> Style {
        let is_terminal = std::io::stdout().is_terminal();
        let colors = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none(),
        };
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        Style { colors, width: columns.filter(|columns| *columns >= 40).unwrap_or(100) }
    }
}

fn tell_unusable(unusable: &[Unusable], streams: &mut Streams<'_>) {
    for one in unusable {
        let _ = writeln!(streams.errors, "error: {one}");
    }
}

fn check(arguments: &CheckArgs, streams: &mut Streams<'_>) -> u8 {
    let input = arguments.input.read(streams);
    let settings = Settings {
        images: input.images,
        version: arguments.kubernetes_version,
        platform: arguments.platform.map(|PlatformName::GkeSpot| Platform::GkeSpot),
    };
    let mut findings = rules::check(&input.found, &input.sources, &settings);
    let matches = |codes: &[String], finding: &Finding| {
        codes.iter().any(|code| finding.rule.code.starts_with(code.as_str()))
    };
    findings.retain(|finding| arguments.select.is_empty() || matches(&arguments.select, finding));
    findings.retain(|finding| !matches(&arguments.ignore, finding));
    let mut unusable = input.unusable;
    if let Some(file) = &arguments.baseline {
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let known: Vec<&str> = text.lines().collect();
                findings.retain(|finding| !known.contains(&finding.fingerprint().as_str()));
            }
            Err(error) => {
                unusable.push(Unusable { place: file.display().to_string(), reason: error.to_string() })
            }
        }
    }
    if let Some(file) = &arguments.write_baseline {
        let mut lines: Vec<String> = findings.iter().map(|finding| finding.fingerprint() + "\n").collect();
        lines.sort();
        lines.dedup();
        if let Err(error) = std::fs::write(file, lines.concat()) {
            unusable.push(Unusable { place: file.display().to_string(), reason: error.to_string() });
        }
    }
    let pods = input.found.workloads.len();
    let passed_over = input.found.passed_over;
    let style = arguments.input.style();
    let _ = match arguments.format {
        CheckFormat::Json => {
            writeln!(streams.output, "{:#}", json::findings(&findings, &input.sources, pods, passed_over))
        }
        CheckFormat::Sarif => writeln!(streams.output, "{:#}", sarif::log(&findings, &input.sources)),
        CheckFormat::Text | CheckFormat::Github => {
            for finding in &findings {
                let Some(source) = input.sources.get(finding.source) else { continue };
                let text = match arguments.format {
                    CheckFormat::Github => github::annotation(finding, source),
                    CheckFormat::Text | CheckFormat::Json | CheckFormat::Sarif => {
                        text::finding(finding, source, style) + "\n"
                    }
                };
                let _ = write!(streams.output, "{text}");
            }
            writeln!(streams.output, "{}", text::summary(pods, passed_over, &findings))
        }
    };
    tell_unusable(&unusable, streams);
    let least = match arguments.fail_on {
        FailOn::Error => Some(Level::Error),
        FailOn::Warning => Some(Level::Warning),
        FailOn::Note => Some(Level::Note),
        FailOn::Never => None,
    };
    if !unusable.is_empty() {
        UNUSABLE
    } else if findings.iter().any(|finding| least.is_some_and(|least| finding.level >= least)) {
        FOUND
    } else {
        CLEAN
    }
}

fn explain(arguments: &ExplainArgs, streams: &mut Streams<'_>) -> u8 {
    let input = arguments.input.read(streams);
    let settings = Settings { images: input.images, ..Settings::default() };
    let timelines: Vec<Timeline> = input
        .found
        .workloads
        .iter()
        .filter_map(|workload| {
            let source = input.sources.get(workload.source)?;
            Timeline::of(&View::all(workload, source, &input.found.services, &settings))
        })
        .collect();
    let style = arguments.input.style();
    let _ = match arguments.format {
        ExplainFormat::Json => writeln!(streams.output, "{:#}", json::timelines(&timelines)),
        ExplainFormat::Text => {
            let texts: Vec<String> =
                timelines.iter().map(|timeline| text::timeline(timeline, style)).collect();
            write!(streams.output, "{}", texts.join("\n"))
        }
        ExplainFormat::Svg => match timelines.as_slice() {
            [timeline] => write!(streams.output, "{}", svg::timeline(timeline)),
            _ => writeln!(
                streams.errors,
                "error: --format svg draws one pod, and there are {}",
                timelines.len()
            ),
        },
    };
    tell_unusable(&input.unusable, streams);
    let not_one = matches!(arguments.format, ExplainFormat::Svg) && timelines.len() != 1;
    if input.unusable.is_empty() && !not_one { CLEAN } else { UNUSABLE }
}

fn inject(arguments: &InjectArgs, streams: &mut Streams<'_>) -> u8 {
    if arguments.input.is_live() {
        let _ = writeln!(
            streams.errors,
            "error: inject changes manifests: give them with -f (kubectl get -o yaml prints live ones)"
        );
        return UNUSABLE;
    }
    let input = arguments.input.read(streams);
    let options = inject::Options {
        image: arguments.image.clone(),
        containers: arguments.container.clone(),
        drain: arguments.drain,
    };
    let settings = Settings { images: input.images, ..Settings::default() };
    let mut refused = false;
    for (index, source) in input.sources.iter().enumerate() {
        let result = if arguments.remove {
            inject::remove(&source.text)
        } else {
            let done = inject::inject(index, source, &input.found, &settings, &options);
            for reason in &done.refused {
                refused = true;
                let _ = writeln!(streams.errors, "error: {reason}");
            }
            done.text
        };
        if arguments.dry_run.is_some() {
            let _ = write!(streams.output, "{}", inject::diff(&source.name, &source.text, &result));
        } else if arguments.in_place && source.name != "<stdin>" {
            if result != source.text
                && let Err(error) = std::fs::write(&source.name, &result)
            {
                refused = true;
                let _ = writeln!(streams.errors, "error: {}: {error}", source.name);
            }
        } else {
            if index > 0 && !result.starts_with("---") {
                let _ = writeln!(streams.output, "---");
            }
            let _ = write!(streams.output, "{result}");
        }
    }
    tell_unusable(&input.unusable, streams);
    if input.unusable.is_empty() && !refused { CLEAN } else { UNUSABLE }
}

fn show_rules(code: Option<&str>, streams: &mut Streams<'_>) -> u8 {
    let Some(code) = code else {
        for rule in RULES {
            let _ = writeln!(streams.output, "{}  {:<8} {}", rule.code, rule.level.name(), rule.summary);
        }
        return CLEAN;
    };
    match RULES.iter().find(|rule| rule.code.eq_ignore_ascii_case(code)) {
        Some(rule) => {
            let _ = writeln!(
                streams.output,
                "{} {} ({})\n{}\n\n{}",
                rule.code,
                rule.name,
                rule.level.name(),
                rule.summary,
                rule.explanation
            );
            CLEAN
        }
        None => {
            let _ = writeln!(streams.errors, "error: no rule {code}: kubectl grace rules lists them");
            UNUSABLE
        }
    }
}
