//! Where the container runs, as far as its environment tells, and what that place usually gives a container to stop.

use std::fmt;
use std::time::Duration;

/// Who stops the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Docker, Compose or Podman: nothing in the environment names another place.
    Docker,
    /// Kubernetes.
    Kubernetes,
    /// Amazon ECS.
    Ecs,
    /// Knative on Kubernetes.
    Knative,
    /// Google Cloud Run.
    CloudRun,
    /// HashiCorp Nomad.
    Nomad,
    /// We are no container's first process.
    NoContainer,
}

impl Place {
    /// The place that the environment points to.
    ///
    /// Env files carry such variables to laptops, so they count only in a container's first process.
    pub fn detect(is_first_process: bool, is_set: impl Fn(&str) -> bool) -> Self {
        if !is_first_process {
            return Self::NoContainer;
        }
        match (is_set("KUBERNETES_SERVICE_HOST"), is_set("K_SERVICE")) {
            (true, true) => return Self::Knative,
            (true, false) => return Self::Kubernetes,
            (false, _) => {}
        }
        if is_set("ECS_CONTAINER_METADATA_URI_V4") || is_set("ECS_CONTAINER_METADATA_URI") {
            return Self::Ecs;
        }
        if is_set("K_SERVICE") || is_set("CLOUD_RUN_JOB") {
            return Self::CloudRun;
        }
        if is_set("NOMAD_ALLOC_ID") { Self::Nomad } else { Self::Docker }
    }

    /// The time between its stop signal and its SIGKILL where nobody has changed it.
    pub const fn usual_grace(self) -> Duration {
        Duration::from_secs(match self {
            Self::Nomad => 5,
            Self::Docker | Self::CloudRun => 10,
            Self::Kubernetes | Self::Ecs | Self::NoContainer => 30,
            Self::Knative => 300,
        })
    }

    /// Whether the kubelet is the one that stops us.
    pub const fn is_kubernetes(self) -> bool {
        matches!(self, Self::Kubernetes | Self::Knative)
    }
}

impl fmt::Display for Place {
    /// As in "what NAME usually gives".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Kubernetes => "Kubernetes",
            Self::Ecs => "Amazon ECS",
            Self::Knative => "Knative",
            Self::CloudRun => "Cloud Run",
            Self::Nomad => "Nomad",
            Self::NoContainer => "no container",
        })
    }
}

/// Where the grace of a plan comes from. Only one that somebody told may kill the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceSource {
    /// `--grace`.
    CommandLine,
    /// This environment variable.
    Variable(&'static str),
    /// Nobody told us: what this place usually gives.
    Guessed(Place),
    /// There is no deadline to have a source: another init's personality.
    None,
}

impl GraceSource {
    /// Whether the grace is an assumption, which may be shorter or longer than the real one.
    pub const fn is_guess(self) -> bool {
        matches!(self, Self::Guessed(_))
    }
}

impl fmt::Display for GraceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CommandLine => f.write_str("--grace"),
            Self::Variable(name) => f.write_str(name),
            Self::Guessed(Place::NoContainer) => f.write_str("assumed: none was given"),
            Self::Guessed(place) => write!(f, "assumed: what {place} usually gives"),
            Self::None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detect(variables: &[&str]) -> Place {
        Place::detect(true, |name| variables.contains(&name))
    }

    #[test]
    fn each_place_is_known_by_its_variables() {
        for (variables, place, seconds) in [
            (vec![], Place::Docker, 10),
            (vec!["KUBERNETES_SERVICE_HOST"], Place::Kubernetes, 30),
            (vec!["ECS_CONTAINER_METADATA_URI_V4"], Place::Ecs, 30),
            (vec!["ECS_CONTAINER_METADATA_URI"], Place::Ecs, 30),
            (vec!["K_SERVICE", "KUBERNETES_SERVICE_HOST"], Place::Knative, 300),
            (vec!["K_SERVICE"], Place::CloudRun, 10),
            (vec!["CLOUD_RUN_JOB"], Place::CloudRun, 10),
            (vec!["NOMAD_ALLOC_ID"], Place::Nomad, 5),
        ] {
            assert_eq!(detect(&variables), place, "{variables:?}");
            assert_eq!(place.usual_grace(), Duration::from_secs(seconds), "{place}");
        }
    }

    #[test]
    fn the_variables_count_only_in_a_containers_first_process() {
        let place = Place::detect(false, |_| true);
        assert_eq!((place, place.usual_grace()), (Place::NoContainer, Duration::from_secs(30)));
    }

    #[test]
    fn outside_a_container_no_place_is_named() {
        assert_eq!(GraceSource::Guessed(Place::NoContainer).to_string(), "assumed: none was given");
        assert_eq!(GraceSource::Guessed(Place::Nomad).to_string(), "assumed: what Nomad usually gives");
    }
}
