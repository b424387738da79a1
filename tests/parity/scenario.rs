// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One line of the page: a client place, a dialled name, and what it meets in each column.

use std::{collections::BTreeSet, fmt};

use anyhow::{Result, bail, ensure};

use crate::{
    column::Column,
    outcome::Outcome,
    topic::{Case, Net, Row, Socket, Topic},
};

/// A scenario, all that its row says of it.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    /// Number of its topic.
    pub(crate) topic: usize,
    /// Its case's name.
    pub(crate) case: String,
    /// How many changes the case has been through.
    pub(crate) step: usize,
    /// Client place.
    pub(crate) from: String,
    /// Dialled name, several with ` + `.
    pub(crate) dial: String,
    /// Families to dial in.
    pub(crate) nets: Vec<Net>,
    /// Kinds of socket.
    pub(crate) sockets: Vec<Socket>,
    /// The row: rules, expectations, reasons.
    pub(crate) row: Row,
}

/// How Sluice stands to what a scenario expects of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is so.
    Holds,
    /// It will be, with the packet path; until then it must not look as if it were.
    Waits,
    /// It should be, and is not yet; the same.
    Missing,
}

impl Scenario {
    /// What is expected in a column.
    pub(crate) fn expected(&self, column: Column) -> &Outcome {
        let row = &self.row;
        let own = match column {
            Column::Sluice => None,
            Column::Nftables => row.nftables.as_ref().or(row.kube_proxy.as_ref()),
            Column::Iptables => row.iptables.as_ref().or(row.kube_proxy.as_ref()),
        };
        own.unwrap_or(&row.expect)
    }

    /// How a column stands to that.
    pub(crate) fn standing(&self, column: Column) -> Standing {
        match column {
            Column::Sluice if !self.row.waiting.is_empty() => Standing::Waits,
            Column::Sluice if !self.row.missing.is_empty() => Standing::Missing,
            _ => Standing::Holds,
        }
    }

    /// Rules that it is about.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &String> {
        self.row.rules.iter().chain(&self.row.waiting).chain(&self.row.missing)
    }

    /// Whether what is expected of Sluice is not what is expected of kube-proxy in both modes.
    pub(crate) fn differs(&self) -> bool {
        [Column::Nftables, Column::Iptables]
            .iter()
            .any(|column| self.expected(*column) != self.expected(Column::Sluice))
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.case)?;
        if self.step > 0 {
            write!(f, " (change {})", self.step)?;
        }
        write!(f, ": {} dials {}", self.from, self.dial)
    }
}

/// All scenarios of the topics, in their order.
///
/// # Errors
/// Names the row that has no rule of `rules`, or a difference without a reason in `deviations`, or
/// a reason without a difference.
pub(crate) fn all(
    topics: &[Topic],
    rules: &BTreeSet<String>,
    deviations: &BTreeSet<String>,
) -> Result<Vec<Scenario>> {
    let mut scenarios = Vec::new();
    for (topic, case) in topics
        .iter()
        .enumerate()
        .flat_map(|(index, topic)| topic.cases.iter().map(move |c| (index, c)))
    {
        let mut nets = case.objects.nets();
        add(&mut scenarios, (topic, case, 0), &nets, &case.rows);
        for (step, change) in (1..).zip(&case.then) {
            nets = change.objects.families.clone().unwrap_or(nets);
            add(&mut scenarios, (topic, case, step), &nets, &change.rows);
        }
    }
    scenarios.iter().try_for_each(|scenario| check(scenario, rules, deviations))?;
    Ok(scenarios)
}

/// The scenarios of some rows.
fn add(
    scenarios: &mut Vec<Scenario>,
    (topic, case, step): (usize, &Case, usize),
    nets: &[Net],
    rows: &[Row],
) {
    for row in rows {
        for (from, dial) in
            row.from.iter().flat_map(|from| row.dial.iter().map(move |dial| (from, dial)))
        {
            scenarios.push(Scenario {
                topic,
                case: case.name.clone(),
                step,
                from: from.clone(),
                dial: dial.clone(),
                nets: row.families.clone().unwrap_or_else(|| nets.to_vec()),
                sockets: row.sockets.clone().unwrap_or_else(|| vec![Socket::Tcp, Socket::Udp]),
                row: row.clone(),
            });
        }
    }
}

/// Whether a scenario says what it must, and nothing that it must not.
fn check(
    scenario: &Scenario,
    rules: &BTreeSet<String>,
    deviations: &BTreeSet<String>,
) -> Result<()> {
    let row = &scenario.row;
    let said = [&row.rules, &row.waiting, &row.missing].map(|rules| usize::from(!rules.is_empty()));
    ensure!(
        said.iter().sum::<usize>() == 1,
        "{scenario}: has to name its rules in one of `rules`, `waiting` and `missing`"
    );
    if let Some(id) = scenario.rules().find(|id| !rules.contains(*id)) {
        bail!("{scenario}: docs/behaviour.md has no rule {id}");
    }
    ensure!(
        scenario.differs() != row.because.is_empty(),
        "{scenario}: a difference has a reason in `because`, and nothing else has one"
    );
    ensure!(
        !(row.kept || row.moves_to.is_some())
            || Column::ALL.iter().all(|column| scenario.expected(*column).is_served()),
        "{scenario}: a connection that nobody answers cannot be kept"
    );
    if let Some(id) = row.because.iter().find(|id| !deviations.contains(*id)) {
        bail!("{scenario}: docs/deviations.md has no line on {id}");
    }
    Ok(())
}
