use std::path::PathBuf;

use super::Stage;

/// How an example's Dockerfile says that it is to be run, so that a test runs those words and not a copy of them.
pub struct Recipe {
    options: Vec<String>,
    command: Vec<String>,
    environment: Vec<(String, String)>,
}

/// A file or directory of `examples/`.
pub fn example_file(path: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "examples", path].iter().collect()
}

impl Recipe {
    /// Reads `examples/NAME/Dockerfile`: the last `ENTRYPOINT ["/grace-init", OPTION..., "--"]` and `CMD [...]`, and
    /// every `ENV KEY=VALUE`.
    #[track_caller]
    pub fn of(name: &str) -> Self {
        let path = example_file(name).join("Dockerfile");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let text = text.replace("\\\n", " ");
        let values = |instruction: &str| -> Vec<String> {
            text.lines()
                .filter_map(|line| line.strip_prefix(instruction)?.strip_prefix(' '))
                .map(str::to_owned)
                .collect()
        };
        let words = |instruction: &str| -> Vec<String> {
            let last =
                values(instruction).pop().unwrap_or_else(|| panic!("no {instruction} in {}", path.display()));
            serde_json::from_str(&last).unwrap_or_else(|e| panic!("{instruction} {last}: {e}"))
        };
        let entrypoint = words("ENTRYPOINT");
        let [init, options @ .., end] = entrypoint.as_slice() else { panic!("ENTRYPOINT {entrypoint:?}") };
        assert_eq!((init.as_str(), end.as_str()), ("/grace-init", "--"), "ENTRYPOINT {entrypoint:?}");
        let environment = values("ENV").into_iter().map(|line| {
            let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("ENV {line}"));
            (key.to_owned(), value.trim_matches('"').to_owned())
        });
        Self { options: options.to_vec(), command: words("CMD"), environment: environment.collect() }
    }

    /// Puts `to` in the place of `from` in every word: a path of the image becomes one of this machine.
    pub fn replace(mut self, from: &str, to: &str) -> Self {
        let values = self.environment.iter_mut().map(|(_, value)| value);
        for word in self.options.iter_mut().chain(&mut self.command).chain(values) {
            *word = word.replace(from, to);
        }
        self
    }

    /// The init's options.
    pub fn options(&self) -> &[String] {
        &self.options
    }

    /// Has `stage` run it.
    pub fn stage(&self, stage: Stage) -> Stage {
        self.command_alone(stage.options(&self.options))
    }

    /// Has `stage` run its command without the options.
    pub fn command_alone(&self, stage: Stage) -> Stage {
        let stage = stage.command(&self.command);
        self.environment.iter().fold(stage, |stage, (key, value)| stage.env(key, value))
    }
}
