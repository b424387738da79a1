// SPDX-License-Identifier: Apache-2.0 OR MIT
//! One column from first to last: objects, proxies, what holds at first, then change by change.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::{
    core::v1::{Node as NodeObject, Service},
    discovery::v1::EndpointSlice,
};
use lab::objects::NAMESPACE;
use serde_json::json;

use crate::{
    address::Book,
    bed::Bed,
    column::{self, Column, Running},
    kept::Kept,
    measure::{self, Seen},
    objects::Wanted,
    scenario::{Scenario, Standing},
    topic::{Case, Objects, Topic},
};

/// What a column showed.
#[derive(Debug)]
pub(crate) struct Played {
    /// How many scenarios were not what they should be.
    pub(crate) wrong: usize,
    /// How long it took.
    pub(crate) took: Duration,
}

/// A case while it plays.
struct Playing<'a> {
    case: &'a Case,
    objects: Objects,
    /// What the API server holds of it.
    held: Option<Wanted>,
}

/// Plays all scenarios in one column.
///
/// # Errors
/// When the lab or a proxy does not start, or the API server refuses an object.
pub(crate) fn play(column: Column, topics: &[Topic], scenarios: &[Scenario]) -> Result<Played> {
    let started = Instant::now();
    let cases: Vec<_> = topics.iter().flat_map(|topic| &topic.cases).collect();
    let book = Book::of(cases.iter().map(|case| case.name.as_str()))?;
    let mut bed = Bed::make()?;
    let mut playing = begin(&mut bed, &book, &cases)?;
    say(column, started, &format!("{} Services in the API server", playing.len()));
    let mut running = column::start(column, &bed)?;
    if column == Column::Nftables {
        // It reads ServiceCIDRs in a full sync alone, and its first may come before them.
        bed.stir()?;
    }
    say(column, started, "every node has its proxy");
    let steps = cases.iter().map(|case| case.then.len()).max().unwrap_or(0);
    let mut wrong = 0;
    let mut kept = Kept::default();
    for step in 0..=steps {
        if step > 0 {
            playing.iter_mut().try_for_each(|case| case.change(&bed, &book, step))?;
        }
        let now: Vec<_> =
            scenarios.iter().filter(|scenario| scenario.step == step).cloned().collect();
        if step == 0 {
            measure::await_force(&bed, &book, &now, column, 2 * column::patience(column))?;
            say(column, started, "what they programmed is in force");
        }
        let seen = measure::settle(&bed, &book, &now, column, column::patience(column))?;
        let lines: Vec<_> = now
            .iter()
            .zip(&seen)
            .filter_map(|(scenario, seen)| fault(column, scenario, seen))
            .collect();
        say(
            column,
            started,
            &format!("step {step}: {} scenarios, {} wrong", now.len(), lines.len()),
        );
        wrong += told(&lines);
        kept.begin(&bed, &book, &now, column)?;
    }
    let broken = kept.end(&bed, column)?;
    say(column, started, &format!("{} connections were kept", kept.len() - broken.len()));
    wrong += told(&broken);
    if wrong > 0 {
        let tails = running.first_mut().map(Running::tail);
        println!("{}", tails.unwrap_or_default());
    }
    Ok(Played { wrong, took: started.elapsed() })
}

/// Creates the objects of all cases.
fn begin<'a>(bed: &mut Bed, book: &Book, cases: &[&'a Case]) -> Result<Vec<Playing<'a>>> {
    let mut playing = Vec::new();
    for case in cases {
        let wanted = case.objects.wanted(&case.name, book, &bed.servers);
        let wanted = wanted.with_context(|| format!("case {}", case.name))?;
        if case.objects.listener {
            bed.listen(book.node_port(&case.name)?)?;
        }
        for name in &case.objects.on_node {
            for net in case.objects.nets() {
                bed.add_to_node(book.address(&case.name, name, net.family())?)?;
            }
        }
        playing.push(Playing { case, objects: case.objects.clone(), held: Some(wanted) });
    }
    let held = || playing.iter().filter_map(|case: &Playing<'_>| case.held.as_ref());
    let api = bed.cluster.api();
    api.create_all(held().map(|held| held.service.clone()).collect())?;
    api.create_all(held().flat_map(|held| held.slices.values().cloned()).collect())?;
    let balanced = playing.iter().filter(|case| case.objects.ingress.is_some());
    for held in balanced.filter_map(|case| case.held.as_ref()) {
        api.write_status(&held.service)?;
    }
    Ok(playing)
}

impl Playing<'_> {
    /// Makes the change of that number, if the case has one.
    fn change(&mut self, bed: &Bed, book: &Book, step: usize) -> Result<()> {
        let Some(change) = self.case.then.get(step - 1) else { return Ok(()) };
        let name = &self.case.name;
        let api = bed.cluster.api();
        for (node, is_there) in &change.third_address {
            bed.third_address(node, *is_there)?;
            bed.stir()?;
        }
        for (node, labels) in &change.node_labels {
            let labels = json!({ "metadata": { "labels": labels } });
            api.merge::<NodeObject>(None, node, &labels)?;
        }
        self.objects = self.objects.changed(&change.objects);
        let wanted = self.objects.wanted(name, book, &bed.servers);
        let wanted = wanted.with_context(|| format!("change {step} of case {name}"))?;
        let before = self.held.take();
        let slices = before.as_ref().map(|held| held.slices.clone()).unwrap_or_default();
        if change.delete {
            if before.is_some() {
                api.delete::<Service>(Some(NAMESPACE), name, None)?;
            }
            return remove(bed, slices.keys());
        }
        match before {
            Some(_) => drop(api.replace(&wanted.service)?),
            None => api.create_all(vec![wanted.service.clone()])?,
        }
        if self.objects.ingress.is_some() {
            api.write_status(&wanted.service)?;
        }
        for (slice, object) in &wanted.slices {
            match slices.get(slice) {
                Some(held) if held == object => {}
                Some(_) => drop(api.replace(object)?),
                None => api.create_all(vec![object.clone()])?,
            }
        }
        remove(bed, slices.keys().filter(|slice| !wanted.slices.contains_key(*slice)))?;
        self.held = Some(wanted);
        Ok(())
    }
}

/// Removes slices.
fn remove<'a>(bed: &Bed, mut slices: impl Iterator<Item = &'a String>) -> Result<()> {
    slices
        .try_for_each(|name| bed.cluster.api().delete::<EndpointSlice>(Some(NAMESPACE), name, None))
}

/// What is wrong with what a scenario met, if anything.
fn fault(column: Column, scenario: &Scenario, seen: &Seen) -> Option<String> {
    let expected = scenario.expected(column);
    let name = column.name();
    let key = match scenario.standing(column) {
        Standing::Holds if seen.as_expected => return None,
        Standing::Holds => {
            let text = &seen.text;
            return Some(format!("{scenario}\n    {name}: expected {expected}; met {text}"));
        }
        _ if !seen.as_expected => return None,
        Standing::Waits => "waiting",
        Standing::Missing => "missing",
    };
    Some(format!("{scenario}\n    {name}: holds now: write `rules` instead of `{key}`"))
}

/// Prints what is wrong; how much that is.
fn told(lines: &[String]) -> usize {
    for line in lines {
        println!("{line}");
    }
    lines.len()
}

/// A line of progress.
fn say(column: Column, started: Instant, text: &str) {
    println!("{:>5.1} s  {}: {text}", started.elapsed().as_secs_f64(), column.name());
}
