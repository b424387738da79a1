// SPDX-License-Identifier: Apache-2.0 OR MIT
//! kube-proxy's flags under its names, made from the table of its settings (CFG-02, CFG-03).
//! Those that `run` has for itself, with types and defaults of its own, are not here.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, error::Error};

use crate::config::kube_proxy::{Field, fields};

/// Those that were given, with their texts.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyFlags(pub(super) Vec<(&'static Field, String)>);

impl FromArgMatches for ProxyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let given = flags().filter_map(|(flag, field)| {
            matches.get_one::<String>(flag).map(|text| (field, text.clone()))
        });
        Ok(Self(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for ProxyFlags {
    fn augment_args(command: Command) -> Command {
        command.args(flags().map(|(flag, field)| arg(flag, field)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Every field with a flag that only this table knows.
fn flags() -> impl Iterator<Item = (&'static str, &'static Field)> {
    fields().iter().filter(|field| !field.own).filter_map(|field| Some((field.flag?, field)))
}

fn arg(flag: &'static str, field: &'static Field) -> Arg {
    let arg = Arg::new(flag)
        .long(flag)
        .value_name("VALUE")
        .help(format!("{}: {}", field.path, field.why))
        .help_heading("Settings of kube-proxy, under its names")
        .allow_hyphen_values(true)
        .hide_short_help(true);
    let arg = if flag == "v" { arg.short('v') } else { arg };
    // As in Go: `--flag` is `--flag=true`, and a value needs the `=`.
    if field.default.is_boolean() {
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    } else {
        arg
    }
}
