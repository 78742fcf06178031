//! `cargo bench -- layout`: writes `.cargo/layout.ld`, which puts what every run of the static build executes together.
//!
//! Linked in the order of the object files it lies scattered over a megabyte: each place costs a page fault, which maps
//! the pages around it too. Functions are found with callgrind and named by patterns, for a part of each name is a hash.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::Read;
use std::path::Path;
use std::process::Command;

use nix::libc;

use crate::measure::{Up, part};

/// What valgrind does not see: it hides the vDSO, which the C library looks its clock up in.
const UNSEEN: [&str; 4] = ["_dl_lookup_symbol_x", "_dl_new_object", "_dl_setup_hash", "__strcmp_avx2"];

/// The instruction sets for which the C library has its own string functions, the newer ones first. The machine decides
/// which it runs, and valgrind is another one.
const INSTRUCTION_SETS: [&str; 2] = ["evex", "avx"];

/// The members of the C library whose data every run writes to, of those that have any.
const WRITTEN: [&str; 4] = ["cxa_atexit", "dl-support", "libc-start", "malloc"];

pub fn write() {
    let functions = executed(&crate::build(true));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cargo/layout.ld");
    std::fs::write(&file, script(&functions)).unwrap();
    println!("{} functions are named in {}", functions.len(), file.display());
}

/// The linker names of all functions that a start, its child, a relayed signal, a client and a stop execute.
fn executed(init: &Path) -> BTreeSet<String> {
    let place = std::env::temp_dir().join(format!("layout-{}", std::process::id()));
    std::fs::create_dir_all(&place).unwrap();
    let socket = place.join("socket");
    let under_callgrind = |words: &[std::ffi::OsString]| {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--tool=callgrind", "--demangle=no"]);
        command.arg(format!("--callgrind-out-file={}/%p", place.display()));
        command.arg(init).arg("--control").arg(&socket).arg("--").args(words);
        command
    };
    // What a child does before its program is written down only when it has none and ends; our own part of that is rare.
    let mut failing = under_callgrind(&["/does/not/exist".into()]).spawn().expect("valgrind is missing");
    failing.wait().unwrap();
    std::fs::remove_file(place.join(failing.id().to_string())).unwrap();
    under_callgrind(&["/bin/true".into()]).status().unwrap();
    let mut up = Up::start(under_callgrind(&part(&["relay"])));
    up.signal(libc::SIGUSR1);
    up.said.read_exact(&mut [0; 8]).unwrap();
    let client = Command::new(init).arg("ready").arg("--control").arg(&socket).status();
    assert!(client.is_ok_and(|status| status.success()), "the init did not answer");
    up.signal(libc::SIGTERM);
    up.init.wait().unwrap();

    let mut functions = BTreeSet::new();
    for entry in std::fs::read_dir(&place).unwrap().flatten() {
        for line in std::fs::read_to_string(entry.path()).unwrap_or_default().lines() {
            let name = line.strip_prefix("fn=").or_else(|| line.strip_prefix("cfn="));
            if let Some((_, name)) = name.and_then(|name| name.split_once(") ")) {
                // A quote and a number tell the levels of a recursion apart.
                functions.insert(name.split('\'').next().unwrap_or(name).to_owned());
            }
        }
    }
    std::fs::remove_dir_all(&place).unwrap();
    functions.extend(UNSEEN.map(str::to_owned));
    functions
}

fn script(functions: &BTreeSet<String>) -> String {
    let members = members_of_the_c_library();
    let is_rust = |name: &str| name.starts_with("_ZN") || name.starts_with("_R") || name == "main";
    let patterns: BTreeSet<String> =
        functions.iter().filter(|name| is_rust(name)).map(|name| without_hashes(name)).collect();
    let used: BTreeSet<&String> = functions.iter().filter_map(|name| members.get(name)).collect();
    let (plain, variants): (Vec<&String>, Vec<&String>) =
        used.into_iter().partition(|member| stem(member) == *member);
    let varying: BTreeSet<&str> = variants.into_iter().map(|member| stem(member)).collect();

    let mut text = String::from(
        "/* What every run of the static build executes, together: it lies on fewer pages, so that the start takes fewer page\n   \
            faults and the idle init less memory. Only the order is decided here, and a name that is no more is passed over.\n   \
            Written by `cargo bench -- layout`: do so again when the compiler or the C library is another one. */\n\
         SECTIONS {\n  .text.first : {\n    *crt*.o(.text .text.*)\n",
    );
    for pattern in patterns {
        // Those that the compiler expects to run seldom have a prefix.
        writeln!(text, "    *(.text*.{pattern})").unwrap();
    }
    for member in &plain {
        writeln!(text, "    *libc.a:{member}.o(.text .text.*)").unwrap();
    }
    for set in INSTRUCTION_SETS {
        for member in &varying {
            writeln!(text, "    *libc.a:{member}-{set}*.o(.text .text.*)").unwrap();
        }
    }
    text.push_str(
        "  }\n}\nINSERT BEFORE .text;\n\n\
         /* What every run writes to lies beside the zeros that it writes to, and 16 KiB for threads not in the midst of these. */\n\
         SECTIONS {\n  .data.last : {\n    *(.data.*grace_init* .data.*tracing*)\n",
    );
    for member in WRITTEN {
        writeln!(text, "    *libc.a:{member}.o(.data .data.*)").unwrap();
    }
    text.push_str("  }\n}\nINSERT AFTER .data;\n");
    text.push_str(
        "SECTIONS {\n  .bss.last : {\n    *libc.a:pthread_keys.o(.bss .bss.*)\n  }\n}\nINSERT AFTER .bss;\n",
    );
    text
}

/// The name of the function for which this member of the C library holds one variant: `strlen` of `strlen-avx2`.
fn stem(member: &str) -> &str {
    let place = ["-avx", "-evex", "-sse"].iter().find_map(|set| member.find(set));
    place.map_or(member, |place| &member[..place])
}

/// Which member of `libc.a` defines a function.
fn members_of_the_c_library() -> BTreeMap<String, String> {
    let run = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let archive = run("cc", &["-print-file-name=libc.a"]);
    let mut members = BTreeMap::new();
    for line in run("nm", &["-A", "--defined-only", &archive]).lines() {
        // ARCHIVE:MEMBER.o:ADDRESS KIND NAME
        let Some((path, symbol)) = line.rsplit_once(".o:") else { continue };
        let (Some(member), Some(name)) = (path.rsplit(':').next(), symbol.rsplit(' ').next()) else {
            continue;
        };
        members.entry(name.to_owned()).or_insert_with(|| member.to_owned());
    }
    members
}

/// A pattern for a mangled name of whatever compilation: the hash at the end of the older kind, those of the crates in
/// the newer one.
fn without_hashes(name: &str) -> String {
    const HASH: usize = "17h0123456789abcdefE".len();
    if name.starts_with("_ZN") && name.len() > HASH {
        return format!("{}17h*", &name[..name.len() - HASH]);
    }
    let mut parts = name.split("Cs");
    let mut pattern = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('_') {
            Some((hash, crate_name))
                if crate_name.starts_with(|c: char| c.is_ascii_digit()) && !hash.is_empty() =>
            {
                write!(pattern, "Cs*_{crate_name}").unwrap();
            }
            _ => write!(pattern, "Cs{part}").unwrap(),
        }
    }
    pattern
}
