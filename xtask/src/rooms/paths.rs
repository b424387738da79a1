// SPDX-License-Identifier: Apache-2.0 OR MIT
//! Which paths and words a source file uses, outside its tests.
//!
//! The file is read as tokens, so comments and strings never match, and code inside macro calls
//! is seen like any other. Items under `#[cfg(test)]` are left out.

use std::iter;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};

/// What a file uses.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    /// Paths of two segments or more, as written, and single names in a `use`.
    pub(crate) paths: Vec<Path>,
    /// Every other identifier and keyword.
    pub(crate) words: Vec<Word>,
    /// Names of methods that are called, and of fields.
    pub(crate) methods: Vec<Word>,
    /// Types defined here.
    pub(crate) types: Vec<Word>,
    /// Modules declared under `#[cfg(test)]` whose text is in another file.
    pub(crate) test_modules: Vec<String>,
}

/// A path such as `super::tables::Tables`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// Its segments; `*` last for a glob import.
    pub(crate) segments: Vec<String>,
    /// The modules written around it in this file.
    pub(crate) inside: Vec<String>,
    /// Where it starts, counted from 1.
    pub(crate) line: usize,
}

/// An identifier.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Its text.
    pub(crate) text: String,
    /// Its line, counted from 1.
    pub(crate) line: usize,
}

/// Reads a source file.
///
/// # Errors
///
/// When it is no Rust.
pub(crate) fn read(source: &str) -> Result<Uses> {
    let tokens: TokenStream = source.parse().map_err(|error| anyhow!("is no Rust: {error}"))?;
    let mut uses = Uses::default();
    Walk { uses: &mut uses, inside: &[] }.tokens(tokens);
    Ok(uses)
}

impl Uses {
    /// Every name that is called: methods, and the last segments of paths; with their lines.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (usize, &str)> {
        let methods = self.methods.iter().map(|word| (word.line, word.text.as_str()));
        let paths = self.paths.iter().filter_map(|path| Some((path.line, path.segments.last()?)));
        methods.chain(paths.map(|(line, name)| (line, name.as_str())))
    }
}

impl Word {
    fn new(ident: &Ident) -> Self {
        Self { text: ident.to_string(), line: ident.span().start().line }
    }
}

/// A walk through the tokens of one module.
struct Walk<'a> {
    uses: &'a mut Uses,
    inside: &'a [String],
}

impl Walk<'_> {
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut rest: &[TokenTree] = &tokens;
        // The punctuation before the token at hand, the nearest last.
        let mut before = [None, None];
        while let Some((first, after)) = rest.split_first() {
            rest = match first {
                TokenTree::Punct(punct) if punct.as_char() == '#' => self.attribute(after),
                TokenTree::Ident(name) => match before {
                    [_, Some('\'')] => after,
                    [Some('.'), Some('.')] => self.ident(rest, &[]),
                    [_, Some('.')] => {
                        self.uses.methods.push(Word::new(name));
                        after
                    }
                    _ => self.ident(rest, &[]),
                },
                TokenTree::Group(group) => {
                    self.tokens(group.stream());
                    after
                }
                _ => after,
            };
            let punct = match first {
                TokenTree::Punct(punct) => Some(punct.as_char()),
                _ => None,
            };
            before = [before[1], punct];
        }
    }

    /// What follows a `#`; an item under `#[cfg(test)]` is passed over as a whole.
    fn attribute<'t>(&mut self, tokens: &'t [TokenTree]) -> &'t [TokenTree] {
        let Some((TokenTree::Group(group), after)) = tokens.split_first() else {
            return tokens;
        };
        let text: String =
            group.stream().to_string().chars().filter(|c| !c.is_whitespace()).collect();
        if text != "cfg(test)" {
            // `#[unsafe(no_mangle)]` is how an attribute is written, no unsafe code.
            let is_unsafe =
                |token: &TokenTree| matches!(token, TokenTree::Ident(name) if name == "unsafe");
            self.tokens(group.stream().into_iter().skip_while(is_unsafe).collect());
            return after;
        }
        let end = after.iter().position(ends_item).map_or(after.len(), |end| end + 1);
        let (item, after) = after.split_at(end);
        if let [.., TokenTree::Ident(keyword), TokenTree::Ident(name), TokenTree::Punct(_)] = item
            && keyword == "mod"
        {
            self.uses.test_modules.push(name.to_string());
        }
        after
    }

    /// A path, a keyword or a plain name at the start of `tokens`; `prefix` is the part of a
    /// `use` tree that stands before it.
    fn ident<'t>(&mut self, tokens: &'t [TokenTree], prefix: &[String]) -> &'t [TokenTree] {
        let Some((TokenTree::Ident(first), mut rest)) = tokens.split_first() else {
            return tokens;
        };
        let line = first.span().start().line;
        if prefix.is_empty() {
            match (first.to_string().as_str(), rest) {
                ("mod", [TokenTree::Ident(name), TokenTree::Group(body), after @ ..]) => {
                    self.module(name.to_string(), body);
                    return after;
                }
                ("use", [TokenTree::Ident(_), ..]) => return self.single_use(rest),
                ("struct" | "enum" | "union" | "trait", [TokenTree::Ident(name), ..]) => {
                    self.uses.types.push(Word::new(name));
                }
                _ => {}
            }
        }
        let mut segments = prefix.to_vec();
        segments.push(first.to_string());
        while let Some(after) = past_colons(rest) {
            match after.split_first() {
                Some((TokenTree::Ident(segment), after)) => {
                    segments.push(segment.to_string());
                    rest = after;
                }
                Some((TokenTree::Group(tree), after)) if is_brace(tree) => {
                    self.tree(tree, &segments);
                    return after;
                }
                Some((TokenTree::Punct(star), after)) if star.as_char() == '*' => {
                    segments.push("*".to_owned());
                    rest = after;
                }
                _ => break,
            }
        }
        if segments.len() > 1 {
            self.path(segments, line);
        } else {
            self.uses.words.push(Word::new(first));
        }
        rest
    }

    /// `use name;` has no `::`, and is a path all the same.
    fn single_use<'t>(&mut self, tokens: &'t [TokenTree]) -> &'t [TokenTree] {
        let Some((TokenTree::Ident(name), after)) = tokens.split_first() else {
            return tokens;
        };
        if past_colons(after).is_some() {
            return self.ident(tokens, &[]);
        }
        self.path(vec![name.to_string()], name.span().start().line);
        after
    }

    /// The branches of a `use` tree.
    fn tree(&mut self, tree: &Group, prefix: &[String]) {
        let tokens: Vec<TokenTree> = tree.stream().into_iter().collect();
        for branch in tokens.split(|token| is_punct(token, ',')) {
            match branch.first() {
                Some(TokenTree::Ident(_)) => drop(self.ident(branch, prefix)),
                Some(token) if is_punct(token, '*') => {
                    let segments = prefix.iter().cloned().chain(iter::once("*".to_owned()));
                    self.path(segments.collect(), token.span().start().line);
                }
                _ => {}
            }
        }
    }

    fn module(&mut self, name: String, body: &Group) {
        let mut inside = self.inside.to_vec();
        inside.push(name);
        Walk { uses: self.uses, inside: &inside }.tokens(body.stream());
    }

    fn path(&mut self, segments: Vec<String>, line: usize) {
        self.uses.paths.push(Path { segments, inside: self.inside.to_vec(), line });
    }
}

