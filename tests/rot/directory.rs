//! Images of stores as directories, for what only works on those.
//!
//! Writing a store of a few MiB for each of thousands of damages would take
//! most of the time. So one directory is changed from one image to the next,
//! block by block.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tempfile::TempDir;

use super::image::{BLOCK, Image};

/// A directory that holds an image.
pub struct Directory {
    directory: TempDir,
    now: Image,
}

impl Directory {
    /// An empty one, in memory where the system has a place for that.
    pub fn new() -> io::Result<Directory> {
        let shared = Path::new("/dev/shm");
        let directory = match shared.is_dir() {
            true => tempfile::tempdir_in(shared).or_else(|_| tempfile::tempdir()),
            false => tempfile::tempdir(),
        }?;
        fs::create_dir(directory.path().join("log"))?;
        Ok(Directory { directory, now: Image::default() })
    }

    /// Makes the directory hold this image.
    pub fn show(&mut self, image: &Image) -> io::Result<&Path> {
        for name in self.now.files.keys().filter(|name| !image.files.contains_key(*name)) {
            fs::remove_file(self.directory.path().join(name))?;
        }
        for (name, bytes) in &image.files {
            let old = self.now.files.get(name).map_or(&[][..], Vec::as_slice);
            if old == bytes && self.now.files.contains_key(name) {
                continue;
            }
            let path = self.directory.path().join(name);
            let file =
                fs::OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
            file.set_len(bytes.len() as u64)?;
            for (i, block) in bytes.chunks(BLOCK).enumerate() {
                let before = old.get(i * BLOCK..i * BLOCK + block.len());
                if before != Some(block) {
                    file.write_all_at(block, (i * BLOCK) as u64)?;
                }
            }
        }
        self.now = image.clone();
        Ok(self.directory.path())
    }
}
