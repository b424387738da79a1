// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` asks a running agent, since no map holds it: which endpoints are not used.
//!
//! ```text
//! explain ─► socket beside the state ─► this thread ─► reconcile loop ─► lines of text
//! ```

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot};

use super::state;
use crate::{
    model::Family,
    plan::port::PortName,
    reconcile::{LeftOutQuestion, QuestionSender},
};

/// Answers on a thread of its own, one question after the other, as long as the process lives.
///
/// # Errors
/// If there can be no socket or thread: `explain` then says less.
pub(super) fn answer(bpf_root: &Path, loop_: QuestionSender) -> io::Result<()> {
    let path = socket(bpf_root);
    fs::create_dir_all(state::directory(bpf_root))?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    thread::Builder::new().name("questions".to_owned()).spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = serve(&stream, &loop_) {
                tracing::debug!(%error, "a question was not answered");
            }
        }
    })?;
    Ok(())
}

/// The endpoints that a service port does not use, a line each. `local`: of the local set.
///
/// # Errors
/// If no agent answers in time.
pub fn left_out(bpf_root: &Path, name: &PortName, local: bool) -> io::Result<Vec<String>> {
    let mut stream = UnixStream::connect(socket(bpf_root))?;
    stream.set_read_timeout(Some(ANSWER))?;
    let (family, set) = (family_word(name.family), if local { LOCAL } else { CLUSTER });
    writeln!(stream, "{family} {set} {}", name.text)?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn serve(mut stream: &UnixStream, loop_: &QuestionSender) -> io::Result<()> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let Some((name, local)) = parse(&line) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let (reply, answer) = oneshot::channel();
    let question = LeftOutQuestion { name, local, reply };
    loop_.blocking_send(question).map_err(|_| io::ErrorKind::BrokenPipe)?;
    for line in answer.blocking_recv().map_err(|_| io::ErrorKind::BrokenPipe)? {
        writeln!(stream, "{line}")?;
    }
    Ok(())
}

/// `v4 cluster default/web:http/TCP`.
fn parse(line: &str) -> Option<(PortName, bool)> {
    let mut words = line.split_whitespace();
    let family = words.next()?;
    let family = Family::ALL.into_iter().find(|it| family_word(*it) == family)?;
    let local = match words.next()? {
        LOCAL => true,
        CLUSTER => false,
        _ => return None,
    };
    Some((PortName { text: words.next()?.into(), family }, local))
}

const fn family_word(family: Family) -> &'static str {
    match family {
        Family::V4 => "v4",
        Family::V6 => "v6",
    }
}

fn socket(bpf_root: &Path) -> PathBuf {
    state::directory(bpf_root).join("questions")
}

/// A channel for questions: one waits at most.
pub(super) fn channel() -> (QuestionSender, mpsc::Receiver<LeftOutQuestion>) {
    mpsc::channel(1)
}

const LOCAL: &str = "local";
const CLUSTER: &str = "cluster";
/// How long either side waits for the other.
const ANSWER: Duration = Duration::from_secs(2);
/// The longest question, in bytes: a namespace, two names of 253 characters, and words.
const LONGEST: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_line() {
        let (name, local) = parse("v6 local default/web:http/TCP\n").unwrap();
        assert_eq!((&*name.text, name.family, local), ("default/web:http/TCP", Family::V6, true));
        for bad in ["", "v4", "v5 local x", "v4 other x", "v4 cluster\n"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
