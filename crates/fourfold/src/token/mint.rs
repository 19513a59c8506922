//! Makes a token, as an issuer would.

use std::{
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
};

use fourfold_access::{Algorithm, Material, Options, Rules, Secret, Verb, mint::Signer};
use serde_json::{Map, json};

use super::{MintArgs, TokenError, words};
use crate::config;

pub(super) fn mint(args: &MintArgs) -> Result<(), TokenError> {
    let options = config::access(args.config.config.as_deref())?.unwrap_or_default();
    let signer = signer(args, &options)?;
    let Some(audience) = args.audience.as_ref().or(options.audience.first()) else {
        return Err(TokenError::Usage(
            "whom is the token for? give --config FILE with an [access] audience, or --audience NAME".into(),
        ));
    };
    let now = words::now();
    let end = now.saturating_add(args.good_for.as_secs());
    let mut claims = Map::new();
    claims.insert("aud".into(), json!(audience));
    if let Some(issuer) = &options.issuer {
        claims.insert("iss".into(), json!(issuer));
    }
    if let Some(subject) = &args.sub {
        claims.insert("sub".into(), json!(subject));
    }
    claims.insert("iat".into(), json!(now));
    claims.insert("exp".into(), json!(end));
    let mut granted = Vec::new();
    for (verb, patterns) in args.patterns() {
        let mut rules = Rules::default();
        for pattern in patterns {
            rules.allow(verb, pattern).map_err(|why| TokenError::Usage(format!("--{verb}: {why}")))?;
        }
        if !patterns.is_empty() {
            granted.push(format!("{verb} {}", patterns.join(", ")));
            claims.insert(verb.as_str().into(), json!(patterns));
        }
    }
    writeln!(io::stdout(), "{}", signer.sign(&claims)?)?;
    if io::stderr().is_terminal() {
        let who = args.sub.as_deref().unwrap_or("whoever brings it");
        let may = if granted.is_empty() {
            "gets what the rules grant to every good token; --read PATTERN and its kin grant more".into()
        } else {
            format!("may {}", granted.join("; "))
        };
        writeln!(io::stderr(), "\n{who} {may}\nuntil {}", words::moment(end, now))?;
    }
    Ok(())
}

impl MintArgs {
    fn patterns(&self) -> [(Verb, &[String]); Verb::ALL.len()] {
        Verb::ALL.map(|verb| {
            let patterns = match verb {
                Verb::Read => &self.read,
                Verb::Append => &self.append,
                Verb::Create => &self.create,
                Verb::Delete => &self.delete,
                Verb::List => &self.list,
                Verb::Call => &self.call,
                Verb::Control => &self.control,
            };
            (verb, patterns.as_slice())
        })
    }
}

/// What signs: the file that was given, else the first configured secret.
fn signer(args: &MintArgs, options: &Options) -> Result<Signer, TokenError> {
    let named = |key: &&fourfold_access::KeyOptions| args.kid.is_none() || key.kid == args.kid;
    let mut configured = options.keys.iter().filter(named);
    if let Some(path) = &args.key {
        return of_file(path, args, options);
    }
    let secret = configured.find_map(|key| match &key.material {
        Material::Secret(secret) => Some((key.algorithms.first().copied()?, key.kid.clone(), secret)),
        _ => None,
    });
    let Some((algorithm, kid, secret)) = secret else {
        let why = if options.keys.is_empty() {
            "there is no key: give --config FILE with [[access.keys]], or --key FILE"
        } else if args.kid.is_some() {
            "no configured secret has this kid: give another --kid, or the private key that signs as --key FILE"
        } else {
            "the configured keys only verify: give the private key that signs as --key FILE"
        };
        return Err(TokenError::Usage(why.into()));
    };
    Ok(Signer::of_secret(algorithm, kid, secret)?)
}

fn of_file(path: &Path, args: &MintArgs, options: &Options) -> Result<Signer, TokenError> {
    let unread = |why| TokenError::Unread { what: path.display().to_string(), why };
    let text = fs::read_to_string(path).map_err(unread)?;
    let by = |algorithm: &Algorithm| {
        let key = options.keys.iter().find(|key| key.algorithms.contains(algorithm));
        args.kid.clone().or_else(|| key?.kid.clone())
    };
    if !text.contains("-----BEGIN") {
        let algorithm = Algorithm::Hs256;
        let secret = Secret(text.trim_end().as_bytes().to_vec());
        return Ok(Signer::of_secret(algorithm, by(&algorithm), &secret)?);
    }
    // A key tells by itself what it is for.
    [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256]
        .iter()
        .find_map(|algorithm| Signer::of_pem(*algorithm, by(algorithm), &text).ok())
        .ok_or_else(|| {
            TokenError::Usage(format!(
                "{} is no private key of ES256, EdDSA or RS256 in PEM, which begins with -----BEGIN PRIVATE KEY-----",
                path.display()
            ))
        })
}
