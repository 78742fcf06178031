//! Makes the world hostile for a program: `confine RULE... -- PROGRAM [ARG]...`.
//!
//! `deny=CALL:ERRNO` a system call fails (`fork`: whichever call the C library makes a process with); `limit=nofile:N` a resource limit;
//! `user=N` another user and group; `drop=kill` without that capability; `children=N` that many children of the program's own, which end on
//! SIGTERM; `argv0=TEXT`, or `argv0` for no arguments at all; `hide=DIRECTORY` under an empty file system that cannot be written; `hidepid` a
//! `/proc` in which each user sees their own; `no-cwd` a working directory that was removed. They apply in their order.
#![allow(
    unsafe_code,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    clippy::print_stderr,
    clippy::exit,
    reason = "a single-threaded test helper made of system calls"
)]

use std::ffi::{CString, OsString};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::libc;
use nix::mount::{MsFlags, mount};

type Failure = Box<dyn std::error::Error>;

fn main() {
    let Err(failure) = confine();
    eprintln!("confine: {failure}");
    std::process::exit(99);
}

fn confine() -> Result<std::convert::Infallible, Failure> {
    let mut words = std::env::args_os().skip(1);
    let mut denials = Vec::new();
    let mut first = None;
    for word in words.by_ref() {
        let rule = word.to_str().ok_or("a rule is not utf-8")?;
        match rule.split_once('=').unwrap_or((rule, "")) {
            ("--", _) => break,
            ("deny", denial) => denials.push(denial.to_owned()),
            ("limit", limit) => set_limit(limit)?,
            ("user", user) => become_user(user.parse()?)?,
            ("drop", "kill") => drop_kill()?,
            ("children", count) => (0..count.parse::<u32>()?).for_each(|_| child()),
            ("argv0", text) => first = Some(text.to_owned()),
            ("hide", directory) => {
                let flags = MsFlags::MS_RDONLY;
                mount(Some("none"), directory, Some("tmpfs"), flags, None::<&str>)?;
            }
            ("hidepid", _) => {
                mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), Some("hidepid=2"))?
            }
            ("no-cwd", _) => remove_working_directory()?,
            _ => return Err(format!("unknown rule {rule}").into()),
        }
    }
    let mut command: Vec<CString> =
        words.map(OsString::into_vec).map(CString::new).collect::<Result<_, _>>()?;
    let program = command.first().cloned().ok_or("no program given")?;
    if let Some(first) = first {
        if first.is_empty() {
            command.clear();
        } else if let Some(word) = command.first_mut() {
            *word = CString::new(first)?;
        }
    }
    // Last, for what is denied may be needed until then.
    if !denials.is_empty() {
        deny(&denials)?;
    }
    let mut pointers: Vec<_> = command.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    unsafe { libc::execvp(program.as_ptr(), pointers.as_ptr()) };
    Err(format!("cannot execute {program:?}: {}", std::io::Error::last_os_error()).into())
}

fn set_limit(limit: &str) -> Result<(), Failure> {
    let (name, value) = limit.split_once(':').ok_or("limit wants NAME:NUMBER")?;
    let resource = match name {
        "nofile" => libc::RLIMIT_NOFILE,
        "nproc" => libc::RLIMIT_NPROC,
        _ => return Err(format!("unknown limit {name}").into()),
    };
    let value = value.parse()?;
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    check(unsafe { libc::setrlimit(resource, &limit) })
}

fn become_user(user: u32) -> Result<(), Failure> {
    unsafe {
        check(libc::setgroups(0, std::ptr::null()))?;
        check(libc::setresgid(user, user, user))?;
        check(libc::setresuid(user, user, user))
    }
}

/// Without CAP_KILL, root may only signal what runs as root.
fn drop_kill() -> Result<(), Failure> {
    const CAP_KILL: libc::c_ulong = 5;
    check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_KILL, 0, 0, 0) })
}

fn check(result: libc::c_int) -> Result<(), Failure> {
    if result == -1 { Err(std::io::Error::last_os_error().into()) } else { Ok(()) }
}

fn child() {
    if unsafe { libc::fork() } == 0 {
        unsafe {
            libc::signal(libc::SIGTERM, libc::SIG_DFL);
            loop {
                libc::pause();
            }
        }
    }
}

fn remove_working_directory() -> Result<(), Failure> {
    let place = std::env::temp_dir().join(format!("confine-{}", std::process::id()));
    std::fs::create_dir(&place)?;
    std::env::set_current_dir(&place)?;
    std::fs::remove_dir(&place)?;
    Ok(())
}

/// The numbers of a call by its name.
fn call_numbers(name: &str) -> Result<Vec<libc::c_long>, Failure> {
    Ok(vec![match name {
        #[cfg(target_arch = "x86_64")]
        "fork" => return Ok(vec![libc::SYS_clone, libc::SYS_clone3, libc::SYS_fork]),
        #[cfg(not(target_arch = "x86_64"))]
        "fork" => return Ok(vec![libc::SYS_clone, libc::SYS_clone3]),
        "clone3" => libc::SYS_clone3,
        "close_range" => libc::SYS_close_range,
        "chdir" => libc::SYS_chdir,
        "execve" => libc::SYS_execve,
        "fcntl" => libc::SYS_fcntl,
        "getcwd" => libc::SYS_getcwd,
        "ioctl" => libc::SYS_ioctl,
        "kill" => libc::SYS_kill,
        "madvise" => libc::SYS_madvise,
        "pidfd_open" => libc::SYS_pidfd_open,
        "pidfd_send_signal" => libc::SYS_pidfd_send_signal,
        "prctl" => libc::SYS_prctl,
        "pwritev2" => libc::SYS_pwritev2,
        "rt_sigqueueinfo" => libc::SYS_rt_sigqueueinfo,
        "setpgid" => libc::SYS_setpgid,
        "setsid" => libc::SYS_setsid,
        "signalfd4" => libc::SYS_signalfd4,
        "socket" => libc::SYS_socket,
        _ => return Err(format!("unknown call {name}").into()),
    }])
}

/// A seccomp(2) filter in classic BPF.
fn deny(denials: &[String]) -> Result<(), Failure> {
    const LOAD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // struct seccomp_data begins with the call's number.
    const NUMBER: u32 = 0;
    let code = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = Vec::new();
    for denial in denials {
        let (name, errno) = denial.split_once(':').ok_or("deny wants CALL:ERRNO")?;
        let errno = match errno {
            "EPERM" => Errno::EPERM,
            "ENOSYS" => Errno::ENOSYS,
            "EAGAIN" => Errno::EAGAIN,
            "ENOMEM" => Errno::ENOMEM,
            _ => return Err(format!("unknown error {errno}").into()),
        };
        let answer = libc::SECCOMP_RET_ERRNO | u32::try_from(errno as i32)?;
        for number in call_numbers(name)? {
            program.push(code(LOAD, 0, 0, NUMBER));
            program.push(code(IF_EQUAL, 0, 1, u32::try_from(number)?));
            program.push(code(RETURN, 0, 0, answer));
        }
    }
    program.push(code(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: u16::try_from(program.len())?, filter: program.as_mut_ptr() };
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })?;
    check(unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) })?;
    Ok(())
}
