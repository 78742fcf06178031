//! Tells the linker how to lay out the static build (`cargo static`).
#![allow(clippy::print_stdout, reason = "this is how Cargo is told")]

use std::env::var;

fn main() {
    println!("cargo::rerun-if-changed=.cargo/layout.ld");
    let is_static =
        var("CARGO_CFG_TARGET_FEATURE").is_ok_and(|all| all.split(',').any(|one| one == "crt-static"));
    // Other C libraries call their parts differently.
    let is_gnu = var("CARGO_CFG_TARGET_ENV").is_ok_and(|environment| environment == "gnu");
    if is_static && is_gnu {
        println!(
            "cargo::rustc-link-arg-bin=grace-init=-Wl,-T,{}/.cargo/layout.ld",
            env!("CARGO_MANIFEST_DIR")
        );
    }
}
