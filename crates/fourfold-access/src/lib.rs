//! Who may do what: tokens, rules for those who bring none, and the hook to a backend of the user's own.
//!
//! ```text
//! credential ── identify ──► Who ── judge(verb, path) ──► Grant, or a refusal
//! ```
//!
//! What is asked, in this order, until one grants it: the rules for everybody, the rules for every good token, the token's own claims, the hook. Nothing
//! here knows whether a stream exists, so that no refusal can tell.
//!
//! - [`Access`]: the rules in force; [`Who`]: who asks; [`Grant`]: what they got
//! - `token`, `claims`, `fault`: a token taken apart, read, and what is wrong with it
//! - [`Rules`]: patterns by verb, with places for claims; `key`, `jwks`: what verifies
//! - `hook`: whom to ask when neither decides; `backend`: how such a one is asked
//! - `explain`: a token for people to understand; [`mint`]: tokens for development
//! - `recent`: what is remembered; [`limits`]: every maximum
//! - [`Options`]: what the configuration says

mod access;
mod algorithm;
mod backend;
mod claims;
mod explain;
mod fault;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod hook;
mod jwks;
mod key;
pub mod limits;
pub mod mint;
mod options;
mod recent;
mod refused;
mod rules;
mod state;
mod token;
mod verb;
mod who;

pub use access::{Access, Grant};
pub use algorithm::{Algorithm, UnknownAlgorithm};
pub use explain::{Explanation, Judgement};
pub use options::{AccessError, HookOptions, JwksOptions, KeyOptions, Material, Options, Secret};
pub use rules::Rules;
pub use verb::{UnknownVerb, Verb};
pub use who::{Credential, Place, Who};
