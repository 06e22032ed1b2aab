//! Running the command `swissdb` in a directory of its own.
//!
//! The binary belongs to another package, so a run of these tests alone does
//! not build it. The first test that needs it asks Cargo to build it, in the
//! profile and the target directory that the tests themselves came from, and
//! to say where it is; where all is up to date that takes a moment. Without
//! Cargo the binary beside the test's own is taken.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

/// Where the command is.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match build() {
        Ok(path) => path,
        Err(reason) => {
            let beside = profile_directory().join(format!("swissdb{}", env::consts::EXE_SUFFIX));
            assert!(beside.is_file(), "the command could not be built and is not there: {reason}");
            beside
        }
    })
}

/// The directory of the profile: the test's binary lies in `deps` under it.
fn profile_directory() -> PathBuf {
    let test = env::current_exe().expect("a test knows its binary");
    let deps = test.parent().expect("the binary lies in a directory");
    deps.parent().expect("which lies in the one of its profile").to_owned()
}

fn build() -> Result<PathBuf, String> {
    let directory = profile_directory();
    let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let profile = if name == "debug" { "dev" } else { name };
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--package=swissdb-cli", "--bin=swissdb", "--profile", profile])
        .args(["--message-format=json-render-diagnostics", "--quiet"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if let Some(target) = directory.parent() {
        command.arg("--target-dir").arg(target);
    }
    let output = command.output().map_err(|error| error.to_string())?;
    let errors = String::from_utf8_lossy(&output.stderr);
    // The last message with an executable is about the binary itself.
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_once("\"executable\":\"")?.1.split_once('"'))
        .map(|(path, _)| PathBuf::from(path.replace("\\\\", "\\")))
        .next_back()
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("cargo build: {}\n{errors}", output.status))
}

/// An empty directory in which the command runs.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// A new one.
    pub fn new() -> Place {
        Place { directory: tempfile::tempdir().expect("there is room for a temporary directory") }
    }

    /// A new one with the sample of package records loaded into `db`.
    pub fn with_sample() -> Place {
        let place = Place::new();
        place.run(&["load", "db", sample().to_str().unwrap()]).yes();
        place
    }

    /// The path of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs the command without input.
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.run_with(arguments, b"")
    }

    /// Runs the command with bytes on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut child = self.start(arguments);
        let mut stdin = child.stdin.take().expect("standard input is a pipe");
        let output = thread::scope(|scope| {
            // The command may end without reading all of it.
            scope.spawn(move || _ = stdin.write_all(input));
            child.wait_with_output().expect("the command can be waited for")
        });
        Run::new(arguments, output)
    }

    /// Starts the command with pipes to all its streams.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the command can be started")
    }

    /// The command, prepared.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).current_dir(self.directory.path()).env_remove("NO_COLOR");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// All files below it with their bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        collect(self.directory.path(), &mut files);
        files
    }
}

fn collect(directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let mut bytes = Vec::new();
            let mut file = fs::File::open(&path).expect("a file that can be opened");
            file.read_to_end(&mut bytes).expect("a readable file");
            files.insert(path, bytes);
        }
    }
}

/// The sample: some two thousand package records.
pub fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/packages.jsonl")
}

/// What a run of the command left behind.
pub struct Run {
    /// Its arguments, for messages.
    arguments: String,
    /// Its exit status; none if a signal ended it.
    pub status: Option<i32>,
    /// What it wrote to standard output.
    pub out: Vec<u8>,
    /// What it wrote to standard error.
    pub err: String,
}

impl Run {
    /// Takes the output of a command that has ended.
    pub fn new(arguments: &[&str], output: Output) -> Run {
        Run {
            arguments: arguments.join(" ").chars().take(200).collect(),
            status: output.status.code(),
            out: output.stdout,
            err: String::from_utf8(output.stderr).expect("messages are UTF-8"),
        }
    }

    /// Standard output as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.out).expect("text was expected")
    }

    /// Expects exit status 0.
    #[track_caller]
    pub fn yes(self) -> Run {
        self.ends_with(0)
    }

    /// Expects exit status 1.
    #[track_caller]
    pub fn no(self) -> Run {
        self.ends_with(1)
    }

    /// Expects exit status 2, a message on standard error that begins with the
    /// name of the command and contains `text`, and nothing on standard
    /// output.
    #[track_caller]
    pub fn error(self, text: &str) -> Run {
        let run = self.ends_with(2);
        assert!(run.err.starts_with("swissdb: "), "{}: {}", run.arguments, run.err);
        assert!(run.err.contains(text), "{}: {:?} not in {}", run.arguments, text, run.err);
        assert_eq!(run.text(), "", "{}", run.arguments);
        run
    }

    #[track_caller]
    fn ends_with(self, status: i32) -> Run {
        assert_eq!(self.status, Some(status), "{}: {}", self.arguments, self.err);
        self
    }
}
