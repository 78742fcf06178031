//! The examples: real software under the init, each started with the words of its own Dockerfile.

use crate::support::Behaviour;

/// Declares the examples' files and the list of their tests in one place.
macro_rules! examples {
    ($($example:ident)+) => {
        $(mod $example;)+

        /// The tests of all examples.
        pub fn behaviours() -> Vec<Behaviour> {
            [$($example::behaviours()),+].into_iter().flatten().collect()
        }
    };
}

examples! {
    celery
    flink
    jvm
    nginx
    postgres
    prefork
    redis
    scripts
    zookeeper
}
