// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Reading `docs/behaviour.md` and `docs/deviations.md`.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};

/// A line of the rule book: `- **SVC-01** [A] Text. (source)`.
#[derive(Debug)]
pub(crate) struct Rule {
    /// Chapter and number, e.g. `SVC-01`.
    pub(crate) id: String,
    /// Any of `S`, `P` and `A`.
    pub(crate) tags: String,
    /// What it says.
    pub(crate) text: String,
}

impl Rule {
    /// The part of the identifier before the number.
    pub(crate) fn chapter(&self) -> &str {
        self.id.split_once('-').map_or(self.id.as_str(), |(chapter, _)| chapter)
    }
}

/// All rules of the book, in its order.
///
/// # Errors
///
/// Names the line that has no tags, no source, or an identifier used before.
pub(crate) fn rules(book: &str) -> Result<Vec<Rule>> {
    let mut rules: Vec<Rule> = Vec::new();
    for (number, line) in (1..).zip(book.lines()) {
        let Some((id, rest)) = entry(line) else { continue };
        let rule = rule(id, rest).with_context(|| format!("docs/behaviour.md:{number}: {id}"))?;
        if rules.iter().any(|earlier| earlier.id == id) {
            bail!("docs/behaviour.md:{number}: {id} stands here a second time");
        }
        rules.push(rule);
    }
    Ok(rules)
}

/// Which rules have a line in deviations.md, and where.
pub(crate) fn deviations(text: &str) -> BTreeMap<String, usize> {
    let lines = (1..).zip(text.lines());
    lines.filter_map(|(number, line)| Some((entry(line)?.0.to_owned(), number))).collect()
}

/// `- **SVC-01** rest` → (`SVC-01`, `rest`). The example in deviations.md has no number.
fn entry(line: &str) -> Option<(&str, &str)> {
    let (id, rest) = line.strip_prefix("- **")?.split_once("** ")?;
    let (_, number) = id.split_once('-')?;
    (number.len() == 2 && number.bytes().all(|b| b.is_ascii_digit())).then_some((id, rest))
}

fn rule(id: &str, rest: &str) -> Result<Rule> {
    let (tags, text) =
        rest.strip_prefix('[').and_then(|rest| rest.split_once("] ")).context("has no [tags]")?;
    if tags.is_empty() || !tags.chars().all(|tag| "SPA".contains(tag)) {
        bail!("has the tags [{tags}], and only S, P and A mean something");
    }
    if !text.ends_with(')') {
        bail!("does not end with its (source)");
    }
    Ok(Rule { id: id.to_owned(), tags: tags.to_owned(), text: text.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::{deviations, rules};

    #[test]
    fn a_line_out_of_order_is_named() {
        let error = |book: &str| format!("{:#}", rules(book).unwrap_err());
        assert!(error("- **SVC-01** Text. (a.go)").contains("no [tags]"));
        assert!(error("- **SVC-01** [X] Text. (a.go)").contains("[X]"));
        assert!(error("- **SVC-01** [S] Text.").contains("(source)"));
        let twice = "- **SVC-01** [S] Text. (a.go)\n- **SVC-01** [S] Text. (a.go)";
        assert!(error(twice).contains("docs/behaviour.md:2"));
    }

    #[test]
    fn the_format_shown_in_deviations_is_no_deviation() {
        let text = "- **ID** What we do instead.\n\n- **CIP-05** We refuse.\n";
        assert_eq!(deviations(text).into_iter().collect::<Vec<_>>(), [("CIP-05".to_owned(), 3)]);
    }
}