/// The tokens after a `::`, if they start with one.
fn past_colons(tokens: &[TokenTree]) -> Option<&[TokenTree]> {
    match tokens {
        [first, second, after @ ..] if is_punct(first, ':') && is_punct(second, ':') => Some(after),
        _ => None,
    }
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

fn is_brace(group: &Group) -> bool {
    group.delimiter() == Delimiter::Brace
}

/// An item ends with its body or with a semicolon.
fn ends_item(token: &TokenTree) -> bool {
    is_punct(token, ';') || matches!(token, TokenTree::Group(group) if is_brace(group))
}

#[cfg(test)]
mod tests {
    use super::{Uses, read};

    fn paths(source: &str) -> Vec<String> {
        let join = |uses: Uses| uses.paths.iter().map(|path| path.segments.join("::")).collect();
        join(read(source).unwrap())
    }

    #[test]
    fn use_trees_are_unfolded() {
        assert_eq!(
            paths("use std::{fs, io::{self, Read as _}, sync::*}; use tokio; use a::b as c;"),
            ["std::fs", "std::io::self", "std::io::Read", "std::sync::*", "tokio", "a::b"]
        );
    }

    #[test]
    fn paths_in_code_and_in_macro_calls_count() {
        let source = "fn f() { println!(\"{:?}\", std::env::var(\"HOME\")); x.y::<aya::Bpf>() }";
        assert_eq!(paths(source), ["std::env::var", "aya::Bpf"]);
        assert_eq!(paths("fn f<'a>() { ::std::fs::read::<P>(p) }"), ["std::fs::read"]);
        assert_eq!(paths("#[derive(bytemuck::Pod)] struct S;"), ["bytemuck::Pod"]);
    }

    #[test]
    fn comments_strings_and_tests_do_not_count() {
        let source = "
            //! kube::Client
            /* tokio::spawn */
            const NAME: &str = \"aya::maps\";
            #[cfg(test)]
            mod tests { use std::fs; }
            #[cfg(test)]
            #[allow(x)]
            pub(crate) mod builders;
            #[cfg(test)]
            use rand::Rng;
            fn after() { core::mem::drop(1) }";
        assert_eq!(paths(source), ["core::mem::drop"]);
        assert_eq!(read(source).unwrap().test_modules, ["builders"]);
    }

    #[test]
    fn modules_in_the_file_and_lines_are_remembered() {
        let uses = read("mod inner {\n    use super::x;\n}").unwrap();
        assert_eq!(uses.paths[0].inside, ["inner"]);
        assert_eq!(uses.paths[0].line, 2);
    }
}
