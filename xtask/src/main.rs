//! `cargo xtask`: every verb of the project.

fn main() {}
