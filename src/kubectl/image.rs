//! What an image says of its own start: the output of `docker inspect`, or of `skopeo inspect --config`.

use serde_json::Value;

/// An image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The names that it is known to have; none where the file does not say.
    pub names: Vec<String>,
    /// `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// `CMD`.
    pub command: Vec<String>,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// `ENV`.
    pub environment: Vec<(String, String)>,
}

impl ImageConfig {
    /// Reads a file's text; `name` is the image that the user says it is of.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, name: Option<&str>) -> Result<Vec<Self>, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let images = match &value {
            Value::Array(images) => images.iter().collect(),
            Value::Object(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                vec![&value]
            }
        };
        images.into_iter().map(|image| Self::read(image, name)).collect()
    }

    fn read(image: &Value, name: Option<&str>) -> Result<Self, String> {
        let config = image.get("Config").or_else(|| image.get("config")).filter(|config| config.is_object());
        let Some(config) = config else {
            return Err(
                "has no \"Config\": expected what docker inspect IMAGE or skopeo inspect --config docker://IMAGE print"
                    .to_owned(),
            );
        };
        let texts = |value: Option<&Value>| -> Vec<String> {
            let items = value.and_then(Value::as_array).into_iter().flatten();
            items.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let mut names: Vec<String> = name.map(str::to_owned).into_iter().collect();
        if names.is_empty() {
            names = texts(image.get("RepoTags"));
            names.extend(texts(image.get("RepoDigests")));
        }
        let environment = texts(config.get("Env"));
        Ok(Self {
            names,
            entrypoint: texts(config.get("Entrypoint")),
            command: texts(config.get("Cmd")),
            stop_signal: config
                .get("StopSignal")
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned),
            environment: environment
                .iter()
                .filter_map(|entry| entry.split_once('='))
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        })
    }

    /// Whether it is the configuration of this image; one without a name is of every image.
    pub fn is_of(&self, image: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|name| full_name(name) == full_name(image))
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An image's name as the runtimes complete it.
fn full_name(name: &str) -> String {
    let name = name.strip_prefix("docker.io/").unwrap_or(name);
    let name = name.strip_prefix("library/").unwrap_or(name);
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains([':', '@']) { name.to_owned() } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_docker_and_skopeo_print_is_read() {
        let docker = r#"[{"RepoTags": ["nginx:latest"], "Config": {"Entrypoint": ["/e"], "Cmd": ["nginx"], "StopSignal": "SIGQUIT", "Env": ["A=b=c"]}}]"#;
        let image = &ImageConfig::parse(docker, None).unwrap()[0];
        assert_eq!(
            (image.entrypoint.as_slice(), image.stop_signal.as_deref()),
            (&["/e".to_owned()][..], Some("SIGQUIT"))
        );
        assert_eq!(image.variable("A"), Some("b=c"));
        assert!(
            image.is_of("nginx")
                && image.is_of("docker.io/library/nginx:latest")
                && !image.is_of("nginx:1.25")
        );
        let skopeo = r#"{"architecture": "amd64", "config": {"Cmd": ["sh"]}}"#;
        let image = &ImageConfig::parse(skopeo, Some("busybox:1")).unwrap()[0];
        assert!(image.is_of("busybox:1") && !image.is_of("busybox:2"));
        assert_eq!((image.entrypoint.len(), image.command.as_slice()), (0, &["sh".to_owned()][..]));
    }

    #[test]
    fn other_json_is_refused() {
        assert!(ImageConfig::parse("{}", None).unwrap_err().contains("docker inspect"));
        assert!(ImageConfig::parse("[", None).is_err());
    }
}
