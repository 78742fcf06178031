//! execvp(3), of our own: musl's does not hand a script without `#!` to the shell, and glibc's hands it any file.

use std::ffi::{CString, NulError, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;
use std::ptr;

use nix::errno::Errno;
use nix::libc;

use crate::plan::CommandLine;

const SHELL: &std::ffi::CStr = c"/bin/sh";
/// The PATH where there is none, as glibc has it.
pub(super) const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Errors after which the next place of the PATH may still have the program.
const NEXT_PLACE: [Errno; 6] =
    [Errno::ENOENT, Errno::EACCES, Errno::ENOTDIR, Errno::ESTALE, Errno::ENODEV, Errno::ETIMEDOUT];

/// All that an exec needs, laid out before the fork.
pub(super) struct Exec {
    /// The files that the program's name may stand for, in the order in which they are tried.
    files: Vec<CString>,
    is_searched: bool,
    /// Keeps the words in place.
    _words: Vec<CString>,
    /// Room for the shell's name, then the pointers to the words and a null one.
    array: Vec<*const c_char>,
}

impl Exec {
    /// # Errors
    /// When a word holds a NUL. It cannot come from argv or a variable.
    pub fn new(command: &CommandLine) -> Result<Self, NulError> {
        let words = std::iter::once(&command.program).chain(&command.arguments);
        let words: Vec<CString> =
            words.map(|word| CString::new(word.as_bytes())).collect::<Result<_, _>>()?;
        let array =
            [ptr::null()].into_iter().chain(words.iter().map(|word| word.as_ptr())).chain([ptr::null()]);
        let array = array.collect();
        let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
        let is_searched = !command.program.as_bytes().contains(&b'/');
        let files = if is_searched {
            files(&command.program, &path)?
        } else {
            vec![CString::new(command.program.as_bytes())?]
        };
        Ok(Self { files, is_searched, _words: words, array })
    }

    /// Becomes the program; returns why it could not. Async-signal-safe.
    pub fn run(&mut self, environment: *const *const c_char) -> Errno {
        let mut denied = false;
        for file in &self.files {
            let words = self.array.get(1..).unwrap_or_default();
            // SAFETY: NUL-terminated strings in null-terminated arrays, alive until this returns.
            unsafe { libc::execve(file.as_ptr(), words.as_ptr(), environment) };
            let errno = Errno::last();
            if errno == Errno::ENOEXEC && !is_elf(file) {
                if let [shell, script, ..] = self.array.as_mut_slice() {
                    (*shell, *script) = (SHELL.as_ptr(), file.as_ptr());
                }
                // SAFETY: as above.
                unsafe { libc::execve(SHELL.as_ptr(), self.array.as_ptr(), environment) };
            }
            if !self.is_searched || !NEXT_PLACE.contains(&errno) {
                return errno;
            }
            denied = denied || errno == Errno::EACCES;
        }
        if denied { Errno::EACCES } else { Errno::ENOENT }
    }
}

/// Where a name may be found; nowhere if it is empty. An empty place is the working directory.
fn files(name: &OsStr, path: &OsStr) -> Result<Vec<CString>, NulError> {
    if name.is_empty() {
        return Ok(Vec::new());
    }
    let place = |place: &[u8]| {
        let slash: &[u8] = if place.is_empty() { b"" } else { b"/" };
        CString::new([place, slash, name.as_bytes()].concat())
    };
    path.as_bytes().split(|byte| *byte == b':').map(place).collect()
}

/// A program, if for another machine: a shell would execute its bytes as words. Async-signal-safe.
fn is_elf(file: &CString) -> bool {
    let mut head = [0_u8; 4];
    // SAFETY: a NUL-terminated string.
    let fd = unsafe { libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    // SAFETY: the pointer and the length are those of the array; on no descriptor it fails.
    let length = unsafe { libc::read(fd, head.as_mut_ptr().cast(), head.len()) };
    // SAFETY: it takes no pointers, and nobody else uses the descriptor.
    unsafe { libc::close(fd) };
    length == 4 && head == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(name: &str, path: &str) -> Vec<String> {
        let files = files(name.as_ref(), path.as_ref()).unwrap();
        files.into_iter().map(|file| file.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_is_looked_for_in_every_place_of_the_path_in_its_order() {
        assert_eq!(found("a", "/x:/y/z"), ["/x/a", "/y/z/a"]);
    }

    #[test]
    fn an_empty_place_is_the_working_directory() {
        assert_eq!(found("a", ":/x:"), ["a", "/x/a", "a"]);
    }

    #[test]
    fn an_empty_name_is_nowhere() {
        assert_eq!(found("", "/x:/y"), [""; 0]);
    }
}
