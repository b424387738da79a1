// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The programs of devices whose packets begin with the IP header: those of other devices, from
//! the same object with another global, loaded while there is such a device. Nobody else pays
//! for them.

use super::{
    error::LoadError,
    fate::Fate,
    links::Place,
    object::{self, Globals, Program},
    pins::{self, Pins, Stage},
};
use crate::datapath::load::Generation;

/// What a generation's programs were made from.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) fates: Vec<Fate>,
    pub(super) globals: Globals,
}

impl Origin {
    /// Loads the programs over the maps at these places, and pins them at a stage.
    pub(super) fn load(
        &self,
        place: impl Fn(&Fate) -> std::path::PathBuf,
        pins: &Pins,
        stage: Stage,
    ) -> Result<Vec<Program>, LoadError> {
        let globals = Globals { network: 0, ..self.globals };
        let mut ebpf = object::load(&self.fates, &globals, place)?;
        object::load_programs(&mut ebpf, object::bare(), pins, stage)
    }
}

/// Loads them for a generation that runs, if it does not have them.
pub(super) fn load(generation: &mut Generation, pins: &Pins) -> Result<(), LoadError> {
    if generation.programs.iter().any(is_bare) {
        return Ok(());
    }
    let place = |fate: &Fate| pins.latest_map(fate.name);
    let programs = generation.origin.load(place, pins, pins.latest_programs())?;
    tracing::info!("programs for devices without Ethernet headers are loaded");
    generation.programs.extend(programs);
    Ok(())
}

/// Gives back what no device needs any more.
pub(super) fn forget(generation: &mut Generation, pins: &Pins) -> Result<(), LoadError> {
    if !generation.programs.iter().any(is_bare) && !are_pinned(pins) {
        return Ok(());
    }
    for hook in object::bare() {
        pins::remove(&pins.program(pins.latest_programs(), hook.name))?;
    }
    generation.programs.retain(|program| !is_bare(program));
    Ok(())
}

/// Whether the latest programs have them: then the next ones have, too.
pub(super) fn are_pinned(pins: &Pins) -> bool {
    let stage = pins.latest_programs();
    object::bare().any(|hook| pins.program(stage, hook.name).exists())
}

fn is_bare(program: &Program) -> bool {
    program.hook.place == Place::Bare
}
