// SPDX-License-Identifier: Apache-2.0 OR MIT
//! `lb-agent monitor`: what the kernel programs do to new clients, while they do it.
//!
//! Programs tell events only while somebody asks, and a thousand a second and CPU at most: what
//! is left out is counted and said. Packets of flows that go on are never told.

mod filter;
mod row;

use std::{
    net::IpAddr,
    process::ExitCode,
    time::{Duration, Instant},
};

use lb_common::{counter::Counter, event::Event};

use self::{
    filter::{Filter, reason},
    row::{EventRow, Names},
};
use super::{
    Roots,
    output::{self, Format},
};
use crate::{
    datapath::{events::Events, view::View},
    run::state,
};

/// What to tell, and for how long.
#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Only what is about this Service
    #[arg(long, value_name = "NAMESPACE/NAME")]
    service: Option<String>,
    /// Only packets that come from this address
    #[arg(long, value_name = "ADDRESS")]
    from: Option<IpAddr>,
    /// Only what happens for this reason; names are those of `show counters`
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Option<Counter>,
    /// End after so many
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Tell one event in so many, rounded up to a power of two
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 31))]
    one_in: u32,
    #[command(flatten)]
    roots: Roots,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What has been told so far.
#[derive(Debug)]
struct Monitor {
    events: Events,
    names: Names,
    filter: Filter,
    format: Format,
    /// Rows that are still wanted.
    left: u64,
    /// EVENTS_LOST when it was last looked at.
    lost: u64,
}

/// Prints events until enough were seen, the time is over, or the reader is gone.
pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let Args { service, from, reason, count, seconds, one_in, roots, output } = args;
    let view = View::open(&roots.bpf_root)?;
    let power = one_in.next_power_of_two().trailing_zeros();
    let lock = state::monitor_lock(&roots.bpf_root);
    let events = Events::open(&roots.bpf_root, &lock, u8::try_from(power)?)?;
    let lost = events.lost()?;
    let mut monitor = Monitor {
        events,
        names: Names::new(view)?,
        filter: Filter { service: service.clone(), from: *from, reason: *reason },
        format: *output,
        left: count.unwrap_or(u64::MAX),
        lost,
    };
    let end = seconds.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
    monitor.follow(end)?;
    monitor.tell_lost()?;
    Ok(ExitCode::SUCCESS)
}

impl Monitor {
    fn follow(&mut self, end: Option<Instant>) -> anyhow::Result<()> {
        if self.format == Format::Table && !output::stream(&EventRow::header())? {
            return Ok(());
        }
        let mut renewal = Instant::now() + RENEWAL;
        while self.left > 0 && end.is_none_or(|end| Instant::now() < end) {
            if Instant::now() >= renewal {
                renewal = Instant::now() + RENEWAL;
                self.renew()?;
            }
            let next = end.map_or(renewal, |end| end.min(renewal));
            self.events.wait(next.saturating_duration_since(Instant::now()))?;
            if !self.drain()? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Prints what is there. `false` if nobody reads any more.
    fn drain(&mut self) -> anyhow::Result<bool> {
        // As many as the ring holds at most: then the lease is looked at again.
        for _ in 0..BATCH {
            let Some(event) = self.events.take_one().filter(|_| self.left > 0) else {
                break;
            };
            if let Some(line) = self.line(&event)? {
                self.left -= 1;
                if !output::stream(&line)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// The line for an event, unless nobody wants it.
    fn line(&mut self, event: &Event) -> anyhow::Result<Option<String>> {
        if !self.filter.takes_event(event) {
            return Ok(None);
        }
        let row = EventRow::new(event, &mut self.names);
        if !self.filter.takes_service(row.service()) {
            return Ok(None);
        }
        Ok(Some(match self.format {
            Format::Table => row.line(),
            Format::Json => serde_json::to_string(&row)?,
        }))
    }

    fn renew(&mut self) -> anyhow::Result<()> {
        if self.events.renew()? {
            self.lost = self.events.lost()?;
            self.names.reopen()?;
            output::remark("the agent made its maps anew; following the new ones");
        }
        self.tell_lost()
    }

    /// Says on standard error how many events were left out since the last time.
    fn tell_lost(&mut self) -> anyhow::Result<()> {
        let lost = self.events.lost()?;
        let more = lost.saturating_sub(std::mem::replace(&mut self.lost, lost));
        if more > 0 {
            output::remark(&format!(
                "{more} events were left out: too many at once; --one-in samples them evenly"
            ));
        }
        Ok(())
    }
}

/// The programs are asked for more this often; the lease lasts three times as long.
const RENEWAL: Duration = Duration::from_secs(1);
/// Events between two looks at the clock.
const BATCH: usize = 4096;

#[cfg(test)]
mod tests;
