//! Who needs whose records: what the end of a stream, or the drop of its old records, means for those it was forked from.
//!
//! ```text
//! root ◀── needs ── fork ◀── needs ── fork of it
//!      ── shown ──▶      ── shown ──▶
//! ```
//!
//! A fork *needs* its source's records from some position on; the least that any fork of a stream needs is what is *shown* of it. Records
//! before both that and the stream's own oldest one can go from the disk. A stream that ends while it has forks is *gone*: it stays
//! until its last fork has ended, and then goes too, and so on up.
//!
//! Looking and changing are apart: all that can fail is done before anything is staged.

use std::sync::Arc;

use fourfold_protocol::{Epoch, StreamName};
use fourfold_stream::{Head, StreamConfig};

/// No record.
pub(crate) const NOTHING: u64 = u64::MAX;

/// How a life hangs together with others; stored with its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ties {
    /// It was deleted or has expired, and is kept for its forks.
    pub(crate) gone: bool,
    /// The least position that a fork of it needs.
    pub(crate) shown: u64,
    /// The least position that it needs of its source, for itself or for its forks.
    pub(crate) needs: u64,
}

impl Default for Ties {
    fn default() -> Self {
        Self { gone: false, shown: NOTHING, needs: NOTHING }
    }
}

impl Ties {
    /// Own records before this position are needed by nobody.
    pub(crate) fn clearable(&self, head: &Head) -> u64 {
        self.shown.min(if self.gone { head.tail } else { head.oldest })
    }

    /// With `needs` brought up to date.
    fn reckoned(self, config: &StreamConfig, oldest: u64) -> Self {
        let least = if self.gone { self.shown } else { self.shown.min(oldest) };
        let inherited = config.forked.as_ref().is_some_and(|fork| least < fork.point);
        Self { needs: if inherited { least } else { NOTHING }, ..self }
    }
}

/// A life, as far as its relatives are concerned.
#[derive(Clone, Debug)]
pub(crate) struct Kin {
    pub(crate) name: StreamName,
    pub(crate) epoch: Epoch,
    pub(crate) config: Arc<StreamConfig>,
    pub(crate) oldest: u64,
    pub(crate) ties: Ties,
}

/// What is known of the lives.
pub(crate) trait Family {
    type Error;

    /// A life that must be there, because a fork of it is.
    fn kin(&mut self, name: &StreamName, epoch: Epoch) -> Result<Kin, Self::Error>;

    /// The least that a fork of this life needs, the fork `except` left out; `None` without such a fork.
    fn least(&mut self, of: Epoch, except: Option<Epoch>) -> Result<Option<u64>, Self::Error>;
}

/// What has to be changed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// This life ends for good.
    Ended(Kin),
    /// This life, as it was, gets these ties.
    Tied(Kin, Ties),
}

/// What it means to end a life that is not gone.
pub(crate) fn end<F: Family>(family: &mut F, kin: Kin) -> Result<Vec<Change>, F::Error> {
    if family.least(kin.epoch, None)?.is_none() {
        let mut changes = vec![Change::Ended(kin.clone())];
        ascend(family, kin, None, &mut changes)?;
        return Ok(changes);
    }
    let ties = Ties { gone: true, ..kin.ties }.reckoned(&kin.config, kin.oldest);
    tied(family, kin, ties)
}

/// What it means that retention has moved in a fork, or that it was just created: `kin` has the new `oldest` and the former ties.
/// Nothing at all is the common case.
pub(crate) fn moved<F: Family>(family: &mut F, kin: Kin) -> Result<Vec<Change>, F::Error> {
    let ties = kin.ties.reckoned(&kin.config, kin.oldest);
    if ties == kin.ties { Ok(Vec::new()) } else { tied(family, kin, ties) }
}

fn tied<F: Family>(family: &mut F, kin: Kin, ties: Ties) -> Result<Vec<Change>, F::Error> {
    let mut changes = vec![Change::Tied(kin.clone(), ties)];
    if ties.needs != kin.ties.needs {
        ascend(family, kin, Some(ties.needs), &mut changes)?;
    }
    Ok(changes)
}

/// The child now needs this of its source, or has ended (`None`).
fn ascend<F: Family>(
    family: &mut F,
    mut child: Kin,
    mut needs: Option<u64>,
    changes: &mut Vec<Change>,
) -> Result<(), F::Error> {
    while let Some(fork) = &child.config.forked {
        let source = family.kin(&fork.from, fork.epoch)?;
        let others = family.least(source.epoch, Some(child.epoch))?;
        let least = [others, needs].into_iter().flatten().min();
        if least.is_none() && source.ties.gone {
            changes.push(Change::Ended(source.clone()));
            (child, needs) = (source, None);
            continue;
        }
        let shown = least.unwrap_or(NOTHING);
        let ties = Ties { shown, ..source.ties }.reckoned(&source.config, source.oldest);
        if ties == source.ties {
            break;
        }
        changes.push(Change::Tied(source.clone(), ties));
        if ties.needs == source.ties.needs {
            break;
        }
        (child, needs) = (source, Some(ties.needs));
    }
    Ok(())
}
