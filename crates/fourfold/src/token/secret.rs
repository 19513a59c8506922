//! A fresh secret.

use std::io::{self, Write};

use aws_lc_rs::rand;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use super::TokenError;

/// The secret goes to standard output alone, so that it can be put into a file; the rest is for whoever looks.
pub(super) fn new_secret() -> Result<(), TokenError> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no random bytes"))?;
    writeln!(io::stdout(), "{}", BASE64_URL_SAFE_NO_PAD.encode(bytes))?;
    writeln!(io::stderr(), "{LINES}")?;
    Ok(())
}

const LINES: &str = "
Keep it in a file that only the server and whoever signs tokens can read, such as fourfold.secret,
and write into the server's configuration:

    [access]
    audience = \"fourfold\"

    [[access.keys]]
    algorithm = \"HS256\"
    secret-file = \"fourfold.secret\"

The secret is the text as it stands, in every JWT library. Then: fourfold token --config FILE --sub NAME --read '**'";
