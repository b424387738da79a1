// SPDX-License-Identifier: Apache-2.0 OR MIT
//! What a client meets: expected, as a scenario writes it, or seen.
//!
//! ```text
//! refused | not permitted | silent | timed out | reset | unreachable
//! PODS sees WHOM | one of PODS sees WHOM | some of PODS sees WHOM
//! status CODE weight ENDPOINTS
//! ```
//!
//! `WHOM` is what the servers took the client for: `own` (the client's address; of a host
//! process, one of its node), `node` (another address of a node), or both, `own+node`.

use std::{
    collections::BTreeSet,
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use anyhow::{Result, bail, ensure};
use serde::Deserialize;

/// What a client meets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Outcome {
    /// ECONNREFUSED: a TCP reset or an ICMP port unreachable, or the hook's own word.
    Refused,
    /// EPERM: what a rule of its own node gives a process that sends a datagram.
    NotPermitted,
    /// No answer of any kind; EPERM counts too.
    Silent,
    /// ETIMEDOUT without a wait.
    TimedOut,
    /// A connection that breaks.
    Reset,
    /// Nobody knows the way.
    Unreachable,
    /// Answers.
    Served {
        /// Who answers.
        pods: BTreeSet<String>,
        /// What they take the client for.
        sees: BTreeSet<String>,
        /// How many of `pods` answer.
        among: Among,
    },
    /// What a health check says of its node.
    Health {
        /// The status code.
        status: u16,
        /// How many endpoints the node has, by the header for balancers.
        weight: u32,
    },
    /// Something that no scenario expects.
    Odd(String),
}

/// How many of the pods that may answer do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Among {
    /// Each of them.
    All,
    /// The same one every time.
    One,
    /// Not the same one every time.
    Some,
}

impl Outcome {
    /// Whether what was seen is what this expects.
    pub(crate) fn admits(&self, seen: &Self) -> bool {
        match (self, seen) {
            (
                Self::Served { pods: any, sees: wanted, among: among @ (Among::One | Among::Some) },
                Self::Served { pods, sees, .. },
            ) => {
                let is_one = *among == Among::One;
                // Which pod it is may decide whom it sees.
                let sees_so = sees == wanted || (is_one && sees.is_subset(wanted));
                (pods.len() == 1) == is_one && pods.is_subset(any) && sees_so
            }
            // A process whose own node drops its datagram is told.
            (Self::Silent, Self::NotPermitted) => true,
            _ => self == seen,
        }
    }

    /// Whether somebody answers.
    pub(crate) const fn is_served(&self) -> bool {
        matches!(self, Self::Served { .. })
    }

    /// How many exchanges tell this from something else: two pods hide one of them once in
    /// four million times, three once in two million.
    pub(crate) fn exchanges(&self) -> u32 {
        match self {
            Self::Served { among: Among::One, .. } => 12,
            // Seven pods hide behind one of them once in 343 times, and are then asked again.
            Self::Served { among: Among::Some, .. } => 4,
            Self::Served { pods, .. } => match pods.len() {
                0 | 1 => 8,
                2 => 23,
                3 => 37,
                _ => 60,
            },
            _ => 3,
        }
    }
}

impl FromStr for Outcome {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        Ok(match text {
            "refused" => Self::Refused,
            "not permitted" => Self::NotPermitted,
            "silent" => Self::Silent,
            "timed out" => Self::TimedOut,
            "reset" => Self::Reset,
            "unreachable" => Self::Unreachable,
            health if health.starts_with("status ") => {
                let words: Vec<_> = health.split(' ').collect();
                let ["status", status, "weight", weight] = words.as_slice() else {
                    bail!("{text:?} is no outcome: see tests/parity/outcome.rs");
                };
                Self::Health { status: status.parse()?, weight: weight.parse()? }
            }
            served => {
                let words = [("one of ", Among::One), ("some of ", Among::Some)];
                let (rest, among) = words
                    .into_iter()
                    .find_map(|(word, among)| Some((served.strip_prefix(word)?, among)))
                    .unwrap_or((served, Among::All));
                let Some((pods, sees)) = rest.split_once(" sees ") else {
                    bail!("{text:?} is no outcome: see tests/parity/outcome.rs");
                };
                let pods: BTreeSet<_> = pods.split_whitespace().map(str::to_owned).collect();
                let sees: BTreeSet<_> = sees.split('+').map(str::to_owned).collect();
                ensure!(!pods.is_empty(), "{text:?} names no pod");
                ensure!(
                    sees.iter().all(|word| ["own", "node"].contains(&word.as_str())),
                    "{text:?}: servers see `own`, `node` or `own+node`"
                );
                Self::Served { pods, sees, among }
            }
        })
    }
}

impl TryFrom<String> for Outcome {
    type Error = anyhow::Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("refused"),
            Self::NotPermitted => f.write_str("not permitted"),
            Self::Silent => f.write_str("silent"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Reset => f.write_str("reset"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Served { pods, sees, among } => {
                let join = |set: &BTreeSet<String>, by: &str| {
                    set.iter().map(String::as_str).collect::<Vec<_>>().join(by)
                };
                let word = match among {
                    Among::All => "",
                    Among::One => "one of ",
                    Among::Some => "some of ",
                };
                write!(f, "{word}{} sees {}", join(pods, " "), join(sees, "+"))
            }
            Self::Health { status, weight } => write!(f, "status {status} weight {weight}"),
            Self::Odd(what) => f.write_str(what),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Outcome;

    #[test]
    fn outcomes_are_written_as_they_are_read() {
        for text in [
            "refused",
            "timed out",
            "a1 a2 sees own",
            "one of a1 b1 sees node+own",
            "some of a1 b1 sees own",
            "status 503 weight 0",
        ] {
            assert_eq!(text.parse::<Outcome>().unwrap().to_string(), text);
        }
        for text in ["served", " sees own", "a1 sees me", "status 503"] {
            text.parse::<Outcome>().unwrap_err();
        }
    }

    #[test]
    fn one_of_two_is_one_of_them_and_always_the_same() {
        let expected: Outcome = "one of a1 b1 sees own".parse().unwrap();
        let admits = |text: &str| expected.admits(&text.parse().unwrap());
        assert!(admits("a1 sees own") && admits("b1 sees own"));
        assert!(!admits("a1 b1 sees own") && !admits("a2 sees own") && !admits("a1 sees node"));
    }

    #[test]
    fn some_of_three_is_more_than_one_of_them() {
        let expected: Outcome = "some of a1 b1 a2 sees own".parse().unwrap();
        let admits = |text: &str| expected.admits(&text.parse().unwrap());
        assert!(admits("a1 b1 sees own") && admits("a1 b1 a2 sees own"));
        assert!(!admits("a1 sees own") && !admits("a1 b2 sees own"));
    }
}
