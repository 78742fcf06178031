use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::TemporaryDirectory;

/// A file system of its own that can be frozen: every write to it then hangs, as on a disk or a network mount that has gone
/// away. Dropping it thaws and unmounts it.
pub struct Disk {
    mount_point: TemporaryDirectory,
    _image: TemporaryDirectory,
}

impl Disk {
    /// Makes a small ext4 and mounts it.
    pub fn mount() -> Result<Self, String> {
        let (mount_point, directory) = (TemporaryDirectory::new(), TemporaryDirectory::new());
        let image = directory.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(8 << 20)).map_err(|e| e.to_string())?;
        let image = image.display().to_string();
        run(&["mkfs.ext4", "-q", "-F", &image])?;
        run(&["mount", "-o", "loop", &image, &mount_point.path().display().to_string()])?;
        let disk = Self { mount_point, _image: directory };
        // A kernel or file system that cannot freeze says so now, not in the middle of a test.
        disk.freeze()?;
        disk.thaw()?;
        Ok(disk)
    }

    /// Makes a file on it that everybody can write to.
    pub fn file(&self, name: &str, content: &str) -> PathBuf {
        self.mount_point.file(name, 0o666, content)
    }

    /// From now on every write hangs.
    pub fn freeze(&self) -> Result<(), String> {
        run(&["fsfreeze", "-f", &self.mount_point.path().display().to_string()])
    }

    /// Writes that hang go on.
    pub fn thaw(&self) -> Result<(), String> {
        run(&["fsfreeze", "-u", &self.mount_point.path().display().to_string()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Thawing fails where it is not frozen. Whoever still has a file open keeps a lazily unmounted one until they end.
        let _ = self.thaw();
        let _ = run(&["umount", "-l", &self.mount_point.path().display().to_string()]);
    }
}

fn run(words: &[&str]) -> Result<(), String> {
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("{}: {e}", words[0]))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}
