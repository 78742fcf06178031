use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory of its own for one test, removed with everything in it.
pub struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    /// Makes a fresh one.
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("behaviour-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).expect("make a temporary directory");
        Self(path)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file with this mode in it; returns its path.
    pub fn file(&self, name: &str, mode: u32, content: &str) -> PathBuf {
        let path = self.0.join(name);
        // A sibling test may fork while the file is open for writing, and then its exec says ETXTBSY: the
        // file is written by another process, whose descriptors ours do not inherit.
        let status = std::process::Command::new("sh")
            .args(["-c", "printf %s \"$2\" > \"$1\"", "sh"])
            .arg(&path)
            .arg(content)
            .status();
        assert!(status.is_ok_and(|status| status.success()), "cannot write {}", path.display());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("set the mode");
        path
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
