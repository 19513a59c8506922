//! What a start finds of earlier calls: open ones are closed, and keys are known again.

use std::{collections::HashSet, sync::Arc};

use fourfold_protocol::name::CALLS;
use fourfold_stream::{Engine, Listed, OpenError, Unavailable};

use crate::{
    ending::Ending,
    keys::{Keys, Note},
    limits::KEYS_MAX,
    orphans,
    pen::{Broken, Pen},
};

/// What was found.
pub(crate) struct Found {
    pub(crate) keys: Keys,
    /// Those that could not be closed at once.
    pub(crate) unclosed: Vec<Pen>,
}

/// Looks at every call. Nobody can have read one as running after this, but for those that the disk has no room to close.
pub(crate) async fn recover(engine: &Arc<dyn Engine>) -> Result<Found, Unavailable> {
    let (mut unclosed, mut known) = (Vec::new(), Vec::new());
    let mut after = None::<String>;
    loop {
        let page = engine.list(CALLS, after.as_deref(), PAGE).await?;
        let (mut closing, mut open) = (Vec::new(), HashSet::new());
        for listed in &page.streams {
            let Some((id, note)) = call(listed) else { continue };
            if let (Some(key), Some(request)) = (note.key, note.request)
                && known.len() < KEYS_MAX
            {
                known.push((key, id.to_owned(), request));
            }
            if listed.closed {
                continue;
            }
            open.insert(id.to_owned());
            match engine.open(&listed.name).await {
                Ok(stream) => closing.push(Pen::new(Arc::clone(engine), stream)),
                Err(OpenError::Unavailable(why)) => return Err(why),
                Err(OpenError::NotFound | OpenError::Gone) => {}
            }
        }
        if !closing.is_empty() {
            let programs = orphans::end(&open);
            tracing::info!(calls = closing.len(), programs, "closing calls that a kill has left open");
        }
        // All of a page at once, so that they are one write.
        for pen in &mut closing {
            pen.close(ended());
        }
        for mut pen in closing {
            match pen.done().await {
                Ok(()) | Err(Broken::Gone) => {}
                Err(_) => unclosed.push(pen),
            }
        }
        after = page.streams.last().filter(|_| page.more).map(|last| last.name.as_str().to_owned());
        if after.is_none() {
            break;
        }
    }
    // The list begins with the newest, and the oldest are to be forgotten first.
    let mut keys = Keys::default();
    for (key, id, request) in known.into_iter().rev() {
        keys.remember(key, id, request);
    }
    Ok(Found { keys, unclosed })
}

/// Closes what could not be closed at the start, as soon as that can be done.
pub(crate) async fn close(pen: Pen) {
    pen.conclude(|_, _| ended()).await;
}

/// The id and the note of a call; `None` if the stream is not one.
pub(crate) fn call(listed: &Listed) -> Option<(&str, Note)> {
    Some((listed.name.as_str().strip_prefix(CALLS)?, Note::read(listed.config.note.as_deref())?))
}

fn ended() -> Arc<str> {
    Ending::killed().text()
}

const PAGE: usize = 1_000;
