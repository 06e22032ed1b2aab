//! This test binary, started once more as another process.
//!
//! A child is a test that does nothing unless the variable [`ROLE`] says what
//! it is to do. It speaks in lines on its standard output, marked so that they
//! can be told from what the test harness prints, and listens to lines on its
//! standard input. Whoever waits for a line does so with a watchdog: a process
//! that hangs is killed, and the test fails instead of waiting for ever.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Says to a child what it is to do.
const ROLE: &str = "SWISSDB_TEST_ROLE";

/// Marks the lines of a child.
const MARK: &str = "peer: ";

/// After so long without a word, a process hangs. Generous: the machine may be
/// busy with other things.
const PATIENCE: Duration = Duration::from_secs(180);

/// Another process that runs a test of this binary.
pub struct Peer {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// What this process is to do, if it was started as a child.
pub fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// Says a line to the parent, in a child. One write call, so that lines of
/// several threads do not mix.
pub fn say(line: &str) {
    let text = format!("\n{MARK}{line}\n");
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).expect("tell the parent");
}

/// Waits for a line of the parent, in a child. `None` if the parent is gone.
pub fn hear() -> Option<String> {
    let mut line = String::new();
    let length = std::io::stdin().read_line(&mut line).expect("listen to the parent");
    (length > 0).then(|| line.trim_end().to_owned())
}

impl Peer {
    /// Starts the test of that name in another process, with a role and more
    /// variables.
    pub fn start<V: AsRef<OsStr>>(test: &str, role: &str, variables: &[(&str, V)]) -> Peer {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .envs(variables.iter().map(|(name, value)| (name, value.as_ref())))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("start a process");
        let output = child.stdout.take().expect("its output");
        let (sender, lines) = channel();
        std::thread::spawn(move || listen(output, &sender));
        let input = child.stdin.take();
        Peer { child, input, lines }
    }

    /// Its process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line it says; `None` once it has ended.
    pub fn next(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.kill();
                panic!("process {} said nothing for {PATIENCE:?}", self.child.id());
            }
        }
    }

    /// Expects that the next line it says is this one.
    #[track_caller]
    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.next().as_deref(), Some(line), "what process {} says", self.id());
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("it still listens");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("tell a process");
    }

    /// Kills it with SIGKILL and waits until it is gone. Lines that it had
    /// said before can still be read.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait for the killed process");
    }

    /// Waits until it ends by itself, which it must do successfully.
    pub fn end(mut self) {
        self.input = None;
        while self.next().is_some() {}
        let status = self.child.wait().expect("wait for the process");
        assert!(status.success(), "the process ended with {status}");
    }
}

/// Passes on what a process says, until it has ended.
fn listen(output: ChildStdout, sender: &Sender<String>) {
    let mut output = BufReader::new(output);
    let mut line = String::new();
    while output.read_line(&mut line).is_ok_and(|length| length > 0) {
        // A line without its end was cut off by a kill: it was not said.
        if let Some(said) = line.strip_suffix('\n').and_then(|line| line.strip_prefix(MARK))
            && sender.send(said.to_owned()).is_err()
        {
            break;
        }
        line.clear();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // A test that failed leaves no process behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
