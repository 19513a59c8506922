//! Which streams a client may see: all but the server's own.

use fourfold_protocol::name::RESERVED_SEGMENT;

use crate::{Engine, Listing, Unavailable};

/// As [`Engine::list`], without the server's own streams.
pub async fn public(
    engine: &dyn Engine,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Listing, Unavailable> {
    let mut page = engine.list(prefix, after, limit).await?;
    let all = page.streams.len();
    page.streams.retain(|listed| !listed.name.is_reserved());
    if page.streams.len() == all {
        return Ok(page);
    }
    // They lie side by side in the order of names, so what follows the last of them can be asked for at once.
    let behind = format!("{RESERVED_SEGMENT}/{}", char::MAX);
    let from = after.filter(|after| *after > behind.as_str()).unwrap_or(&behind);
    page.streams.retain(|listed| listed.name.as_str() < from);
    let rest = engine.list(prefix, Some(from), limit - page.streams.len()).await?;
    page.more = rest.more;
    page.streams.extend(rest.streams);
    Ok(page)
}
