//! `lb-agent`: one per node.

fn main() {}
