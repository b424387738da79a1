// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What `explain` and `diff` ask a running agent, since no map holds it: which endpoints are not
//! used, and what the maps should hold.
//!
//! ```text
//! explain, diff ─► socket beside the state ─► this thread ─► reconcile loop ─► lines of text
//! ```

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use super::state;
use crate::{
    model::Family,
    plan::{difference::Difference, port::PortName},
    reconcile::question::{Comparison, LeftOutQuestion, Question, QuestionSender},
};

/// The kernel's maps against what the agent wants them to be.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Compared {
    /// What differs.
    pub differences: Vec<DifferenceLine>,
    /// Service ports in the kernel.
    pub service_ports: usize,
    /// Frontends there.
    pub frontends: usize,
    /// Backends that get new connections.
    pub backends: usize,
    /// What the agent could not write at its last try, or finds no room for.
    pub waiting: Vec<String>,
    /// Why the agent could not compare; empty if it could.
    #[serde(default)]
    pub error: String,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct DifferenceLine {
    /// The map.
    pub map: String,
    /// Whose element it is.
    pub object: String,
    /// What is the matter with it.
    pub problem: String,
}

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
    let (family, set) = (family_word(name.family), if local { LOCAL } else { CLUSTER });
    let text = ask(bpf_root, &format!("{family} {set} {}", name.text), ANSWER)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// In what the kernel's maps are not what the agent wants them to be. With `repair` the agent
/// makes them so right afterwards.
///
/// # Errors
/// If no agent answers in time, or one of another build.
pub fn differences(bpf_root: &Path, repair: bool) -> io::Result<Compared> {
    let text = ask(bpf_root, if repair { REPAIR } else { DIFFERENCES }, COMPARISON)?;
    serde_json::from_str(&text).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidData, "the agent that runs does not know the question")
    })
}

fn ask(bpf_root: &Path, question: &str, limit: Duration) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket(bpf_root))?;
    stream.set_read_timeout(Some(limit))?;
    writeln!(stream, "{question}")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn serve(mut stream: &UnixStream, loop_: &QuestionSender) -> io::Result<()> {
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut line = String::new();
    BufReader::new(stream.take(LONGEST)).read_line(&mut line)?;
    let word = line.trim_end();
    if [DIFFERENCES, REPAIR].contains(&word) {
        let repair = word == REPAIR;
        let answer = hear(loop_, |reply| Question::Differences { repair, reply })?;
        return Ok(serde_json::to_writer(stream, &Compared::from(answer))?);
    }
    let Some((name, local)) = parse(&line) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let question = |reply| Question::LeftOut(LeftOutQuestion { name, local, reply });
    for line in hear(loop_, question)? {
        writeln!(stream, "{line}")?;
    }
    Ok(())
}

/// The loop's answer.
fn hear<T>(
    loop_: &QuestionSender,
    question: impl FnOnce(oneshot::Sender<T>) -> Question,
) -> io::Result<T> {
    let (reply, answer) = oneshot::channel();
    loop_.blocking_send(question(reply)).map_err(|_| io::ErrorKind::BrokenPipe)?;
    Ok(answer.blocking_recv().map_err(|_| io::ErrorKind::BrokenPipe)?)
}

impl From<Result<Comparison, String>> for Compared {
    fn from(comparison: Result<Comparison, String>) -> Self {
        let comparison = match comparison {
            Ok(comparison) => comparison,
            Err(error) => return Self { error, ..Self::default() },
        };
        let Comparison { differences, service_ports, frontends, backends, waiting } = comparison;
        let line = |it: Difference| {
            let Difference { map, object, problem } = it;
            DifferenceLine { map: map.to_owned(), object, problem }
        };
        let differences = differences.into_iter().map(line).collect();
        Self { differences, service_ports, frontends, backends, waiting, error: String::new() }
    }
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
pub(super) fn channel() -> (QuestionSender, mpsc::Receiver<Question>) {
    mpsc::channel(1)
}

/// The question for what differs.
const DIFFERENCES: &str = "differences";
/// The same, and what differs is to be repaired.
const REPAIR: &str = "repair";
const LOCAL: &str = "local";
const CLUSTER: &str = "cluster";
/// How long either side waits for the other.
const ANSWER: Duration = Duration::from_secs(2);
/// How long a comparison is waited for: the maps of 100 000 endpoints are read for it.
const COMPARISON: Duration = Duration::from_secs(15);
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
