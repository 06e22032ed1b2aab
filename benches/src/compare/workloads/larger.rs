//! More data than memory: random gets and overwrites, with a data set four
//! times as large as the memory that the process may use.
//!
//! A second process, without a limit, fills the store and closes it; all its files
//! are dropped from the page cache. A third process, in a memory cgroup of its
//! own (page cache included), opens it and works with it for a set time. The
//! cgroup is made under `/sys/fs/cgroup`, or by `systemd-run` where that cannot be
//! written; where neither works, the scenario is skipped and says why.
//!
//! Reads of the device are those that the kernel counts for the whole device that
//! the directory is on (`/sys/dev/block`): on a machine that does nothing else,
//! they are this process's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{Child, fill_unmeasured, get};
use crate::Outcome;
use crate::compare::entries::Shape;
use crate::compare::lines::More;
use crate::compare::measure::{Timed, each};
use crate::compare::store::Store;
use crate::data::mix;

/// How many times larger than memory the data is.
const TIMES: u64 = 4;

/// Values that still fit a slot of swissdb: what does not fit is another
/// measurement.
const VALUE_BYTES: usize = 400;

/// As many entries as make the data set.
fn shape(child: &Child) -> Shape {
    let shape = child.shape(16, VALUE_BYTES);
    Shape { entries: child.memory * TIMES / shape.bytes(1), ..shape }
}

/// The second process.
pub fn fill<S: Store>(child: &Child) -> Outcome {
    let shape = shape(child);
    let mut store: S = child.open(shape, false)?;
    fill_unmeasured(&mut store, shape, 0)?;
    store.close()
}

/// Fills, and starts the process with limited memory.
pub fn run(child: &Child) -> Outcome {
    let memory = child.memory;
    let limit = match Limit::new(memory, &child.path) {
        Ok(limit) => limit,
        Err(error) => {
            let why = format!("memory cannot be limited here: {error}");
            return child.whose.skipped("larger", &why);
        }
    };
    let status = child.again("larger-fill")?.status()?;
    if !status.success() {
        return Err(format!("the process that fills the store ended with {status}").into());
    }
    sync(&child.path)?;
    crate::cold::drop_cache(&child.path)?;
    let mut limited = child.again("larger-limited")?;
    limited.arg("--starved");
    let status = limit.start(limited)?;
    match (status.success(), status.code()) {
        (true, _) => Ok(()),
        (_, Some(_)) => Err(format!("the process with limited memory ended with {status}").into()),
        // Killed by the kernel: that is a result.
        (_, None) => {
            let why = format!("with {memory} bytes of memory, the process ended with {status}");
            child.whose.skipped("larger", &why)
        }
    }
}

/// Makes sure that no file is kept in the page cache because it is dirty.
fn sync(directory: &Path) -> Outcome {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        match path.is_dir() {
            true => sync(&path)?,
            false => fs::File::open(path)?.sync_all()?,
        }
    }
    Ok(())
}

/// The third process.
pub fn limited<S: Store>(child: &Child) -> Outcome {
    let shape = shape(child);
    if let Some(members) = &child.cgroup {
        fs::write(members, std::process::id().to_string())?;
    }
    let mut store: S = child.open(shape, false)?;
    let mut values = shape.values();
    let span = child.span * 4;
    let random = |seed: u64, i: u64| mix(mix(seed) ^ i) % shape.entries;
    // The caches are filled first: what is measured is how it goes on.
    each(shape.entries / 10, span, |i| get(&mut store, shape, random(1, i)))?;
    measured(child, "larger-get", shape, 0, || {
        each(u64::MAX, span, |i| get(&mut store, shape, random(2, i)))
    })?;
    let mut written = 0;
    measured(child, "larger-overwrite", shape, 1, || {
        let timed = each(u64::MAX, span, |i| {
            let number = random(3, i);
            store.insert(&shape.key(number), values.of(number, 1))?;
            Ok(0)
        })?;
        store.settle()?;
        written = timed.ops;
        Ok(timed)
    })?;
    super::require(&mut store, shape, super::sample(written).map(|i| random(3, i)), 1)?;
    store.close()
}

/// A phase with the reads of the device; `writes` for each operation.
fn measured(
    child: &Child,
    workload: &str,
    shape: Shape,
    writes: u64,
    work: impl FnOnce() -> Outcome<Timed>,
) -> Outcome {
    let since = child.since();
    let before = device_reads(&child.path);
    let timed = Timed { capped: false, ..work()? };
    let reads = before.zip(device_reads(&child.path)).map(|(before, after)| after - before);
    let more = More { device_reads: reads, ..More::default() };
    child.whose.time(workload, shape, 1, timed, more)?;
    child.whose.used(workload, shape, since.used(), (timed.ops, timed.ops * writes))
}

/// How often the device of a directory was read, if the kernel tells.
fn device_reads(directory: &Path) -> Option<u64> {
    let device = fs::metadata(directory).ok()?.dev();
    let major = (device >> 8) & 0xFFF;
    let minor = (device & 0xFF) | ((device >> 12) & !0xFF);
    let text = fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat")).ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// A limit of memory for a process.
enum Limit {
    /// A cgroup, which is removed in the end.
    Cgroup(PathBuf),
    /// By `systemd-run`, of so many bytes.
    Systemd(u64),
}

impl Limit {
    fn new(bytes: u64, path: &Path) -> Outcome<Limit> {
        let name = path.file_name().ok_or("the directory has no name")?;
        let mut why = String::new();
        for (parent, file) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let group = Path::new(parent).join(name);
            match cgroup(&group, file, bytes) {
                Ok(()) => return Ok(Limit::Cgroup(group)),
                Err(error) => why = format!("{why}{}: {error}; ", group.join(file).display()),
            }
        }
        let works = |status: std::process::ExitStatus| status.success();
        match systemd(bytes).arg("true").stderr(std::process::Stdio::null()).status().map(works) {
            Ok(true) => Ok(Limit::Systemd(bytes)),
            _ => Err(format!("{why}systemd-run does not work either").into()),
        }
    }

    /// Runs a command with limited memory.
    fn start(&self, mut command: Command) -> Outcome<std::process::ExitStatus> {
        match self {
            Limit::Cgroup(group) => {
                Ok(command.arg("--cgroup").arg(group.join("cgroup.procs")).status()?)
            }
            Limit::Systemd(bytes) => {
                let mut whole = systemd(*bytes);
                Ok(whole.arg(command.get_program()).args(command.get_args()).status()?)
            }
        }
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Limit::Cgroup(group) = self {
            // The kernel takes a moment until the last process has left it.
            for _ in 0..50 {
                if fs::remove_dir(&*group).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

/// Makes a cgroup with a limit.
fn cgroup(group: &Path, file: &str, bytes: u64) -> Outcome {
    fs::create_dir(group)?;
    let limited = fs::OpenOptions::new()
        .write(true)
        .open(group.join(file))
        .and_then(|mut file| std::io::Write::write_all(&mut file, bytes.to_string().as_bytes()));
    if limited.is_err() {
        fs::remove_dir(group)?;
    }
    Ok(limited?)
}

fn systemd(bytes: u64) -> Command {
    let mut command = Command::new("systemd-run");
    command.args(["--scope", "--quiet", "-p", &format!("MemoryMax={bytes}")]);
    command.args(["-p", "MemorySwapMax=0"]);
    command
}
