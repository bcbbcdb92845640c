//! A run whose process died while its upstream goes on: this process's own now, to be taken up or ended.

use super::record::{Batch, Records};
use super::recovery::replay;
use super::{Background, Snapshot};
use crate::protocol::RunEntry;
use crate::transcript::Transcript;

/// A run that lost its process. Whoever gets one has to end it with [`super::Store::finish`], or leave it in the journal
/// for the next daemon.
#[derive(Debug)]
pub struct Orphan {
    /// The run as the database has it, without what it has said.
    pub run: RunEntry,
    /// What it was asked for besides.
    pub background: Background,
    /// What it needs of the store, as when it began.
    pub snapshot: Snapshot,
    /// What it has said.
    pub(super) records: Batch,
}

impl Orphan {
    /// What it has said.
    pub fn transcript(&self) -> Transcript {
        let transcripts = replay(Records::new(self.records.bytes()));
        transcripts.into_values().next().unwrap_or_default()
    }
}
